"""Lists of a million, one edit, memory."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import shutil
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

from cdnctl.datapath import kernel
from cdnctl.datapath.blocks import KernelBlocks
from cdnctl.datapath.kernel import Map
from cdnctl.model import Block
from cdnctl.paths import pin_dir, tables_dir
from tests.bench.decisions import packets
from tests.bench.decisions.rig import NAME, Rig
from tests.bench.results import Result, Unsound, beside, within

COUNT, PREFIXES = 1_000_000, 100_000
LOAD_S, EDIT_MS = 3.0, 5.0
PINS = pin_dir(NAME) / "lists"
"""Among the rig's, and removed with them."""
_ADDRESSES = ("block_lines", "block_hits", "block_exact")
_TABLES = (*_ADDRESSES, "block_prefix", "block_bits", "block6_bits", "block_wide")
_FIRST, _END = 0x2000_0000, 0xC000_0000
"""Where sources are from: 32.0.0.0 to 191.255.255.255, none of which is the rig's own."""
_EDITED = 0x0800_0000
"""8.0.0.0 and what follows: blocked by nothing but the edits."""
_XDP_DROP = 1
_EFFECT_S = 1.0

Wanted = dict[IPv4Network, int]


def wanted() -> tuple[Wanted, Wanted]:
    """A million addresses; and another list of as many, a tenth of which are prefixes."""
    gc.disable()  # they are made twice as fast when nobody looks for cycles among them
    try:
        chance = random.Random(1)
        addresses = [IPv4Network(number) for number in chance.sample(range(_FIRST, _END), COUNT)]
        cells = chance.sample(range(_FIRST >> 8, _END >> 8), PREFIXES)
        prefixes = [IPv4Network((cell << 8, 24)) for cell in cells]
    finally:
        gc.enable()
        gc.freeze()  # nor later, within what is timed
    return dict.fromkeys(addresses, 0), dict.fromkeys([*addresses[PREFIXES:], *prefixes], 0)


def load_s(networks: Wanted) -> float:
    """How long it takes into empty tables of the edge's shapes."""
    with empty():
        blocks = KernelBlocks(PINS)
        began = time.perf_counter()
        blocks.load(networks)
        took_s = time.perf_counter() - began
        if blocks.count() != len(networks):
            raise Unsound(f"of {len(networks)} entries {blocks.count()} are held")
    return took_s


def _load_edge(rig: Rig, networks: Wanted) -> float:
    """The same into the edge's own; and room for an edit, since a list has a million and no more."""
    blocks = KernelBlocks(tables_dir(NAME))
    began = time.perf_counter()
    blocks.load(networks)
    took_s = time.perf_counter() - began
    blocks.remove(next(iter(networks)))
    rig.engine.use(rig.engine.tables, blocks)
    return took_s


@contextlib.contextmanager
def empty() -> Iterator[None]:
    PINS.mkdir()
    try:
        for name in _TABLES:
            shape = Map.pinned(tables_dir(NAME) / name).info
            sizes = shape.key_size, shape.value_size, shape.max_entries, shape.flags
            made = kernel.map_create(shape.type, name, *sizes)
            kernel.obj_pin(made, PINS / name)
            os.close(made)
        yield
    finally:
        shutil.rmtree(PINS, ignore_errors=True)


class Edits:
    """Single edits of the engine's list, each until it has its effect."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._program = rig.engine.program.open()
        self._next = _EDITED

    def sample_ms(self) -> tuple[float, float]:
        """A block and its unblock, of an address that was never blocked."""
        blocks, prefix = self._rig.engine.blocks, str(IPv4Network(self._next).network_address)
        frame = _frame(self._next)
        self._next += 1
        began = time.perf_counter()
        blocks.block(Block(prefix=prefix, created_ns=time.time_ns()))
        self._await(frame, dropped=True)
        blocked = time.perf_counter()
        blocks.unblock(prefix, "manual")
        self._await(frame, dropped=False)
        return (blocked - began) * 1e3, (time.perf_counter() - blocked) * 1e3

    def _await(self, frame: bytes, *, dropped: bool) -> None:
        until = time.monotonic() + _EFFECT_S
        while time.monotonic() < until:
            ran = kernel.test_run(self._program, frame, ifindex=self._rig.clients_link)
            if (ran.action == _XDP_DROP) == dropped:
                return
        raise Unsound(f"an edit had no effect within {_EFFECT_S:g} s")

    def close(self) -> None:
        """Let go of the program."""
        os.close(self._program)


def _frame(source: int) -> bytes:
    """Not for a service: it passes unless its source is blocked."""
    frame = bytearray(packets.frame(packets.TCP4, packets.SYN))
    frame[26:38] = packets.pack([packets.Ends(source, packets.number("192.0.2.200"), 50_000, 443)])[:12]
    return bytes(frame)


def memory() -> list[Result]:
    """Of what is loaded, beside the bare keys and values; in MB per million."""
    tables = tables_dir(NAME)
    blocked = [Map.pinned(tables / name) for name in _ADDRESSES]
    established = Map.pinned(tables / "established")
    rows = []
    for name, held, entry, count in (
        ("memory of 1M blocked / bare entries", blocked, blocked[-1], COUNT),
        ("memory of 1M flows / bare entries", [established], established, established.info.max_entries),
    ):
        bare = (entry.info.key_size + entry.info.value_size) * 1.0
        rows.append(beside(name, [sum(map(_memory_bytes, held)) / count], [bare], unit="MB"))
    return rows


def _memory_bytes(table: Map) -> int:
    said = Path(f"/proc/self/fdinfo/{table.fd}").read_text()
    return int(said.partition("memlock:")[2].split(None, 1)[0])


def rows(rig: Rig, rounds: int, edits: int) -> list[Result]:
    """All of the list's. Raises Unsound."""
    addresses, mixed = wanted()
    exact, with_prefixes = list[float](), list[float]()
    for number in range(rounds):
        if number:  # one is that of the edge itself, below
            exact.append(load_s(addresses))
        with_prefixes.append(load_s(mixed))
    exact.append(_load_edge(rig, addresses))
    edits_made = Edits(rig)
    try:
        edits_made.sample_ms()
        times = [edits_made.sample_ms() for _ in range(edits)]
    finally:
        edits_made.close()
    blocked, freed = zip(*times, strict=True)
    return [
        within("1M addresses, loaded / limit", exact, LOAD_S, unit="s", gate=True),
        within(
            "900k addresses and 100k prefixes, loaded / limit",
            with_prefixes,
            LOAD_S,
            unit="s",
            gate=True,
        ),
        within("one block to effect, 1M loaded / limit", blocked, EDIT_MS, unit="ms", gate=True),
        within("one unblock to effect, 1M loaded / limit", freed, EDIT_MS, unit="ms", gate=True),
        *memory(),
    ]
