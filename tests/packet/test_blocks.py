"""The block list as packets of both families meet it."""

from __future__ import annotations

import os
import time
from ipaddress import ip_network

import pytest
from blocking import FOUR, HOUR_NS, Guarded, Names, is_blocked
from netbox import CLIENTS
from segments import Flag, segment
from session import Session

from cdnctl.datapath import abi, kernel, panic
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.lines import Addresses
from cdnctl.model import Block

A_TICK_NS = 1 << abi.BLOCK_TICK_LOG
"""Within so much of its end a block ends."""

# -- what a prefix covers --


@pytest.mark.parametrize(
    "prefix",
    [
        "10.9.8.7/32",
        "10.9.8.6/31",
        "10.9.8.128/25",
        "10.9.8.0/24",
        "10.9.8.0/23",
        "10.9.0.0/16",
        "10.8.0.0/13",
        "10.0.0.0/8",
        "2001:db8:5:6::7/128",
        "2001:db8:5:6::6/127",
        "2001:db8:5:6:8000::/65",
        "2001:db8:5:6::/64",
        "2001:db8:5:8::/61",
        "2001:db8:5:8000::/49",
        "2001:db8:5::/48",
        "2001:db8:6::/47",
        "2001:db8:8000::/33",
        "2001:db8::/32",
        "2400::/16",
    ],
)
def test_a_prefix_blocks_what_is_in_it_and_nothing_else(guarded: Guarded, prefix: str) -> None:
    network = ip_network(prefix)
    guarded.block(prefix)
    first, last = network.network_address, network.broadcast_address
    assert is_blocked(guarded.path, str(first))
    assert is_blocked(guarded.path, str(last))
    assert not is_blocked(guarded.path, str(first - 1))
    assert not is_blocked(guarded.path, str(last + 1))
    guarded.unblock(prefix)
    assert not is_blocked(guarded.path, str(first))
    assert not guarded.held(prefix)


def test_a_network_without_a_mark_looks_at_no_table(guarded: Guarded, at: Names) -> None:
    addresses = Addresses(guarded.path.program.pins)
    addresses.put(abi.packed(at.one), bytes(abi.Block(length=128)))
    try:
        assert not is_blocked(guarded.path, at.one)
        guarded.block(at.beside[0])  # marks its network
        assert is_blocked(guarded.path, at.one)
    finally:
        addresses.delete(abi.packed(at.one))


def test_one_of_several_in_a_network_stays(guarded: Guarded, at: Names) -> None:
    first, second = at.halves
    for prefix in (at.one, at.beside[0], first, second):
        guarded.block(prefix)
    guarded.unblock(at.one)
    guarded.unblock(first)
    blocked = [is_blocked(guarded.path, source) for source in (at.one, *at.beside)]
    assert blocked == [False, True, False, True]


def test_the_families_do_not_meet(guarded: Guarded) -> None:
    """In the kernel IPv4 is a part of IPv6, with neighbours."""
    guarded.block("10.1.2.0/24")
    guarded.block("::fffe:0:0/96")
    guarded.block("::/96")
    assert is_blocked(guarded.path, "10.1.2.3")
    assert is_blocked(guarded.path, "::fffe:a01:203")
    assert is_blocked(guarded.path, "::a01:203")
    assert not is_blocked(guarded.path, "10.1.3.3")
    assert not is_blocked(guarded.path, "::fffd:a01:203")


def test_hits_are_counted_by_sample(guarded: Guarded, at: Names) -> None:
    guarded.block(at.nested[1])
    frame = segment((at.one, 1), (at.vip, 80), Flag.SYN)
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        for _ in range(640):
            kernel.test_run(guarded.path.fd, frame, ifindex=guarded.path.indexes[CLIENTS])
    finally:
        os.sched_setaffinity(0, cpus)
    assert abs(guarded.path.blocks.hits(ip_network(at.nested[1])) - 640) <= 128


# -- lifetimes --


@pytest.mark.parametrize("exact", [True, False])
def test_a_block_ends_on_time_with_nobody_there_to_lift_it(guarded: Guarded, at: Names, exact: bool) -> None:
    prefix = at.one if exact else at.nested[1]
    guarded.block(prefix, lifetime_ns=HOUR_NS)
    guarded.later(HOUR_NS - 1_000_000_000)
    assert is_blocked(guarded.path, at.one)
    guarded.later(HOUR_NS + A_TICK_NS)
    assert not is_blocked(guarded.path, at.one)
    assert guarded.held(prefix) == (exact and at is FOUR), "which only the agent takes out"


def test_an_expired_prefix_does_not_unblock_the_one_around_it(guarded: Guarded, at: Names) -> None:
    wide, narrow = at.nested[:2]
    guarded.block(wide)
    guarded.block(narrow, HOUR_NS)
    guarded.expire_now(narrow)
    assert is_blocked(guarded.path, at.one)
    assert not guarded.held(narrow)
    assert guarded.held(wide)


def test_four_expired_prefixes_in_a_row_do_not_either(guarded: Guarded, at: Names) -> None:
    inner = at.nested[1:]
    assert len(inner) == 4
    for prefix in at.nested:
        guarded.block(prefix, HOUR_NS)
    for prefix in inner:
        guarded.expire_now(prefix)
    assert is_blocked(guarded.path, at.one), "not even one packet may get through"
    assert not any(map(guarded.held, inner))


def test_an_expired_address_does_not_unblock_the_prefix_around_it(guarded: Guarded, at: Names) -> None:
    guarded.block(at.nested[1])
    guarded.block(at.one, HOUR_NS)
    guarded.expire_now(at.one)
    assert is_blocked(guarded.path, at.one)
    assert guarded.held(at.one) == (at is FOUR), "of IPv4 only the agent takes it out"


def test_an_expired_prefix_lets_go_of_its_sources_and_of_no_other(guarded: Guarded, at: Names) -> None:
    first, second = at.halves
    guarded.block(first, HOUR_NS)
    guarded.block(second, HOUR_NS)
    guarded.expire_now(first)
    assert not is_blocked(guarded.path, at.one)
    assert is_blocked(guarded.path, at.beside[2])
    assert guarded.held(second)


def test_what_the_kernel_expired_can_be_blocked_again(guarded: Guarded, at: Names) -> None:
    guarded.block(at.nested[1], 1)
    time.sleep(0.01)
    assert not is_blocked(guarded.path, at.one)
    guarded.block(at.nested[1], HOUR_NS)
    assert is_blocked(guarded.path, at.one)


def test_a_renewal_after_the_end_cuts_what_got_in_between(guarded: Guarded, at: Names) -> None:
    """The kernel ended it before the agent's clock said so; for the agent it is only a renewal."""
    session = Session(guarded.path, at.service)
    guarded.block(session.client[0], HOUR_NS)
    guarded.expire_now(session.client[0])
    session.open()
    assert session.up(Flag.ACK).verdict is Verdict.FORWARDED
    guarded.block(session.client[0], 2 * HOUR_NS)
    assert session.up(Flag.ACK).verdict is Verdict.BLOCKED


# -- several sources --


def test_a_prefix_two_sources_want_is_blocked_until_both_let_go(guarded: Guarded, at: Names) -> None:
    guarded.block(at.nested[1], HOUR_NS)
    guarded.block(at.nested[1], 2 * HOUR_NS, source="feed")
    guarded.unblock(at.nested[1])
    assert is_blocked(guarded.path, at.one)
    guarded.unblock(at.nested[1], source="feed")
    assert not is_blocked(guarded.path, at.one)


def test_the_longest_lifetime_holds_in_the_kernel(guarded: Guarded, at: Names) -> None:
    guarded.block(at.nested[1], 2 * HOUR_NS)
    guarded.block(at.nested[1], HOUR_NS, source="feed")
    guarded.later(HOUR_NS + 1)
    assert is_blocked(guarded.path, at.one), "the shorter one of another source must not end it"
    guarded.unblock(at.nested[1])
    assert not is_blocked(guarded.path, at.one), "what is left ended long ago"


# -- live flows --


def test_a_block_cuts_a_live_session_both_ways_and_unblock_mends_it(guarded: Guarded, at: Names) -> None:
    session = Session(guarded.path, at.service, client=at.client).open()
    guarded.block(at.around_client)
    for _ in range(2):
        assert session.up(Flag.ACK).verdict is Verdict.BLOCKED
        assert session.down(Flag.ACK, payload=b"x").verdict is Verdict.BLOCKED
    guarded.unblock(at.around_client)
    assert session.up(Flag.ACK).verdict is Verdict.FORWARDED
    assert session.down(Flag.ACK, payload=b"x").verdict is Verdict.REPLIED


def test_a_block_cuts_a_handshake(guarded: Guarded, at: Names) -> None:
    session = Session(guarded.path, at.service)
    session.syn()
    guarded.block(session.client[0])
    assert session.syn_ack().verdict is Verdict.BLOCKED
    assert session.syn().verdict is Verdict.BLOCKED
    assert session.ack().verdict is Verdict.BLOCKED


def test_a_block_stops_what_belongs_to_no_session(guarded: Guarded, at: Names) -> None:
    guarded.block(at.around_client)
    assert Session(guarded.path, at.service, client=at.client).syn().verdict is Verdict.BLOCKED
    # no reset for it either
    assert Session(guarded.path, at.service, client=at.client).up(Flag.ACK).verdict is Verdict.BLOCKED
    assert not list(guarded.path.tables.half_open.keys())


def test_a_steady_flow_asks_again_only_when_the_policy_changed(guarded: Guarded, at: Names) -> None:
    session = Session(guarded.path, at.service).open()
    now = time.time_ns()
    guarded.write(guarded.wanted.add(Block(prefix=session.client[0], created_ns=now)), bump=False)
    assert session.up(Flag.ACK).verdict is Verdict.FORWARDED
    guarded.path.tables.bump_generation()
    assert session.up(Flag.ACK).verdict is Verdict.BLOCKED
    assert session.down(Flag.ACK).verdict is Verdict.BLOCKED


def test_others_sessions_go_on(guarded: Guarded, at: Names) -> None:
    session = Session(guarded.path, at.service, client=at.one).open()
    guarded.block(at.around_client)
    assert session.up(Flag.ACK).verdict is Verdict.FORWARDED
    assert session.down(Flag.ACK).verdict is Verdict.REPLIED
    assert session.established is not None
    assert session.established.generation == guarded.path.tables.settings.generation
    assert session.slot.generation == guarded.path.tables.settings.generation


# -- panic --


def test_disarmed_nothing_is_dropped_and_translation_goes_on(guarded: Guarded, at: Names) -> None:
    edge = guarded.path.config.edge.name
    session = Session(guarded.path, at.service, client=at.client).open()
    guarded.block(at.around_client)
    assert session.up(Flag.ACK).verdict is Verdict.BLOCKED
    panic.disarm(edge)
    assert session.up(Flag.ACK).verdict is Verdict.FORWARDED
    assert session.down(Flag.ACK).verdict is Verdict.REPLIED
    later = Session(guarded.path, at.service, client=at.client).open()
    assert not is_blocked(guarded.path, at.client)
    panic.arm(edge)
    for live in (session, later):
        assert live.up(Flag.ACK).verdict is Verdict.BLOCKED
        assert live.down(Flag.ACK).verdict is Verdict.BLOCKED
    assert is_blocked(guarded.path, at.client)
