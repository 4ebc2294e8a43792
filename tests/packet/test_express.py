"""The express lane beside the pipeline: the same programs with it and without it, on the same tables."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

import netbox
import pytest
from harness import MS, TEST_CLOCK, DataPath, Seen
from mutants import mutated
from netbox import CLIENTS
from segments import Flag, segment
from session import CLIENT, Session, link_of, reply_frame

from cdnctl.datapath import build
from cdnctl.lab import netns

PORT = 20_123
NOW = 3_000_000 * MS
"""When all of it happens, for the kernel."""
ROUNDS = 120


@pytest.fixture(scope="module")
def pipeline(loaded: DataPath) -> Iterator[int]:
    """The entry of the programs that have no such lane."""
    text, cflags = build.source(), (TEST_CLOCK, "-DNO_EXPRESS")
    compiled = build.compiled_for(text, cflags, pytest.fail)
    with (
        netns.entered(netbox.name()),
        build.load(compiled, loaded.program.pins, text, cflags, None) as programs,
    ):
        yield programs.programs[build.PROGRAM]


def begin(path: DataPath) -> Session:
    """One steady flow, the same each time."""
    path.fresh(1000)
    path.clock(NOW)
    session = Session(path, "solo", CLIENT, PORT).open()
    session.up(Flag.ACK | Flag.PSH, payload=b"GET")  # next hops are known, both ways
    session.down(Flag.ACK | Flag.PSH, payload=b"200")
    return session


def counted(path: DataPath, cdn: str) -> tuple[int, ...]:
    """Its totals, as numbers."""
    return tuple(int(value) for value in numbers(path.totals(cdn)))


def numbers(totals: object) -> Iterator[int]:
    """All that are in there, whatever their names."""
    if isinstance(totals, int):
        yield totals
    elif isinstance(totals, tuple):
        for each in totals:
            yield from numbers(each)


class Left(NamedTuple):
    """What packets leave behind, but for totals."""

    established: dict[bytes, bytes]
    half_open: dict[bytes, bytes]
    slots: dict[bytes, bytes]

    @classmethod
    def by(cls, path: DataPath) -> Left:
        """Now."""
        tables = path.tables
        slots = {key: value for key, value in tables.reverse.items() if any(value)}
        return cls(dict(tables.established.items()), dict(tables.half_open.items()), slots)

    def put_back(self, path: DataPath, now: Left) -> None:
        """As it was; half-open there was nothing."""
        tables = path.tables
        tables.established.delete_all(list(now.established))
        tables.half_open.delete_all(list(now.half_open))
        tables.established.put_all(self.established)
        for key in now.slots.keys() | self.slots.keys():
            tables.reverse.put(key, self.slots.get(key, bytes(tables.reverse.info.value_size)))


class Outcome(NamedTuple):
    """What became of a packet."""

    seen: Seen
    left: Left
    counted: tuple[int, ...]


def outcome(
    path: DataPath, session: Session, at_first: Left, frame: bytes, device: str, entry: int = -1
) -> Outcome:
    """By the program `entry`, or the usual one; then all is as it was."""
    usual, before = path.fd, counted(path, session.cdn)
    path.fd = usual if entry < 0 else entry
    try:
        seen = path.run(frame, device)
    finally:
        path.fd = usual
    grown = tuple(new - old for new, old in zip(counted(path, session.cdn), before, strict=True))
    left = Left.by(path)
    at_first.put_back(path, left)
    return Outcome(seen, left, grown)


def express(path: DataPath, session: Session, at_first: Left, frame: bytes, device: str) -> Outcome | None:
    """The same if it took the lane, which leaves alone where the pipeline writes down a packet's facts."""
    facts = path.map("cpu_states", per_cpu=True)
    before = dict(facts.items())
    found = outcome(path, session, at_first, frame, device)
    return found if dict(facts.items()) == before else None


def frames(session: Session) -> dict[str, tuple[bytes, str]]:
    """Of the flow, after what `begin` sent, and of strangers; and by which link they come."""
    up, down = session.isn + 4, session.cdn_isn + 4
    return {
        "data": (of_client(session, up, down, b"more"), CLIENTS),
        "an acknowledgement": (of_client(session, up, down), CLIENTS),
        "a reply": (reply_frame(session, Flag.ACK, down, up, b"answer"), link_of(session.cdn)),
        "not ours": (segment(session.client, ("192.0.2.200", 80), Flag.SYN, seq=1), CLIENTS),
    }


def of_client(session: Session, seq: int, ack: int, payload: bytes = b"") -> bytes:
    """A segment in the middle."""
    return segment(session.client, session.service, Flag.ACK, seq=seq, ack=ack, payload=payload)


@pytest.mark.parametrize("what", ["data", "an acknowledgement", "a reply", "not ours"])
def test_a_plain_packet_takes_the_lane_and_fares_as_without_it(
    path: DataPath, pipeline: int, what: str
) -> None:
    session = begin(path)
    packet, at_first = frames(session)[what], Left.by(path)
    found = express(path, session, at_first, *packet)
    assert found is not None
    assert found == outcome(path, session, at_first, *packet, pipeline)
    assert Left.by(path) == at_first


def test_what_was_sent_before_is_the_pipelines(path: DataPath) -> None:
    session = begin(path)
    again = of_client(session, session.isn + 1, session.cdn_isn + 4, b"GET")
    assert express(path, session, Left.by(path), again, CLIENTS) is None


def test_mutants_that_take_the_lane_fare_as_without_it(path: DataPath, pipeline: int) -> None:
    chance, took, session = random.Random(11), 0, begin(path)
    plain = list(frames(session).values())
    others, at_first = [frame for frame, _ in plain], Left.by(path)
    for _ in range(ROUNDS):
        frame, device = chance.choice(plain)
        changed = mutated(chance, frame, others)
        found = express(path, session, at_first, changed, device)
        if found is not None:  # else it is the same code
            took += 1
            assert found == outcome(path, session, at_first, changed, device, pipeline)
    assert Left.by(path) == at_first
    assert took > ROUNDS / 10
