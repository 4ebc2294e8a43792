"""What a bench leaves: the table on the terminal, and bench.json."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.results import Result

_WIDTH = 110
_PLACES = {"s": 3, "Mpps": 3, "ms": 3}
"""Behind the point, where one is not enough."""


class Line(msgspec.Struct, frozen=True):
    """A row of bench.json."""

    name: str
    ours: float
    peer: float
    unit: str
    ratio: float
    bound: float | None
    holds: bool
    gate: bool


def line(result: Result) -> Line:
    """A result as bench.json has it."""
    return Line(
        name=result.name,
        ours=round(result.ours, _PLACES.get(result.unit, 1)),
        peer=round(result.peer, _PLACES.get(result.unit, 1)),
        unit=result.unit,
        ratio=round(result.ratio, 3),
        bound=None if result.bound is None else round(result.bound, 3),
        holds=result.holds,
        gate=result.gate,
    )


def write(results: Sequence[Result], path: Path) -> None:
    """Write bench.json."""
    path.write_bytes(
        msgspec.json.format(msgspec.json.encode([line(result) for result in results]), indent=1) + b"\n"
    )


def show(results: Sequence[Result]) -> None:
    """Print the table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ours / peer")
    for heading in ("ours", "peer", "", "ratio", "quartiles", "bound"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for result in results:
        table.add_row(
            result.name,
            _figure(result.ours, result.unit),
            _figure(result.peer, result.unit),
            result.unit,
            f"{result.ratio:.2f}",
            f"{result.low:.2f}-{result.high:.2f}",
            _bound(result),
            _judgement(result),
        )
    Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH).print(table)


def _figure(value: float, unit: str) -> str:
    return f"{value:.2f}" if unit in _PLACES else f"{value:,.0f}"


def _bound(result: Result) -> str:
    if result.bound is None:
        return ""
    return f"{'>=' if result.at_least else '<='} {result.bound:.2f}"


def _judgement(result: Result) -> str:
    if result.bound is None:
        return ""
    if result.holds:
        return "holds"
    return "[bold red]MISSED, gates[/]" if result.gate else "missed (aim)"


def machine() -> str:
    """What it was measured on."""
    model = "unknown CPU"
    for entry in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = entry.partition(":")
        if key.strip() in ("model name", "Model"):
            model = value.strip()
            break
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} x {model}, kernel {platform.release()}, load {load:.2f}"
