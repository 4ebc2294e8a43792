"""What a simulation plays: traffic, and how each CDN would fare at any load, step by step.

Load makes a CDN slower, and more than it takes fails: whoever sends everything to the quickest makes it
the slowest. A course comes from recorded frames (cdnctl.steering.simulation.recorded) or is made up from a
seed (cdnctl.steering.simulation.days).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from msgspec import Struct

from cdnctl.model import RATE_WINDOW_S
from cdnctl.steering import planner
from cdnctl.steering.planner import Latency, Reading, Timed

CONGESTED = 0.97
"""Queues are finite: beyond this use a CDN gets no slower, it refuses."""
_QUEUE = 0.15
"""How much of its idle latency a CDN adds at half its capacity."""


class Part(NamedTuple):
    """A CDN's first bytes for the clients of one region, of one class."""

    p50_ms: float
    """Idle."""
    p95_ms: float


class Cell(NamedTuple):
    """One CDN in one step."""

    p50_ms: float
    """Idle."""
    p95_ms: float
    capacity: float | None = None
    """New flows a second; None: unknown, and load changes nothing."""
    loss: float = 0.0
    """Share of segments."""
    is_dead: bool = False
    parts: Mapping[planner.Cell, Part] = MappingProxyType({})
    """By region and class, where that is known; of others it is as quick as in all."""


class Course(Struct, frozen=True, kw_only=True):
    """Steps of equal length."""

    cdns: list[str]
    weights: dict[str, float]
    known: dict[str, float | None]
    """Capacities as the configuration has them; the true ones are the cells'."""
    step_s: float
    traffic: Sequence[float]
    """New flows a second, by step."""
    cells: Sequence[Sequence[Cell]]
    """By step and CDN."""
    mix: Sequence[Mapping[planner.Cell, float]] = ()
    """By step, of which regions and classes the traffic is, in sum 1; none: that is not known."""


class Served(NamedTuple):
    """What became of a CDN's flows in a step."""

    flows: float
    failed: float
    p50_ms: float
    p95_ms: float
    parts: Mapping[planner.Cell, Served] = MappingProxyType({})
    """By region and class, where the traffic's are known."""


def slower(use: float) -> float:
    """How many times its idle latency a CDN has at this use of its capacity."""
    use = min(use, CONGESTED)
    return 1 + _QUEUE * use / (1 - use)


LOSS_FAILS = 0.3
"""Of the flows that meet loss, so many fail: a share of segments is more of a share of short flows."""
LOSS_SLOWS = 10.0


def serve(cell: Cell, load: float, step_s: float) -> Served:
    """`load` new flows a second meet a CDN."""
    flows = load * step_s
    if cell.is_dead:
        return Served(flows, flows, cell.p50_ms, cell.p95_ms)
    use = load / cell.capacity if cell.capacity else 0.0
    times = slower(use) * (1 + LOSS_SLOWS * cell.loss)
    failing = max(0.0, 1 - 1 / use) if use > 1 else 0.0
    failing = 1 - (1 - failing) * (1 - min(1.0, LOSS_FAILS * cell.loss))
    return Served(flows, flows * failing, cell.p50_ms * times, cell.p95_ms * times)


_POINTS = ((0.5, 0.0), (0.3, 0.5), (0.12, 0.85), (0.05, 1.0), (0.03, 1.25))
"""A distribution of latency: shares of the flows, and where they lie between p50 (0) and p95 (1)."""


def points(got: Served) -> list[tuple[float, float]]:
    """Of those that were answered: how many, and the logarithm (to 2) of what they took, in ms."""
    flows = got.flows - got.failed
    if flows <= 0:
        return []
    low, high = math.log2(got.p50_ms), math.log2(max(got.p50_ms, got.p95_ms))
    return [(part * flows, low + (high - low) * where) for part, where in _POINTS]


def serve_parts(cell: Cell, loads: Mapping[planner.Cell, float], step_s: float) -> Served:
    """The same of flows whose regions and classes are known: its figures are those of the mixture."""
    whole = serve(cell, sum(loads.values()), step_s)
    times = whole.p50_ms / cell.p50_ms if cell.p50_ms else 1.0
    failing = whole.failed / whole.flows if whole.flows else 0.0
    parts = {}
    for which, load in loads.items():
        part, flows = cell.parts.get(which, Part(cell.p50_ms, cell.p95_ms)), load * step_s
        parts[which] = Served(flows, flows * failing, part.p50_ms * times, part.p95_ms * times)
    found = sorted((log, count) for part in parts.values() for count, log in points(part))
    if not found:
        return whole._replace(parts=parts)
    return whole._replace(p50_ms=_quantile(found, 0.5), p95_ms=_quantile(found, 0.95), parts=parts)


def _quantile(found: Sequence[tuple[float, float]], share: float) -> float:
    """Of logarithms in order, each with a count."""
    left, at = share * sum(count for _, count in found), found[-1][0]
    for log, count in found:
        left -= count
        if left <= 1e-9:
            at = log
            break
    return float(2**at)


def measured(
    course: Course,
    step: int,
    served: Mapping[str, Served],
    samples_total: Mapping[str, int],
    noise: Sequence[float],
    parts_total: Mapping[tuple[str, planner.Cell], int] = MappingProxyType({}),
) -> dict[str, Reading]:
    """What an edge would know after the step, with its errors (`noise` by CDN: a factor of latency).

    Of a region and class it knows what came in the window that frames look back over: as many as in this
    step all the time.
    """
    traffic = course.traffic[step]
    window = max(1.0, RATE_WINDOW_S / course.step_s)
    readings = {}
    for number, (cdn, got) in enumerate(served.items()):
        cell = course.cells[step][number]
        flows = int(got.flows)
        answered = 0 if cell.is_dead else int(got.flows - got.failed)
        known = course.known.get(cdn)
        readings[cdn] = Reading(
            first_byte=Latency(got.p95_ms * noise[number], answered),
            loss=cell.loss,
            segments=flows * 8,
            failures=got.failed / got.flows if got.flows else 0.0,
            attempts=flows,
            samples_total=samples_total[cdn],
            load=got.flows / course.step_s,
            room=known / traffic if known and traffic else None,
            cells={
                which: Timed(
                    Latency(part.p95_ms * noise[number], int(window * (part.flows - part.failed))),
                    parts_total.get((cdn, which), 0),
                )
                for which, part in got.parts.items()
                if part.flows > part.failed
            },
        )
    return readings
