"""Tables change under traffic: nobody is reset, no port is given to two, and every packet is counted once."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import netbox
import pytest
from harness import PORTS, Action, DataPath, Seen
from moved import (
    GOES,
    LARGER,
    MORE_PORTS,
    Meanwhile,
    by_what_is_attached,
    counted,
    finish,
    goes_on,
    is_whole,
)
from quic import Connection, Kind
from reloaded import Edge
from segments import Flag
from session import Datagrams, Session

from cdnctl.datapath import hold, kernel, moving, transfer
from cdnctl.datapath.abi import SlotState, Verdict
from cdnctl.lab import netns

RESETS = (Verdict.RESET_CLIENT, Verdict.RESET_CDN)


OTHER_NUMBERS = pytest.param(MORE_PORTS, id="other numbers")
SAME_NUMBERS_SOAK = pytest.param(LARGER, id="same numbers", marks=pytest.mark.soak)
"""The easier one."""


@pytest.fixture
def edge(served: Edge) -> Edge:
    """One that serves."""
    return served


# --- any packet at any moment --------------------------------------------------------------------------


class Traffic:
    """What happens between any two steps of the move."""

    def __init__(self, edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
        self.edge = edge
        self.waiting = [Session(edge, "www").open() for _ in range(4)]
        self.ending = [Session(edge, "www").open() for _ in range(40)]
        self.opened: list[Session] = []
        self.promoted = [Session(edge, "www") for _ in range(12)]
        self.lost: list[Verdict] = []
        self.steps = 0
        for session in self.promoted:
            session.syn()
            session.syn_ack()
        for owner, name in (
            (kernel, "xdp_attach"),
            (moving.Move, "refresh"),
            (moving.Move, "_finish"),
            (moving.Move, "_copy_last"),
            (transfer.Transfer, "fill"),
            (transfer.Transfer, "catch_up"),
            (transfer.Transfer, "_compare"),
        ):
            monkeypatch.setattr(owner, name, self.around(getattr(owner, name)))

    def around(self, real: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object, **named: object) -> object:
            self.step()
            done = real(*arguments, **named)
            self.step()
            return done

        return wrapped

    def step(self) -> None:
        """Every packet by whatever is attached to its interface at that moment."""
        self.steps += 1
        for session in self.waiting:
            for send in (session.up, session.down):
                device = "clients" if send == session.up else ""
                seen = by_what_is_attached(
                    self.edge, session, lambda s=send: s(Flag.ACK, payload=b"x"), device
                )
                if seen.verdict not in GOES:
                    self.lost.append(seen.verdict)
        if self.promoted:
            session = self.promoted.pop()
            by_what_is_attached(self.edge, session, session.ack, "clients")
            self.opened.append(session)
        ending = self.ending.pop()
        by_what_is_attached(self.edge, ending, lambda: ending.up(Flag.FIN | Flag.ACK), "clients")
        by_what_is_attached(self.edge, ending, lambda: ending.down(Flag.FIN | Flag.ACK))
        session = Session(self.edge, "www")
        seen = by_what_is_attached(self.edge, session, session.syn, "clients")
        if seen.verdict is Verdict.FORWARDED:
            by_what_is_attached(self.edge, session, session.syn_ack)
            by_what_is_attached(self.edge, session, session.ack, "clients")
        self.opened.append(session)


@pytest.mark.soak
@pytest.mark.parametrize("change", [SAME_NUMBERS_SOAK, OTHER_NUMBERS])
def test_nobody_is_reset_while_programs_and_tables_change(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str]
) -> None:
    with monkeypatch.context() as patch:
        traffic = Traffic(edge, patch)
        edge.file.replace(*change)
        edge.reloaded()
    assert traffic.steps > 20
    assert traffic.lost == [], "no packet of an established flow"
    assert counted(edge).keys() <= {*GOES, Verdict.HELD}
    assert counted(edge)[Verdict.HELD] > 5
    is_whole(edge)
    for session in traffic.waiting:
        goes_on(session)
    for session in traffic.opened:
        finish(session)
    is_whole(edge)


# --- real concurrency ----------------------------------------------------------------------------------


class Live(DataPath):
    """Sends by what is attached, and looks at nothing but what comes out."""

    def __init__(self, edge: Edge) -> None:
        self.edge, self.sent, self.late = edge, 0, 0

    def run(self, frame: bytes, device: str = "clients") -> Seen:
        ifindex, began = self.edge.indexes[device], time.monotonic()
        identity = kernel.xdp_program_id(ifindex)
        fd = kernel.program_fd(identity)
        try:
            ran = kernel.test_run(fd, frame, ifindex=ifindex)
        finally:
            os.close(fd)
        self.sent += 1
        slow = time.monotonic() - began > hold.SETTLED_S / 2
        self.late += slow and identity != kernel.xdp_program_id(ifindex)
        through = ran.action in (Action.TX, Action.REDIRECT)
        return Seen(frame, Verdict.FORWARDED if through else Verdict.HELD, Action(ran.action), ran.frame)


class Crowd:
    """Clients in a thread of their own: flows begin, go on and end."""

    def __init__(self, edge: Edge) -> None:
        self.live = Live(edge)
        self.opened: list[Session] = []
        self.faults: list[BaseException] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        """They come and go while the block runs."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
        assert self.faults == []

    def _run(self) -> None:
        try:
            with netns.entered(netbox.name()):
                while not self._stop.is_set():
                    self._one()
        except BaseException as error:
            self.faults.append(error)

    def _one(self) -> None:
        number = len(self.opened)
        session = Session(self.live, "www", client=f"10.1.{number % 200}.9", port=PORTS[0] + number * 7 % 900)
        self.opened.append(session)
        if session.syn().verdict is Verdict.HELD:
            return
        session.syn_ack()
        session.ack()
        session.up(Flag.ACK, payload=b"GET")
        session.down(Flag.ACK, payload=b"200")
        if number % 3:
            session.up(Flag.FIN | Flag.ACK)
            session.down(Flag.FIN | Flag.ACK)


@pytest.mark.race
@pytest.mark.parametrize("change", [SAME_NUMBERS_SOAK, OTHER_NUMBERS])
def test_all_is_exact_after_moves_in_a_crowd(edge: Edge, change: tuple[str, str]) -> None:
    before = sum(counted(edge).values())
    interval, crowd, late = sys.getswitchinterval(), Crowd(edge), 0
    sys.setswitchinterval(0.0002)
    try:
        with crowd.around():
            for turn in range(4):
                edge.file.replace(*(change if turn % 2 == 0 else reversed(change)))
                edge.reloaded()
                late += crowd.live.late
    finally:
        sys.setswitchinterval(interval)
    assert len(crowd.opened) > 100
    is_whole(edge)
    if not late:  # a packet may be under way for a moment, no longer
        assert sum(counted(edge).values()) - before == crowd.live.sent
    assert not counted(edge).keys() & {*RESETS, Verdict.NO_OWNER, Verdict.STALE_REPLY}
    sent_from = Counter(session.snat for session in crowd.opened if session.cdn)
    assert sent_from
    for session in crowd.opened[-20:]:
        session.path = edge
        if session.cdn and session.established and session.slot.state == SlotState.ESTABLISHED:
            goes_on(session)


# --- what happens while it is filled -------------------------------------------------------------------


def test_a_flow_that_ends_meanwhile_stays_ended(edge: Edge, meanwhile: Meanwhile) -> None:
    session = Session(edge, "solo").open()

    def collected() -> None:
        slot = session.slot
        slot.seen_s = (slot.seen_s - 4000) & 0xFFFF
        edge.put_slot(session.slot_index, slot)
        while not edge.engine.sweep.step(1.0):
            pass
        assert session.slot.owner == 0

    meanwhile(moving.Move, "refresh", collected)
    edge.file.replace(*LARGER)
    edge.reloaded()
    assert session.slot.owner == 0
    assert session.established is None
    is_whole(edge)
    accounts = edge.totals(session.cdn)
    assert accounts.promoted - accounts.closed == 0


def test_a_port_that_changes_hands_meanwhile(edge: Edge, meanwhile: Meanwhile) -> None:
    first = Session(edge, "solo", client="10.1.0.50", port=PORTS[0] + 5).open()
    others = [Session(edge, "solo", client=f"10.1.0.{n}", port=PORTS[0] + 5) for n in range(60, 90)]
    taken: list[Session] = []

    def taken_over() -> None:
        first.close()
        slot = first.slot
        slot.since_ns -= 120 * 10**9
        edge.put_slot(first.slot_index, slot)
        while not taken or taken[-1].snat != first.snat:
            taken.append(others.pop().open())

    meanwhile(moving.Move, "refresh", taken_over)
    edge.file.replace(*MORE_PORTS)
    edge.reloaded()
    is_whole(edge)
    for session in taken:
        goes_on(session)
    assert first.established is None


def test_a_client_that_begins_anew_meanwhile(edge: Edge, meanwhile: Meanwhile) -> None:
    session = Session(edge, "www").open()
    again = Session(edge, "www", client=session.client[0], port=session.client[1], isn=90000)

    def anew() -> None:
        session.close()
        again.syn()
        again.syn_ack()

    meanwhile(moving.Move, "refresh", anew)
    edge.file.replace(*LARGER)
    edge.reloaded()
    is_whole(edge)
    assert again.ack().verdict is Verdict.FORWARDED
    goes_on(again)
    assert again.established is not None
    assert again.established.slot == again.slot_index


def test_udp_that_proves_itself_meanwhile(edge: Edge, meanwhile: Meanwhile) -> None:
    """However long ago its first datagram was."""
    Datagrams(edge, "quic").open()
    flows = [Datagrams(edge, "quic") for _ in range(6)]
    for flow in flows:
        flow.up()
        entry, slot = flow.half_open, flow.slot
        assert entry is not None
        entry.syn_ns -= 60 * 10**9
        slot.since_ns -= 60 * 10**9
        edge.tables.half_open.put(flow.key, bytes(entry))
        edge.put_slot(flow.slot_index, slot)

    def proven() -> None:
        for flow in flows:
            flow.down()
            flow.up()
            assert flow.datagrams

    meanwhile(moving.Move, "refresh", proven)
    edge.file.replace(*LARGER)
    edge.reloaded()
    is_whole(edge)
    assert all(flow.datagrams and not flow.half_open for flow in flows)


def test_quic_that_proves_itself_meanwhile(edge: Edge, meanwhile: Meanwhile) -> None:
    """A flow under way gets into another table, and its slot says the same but for the moment."""
    flows = [Connection(edge) for _ in range(6)]
    for flow in flows:
        flow.ask()
        flow.down(b"?")
        flow.up(b"?")
        assert flow.datagrams
        flow.answer(Kind.HANDSHAKE)

    def proven() -> None:
        for flow in flows:
            flow.finish()
            assert flow.established
            assert not flow.datagrams

    meanwhile(moving.Move, "refresh", proven)
    edge.file.replace(*MORE_PORTS)
    edge.reloaded()
    is_whole(edge)
    assert all(flow.established and not flow.datagrams for flow in flows)
    assert all(flow.knows() for flow in flows)


def test_a_handshake_that_was_held_is_no_sample(edge: Edge, meanwhile: Meanwhile) -> None:
    sessions = [Session(edge, "solo", client=f"10.{n}.0.9") for n in range(20)]
    health = edge.health("aurora")

    def syns() -> None:
        for session in sessions:
            assert by_what_is_attached(edge, session, session.syn, "clients").verdict is Verdict.FORWARDED

    meanwhile(moving.Move, "_copy_last", syns)
    edge.file.replace(*LARGER)
    edge.reloaded()
    for session in sessions:
        session.age(1000)  # the CDN sends its answer once more
        assert session.syn_ack().verdict is Verdict.REPLIED
        assert session.ack().verdict is Verdict.FORWARDED
    after = edge.health("aurora")
    assert (after.state, after.slow_run, after.ewma_us) == (0, 0, health.ewma_us)


def test_what_was_held_makes_nobody_dark(edge: Edge, meanwhile: Meanwhile) -> None:
    for _ in range(10):
        Session(edge, "solo").open()

    def syns() -> None:
        for n in range(20):
            session = Session(edge, "solo", client=f"10.{n}.0.9")
            by_what_is_attached(edge, session, session.syn, "clients")

    meanwhile(moving.Move, "_copy_last", syns)
    edge.file.replace(*LARGER)
    edge.reloaded()
    time.sleep(0.1)
    for n in range(20):
        Session(edge, "www", client=f"10.{n}.0.9").syn()
    assert edge.health("aurora").state == 0
