"""Days made up from a seed: latency, loss and capacity vary, and things go wrong now and then.

Traffic follows the hours, with noise and bursts. CDNs differ in latency and capacity; weights are about
their capacities, with an operator's error. Each has slow spells, lossy ones, losses of capacity, and a few
minutes in which it is dead.
"""

from __future__ import annotations

import math
import random

from cdnctl.steering.simulation.course import Cell, Course

NAMES = ("aurora", "borealis", "cirrus", "dune")
MEAN_FLOWS_PER_S = 800.0


def day(seed: int, hours: float = 24.0, step_s: float = 10.0) -> Course:
    """A day of 3 or 4 CDNs. With an even seed none takes the peak alone; with an odd one each does, which is
    kind to those who send everything to one."""
    chance = random.Random(seed)
    names = list(NAMES[: chance.choice((3, 4))])
    steps = int(hours * 3600 / step_s)
    traffic = _traffic(chance, steps, hours)
    peak = max(traffic)
    parts = [chance.uniform(0.6, 1.4) for _ in names]
    plenty = chance.uniform(1.5, 1.9) if seed % 2 == 0 else 1.3 * sum(parts) / min(parts)
    known = {name: peak * plenty * part / sum(parts) for name, part in zip(names, parts, strict=True)}
    weights = {name: capacity * chance.uniform(0.8, 1.25) for name, capacity in known.items()}
    cells = list(zip(*(_spell(chance, steps, step_s, known[name]) for name in names), strict=True))
    return Course(cdns=names, weights=weights, known=dict(known), step_s=step_s, traffic=traffic, cells=cells)


def _traffic(chance: random.Random, steps: int, hours: float) -> list[float]:
    phase, swell = chance.uniform(0, 24), 0.0
    flows = []
    for step in range(steps):
        hour = 24 * step / steps if hours >= 24 else hours * step / steps
        swell = 0.995 * swell + chance.gauss(0, 0.004)
        daily = 1 + 0.55 * math.sin(2 * math.pi * (hour - phase) / 24)
        flows.append(MEAN_FLOWS_PER_S * daily * math.exp(swell) * chance.uniform(0.96, 1.04))
    return flows


def _spell(chance: random.Random, steps: int, step_s: float, capacity: float) -> list[Cell]:
    """One CDN's cells."""
    idle_ms = 30 * 2 ** chance.uniform(-0.25, 0.25)
    tail = chance.uniform(1.8, 2.4)
    slow = _episodes(chance, steps, step_s, chance.randint(1, 3), (600, 3600), (1.5, 5.0), 1.0)
    loss = _episodes(chance, steps, step_s, chance.randint(0, 2), (300, 1800), (0.03, 0.12), 0.0)
    left = _episodes(chance, steps, step_s, chance.randint(0, 2), (900, 5400), (0.3, 0.7), 1.0)
    dead = _episodes(chance, steps, step_s, chance.choice((0, 0, 1)), (120, 600), (1.0, 1.0), 0.0)
    drift = 0.0
    cells = []
    for step in range(steps):
        drift = 0.998 * drift + chance.gauss(0, 0.004)
        p50_ms = idle_ms * math.exp(drift) * slow[step]
        cells.append(Cell(p50_ms, p50_ms * tail, capacity * left[step], loss[step], dead[step] > 0))
    return cells


def _episodes(
    chance: random.Random,
    steps: int,
    step_s: float,
    count: int,
    lengths_s: tuple[float, float],
    values: tuple[float, float],
    usual: float,
) -> list[float]:
    """`usual`, but for so many spells of some other value."""
    course = [usual] * steps
    for _ in range(count):
        length = int(chance.uniform(*lengths_s) / step_s)
        start = chance.randrange(max(1, steps - length))
        value = chance.uniform(*values)
        course[start : start + length] = [value] * min(length, steps - start)
    return course
