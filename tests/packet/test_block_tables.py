"""The block list's tables: what the kernel holds, and an agent that starts again."""

from __future__ import annotations

import errno
import threading
import time
from ipaddress import IPv4Network, ip_network

import pytest
from blocking import FOUR, HOUR_NS, SIX, Guarded, Names, is_blocked
from harness import Action, DataPath
from netbox import CLIENTS
from segments import Flag, segment

from cdnctl.datapath import abi, kernel
from cdnctl.datapath.blocks import KernelBlocks
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.lines import Addresses
from cdnctl.defence.blocklist import Network

# -- what the kernel holds --


def test_the_count_is_of_what_the_kernel_enforces(guarded: Guarded, at: Names) -> None:
    guarded.block(at.one)
    guarded.block(at.beside[0], HOUR_NS)
    guarded.block(at.nested[1], 40_000_000)
    assert guarded.path.blocks.count() == 3
    time.sleep(0.05)
    assert guarded.path.blocks.count() == 2
    guarded.block(at.nested[1], HOUR_NS)
    assert guarded.path.blocks.count() == 3
    guarded.unblock(at.nested[1])
    guarded.unblock(at.beside[0])
    assert guarded.path.blocks.count() == 1


def hints(path: DataPath) -> list[bytes]:
    """All of them."""
    mapped = [bytes(path.map(table).memory()) for table in ("block_bits", "block6_bits")]
    return [*mapped, path.map("block_wide").get(abi.key(0)) or b""]


def test_a_full_table_refuses_and_changes_nothing(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    guarded.block(FOUR.one, HOUR_NS)
    guarded.block(SIX.one, HOUR_NS)
    before = hints(guarded.path)
    write = Map.put

    def full(table: Map, key: bytes, value: bytes) -> None:
        if table.info.value_size == abi.size(abi.Block):
            raise OSError(errno.E2BIG, "bpf_map_update_elem")
        write(table, key, value)

    monkeypatch.setattr(Map, "put", full)
    for prefix in (
        SIX.one,
        "10.2.0.0/16",
        "2001:db8::1",
        "2001:db8::/48",
        "2400::/16",
    ):
        with pytest.raises(OSError, match="bpf_map_update_elem"):
            guarded.path.blocks.put(ip_network(prefix), 0)
    monkeypatch.undo()
    assert hints(guarded.path) == before
    assert guarded.path.blocks.count() == 2
    assert is_blocked(guarded.path, FOUR.one)
    assert is_blocked(guarded.path, SIX.one)


# -- an agent that starts again --


def many(first: int, count: int) -> dict[Network, int]:
    """So many addresses for ever."""
    return {IPv4Network((first + n, 32)): 0 for n in range(count)}


def test_what_stays_blocked_is_blocked_at_every_moment_of_a_restart(guarded: Guarded) -> None:
    """Packets all through several starts, which each find other lists before them."""
    later = time.time_ns() + HOUR_NS
    staying: dict[Network, int] = {
        ip_network("10.1.2.3/32"): 0,
        ip_network("10.2.0.0/16"): later,
        ip_network("2001:db8:1:2::3/128"): later,
        ip_network("2001:db8:2::/48"): 0,
        ip_network("2400::/16"): 0,
    }
    inner: list[dict[Network, int]] = [
        {ip_network(prefix): 0} for prefix in ("10.2.3.0/24", "2001:db8:2:3::/64", "2400:1::/32")
    ]
    sources = ("10.1.2.3", "10.2.3.4", "2001:db8:1:2::3", "2001:db8:2:3::4", "2400:1::4")
    guarded.path.blocks.load(staying)
    frames = [
        segment((source, 1), (SIX.elsewhere if ":" in source else FOUR.elsewhere, 9), Flag.SYN)
        for source in sources
    ]
    ifindex, through, runs, over = guarded.path.indexes[CLIENTS], 0, 0, threading.Event()

    def send() -> None:
        nonlocal through, runs
        while not over.is_set():
            for frame in frames:
                through += kernel.test_run(guarded.path.fd, frame, ifindex=ifindex).action != Action.DROP
                runs += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        for extra in (many(0x0A300000, 2000), *inner, {}, many(0x0A300000, 2000), inner[0]):
            guarded.path.blocks = KernelBlocks(guarded.path.program.pins)
            guarded.path.blocks.load({**staying, **extra})
    finally:
        over.set()
        thread.join()
    assert runs > 200
    assert through == 0
    assert not is_blocked(guarded.path, "10.48.0.1"), "what left the list is free"
    assert guarded.path.blocks.count() == len(staying) + 1


def test_a_start_keeps_hits_and_finds_room_that_the_stale_take_up(guarded: Guarded) -> None:
    room = guarded.path.map("block_exact").info.max_entries
    kept, hits = ip_network("10.1.2.3/32"), 77
    guarded.path.blocks.load({kept: 0, **many(0x0A300000, room - 1)})
    Addresses(guarded.path.program.pins).put(abi.packed("10.1.2.3"), bytes(abi.Block(hits=hits, length=128)))
    guarded.path.blocks.load({kept: 0, **many(0x0A400000, room - 1)})
    assert guarded.path.blocks.hits(kept) == hits
    assert guarded.path.blocks.count() == room
    assert is_blocked(guarded.path, "10.64.0.1")
    assert not is_blocked(guarded.path, "10.48.0.1")


def test_a_start_after_a_crash_finds_everything(guarded: Guarded, at: Names) -> None:
    """Another agent's entries and hints are taken over, and all of them go when nothing is wanted."""
    for prefix in (at.one, *at.nested, "2400::/16", "10.0.0.0/8"):
        guarded.block(prefix)
    guarded.path.blocks = KernelBlocks(guarded.path.program.pins)
    guarded.path.blocks.load({})
    assert not is_blocked(guarded.path, at.one)
    assert not any(map(any, hints(guarded.path)))
    assert not list(Addresses(guarded.path.program.pins).items())
    assert not list(guarded.path.map("block_prefix").keys())
