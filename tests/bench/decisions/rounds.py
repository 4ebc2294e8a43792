"""The measuring: interleaved rounds, medians."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.bench.decisions.rig import Rig
from tests.bench.decisions.rows import Row
from tests.bench.decisions.subjects import Subject
from tests.bench.results import Result, within


class Plan(NamedTuple):
    """How long to measure: so many rounds, on a busy box what fits the time, but a few at any rate."""

    rounds: int
    seconds: float
    at_least: int = 5


def measure(rig: Rig, rows: list[Row], plan: Plan, say: Callable[[str], None]) -> list[Result]:
    """Measure all rows in turn, as often as planned. Raises Unsound."""
    started = time.monotonic()
    everything = _subjects(rows)
    times: dict[int, list[float]] = defaultdict(list)
    for subject in everything:
        subject.prove(rig)
    for number in range(plan.rounds):
        if number >= plan.at_least and time.monotonic() - started > plan.seconds:
            break
        say(f"round {number + 1} of {plan.rounds}")
        for subject in everything if number % 2 else reversed(everything):
            times[id(subject)].append(subject.sample(rig))
        rig.engine.reader.take_samples()
    found = [result(row, times) for row in rows]
    for row in rows:
        if row.aim_ns is not None:
            name = f"{row.name.partition(' / ')[0]} / aim"
            found.append(within(name, times[id(row.ours)], row.aim_ns, unit="ns", gate=False))
    return found


def _subjects(rows: Iterable[Row]) -> list[Subject]:
    """Everything to be measured, each once; a row's own next to its peer."""
    named = (subject for row in rows for subject in (row.ours, row.peer, row.floor) if subject is not None)
    return list({id(subject): subject for subject in named}.values())


def result(row: Row, times: dict[int, list[float]]) -> Result:
    """A row's figures from the times of its subjects (by their identity), round by round."""
    ours, peer = times[id(row.ours)], times[id(row.peer)]
    ratios = [mine / theirs for mine, theirs in zip(ours, peer, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    bound, beside = row.bound, statistics.median(peer)
    if bound is not None and row.floor is not None:
        floor = statistics.median(times[id(row.floor)])
        bound = (floor + bound * (beside - floor)) / beside
    return Result(row.name, statistics.median(ours), beside, middle, low, high, bound, row.gate)
