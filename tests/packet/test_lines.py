"""Single addresses in lines of cells and a hash: what user space writes is what packets meet."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_network

import pytest
from blocking import HOUR_NS, SIX, Guarded, is_blocked
from harness import DataPath
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdnctl.datapath import abi, kernel
from cdnctl.datapath.blocks import KernelBlocks
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.lines import Addresses
from cdnctl.datapath.packing import BLOCK

ONE_LINE = 10
"""Addresses that share a line: more than it has cells."""


@pytest.fixture
def addresses(path: DataPath) -> Iterator[Addresses]:
    path.blocks.load({})
    yield Addresses(path.program.pins)
    path.blocks = KernelBlocks(path.program.pins)
    path.blocks.load({})


def neighbours(addresses: Addresses, count: int = ONE_LINE) -> list[str]:
    """Of one line."""
    lines: dict[int, list[str]] = {}
    for number in range(0x0A000001, 0x0AFFFFFF):
        address = str(IPv4Address(number))
        line = addresses._line(int.from_bytes(abi.packed(address)[12:], "little"))
        lines.setdefault(line, []).append(address)
        if len(lines[line]) == count:
            return lines[line]
    raise AssertionError


def elsewhere(path: DataPath) -> int:
    """What all lines count."""
    values = Map.pinned(path.program.pins / "block_lines").values()
    return sum(abi.BlockLine.from_buffer_copy(value).elsewhere for value in values)


def test_a_full_line_sends_the_others_elsewhere(addresses: Addresses, guarded: Guarded) -> None:
    sharing = neighbours(addresses)
    for address in sharing:
        guarded.block(address)
    assert elsewhere(guarded.path) == ONE_LINE - abi.BLOCK_CELLS
    assert all(is_blocked(guarded.path, address) for address in sharing)
    guarded.unblock(sharing[0])
    assert not is_blocked(guarded.path, sharing[0])
    assert all(is_blocked(guarded.path, address) for address in sharing[1:])
    for address in sharing[1:]:
        guarded.unblock(address)
    assert not any(is_blocked(guarded.path, address) for address in sharing)
    assert elsewhere(guarded.path) == 0


def test_a_load_puts_them_the_same_way(addresses: Addresses, path: DataPath) -> None:
    sharing = neighbours(addresses)
    path.blocks.load({ip_network(address): 0 for address in sharing})
    assert elsewhere(path) == ONE_LINE - abi.BLOCK_CELLS
    assert all(is_blocked(path, address) for address in sharing)


def test_a_load_mends_what_a_line_counts(addresses: Addresses, path: DataPath) -> None:
    """An agent ended between the two writes."""
    sharing = neighbours(addresses)
    wanted = {ip_network(address): 0 for address in sharing}
    path.blocks.load(wanted)
    line = addresses._line(int.from_bytes(abi.packed(sharing[0])[12:], "little"))
    addresses._words[line + abi.BLOCK_CELLS] = 0
    addresses._words[(line + 8) % len(addresses._words) + abi.BLOCK_CELLS] = 9
    again = KernelBlocks(path.program.pins)
    again.load(wanted)
    assert elsewhere(path) == ONE_LINE - abi.BLOCK_CELLS
    assert all(is_blocked(path, address) for address in sharing)


def test_what_the_kernel_has_ended_is_counted_no_more(addresses: Addresses, guarded: Guarded) -> None:
    *others, last = neighbours(addresses, abi.BLOCK_CELLS + 1)
    for address in others:
        guarded.block(address)
    guarded.block(last, HOUR_NS)
    guarded.expire_now(last)
    assert elsewhere(guarded.path) == 1
    assert not is_blocked(guarded.path, last)
    assert not guarded.held(last), "the kernel has taken it out"
    guarded.unblock(last)
    assert elsewhere(guarded.path) == 0


@pytest.mark.parametrize("full", [False, True])
def test_an_end_is_kept_to_a_tick(addresses: Addresses, guarded: Guarded, full: bool) -> None:
    *others, last = neighbours(addresses)
    for address in others if full else ():
        guarded.block(address)
    guarded.block(last, HOUR_NS)
    guarded.later(HOUR_NS - 1_000_000_000)
    assert is_blocked(guarded.path, last)
    guarded.later(HOUR_NS + (1 << abi.BLOCK_TICK_LOG))
    assert not is_blocked(guarded.path, last)


def test_an_agent_that_starts_again_writes_no_end_anew(addresses: Addresses, path: DataPath) -> None:
    end_ns = time.time_ns() + HOUR_NS
    network = ip_network("10.1.2.3")
    path.blocks.load({network: end_ns})
    before = dict(addresses.items())
    for _ in range(3):
        path.blocks = KernelBlocks(path.program.pins)
        path.blocks.load({network: end_ns})
    assert dict(addresses.items()) == before


def test_hits_are_counted_of_both_kinds(addresses: Addresses, guarded: Guarded) -> None:
    sharing = neighbours(addresses)
    for address in sharing:
        guarded.block(address)
    for address in (sharing[0], sharing[-1]):
        for _ in range(2000):
            assert is_blocked(guarded.path, address)
        assert 1000 < guarded.path.blocks.hits(ip_network(address)) < 4000
    guarded.unblock(sharing[0])
    guarded.block(sharing[0])
    assert guarded.path.blocks.hits(ip_network(sharing[0])) == 0, "a cell's hits are not the next one's"


def test_a_copy_takes_what_there_is_room_for(path: DataPath, addresses: Addresses) -> None:
    """As when the list is made smaller; the agent then leaves the oldest out."""
    count, room = 1500, 64
    wanted = {ip_network(int(IPv4Address("10.0.0.0")) + n): 0 for n in range(1, count)}
    path.blocks.load(wanted)
    pins = path.program.pins / "smaller"
    pins.mkdir()
    try:
        for name, size in (("block_lines", 16), ("block_hits", 1 << 16), ("block_exact", room)):
            shape = path.map(name).info
            made = kernel.map_create(shape.type, name, shape.key_size, shape.value_size, size, shape.flags)
            kernel.obj_pin(made, pins / name)
            os.close(made)
        smaller = Addresses(pins)
        smaller.copy_from(addresses)
        copied = dict(smaller.items())
        assert 16 * abi.BLOCK_CELLS // 2 < len(copied) <= 16 * abi.BLOCK_CELLS + room
        assert copied.items() <= dict(addresses.items()).items()
    finally:
        shutil.rmtree(pins)


_ENTRIES = st.builds(lambda ticks, hits: (ticks << abi.BLOCK_TICK_LOG, hits), *[st.integers(0, 1000)] * 2)
_STEPS = st.lists(
    st.tuples(st.integers(0, ONE_LINE + 1), st.one_of(st.none(), _ENTRIES)), min_size=1, max_size=60
)


@pytest.mark.soak
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_STEPS)
def test_both_tables_are_one(
    addresses: Addresses, path: DataPath, steps: list[tuple[int, tuple[int, int] | None]]
) -> None:
    """Whatever comes and goes: what is there is what was put, and every packet meets it."""
    sources = [*neighbours(addresses), SIX.one, "10.0.0.1"]
    keys = [abi.packed(source) for source in sources]
    expected: dict[bytes, bytes] = {}
    for number, entry in steps:
        if entry is None:
            expected.pop(keys[number], None)
            addresses.delete(keys[number])
        else:
            end_ns, hits = entry
            # a cell rounds up: an end in the middle of a tick comes back as the end of that tick
            value = BLOCK.pack(end_ns and end_ns - 1, hits, 128, 0)
            expected[keys[number]] = BLOCK.pack(end_ns, hits, 128, 0)
            addresses.put(keys[number], value)
    found = dict(addresses.items())
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert addresses.get(key) == found[key]
        end_ns, *rest = BLOCK.unpack(found[key])
        wanted_ns, *wanted = BLOCK.unpack(value)
        assert rest == wanted
        assert 0 <= wanted_ns - end_ns <= 1, "elsewhere an end is exact"
    before = elsewhere(path)
    addresses.recount()
    assert elsewhere(path) == before
    for key in expected:
        addresses.delete(key)
    assert elsewhere(path) == 0
