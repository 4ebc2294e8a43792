"""What `check` says that tables take is what the kernel says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import netbox
import pytest

from cdnctl import config
from cdnctl.config import cost
from cdnctl.datapath import kernel
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.program import Program

EDGE = netbox.name("-memory")
TEXT = f"""
[edge]
name = "{EDGE}"
interfaces = ["lo"]
snat = ["203.0.113.10", "203.0.113.11"]
snat_ports = [40000, 49999]

[limits]
flows = 100000
half_open = 20000
block_entries = 100000

[[cdn]]
name = "aurora"
endpoints = ["198.51.100.10:80"]

[[service]]
name = "www"
vip = "203.0.113.80"
port = 80
"""
ROWS = {
    "established": "established flows",
    "half_open": "half-open flows",
    "datagrams": "datagrams' flows",
    "reverse": "reverse slots",
    "quic_ids": "QUIC connection ids",
    "quic_offers": "QUIC connection ids",
    "block_lines": "block lines",
    "block_hits": "block lines",
    "block_bits": "block filter",
    "block6_bits": "block filter",
    "picks": "pick tables",
    "sources": "busy sources",
    "verified": "verified sources, SYNs, shares",
    "retries": "verified sources, SYNs, shares",
    "budgets": "verified sources, SYNs, shares",
    "manners": "manners of sources",
}
WHEN_USED = ("block_exact", "block_prefix", "clients", "management", "invited", "announced")
"""They take memory entry by entry."""
REST = "fragments, counters and the rest"


@pytest.fixture
def taken() -> Iterator[Counter[str]]:
    """Bytes by row, as the kernel accounts for them."""
    program = Program(EDGE)
    try:
        program.ensure(config.parse(TEXT, Path("t")))
        found = Counter[str]()
        for pin in program.pins.iterdir():
            if pin.name not in WHEN_USED and pin.is_file():
                found[ROWS.get(pin.name, REST)] += _memory(pin)
        yield found
    finally:
        program.remove()


def _memory(pin: Path) -> int:
    opened = Map.pinned(pin)
    text = Path(f"/proc/self/fdinfo/{opened.fd}").read_text()
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("memlock")), 0)


def test_what_tables_take_is_what_is_said(taken: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost.os, "cpu_count", kernel.possible_cpus)
    said = cost.memory(config.parse(TEXT, Path("t")))
    assert taken.keys() <= said.keys()
    for row, size in taken.items():
        assert 0.97 * size <= said[row] <= 1.2 * size, row
