"""What the kernel's tables of an edge hold, in words, for a report: sizes of all, contents of some, bounded.

Reads the pins, so it needs no agent. In words and not in bytes, so that addresses can be told as such.
"""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cdnctl.config import Config
from cdnctl.datapath import abi
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.packing import BLOCK
from cdnctl.datapath.tables import Tables
from cdnctl.engine.entries import Entries, Names, names_by_config

FLOWS = 500
"""Of each table of flows."""
BLOCKS = 5_000
_COUNTED = 2_000_000
"""Entries that are counted at the most."""


def dump(pins: Path, config: Config | None) -> dict[str, Any]:
    """Raises OSError when there are no pins."""
    tables = Tables(pins)
    names = names_by_config(config, tables) if config else Names()
    now_ns = time.monotonic_ns()
    entries = Entries(tables, names, now_ns)
    counters = tables.counters
    cdns = sorted({int(entry.cdn) for entry in tables.choice.endpoint_entries()})
    return {
        "at_monotonic_ns": now_ns,
        "mode": str(tables.mode),
        "generation": int(tables.settings.generation),
        "maps": dict(_sizes(pins)),
        "verdicts": {
            verdict.name.lower(): [packets, octets] for verdict, packets, octets in counters.verdicts()
        },
        "cdns": {entries.cdn(number): counters.cdn(number)._asdict() for number in cdns},
        "endpoints": dict(_endpoints(tables, entries)),
        "services": {str(key): number for key, number in tables.choice.services().items()},
        "links": {number: entries.link(number) for number in tables.links()},
        "blocks": list(itertools.islice(_blocks(pins), BLOCKS)),
        "flows": {
            "half-open": list(itertools.islice(_flows(tables.half_open, entries), FLOWS)),
            "established": list(itertools.islice(_flows(tables.established, entries), FLOWS)),
            "of datagrams": list(itertools.islice(_flows(tables.datagrams, entries), FLOWS)),
        },
    }


def _sizes(pins: Path) -> Iterator[tuple[str, dict[str, int | str]]]:
    """Of each pinned map its shape and how many entries it has; of an array, that is its room."""
    for path in sorted(pins.iterdir()):
        try:
            info = (table := Map.pinned(path)).info
        except OSError:  # a program, or a directory
            continue
        shape: dict[str, int | str] = {
            "key_bytes": info.key_size,
            "value_bytes": info.value_size,
            "room": info.max_entries,
        }
        if info.type in _ARRAYS:
            shape["entries"] = info.max_entries
        else:
            try:
                shape["entries"] = sum(count for count, _, _ in _first(table))
            except OSError as error:
                shape["trouble"] = str(error)
        yield path.name, shape


_ARRAYS = (2, 3, 4, 6, 12, 13)
"""BPF_MAP_TYPE_ARRAY, PROG_ARRAY, PERF_EVENT_ARRAY, PERCPU_ARRAY, ARRAY_OF_MAPS, and HASH_OF_MAPS."""


def _first(table: Map) -> Iterator[tuple[int, bytes, bytes]]:
    seen = 0
    for batch in table.batches():
        seen += batch[0]
        yield batch
        if seen >= _COUNTED:
            return


def _endpoints(tables: Tables, entries: Entries) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, number in tables.choice.endpoints().items():
        health = tables.health(number)
        yield (
            str(key),
            {
                "cdn": entries.cdn(int(tables.choice.endpoint(number).cdn)),
                "state": abi.Breaker(health.state).name.lower(),
                "ewma_us": int(health.ewma_us),
                "baseline_us": int(health.baseline_us),
                "unanswered": int(health.unanswered),
                "ejections_total": int(health.ejections_total),
                "said": entries.health(number),
            },
        )


def _blocks(pins: Path) -> Iterator[dict[str, Any]]:
    """What the kernel enforces, with its ends on the kernel's clock."""
    for name in ("block_exact", "block_prefix"):
        for raw, value in Map.pinned(pins / name).items():
            end_ns, hits, length, _ = BLOCK.unpack(value)
            prefix = abi.network(struct.pack("=I", length) + raw[-16:])
            yield {"prefix": str(prefix), "hits": hits, "ends_monotonic_ns": end_ns}


def _flows(table: Map, entries: Entries) -> Iterator[dict[str, Any]]:
    for raw, value in table.items():
        key, flow = abi.FlowKey.from_buffer_copy(raw), abi.Flow.from_buffer_copy(value)
        client = abi.ends(abi.show_address(key.client), abi.show_port(key.client_port))
        found = {"client": client, "service": entries.service(int(flow.service))}
        found |= {"endpoint": entries.endpoint(int(flow.endpoint))}
        if flow.slot != abi.NO_SLOT:
            found |= {"by": entries.port_of(int(flow.slot)), "slot": entries.holder(int(flow.slot))}
        yield found
