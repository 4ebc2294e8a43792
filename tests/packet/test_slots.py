"""Ports and reverse slots: who gets which, who keeps it, and what outlives an eviction."""

from __future__ import annotations

import itertools
import time

import pytest
from harness import MS, RESTED_NS, SNAT, Action, DataPath
from segments import Ends, flags_of
from session import CDN_ISN, Session, sequence_of
from steps import (
    ACK,
    PSH,
    RST,
    dropped,
    forwarded,
    from_cdn,
    from_client,
    goes_down,
    goes_up,
    replied,
    verdict_of,
)

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.kernel import Map


def test_a_client_keeps_its_port_when_it_is_free(path: DataPath) -> None:
    first = Session(path, client="10.1.0.1", port=20345)
    first.syn()
    assert first.snat[1] == 20345


def test_two_clients_of_one_port_never_share_a_slot(path: DataPath) -> None:
    sessions = [Session(path, client=f"10.1.0.{n}", port=20345).open() for n in range(1, 40)]
    assert len({(session.cdn, session.snat) for session in sessions}) == len(sessions)
    for n, session in enumerate(sessions):
        seen = session.down(ACK, payload=b"reply %d" % n)
        assert Ends(seen.frame).target == session.client, seen


def test_a_port_that_is_not_ours_becomes_one_of_ours(path: DataPath) -> None:
    ports = set()
    for port in (1, 1023, 19999, 21000, 65535):
        session = Session(path, port=port)
        session.syn()
        ports.add(session.snat[1])
    assert all(20000 <= port <= 20999 for port in ports)


def test_without_a_port_left_nothing_is_sent(path: DataPath) -> None:
    path.change(ports=2, snat_count=1)
    verdicts = [Session(path, client=f"10.1.0.{n}").syn().verdict for n in range(1, 60)]
    assert verdicts.count(Verdict.FORWARDED) == 2
    assert verdicts.count(Verdict.NO_PORT) == 57
    assert len(list(path.tables.half_open.keys())) == 2


def test_a_new_address_is_found_beside_one_that_is_full(path: DataPath) -> None:
    path.change(ports=256, snat_count=1)
    for number in range(256):
        assert Session(path, "solo", port=20_000 + number).syn().verdict is Verdict.FORWARDED
    path.change(ports=256, snat_count=2)
    later = [Session(path, "solo", client="10.1.0.9", port=20_000 + number) for number in range(40)]
    assert {session.syn().verdict for session in later} == {Verdict.FORWARDED}
    assert {session.snat[0] for session in later} == {SNAT[1]}


def test_a_closed_port_rests_and_then_is_used_again(path: DataPath) -> None:
    path.change(ports=1, snat_count=1)
    first = Session(path, client="10.1.0.1").open().close()
    second = Session(path, client="10.1.0.2")
    dropped(second.syn(), Verdict.NO_PORT)
    slot = path.slot(first.slot_index)
    ended_ns = slot.since_ns
    slot.since_ns = ended_ns - 65_000 * MS  # a minute, and what a kernel may be late: TIME_WAIT at the CDN
    path.put_slot(first.slot_index, slot)
    dropped(second.syn(), Verdict.NO_PORT)
    slot.since_ns = ended_ns - RESTED_NS
    path.put_slot(first.slot_index, slot)
    forwarded(second.syn())
    assert first.established is None, "the old owner's entry must not outlive its slot"
    assert second.slot_index == first.slot_index


def test_a_port_that_has_rested_is_as_good_as_free(path: DataPath) -> None:
    path.change(ports=4, snat_count=1)
    for n in range(4):
        closed = Session(path, client=f"10.1.0.{n + 1}", port=20000 + n).open().close()
        slot = closed.slot
        slot.since_ns -= RESTED_NS
        path.put_slot(closed.slot_index, slot)
    session = Session(path, client="10.1.0.9", port=20002)
    forwarded(session.syn())
    assert session.snat[1] == 20002


def test_nearly_all_ports_held_the_last_one_is_found_most_times(path: DataPath) -> None:
    path.change(ports=100, snat_count=1)
    verdicts = [Session(path, client=f"10.1.{n}.1").syn().verdict for n in range(90)]
    assert verdicts.count(Verdict.FORWARDED) >= 80


def test_a_slot_that_is_being_filled_is_nobodys(path: DataPath) -> None:
    path.change(ports=1, snat_count=1)
    first = Session(path, client="10.1.0.1")
    first.syn()
    slot = first.slot
    slot.owner = 2**64 - 1
    slot.since_ns -= RESTED_NS
    path.put_slot(first.slot_index, slot)
    dropped(first.syn_ack(), Verdict.NO_OWNER)
    dropped(Session(path, client="10.1.0.2").syn(), Verdict.NO_PORT)


# -- evicted --


def evict(session: Session) -> None:
    """Take the forward entry away, as the LRU does when it needs room."""
    tables = session.path.tables
    assert tables.established.delete(session.key) or tables.half_open.delete(session.key)


def may_look_again(session: Session) -> None:
    """Let the second pass in which a reply does not look at the forward entry again."""
    slot = session.slot
    slot.seen_s = 0
    session.path.put_slot(session.slot_index, slot)


def test_a_reply_rebuilds_what_was_evicted(opened: Session) -> None:
    before = bytes(opened.established or b"")
    evict(opened)
    may_look_again(opened)
    goes_down(opened, from_cdn(opened, "PA", b"data", seq=CDN_ISN + 1, ack=1001))
    rebuilt = opened.established
    assert rebuilt is not None
    old = abi.Flow.from_buffer_copy(before)
    same = (
        "slot",
        "snat",
        "snat_port",
        "ip_delta",
        "l4_delta",
        "endpoint",
        "service",
        "cdn",
        "isn",
        "generation",
    )
    assert {f: getattr(rebuilt, f) for f in same} == {f: getattr(old, f) for f in same}
    goes_up(opened, from_client(opened, "PA", b"more", seq=1001, ack=CDN_ISN + 5))


def test_a_handshake_survives_the_loss_of_its_entry(session: Session) -> None:
    session.syn()
    evict(session)
    replied(session.syn_ack())
    forwarded(session.ack())
    assert session.established is not None


def test_a_client_that_speaks_first_after_an_eviction_is_reset(opened: Session) -> None:
    evict(opened)
    seen = opened.up(PSH | ACK, payload=b"x")
    verdict_of(seen, Verdict.RESET_CLIENT, Action.TX)
    assert (flags_of(seen.frame), sequence_of(seen)) == (RST, (CDN_ISN + 1, 0))


def test_an_old_sessions_reply_does_not_come_before_the_clients_new_one(path: DataPath) -> None:
    old = Session(path, port=40123).open()
    evict(old)
    may_look_again(old)
    new = Session(path, port=40123, isn=70_000)
    forwarded(new.syn())
    assert new.slot_index != old.slot_index
    old.down(ACK, payload=b"of the old session")
    replied(new.syn_ack())
    seen = new.ack()
    forwarded(seen)
    assert Ends(seen.frame).source == new.snat
    assert new.established is not None
    assert new.established.slot == new.slot_index


def test_a_slot_taken_over_takes_the_old_entry_with_it(path: DataPath) -> None:
    path.change(ports=1, snat_count=1)
    first = Session(path, client="10.1.0.1").open()
    evict(first)
    second = Session(path, client="10.1.0.2")
    forwarded(second.syn())
    assert second.slot_index == first.slot_index
    late = first.down(ACK, payload=b"for the first client")
    verdict_of(late, Verdict.RESET_CDN, Action.TX)  # not for the second
    replied(second.syn_ack())
    forwarded(second.ack())


def test_an_unfinished_handshake_holds_its_port_for_8_seconds(path: DataPath) -> None:
    path.change(ports=1, snat_count=1)
    first, second = Session(path, client="10.1.0.1"), Session(path, client="10.1.0.2")
    first.syn()
    dropped(second.syn(), Verdict.NO_PORT)
    first.age(8_001)
    forwarded(second.syn())
    assert first.half_open is None


# -- how many live --


def test_live_flows_are_counted_and_closed_ones_are_not(path: DataPath) -> None:
    sessions = [Session(path, client=f"10.1.0.{n}").open() for n in range(1, 6)]
    sessions[0].close()
    count = path.tables.live_flows()
    assert (count, f"{count}") == (4, "4")


def test_flows_are_counted_in_bounded_time_and_the_count_says_how_sure_it_is(path: DataPath) -> None:
    table = path.tables.established
    live, closed = path.slot_index("aurora", (SNAT[0], 20000)), path.slot_index("aurora", (SNAT[0], 20001))
    path.put_slot(live, abi.Slot(state=abi.SlotState.ESTABLISHED))
    path.put_slot(closed, abi.Slot(state=abi.SlotState.TOMBSTONE))
    for n in range(2000):
        key = n.to_bytes(table.info.key_size, "little")
        table.put(key, bytes(abi.Flow(slot=closed if n % 4 == 0 else live)))
    held = sum(1 for _ in table.items())  # an LRU table may have let some go
    exact = path.tables.live_flows(bound_s=30)
    assert exact == pytest.approx(held * 3 / 4, rel=0.05)
    assert f"{exact}" == str(int(exact))
    hurried = path.tables.live_flows(bound_s=1e-9)
    assert f"{hurried}".startswith("at least ")


def test_a_million_flows_keep_nobody_waiting(path: DataPath, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = 4096, b"", bytes(abi.Flow(slot=0)) * 4096
    path.put_slot(0, abi.Slot(state=abi.SlotState.ESTABLISHED))
    monkeypatch.setattr(Map, "batches", lambda table: itertools.repeat(batch, 256))
    began = time.monotonic()
    count = path.tables.live_flows(bound_s=0.3)
    assert time.monotonic() - began < 0.5
    assert count == pytest.approx(2 * 256 * 4096), "half of them of datagrams"
    assert f"{count}".startswith("about ")
