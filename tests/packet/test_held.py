"""While flows are held, in order to be moved: what is steady goes on, and nothing begins, changes or ends."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest
from harness import AURORA, SNAT, VIP, Action, DataPath
from quic import Connection
from segments import Flag, segment
from session import Datagrams, Session

from cdnctl.datapath import abi
from cdnctl.datapath.abi import SlotState, Verdict
from cdnctl.datapath.flows import SECOND_BITS


class Held:
    """For as long as a test wants."""

    def __init__(self, path: DataPath) -> None:
        self.path = path

    def until(self, ns: int) -> None:
        """0: no more."""
        self.path.map("held_until").put(abi.key(0), struct.pack("Q", ns))

    def begin(self) -> None:
        """From now on."""
        self.until(time.monotonic_ns() + 60 * 10**9)


@pytest.fixture
def held(path: DataPath) -> Iterator[Held]:
    """Nothing yet."""
    held = Held(path)
    yield held
    held.until(0)


def picture(path: DataPath) -> list[object]:
    """Who has which port in which state, and all flows but for when they were last seen."""
    slots = [
        (number, raw[:8], raw[abi.Slot.state.offset], raw[abi.Slot.flags.offset])
        for number, raw in enumerate(path.tables.reverse.values())
        if any(raw[:8])
    ]
    flows = [sorted(table.keys()) for table in (path.tables.half_open, path.tables.established)]
    return [slots, flows]


def test_established_flows_go_on(path: DataPath, held: Held) -> None:
    session, datagrams, connection = (
        Session(path).open(),
        Datagrams(path, "dns").open(),
        Connection(path).open(),
    )
    before = picture(path)
    held.begin()
    for second in range(3):
        if second:  # the first packets of another second look closer
            now = (time.monotonic_ns() >> SECOND_BITS) + 2 * second << SECOND_BITS
            path.clock(now)
            held.until(now + 10**9)
        assert session.down(Flag.ACK, payload=b"200").verdict is Verdict.REPLIED
        assert session.up(Flag.ACK, payload=b"GET").verdict is Verdict.FORWARDED
        for flow in (datagrams, connection):
            assert flow.down().verdict is Verdict.REPLIED
            assert flow.up().verdict is Verdict.FORWARDED
    assert picture(path) == before


def test_nothing_begins_changes_or_ends(path: DataPath, held: Held) -> None:
    steady, begun, answered = Session(path).open(), Session(path), Session(path)
    asked = Datagrams(path, "dns")
    begun.syn()
    answered.syn()
    answered.syn_ack()
    asked.up()
    before = picture(path)
    held.begin()
    packets = [
        lambda: Session(path).syn(),
        lambda: Session(path).up(Flag.ACK),
        lambda: Datagrams(path, "dns").up(),
        lambda: Connection(path).ask(),
        begun.syn,
        begun.syn_ack,
        begun.refuse,
        answered.ack,
        lambda: answered.up(Flag.RST, seq=answered.isn + 1),
        asked.up,
        asked.down,
        lambda: steady.up(Flag.FIN | Flag.ACK),
        lambda: steady.down(Flag.FIN | Flag.ACK),
        lambda: steady.up(Flag.RST),
        lambda: steady.down(Flag.RST | Flag.ACK),
        steady.syn,
    ]
    for send in packets:
        seen = send()
        assert (seen.verdict, seen.action) == (Verdict.HELD, Action.DROP)
    assert picture(path) == before
    held.until(0)
    assert begun.syn_ack().verdict is Verdict.REPLIED
    assert begun.ack().verdict is Verdict.FORWARDED
    assert answered.ack().verdict is Verdict.FORWARDED
    assert asked.down().verdict is Verdict.REPLIED
    steady.close()


def test_nobody_is_reset_for_a_dark_cdn(path: DataPath, held: Held) -> None:
    session = Session(path).open()
    session.up(Flag.ACK | Flag.PSH, payload=b"GET")
    path.change_health(AURORA, state=1, reason=abi.OutReason.DARK)
    held.begin()
    before = picture(path)
    assert session.up(Flag.ACK | Flag.PSH, payload=b"GET").verdict is Verdict.FORWARDED
    assert picture(path) == before
    held.until(0)
    assert session.up(Flag.ACK | Flag.PSH, payload=b"GET").verdict is Verdict.RESET_CLIENT


def test_who_disowns_his_reset_waits(path: DataPath, held: Held) -> None:
    session = Session(path).open()
    session.up(Flag.RST, seq=session.isn + 1)
    assert session.slot.state == SlotState.CLOSING
    held.begin()
    assert session.up(Flag.ACK).verdict is Verdict.FORWARDED
    assert session.slot.state == SlotState.CLOSING
    held.until(0)
    path.clock(time.monotonic_ns() + 2 * 10**9)
    assert session.up(Flag.ACK).verdict is Verdict.FORWARDED
    assert session.slot.state == SlotState.ESTABLISHED


def test_it_ends_by_itself(path: DataPath, held: Held) -> None:
    now = time.monotonic_ns()
    held.until(now)
    path.clock(now - 1)
    assert Session(path).syn().verdict is Verdict.HELD
    path.clock(now)
    assert Session(path).syn().verdict is Verdict.FORWARDED


def test_what_is_not_a_flow_is_not_held(path: DataPath, held: Held) -> None:
    held.begin()
    assert path.run(segment(("10.1.0.7", 1), ("192.0.2.200", 9), Flag.SYN)).verdict is Verdict.PASSED
    assert path.run(segment(("10.1.0.7", 1), (SNAT[0], 22), Flag.SYN)).verdict is Verdict.PASSED
    path.tables.mode = abi.Mode.BYPASS
    assert path.run(segment(("10.1.0.7", 1), (VIP, 80), Flag.SYN)).verdict is Verdict.BYPASSED
