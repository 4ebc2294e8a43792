"""Rescue: a client that sends its SYN again because its CDN is silent is moved to another one."""

from __future__ import annotations

import copy

import pytest
from harness import CDNS, DataPath
from segments import Ends, Flag, flags_of
from session import Session, sequence_of

from cdnctl.datapath import abi
from cdnctl.datapath.abi import EventKind, SlotState, Verdict


@pytest.fixture
def known(path: DataPath) -> DataPath:
    """Every CDN's usual handshake is known, and quick."""
    for cdn in CDNS:
        path.change_health(cdn, samples=20, baseline_us=10_000, ewma_us=10_000)
    return path


def silent(path: DataPath, ms: float, service: str = "www") -> tuple[Session, Session]:
    """A session whose SYN has gone unanswered so long, and a copy that stays with the first CDN."""
    session = Session(path, service)
    session.syn()
    session.age(ms)
    return session, copy.copy(session)


def test_a_syn_again_after_200_ms_goes_to_another_cdn(known: DataPath) -> None:
    known.events(0, 0)
    session, first = silent(known, 210)
    with known.counting(first.cdn) as lost:
        assert session.syn().verdict is Verdict.FORWARDED
    assert session.cdn != first.cdn
    assert lost == {"rescued_from": 1}
    assert session.half_open is not None
    assert session.half_open.slot == session.slot_index
    assert first.slot.state == SlotState.TOMBSTONE
    (event,) = known.events(1)
    assert (event.kind, event.endpoint, event.to_endpoint) == (
        EventKind.RESCUE,
        known.endpoint_id(first.cdn),
        known.endpoint_id(session.cdn),
    )


def test_the_rescued_session_works(known: DataPath) -> None:
    session, first = silent(known, 210)
    session.syn()
    with known.counting(session.cdn) as counted:
        assert session.syn_ack().verdict is Verdict.REPLIED
        assert session.ack().verdict is Verdict.FORWARDED
    assert counted["promoted"] == 1
    assert counted["handshakes"] == 1, "its new SYN was answered at once: a clean sample"
    seen = session.up(Flag.PSH | Flag.ACK, payload=b"GET /")
    assert Ends(seen.frame).source == session.snat
    assert first.snat != session.snat or first.cdn != session.cdn


def test_a_late_answer_of_the_first_is_reset_and_measured(known: DataPath) -> None:
    session, first = silent(known, 210)
    session.syn()
    cdn = known.layout.cdns[first.cdn]
    before = known.tables.counters.handshakes(cdn)
    late = first.syn_ack()
    assert late.verdict is Verdict.RESET_CDN
    assert (flags_of(late.frame), sequence_of(late)) == (Flag.RST, (first.isn + 1, 0))
    ends = Ends(late.frame)
    assert (ends.source, ends.target) == (first.snat, Ends(late.sent).source)
    after = known.tables.counters.handshakes(cdn)
    (bucket,) = [n for n in range(len(after)) if after[n] != before[n]]
    low, high = abi.bucket_limits_us(bucket)
    assert low <= 400_000
    assert high > 210_000
    assert first.syn_ack().verdict is Verdict.RESET_CDN
    assert known.tables.counters.handshakes(cdn) == after, "once: what comes again is no quicker CDN"
    assert session.syn_ack().verdict is Verdict.REPLIED
    assert session.ack().verdict is Verdict.FORWARDED


@pytest.mark.parametrize("flags", [Flag.ACK, Flag.RST | Flag.ACK, Flag.FIN | Flag.ACK, Flag.RST])
def test_anything_else_at_the_tombstone_is_dropped(known: DataPath, flags: Flag) -> None:
    session, first = silent(known, 210)
    session.syn()
    assert first.down(flags).verdict is Verdict.STALE_REPLY
    assert first.down(Flag.SYN | Flag.ACK, ack=5).verdict is Verdict.STALE_REPLY
    assert first.slot.state == SlotState.TOMBSTONE


def test_not_before(known: DataPath) -> None:
    session, first = silent(known, 100)
    again = session.syn()
    assert session.cdn == first.cdn
    assert Ends(again.frame).source == first.snat


def test_not_after_an_answer(known: DataPath) -> None:
    session, first = silent(known, 1000)
    session.syn_ack()
    session.syn()
    assert session.cdn == first.cdn


def test_not_with_another_number(known: DataPath) -> None:
    session, first = silent(known, 1000)
    session.isn += 1
    session.syn()
    assert (session.cdn, session.snat) == (first.cdn, first.snat)


@pytest.mark.parametrize("mode", [abi.Mode.DISARMED, abi.Mode.OBSERVE])
def test_not_when_disarmed_or_observing(known: DataPath, mode: abi.Mode) -> None:
    session, _ = silent(known, 1000)
    known.events(0, 0)
    slot, flow = session.slot, session.half_open
    known.tables.mode = mode
    session.syn()
    assert (session.slot.state, session.slot.owner) == (slot.state, slot.owner)
    assert session.half_open is not None
    assert flow is not None
    assert session.half_open.endpoint == flow.endpoint
    assert known.events(0) == []


def test_not_before_three_usual_handshakes(known: DataPath) -> None:
    for cdn in CDNS:
        known.change_health(cdn, baseline_us=150_000)
    session, first = silent(known, 300)
    session.syn()
    assert session.cdn == first.cdn
    session.age(160)
    session.syn()
    assert session.cdn != first.cdn


def test_an_unknown_cdn_gets_a_second(path: DataPath) -> None:
    session, first = silent(path, 800)
    session.syn()
    assert session.cdn == first.cdn
    session.age(250)
    session.syn()
    assert session.cdn != first.cdn


def test_with_no_other_cdn_it_stays(known: DataPath) -> None:
    session, first = silent(known, 1000, "solo")
    assert session.syn().verdict is Verdict.FORWARDED
    assert (session.cdn, session.snat) == (first.cdn, first.snat)
    assert session.syn_ack().verdict is Verdict.REPLIED
    assert session.ack().verdict is Verdict.FORWARDED


def test_a_second_rescue_moves_on(known: DataPath) -> None:
    session, _ = silent(known, 210)
    session.syn()
    session.age(210)
    second = copy.copy(session)
    session.syn()
    assert session.cdn != second.cdn
    assert second.slot.state == SlotState.TOMBSTONE
    assert session.syn_ack().verdict is Verdict.REPLIED
    assert second.syn_ack().verdict is Verdict.RESET_CDN
    assert session.ack().verdict is Verdict.FORWARDED
