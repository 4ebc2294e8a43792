"""Plays a course under a policy, and keeps the score."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Mapping

from msgspec import Struct

from cdnctl.steering.planner import Cell
from cdnctl.steering.planner.shares import Shares, moved, normal
from cdnctl.steering.simulation.course import Course, Served, measured, points, serve, serve_parts
from cdnctl.steering.simulation.policies import Policy

_PER_DOUBLING = 16
"""Buckets of the histogram: within 4.5 %."""
_SHIFT = 0.01
"""So much has to move for a shift."""
_TURN_S = 600.0
_TURN = 0.02


class Score(Struct, kw_only=True):
    """How a policy did."""

    policy: str
    requests: float = 0.0
    failed: float = 0.0
    p95_ms: float = 0.0
    """Of those that were answered."""
    shifts: int = 0
    """Steps in which shares moved."""
    shifts_in_an_hour: int = 0
    """The most of them in any hour."""
    turns: int = 0
    """How often a CDN that had just got less got more within ten minutes, or the other way round."""
    turns_in_an_hour: int = 0

    @property
    def failed_share(self) -> float:
        """0 to 1."""
        return self.failed / self.requests if self.requests else 0.0


def play(course: Course, policy: Policy, seed: int = 0) -> Score:
    """The whole course; `seed` is of the errors of measurement alone."""
    score, chance = Score(policy=policy.name), random.Random(seed)
    histogram: dict[int, float] = {}
    shares = normal(course.weights)
    in_cells: Mapping[Cell, Shares] = {}
    totals = dict.fromkeys(course.cdns, 0)
    parts_total: dict[tuple[str, Cell], int] = {}
    watch = _Watch(score)
    for step, traffic in enumerate(course.traffic):
        mix = course.mix[step] if course.mix else {}
        served: dict[str, Served] = {}
        for cdn, cell in zip(course.cdns, course.cells[step], strict=True):
            if mix:
                had = {each: in_cells.get(each, shares).get(cdn, 0.0) for each in mix}
                loads = {each: traffic * part * had[each] for each, part in mix.items()}
                got = serve_parts(cell, loads, course.step_s)
            else:
                got = serve(cell, traffic * shares[cdn], course.step_s)
            served[cdn] = got
            totals[cdn] += int(got.flows)
            for each, answered in got.parts.items():
                count = int(answered.flows - answered.failed)
                parts_total[cdn, each] = parts_total.get((cdn, each), 0) + count
            score.requests += got.flows
            score.failed += got.failed
            for one in got.parts.values() or (got,):
                _count(histogram, one)
        noise = [1 + 0.05 * (chance.random() + chance.random() - 1) for _ in course.cdns]
        now_s = (step + 1) * course.step_s
        after = policy.decide(measured(course, step, served, totals, noise, parts_total), now_s)
        watch.note(_in_all(shares, in_cells, mix), _in_all(after, policy.in_cells, mix), now_s)
        shares, in_cells = after, policy.in_cells
    score.p95_ms = _percentile(histogram, 0.95)
    return score


def _in_all(shares: Shares, in_cells: Mapping[Cell, Shares], mix: Mapping[Cell, float]) -> Shares:
    """Shares of all flows, where those of some regions and classes are others."""
    if not in_cells or not mix:
        return shares
    return {
        cdn: sum(part * in_cells.get(each, shares).get(cdn, 0.0) for each, part in mix.items())
        for cdn in shares
    }


def _count(histogram: dict[int, float], got: Served) -> None:
    for flows, log in points(got):
        bucket = int(log * _PER_DOUBLING)
        histogram[bucket] = histogram.get(bucket, 0.0) + flows


def _percentile(histogram: dict[int, float], part: float) -> float:
    left = part * sum(histogram.values())
    for bucket in sorted(histogram):
        left -= histogram[bucket]
        if left <= 0:
            return float(2 ** ((bucket + 0.5) / _PER_DOUBLING))
    return 0.0


class _Watch:
    """Counts shifts, and turns: what oscillates turns all the time."""

    def __init__(self, score: Score) -> None:
        self._score = score
        self._shifts: deque[float] = deque()
        self._turns: deque[float] = deque()
        self._last: dict[str, tuple[float, float]] = {}
        """By CDN: the direction of its last move, and when."""
        self._since: Shares = {}
        """By CDN: its share at its last move."""

    def note(self, before: Shares, after: Shares, now_s: float) -> None:
        if moved(before, after) >= _SHIFT:
            self._score.shifts += 1
            self._score.shifts_in_an_hour = max(self._score.shifts_in_an_hour, _add(self._shifts, now_s))
        elif before == after:
            return
        for cdn, share in after.items():
            change = share - self._since.setdefault(cdn, before[cdn])
            if abs(change) < _TURN:
                continue
            self._since[cdn] = share
            direction = math.copysign(1, change)
            last, at_s = self._last.get(cdn, (direction, now_s))
            if direction != last and now_s - at_s <= _TURN_S:
                self._score.turns += 1
                self._score.turns_in_an_hour = max(self._score.turns_in_an_hour, _add(self._turns, now_s))
            self._last[cdn] = (direction, now_s)


def _add(times: deque[float], now_s: float) -> int:
    """How many there were in the last hour, with this one."""
    times.append(now_s)
    while times[0] <= now_s - 3600:
        times.popleft()
    return len(times)
