"""What a simulation plays: traffic, and how each CDN would fare at any load, step by step.

Load makes a CDN slower, and more than it takes fails: whoever sends everything to the quickest makes it
the slowest. A course comes from recorded frames (cdnctl.steering.simulation.recorded) or is made up from a
seed (cdnctl.steering.simulation.days).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from cdnctl.steering.planner import Latency, Reading

CONGESTED = 0.97
"""Queues are finite: beyond this use a CDN gets no slower, it refuses."""
_QUEUE = 0.15
"""How much of its idle latency a CDN adds at half its capacity."""


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


class Served(NamedTuple):
    """What became of a CDN's flows in a step."""

    flows: float
    failed: float
    p50_ms: float
    p95_ms: float


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


def measured(
    course: Course,
    step: int,
    served: Mapping[str, Served],
    samples_total: Mapping[str, int],
    noise: Sequence[float],
) -> dict[str, Reading]:
    """What an edge would know after the step, with its errors (`noise` by CDN: a factor of latency)."""
    traffic = course.traffic[step]
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
        )
    return readings
