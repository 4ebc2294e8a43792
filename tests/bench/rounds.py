"""The measuring: interleaved rounds, the shim subtracted, every run checked by the counters."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tests.bench.rig import Rig
from tests.bench.rows import Row, Subject
from tests.bench.shim import NOTHING

_OTHERWISE = 0.001
"""Of a run's packets so many may end otherwise: a SYN that met held ports only, an ARP that came between."""
_TRIED = 50
_LEAST_NS = 0.5
"""The kernel states whole nanoseconds, so a difference may come out as nothing or less."""


class Unsound(Exception):
    """The measurement would not be of what the row says."""


@dataclass(frozen=True)
class Result:
    """A measured row; times in nanoseconds a packet, the shim subtracted."""

    row: Row
    ours: float
    peer: float
    ratio: float
    """The median of the rounds' own ratios."""
    low: float
    high: float
    """Quartiles of those."""
    bound: float | None
    rounds: int

    @property
    def holds(self) -> bool:
        """Whether the ratio is within its bound, if it has one."""
        return self.bound is None or self.ratio <= self.bound


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
        _prove(rig, subject)
    for number in range(plan.rounds):
        if number >= plan.at_least and time.monotonic() - started > plan.seconds:
            break
        say(f"round {number + 1} of {plan.rounds}")
        for subject in everything if number % 2 else reversed(everything):
            times[id(subject)].append(_sample(rig, subject))
        rig.engine.reader.take_samples()
    return [result(row, times) for row in rows]


def _subjects(rows: Iterable[Row]) -> list[Subject]:
    """Everything to be measured, each once; a row's own next to its peer."""
    named = (subject for row in rows for subject in (row.ours, row.peer, row.floor) if subject is not None)
    return list({id(subject): subject for subject in named}.values())


def _prove(rig: Rig, subject: Subject) -> None:
    """That each packet gets what the row is about, and that the shim restores the frame between repeats.

    The latter cannot be seen where each packet changes the tables: there the counters alone tell.
    """
    if subject.before is not None:
        subject.before()
    for _ in range(_TRIED):
        ran = subject.run(rig.shim, 1)
        if ran.action != subject.action:
            raise Unsound(f"{subject.program} answered {ran.action} where {subject.action} was expected")
    if subject.before is None and subject.rerun(rig.shim, _TRIED, _TRIED).frame != ran.frame:
        raise Unsound(
            f"{subject.program}: the last of {_TRIED} repeats came out unlike the same packet alone"
        )


def _sample(rig: Rig, subject: Subject) -> float:
    if subject.before is not None:
        subject.before()
    subject.run(rig.shim, subject.warm_up)
    alone = subject.rerun(rig.shim, 0, subject.repeat, NOTHING).duration_ns
    before = _counted(rig, subject)
    ran = subject.run(rig.shim, subject.repeat)
    counted = _counted(rig, subject) - before
    if subject.verdict is None:
        if ran.action != subject.action:
            raise Unsound(f"{subject.program} answered {ran.action} where {subject.action} was expected")
    elif abs(counted - subject.repeat) > _OTHERWISE * subject.repeat:
        raise Unsound(f"of {subject.repeat} packets {counted} were {subject.verdict.name}")
    if rig.ejected():
        raise Unsound(f"out of rotation: {', '.join(rig.ejected())}")
    return max(ran.duration_ns - alone, _LEAST_NS)


def _counted(rig: Rig, subject: Subject) -> int:
    return 0 if subject.verdict is None else rig.counted(subject.verdict)


def result(row: Row, times: dict[int, list[float]]) -> Result:
    """A row's figures from the times of its subjects (by their identity), round by round."""
    ours, peer = times[id(row.ours)], times[id(row.peer)]
    ratios = [mine / theirs for mine, theirs in zip(ours, peer, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    bound, beside = row.bound, statistics.median(peer)
    if bound is not None and row.floor is not None:
        floor = statistics.median(times[id(row.floor)])
        bound = (floor + bound * (beside - floor)) / beside
    return Result(row, statistics.median(ours), beside, middle, low, high, bound, len(ratios))
