"""The bits in front of the block list: exactly those of what is held, whatever came and went."""

from __future__ import annotations

import random
import struct
import time
from collections import defaultdict
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnctl.datapath import abi
from cdnctl.datapath.hints import CELLS6_LOG, CELLS_PER_WORD, Hints, cell6


class Memory:
    """Stands for an mmapped array."""

    def __init__(self, words: int) -> None:
        self.raw = bytearray(8 * words)

    def memory(self) -> bytearray:
        return self.raw

    def cells(self) -> dict[int, int]:
        """Every cell that is not zero."""
        words = memoryview(self.raw).cast("Q")
        chunks = (range(first, first + 512) for first in range(0, len(words), 512))
        return {
            index * CELLS_PER_WORD + n: words[index] >> (2 * n) & 3
            for chunk in chunks
            if self.raw.count(0, 8 * chunk.start, 8 * chunk.stop) < 8 * len(chunk)
            for index in chunk
            for n in range(CELLS_PER_WORD)
            if words[index] >> (2 * n) & 3
        }


class Count:
    """Stands for `block_wide`."""

    def __init__(self) -> None:
        self.value = 0
        self.writes: list[int] = []

    def put(self, key: bytes, value: bytes) -> None:
        assert key == abi.key(0)
        (self.value,) = struct.unpack("I", value)
        self.writes.append(self.value)


class Kernel:
    """What the hints are written into."""

    def __init__(self) -> None:
        self.ip4, self.ip6, self.wide = Memory(abi.BLOCK_WORDS), Memory(abi.BLOCK6_WORDS), Count()
        self.hints = Hints(self.ip4, self.ip6, self.wide)

    def state(self) -> tuple[bytes, bytes, int]:
        return bytes(self.ip4.raw), bytes(self.ip6.raw), self.wide.value

    @property
    def empty(self) -> bool:
        return not (self.ip4.cells() or self.ip6.cells() or self.wide.value)


def keys(*prefixes: str) -> list[bytes]:
    return [abi.prefix_key(IPv6Network(each) if ":" in each else IPv4Network(each)) for each in prefixes]


def expected(held: Iterable[abi.AnyNetwork]) -> tuple[dict[int, int], dict[int, int], int]:
    """By the definition in abi.h."""
    ip4, ip6, wide = defaultdict[int, int](int), defaultdict[int, int](int), 0
    for network in held:
        bit = abi.BLOCK_EXACT if network.prefixlen == network.max_prefixlen else abi.BLOCK_PREFIX
        if isinstance(network, IPv4Network):
            first, last = int(network.network_address) >> 10, int(network.broadcast_address) >> 10
            for cell in range(first, last + 1):
                ip4[cell] |= bit
        elif network.prefixlen < 48:
            wide += 1
        else:
            ip6[cell6(network.network_address.packed)] |= bit
    return dict(ip4), dict(ip6), wide


def check(kernel: Kernel, held: Iterable[abi.AnyNetwork]) -> None:
    assert (kernel.ip4.cells(), kernel.ip6.cells(), kernel.wide.value) == expected(held)


def colliding() -> tuple[IPv6Network, IPv6Network]:
    """Two /48 of one cell."""
    rng, seen = random.Random(1), dict[int, IPv6Network]()
    while True:
        network = IPv6Network((rng.getrandbits(48) << 80, 48))
        other = seen.setdefault(cell6(network.network_address.packed), network)
        if other != network:
            return other, network


def test_the_cells_are_all_of_the_words() -> None:
    assert CELLS_PER_WORD * abi.BLOCK_WORDS == 2**22
    assert 1 << CELLS6_LOG == CELLS_PER_WORD * abi.BLOCK6_WORDS


def test_neighbouring_sites_spread() -> None:
    """A provider's customers are numbered in order; they must not share cells."""
    sites = [IPv6Address(0x2001_0DB8 << 96 | n << 80).packed for n in range(65536)]
    assert len(set(map(cell6, sites))) > 60_000
    assert cell6(sites[7]) == cell6(IPv6Address("2001:db8:7:ffff::1").packed), "only the /48 counts"


FOUR = st.builds(
    lambda address, length: IPv4Network((address, length), strict=False),
    st.integers(int(IPv4Address("10.0.0.0")), int(IPv4Address("10.3.255.255"))),
    st.sampled_from([32, 32, 31, 28, 25, 24, 24, 23, 20, 19, 18, 16, 15]),
)
COLLIDING = colliding()
SIX = st.builds(
    lambda site, host, length: IPv6Network((int(site.network_address) | host, length), strict=False),
    st.sampled_from([*COLLIDING, IPv6Network("2001:db8:1::/48")]),
    st.integers(0, 3) | st.integers(0, 2**80 - 1),
    st.sampled_from([128, 128, 127, 96, 65, 64, 56, 49, 48, 47, 33, 32, 16]),
)


@given(st.lists(st.tuples(st.booleans(), FOUR | SIX), max_size=25), st.data())
def test_hints_are_those_of_what_is_held(
    steps: list[tuple[bool, abi.AnyNetwork]], data: st.DataObject
) -> None:
    kernel, held = Kernel(), list[abi.AnyNetwork]()
    for add, network in steps:
        if add and network not in held:
            kernel.hints.add(abi.prefix_key(network))
            held.append(network)
        elif not add and held:
            gone = data.draw(st.sampled_from(held))
            kernel.hints.remove(abi.prefix_key(gone))
            held.remove(gone)
    check(kernel, held)
    planned = Kernel()
    planned.hints.close_to(planned.hints.plan(map(abi.prefix_key, held)))
    assert planned.state() == kernel.state()
    for network in held:
        planned.hints.remove(abi.prefix_key(network))
    assert planned.empty


@given(st.lists(FOUR | SIX, max_size=8, unique=True), st.lists(FOUR | SIX, max_size=8, unique=True))
def test_opening_clears_nothing_that_either_list_needs(
    before: list[abi.AnyNetwork], after: list[abi.AnyNetwork]
) -> None:
    kernel = Kernel()
    kernel.hints.close_to(kernel.hints.plan(map(abi.prefix_key, before)))
    state = kernel.state()
    plan = kernel.hints.plan(map(abi.prefix_key, after))
    assert kernel.state() == state, "a plan touches nothing"
    kernel.hints.open_to(plan)
    for cells, old, new in (
        (kernel.ip4.cells(), expected(before)[0], expected(after)[0]),
        (kernel.ip6.cells(), expected(before)[1], expected(after)[1]),
    ):
        assert cells == {cell: old.get(cell, 0) | new.get(cell, 0) for cell in {*old, *new}}
    assert bool(kernel.wide.value) == bool(expected(before)[2] or expected(after)[2])
    kernel.hints.close_to(plan)
    check(kernel, after)


def test_two_of_one_cell_keep_it_for_each_other() -> None:
    kernel, (one, other) = Kernel(), map(abi.prefix_key, COLLIDING)
    kernel.hints.add(one)
    kernel.hints.add(other)
    kernel.hints.remove(one)
    check(kernel, [COLLIDING[1]])
    kernel.hints.remove(other)
    assert kernel.empty


def test_the_wide_are_counted_and_never_seem_to_be_none() -> None:
    kernel, (one, other) = Kernel(), keys("2001:db8::/32", "2400::/16")
    for key in (one, other):
        kernel.hints.add(key)
    kernel.hints.remove(one)
    plan = kernel.hints.plan([one, other])
    kernel.hints.open_to(plan)
    kernel.hints.close_to(plan)
    assert 0 not in kernel.wide.writes
    kernel.hints.remove(one)
    kernel.hints.remove(other)
    assert kernel.empty


@pytest.mark.parametrize(
    "around",
    [
        keys(*(f"10.{n >> 8}.{n & 255}.0/24" for n in range(2000))),
        keys("10.0.0.0/8", *(f"10.{n}.16.0/24" for n in range(200))),
        keys("2001:db8::/32", *(f"2001:db8:{n:x}::/48" for n in range(2000))),
    ],
    ids=["2,000 /24", "a /8 with 200 /24 in it", "2,000 /48 in a /32"],
)
def test_many_end_at_once_and_nothing_stands_still(around: list[bytes]) -> None:
    kernel = Kernel()
    for key in around:
        kernel.hints.add(key)
    began = time.process_time()
    for key in around:
        kernel.hints.remove(key)
    assert time.process_time() - began < 0.05
    assert kernel.empty
