"""Addresses that are routed here and that nobody has: nothing is passed on to the host for them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from harness import SNAT, SNAT6, VIP, VIP6, Action, DataPath
from hypothesis import given
from hypothesis import strategies as st
from segments import Flag, segment

from cdnctl.datapath import abi
from cdnctl.datapath.abi import AddressUse, Mode, Verdict
from cdnctl.engine.announced import uses

NETWORKS = {4: "203.0.113.0/24", 6: "2001:db8:5::/48"}
CLIENT = {4: "10.1.0.7", 6: "3fff:1::7"}
NOBODYS = {4: "203.0.113.201", 6: "2001:db8:5::201"}
HOSTS = {4: "203.0.113.9", 6: "2001:db8:5::9"}
OTHERS = {4: "192.88.99.1", 6: "2001:db8:9::1"}
FAMILIES = pytest.mark.parametrize("family", [4, 6])


def verdict(path: DataPath, family: int, target: str, source: str = "") -> Verdict:
    """Of a SYN to a port that no service has."""
    frame = segment((source or CLIENT[family], 40_000), (target, 9), Flag.SYN)
    seen = path.run(frame)
    assert seen.action is (Action.DROP if seen.verdict >= abi.FIRST_DROP else Action.PASS)
    return seen.verdict


def announce(path: DataPath, *own: str) -> None:
    found = uses(map(ip_network, NETWORKS.values()), map(ip_network, own))
    path.tables.announce({abi.prefix_key(network): use for network, use in found.items()})


@pytest.fixture
def quiet(path: DataPath) -> Iterator[DataPath]:
    """Nobody is managed from anywhere."""
    yield path
    path.tables.announce({})
    path.tables.set_management([])
    path.tables.mode = Mode(0)


@FAMILIES
def test_by_default_all_is_left_to_the_host(quiet: DataPath, family: int) -> None:
    assert verdict(quiet, family, NOBODYS[family]) is Verdict.PASSED


@FAMILIES
def test_what_nobody_has_is_dropped_and_all_else_is_as_before(quiet: DataPath, family: int) -> None:
    ours = {4: (VIP, SNAT[0]), 6: (VIP6, SNAT6[0])}[family]
    before = [verdict(quiet, family, each) for each in ours]
    announce(quiet, f"{HOSTS[4]}/32", f"{HOSTS[6]}/128")
    assert verdict(quiet, family, NOBODYS[family]) is Verdict.UNUSED
    assert verdict(quiet, family, HOSTS[family]) is Verdict.PASSED
    assert verdict(quiet, family, OTHERS[family]) is Verdict.PASSED
    assert [verdict(quiet, family, each) for each in ours] == before
    quiet.tables.announce({})
    assert verdict(quiet, family, NOBODYS[family]) is Verdict.PASSED


@FAMILIES
def test_operators_are_let_through(quiet: DataPath, family: int) -> None:
    announce(quiet)
    quiet.tables.set_management([ip_network(CLIENT[family])])
    assert verdict(quiet, family, NOBODYS[family]) is Verdict.PASSED
    other = {4: "10.2.0.7", 6: "3fff:2::7"}[family]
    assert verdict(quiet, family, NOBODYS[family], other) is Verdict.UNUSED


def test_disarmed_it_drops_nothing_and_observing_it_only_counts(quiet: DataPath) -> None:
    announce(quiet)
    frame = segment((CLIENT[4], 40_000), (NOBODYS[4], 9), Flag.SYN)
    quiet.tables.mode = Mode.DISARMED
    assert quiet.run(frame).verdict is Verdict.PASSED
    quiet.tables.mode = Mode.OBSERVE
    seen = quiet.run(frame)
    assert (seen.verdict, seen.action) == (Verdict.UNUSED, Action.PASS)


def test_a_blocked_source_is_blocked_whatever_it_is_for(quiet: DataPath) -> None:
    announce(quiet)
    quiet.blocks.load({ip_network(f"{CLIENT[4]}/32"): 0})
    try:
        assert verdict(quiet, 4, NOBODYS[4]) is Verdict.BLOCKED
    finally:
        quiet.blocks.load({})


NETWORK = st.builds(
    lambda base, length: ip_network((base, length), strict=False),
    st.integers(0, 2**32 - 1).map(lambda low: socket.inet_ntoa((0xCB007100 | low & 0xFF).to_bytes(4))),
    st.integers(20, 32),
)


@given(st.lists(NETWORK, max_size=4), st.lists(NETWORK, max_size=6), st.integers(0, 255))
def test_no_address_that_the_host_has_is_ever_unused(announced: list, own: list, low: int) -> None:
    """By the longest prefix, as the kernel finds it."""
    found = uses(announced, own)
    address = ip_network(f"203.0.113.{low}")
    known = [each for each in found if address.subnet_of(each)]
    use = found[max(known, key=lambda each: each.prefixlen)] if known else None
    has = any(address.subnet_of(each) for each in own)
    routed = any(address.subnet_of(each) for each in announced)
    assert (use is AddressUse.UNUSED) == (routed and not has)
