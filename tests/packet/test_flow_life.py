"""What flows tell on their way, and how they end: requests timed, losses counted, open ones true."""

from __future__ import annotations

import time
from ipaddress import ip_network

import pytest
from harness import MS, RESTED_NS, Action, DataPath
from segments import Flag, flags_of, numbers_of
from session import Session
from steps import dropped, forwarded, replied, verdict_of

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Breaker, FlowFlag, OutReason, SlotState, Verdict
from cdnctl.datapath.clients import Client
from cdnctl.datapath.counters import Counters, buckets

ACK, PSH = Flag.ACK, Flag.PSH
BOTH = pytest.mark.parametrize("service", ["solo", "solo6"])


def _open(path: DataPath) -> int:
    totals = path.totals("aurora")
    return totals.promoted - totals.closed


def _ask(session: Session, seq: int, ack: int, payload: bytes = b"GET /") -> None:
    forwarded(session.up(ACK | PSH, seq=seq, ack=ack, payload=payload))


def _reply(session: Session, seq: int, ack: int, payload: bytes = b"200 OK") -> None:
    replied(session.down(ACK | PSH, seq=seq, ack=ack, payload=payload))


def _first_bytes(path: DataPath) -> int:
    return sum(path.tables.counters.first_bytes(path.layout.cdns["aurora"], abi.TrafficClass.INTERACTIVE))


@BOTH
def test_each_request_of_a_kept_connection_is_timed_once(path: DataPath, service: str) -> None:
    session = Session(path, service).open()
    before, timed = path.totals("aurora"), _first_bytes(path)
    mine, theirs = session.isn + 1, session.cdn_isn + 1
    for _ in range(3):
        _ask(session, mine, theirs)
        _ask(session, mine + 5, theirs, b" HTTP/1.1")  # the same request, in two segments
        mine += 14
        _reply(session, theirs, mine)
        _reply(session, theirs + 6, mine)
        theirs += 12
    after = path.totals("aurora")
    assert after.requests - before.requests == _first_bytes(path) - timed == 3
    assert (after.segments_to - before.segments_to, after.resent_to - before.resent_to) == (6, 0)
    assert (after.segments_from - before.segments_from, after.resent_from - before.resent_from) == (6, 0)


@BOTH
def test_it_counts_where_the_client_is_and_what_it_is_for(path: DataPath, service: str) -> None:
    near = {ip_network(prefix): Client(region=5) for prefix in ("10.1.0.0/16", "2001:db8:c1::/48")}
    path.tables.clients.load(near)
    session = Session(path, service).open()
    slot = session.slot
    assert slot.region == 5
    slot.traffic_class = abi.TrafficClass.BULK
    path.put_slot(session.slot_index, slot)
    before = list(Counters(path.program.pins)._tables["first_bytes"].rows())
    for n in range(3):
        _ask(session, session.isn + 1 + 5 * n, session.cdn_isn + 1 + 6 * n)
        _reply(session, session.cdn_isn + 1 + 6 * n, session.isn + 6 + 5 * n)
    after = list(Counters(path.program.pins)._tables["first_bytes"].rows())
    (row,) = [row for row, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    cdn = path.layout.cdns["aurora"]
    assert row == (cdn * abi.MAX_REGIONS + 5) * abi.CLASSES + abi.TrafficClass.BULK
    assert sum(buckets(after[row])) - sum(buckets(before[row])) == 3
    for regions in (1, 6):
        timed = Counters(path.program.pins).timed(cdn, regions)
        assert timed[5, abi.TrafficClass.BULK] == after[row], "of a region that is no more, too"
    assert sum(path.tables.counters.first_bytes(cdn, abi.TrafficClass.BULK)) == sum(buckets(after[row]))


def test_the_time_is_from_the_request_to_the_first_byte(path: DataPath) -> None:
    session = Session(path, "solo").open()
    before = path.tables.counters.first_bytes(path.layout.cdns["aurora"], 0)
    _ask(session, session.isn + 1, session.cdn_isn + 1)
    slot = session.slot
    assert slot.flags & FlowFlag.ASKED
    slot.since_ns -= 40 * MS
    path.put_slot(session.slot_index, slot)
    _reply(session, session.cdn_isn + 1, session.isn + 6)
    after = path.tables.counters.first_bytes(path.layout.cdns["aurora"], 0)
    (bucket,) = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    low_us, high_us = abi.bucket_limits_us(bucket)
    assert low_us <= 40_000 * 1.2
    assert high_us >= 40_000


@BOTH
def test_what_is_sent_again_is_counted_by_who_sent_it(path: DataPath, service: str) -> None:
    session = Session(path, service).open()
    before = path.totals("aurora")
    mine, theirs = session.isn + 1, session.cdn_isn + 1
    for _ in range(3):
        _ask(session, mine, theirs)
    for _ in range(2):
        _reply(session, theirs, mine + 5)
    after = path.totals("aurora")
    assert after.resent_to - before.resent_to == 2
    assert after.resent_from - before.resent_from == 1


@BOTH
def test_where_the_edge_only_observes_nothing_is_seen_twice(path: DataPath, service: str) -> None:
    """What passes may be answered by the host: it says nothing of a CDN."""
    session = Session(path, service).open()
    path.tables.mode = abi.Mode.OBSERVE
    before = path.totals("aurora")
    for _ in range(3):
        session.up(Flag.ACK | Flag.PSH, payload=b"right")
        session.down(Flag.ACK | Flag.PSH, payload=b"right")
    after = path.totals("aurora")
    assert (after.segments_to, after.resent_to) == (before.segments_to, before.resent_to)
    assert (after.segments_from, after.resent_from) == (before.segments_from, before.resent_from)


@BOTH
def test_sequence_numbers_wrap(path: DataPath, service: str) -> None:
    session = Session(path, service)
    session.isn = session.cdn_isn = 0xFFFF_FFFD
    session.open()
    before = path.totals("aurora")
    for at in (0, 5, 10):
        _ask(session, session.isn + 1 + at, session.cdn_isn + 1)
        _reply(session, session.cdn_isn + 1 + at, session.isn + 6 + at, b"right")
    after = path.totals("aurora")
    assert (after.resent_to - before.resent_to, after.resent_from - before.resent_from) == (0, 0)


@BOTH
def test_a_client_that_sends_again_into_a_dark_cdn_is_reset_in_window(path: DataPath, service: str) -> None:
    session = Session(path, service).open()
    open_before = _open(path)
    acknowledged = session.cdn_isn + 1
    _ask(session, session.isn + 1, acknowledged)
    path.change_health("aurora", session.pool, state=Breaker.OUT, reason=OutReason.DARK)
    _ask(session, session.isn + 6, acknowledged, b" HTTP")  # new data may still find it alive
    seen = verdict_of(
        session.up(ACK | PSH, seq=session.isn + 1, ack=acknowledged, payload=b"GET /"),
        Verdict.RESET_CLIENT,
        Action.TX,
    )
    if service == "solo":
        assert flags_of(seen.frame) == Flag.RST
        assert numbers_of(seen.frame)[0] == acknowledged, "in window: RFC 5961 takes no other"
    assert path.totals("aurora").reset_dark >= 1
    assert session.slot.state == SlotState.CLOSING
    assert _open(path) == open_before - 1


@pytest.mark.parametrize("why", ["slow", "refusing", "in", "disarmed", "not wanted"])
def test_nobody_is_reset_for_another_reason(path: DataPath, why: str) -> None:
    session = Session(path, "solo").open()
    _ask(session, session.isn + 1, session.cdn_isn + 1)
    reason = {"slow": OutReason.SLOW, "refusing": OutReason.REFUSING}.get(why, OutReason.DARK)
    path.change_health("aurora", state=Breaker.IN if why == "in" else Breaker.OUT, reason=reason)
    if why == "disarmed":
        path.tables.mode = abi.Mode.DISARMED
    if why == "not wanted":
        path.change_endpoint("aurora", flags=0)
    _ask(session, session.isn + 1, session.cdn_isn + 1)


@BOTH
def test_open_flows_are_counted_true_to_their_ends(path: DataPath, service: str) -> None:
    before = _open(path)
    flows = [Session(path, service).open() for _ in range(6)]
    assert _open(path) == before + 6
    flows[0].close()
    flows[1].up(Flag.RST)
    flows[2].down(Flag.RST | ACK)
    assert _open(path) == before + 3
    # a reset that nobody believes is none
    slot = flows[1].slot
    slot.since_ns -= 4000 * MS
    path.put_slot(flows[1].slot_index, slot)
    replied(flows[1].down(ACK, payload=b"still here"))
    assert _open(path) == before + 4


@BOTH
def test_the_sweep_takes_a_census_and_frees_what_is_over(path: DataPath, service: str) -> None:
    alive, closed, idle, begun = [Session(path, service) for _ in range(4)]
    for session in (alive, closed, idle):
        session.open()
    closed.close()
    begun.syn()
    found = path.sweep()[path.endpoint_id("aurora", alive.pool)]
    assert found == {SlotState.ESTABLISHED: 2, SlotState.CLOSING: 1, SlotState.SYN_SENT: 1}
    open_before = _open(path)

    for session, state_ns in ((closed, RESTED_NS), (begun, 9_000 * MS)):
        slot = session.slot
        slot.since_ns -= state_ns
        path.put_slot(session.slot_index, slot)
    slot = idle.slot
    slot.seen_s = (slot.seen_s - path.tables.settings.established_s - 2) % 65536
    path.put_slot(idle.slot_index, slot)
    path.sweep()
    assert path.sweep() == {path.endpoint_id("aurora", alive.pool): {SlotState.ESTABLISHED: 1}}
    assert (idle.established, closed.established, begun.half_open) == (None, None, None)
    assert (alive.established is not None, idle.slot.owner) == (True, 0)
    assert _open(path) == open_before - 1
    dropped(idle.down(ACK), Verdict.NO_OWNER)
    forwarded(alive.up(ACK))


def test_a_flow_in_use_is_never_over(path: DataPath) -> None:
    session = Session(path, "solo").open()
    slot, flow = session.slot, session.established
    assert flow is not None
    second = (time.clock_gettime_ns(time.CLOCK_MONOTONIC) >> 30) % 65536
    slot.seen_s = flow.seen_s = (second - path.tables.settings.established_s - 5) % 65536
    path.put_slot(session.slot_index, slot)
    path.tables.established.put(session.key, bytes(flow))
    forwarded(session.up(ACK))  # once a second its slot hears of it
    path.sweep()
    replied(session.down(ACK))
