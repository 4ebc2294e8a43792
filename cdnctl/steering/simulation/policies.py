"""Ways to share traffic out, to compare."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from cdnctl.steering.planner import (
    USUAL,
    Cell,
    CellMemory,
    Memory,
    Reading,
    Settings,
    Shift,
    Wants,
    plan,
    plan_cells,
)
from cdnctl.steering.planner.shares import Shares, normal
from cdnctl.steering.simulation.course import Course


class Policy(Protocol):
    """Decides after each step how the next one's traffic is shared."""

    name: str
    in_cells: Mapping[Cell, Shares]
    """The shares of single regions and classes, where they are others than those of all."""

    def decide(self, readings: Mapping[str, Reading], now_s: float) -> Shares:
        """The shares from now on."""


class Static:
    """The operators' weights, whatever happens."""

    name = "static weights"
    in_cells: Mapping[Cell, Shares] = MappingProxyType({})

    def __init__(self, course: Course) -> None:
        self._shares = normal(course.weights)

    def decide(self, readings: Mapping[str, Reading], now_s: float) -> Shares:
        """As ever."""
        return self._shares


class Fastest:
    """Everything to whoever was quickest; the others are known by probes, which are no load."""

    name = "lowest latency wins"
    in_cells: Mapping[Cell, Shares] = MappingProxyType({})

    def __init__(self, course: Course) -> None:
        self._cdns = course.cdns

    def decide(self, readings: Mapping[str, Reading], now_s: float) -> Shares:
        """All to one."""
        alive = {cdn: each for cdn, each in readings.items() if each.failures < _DEAD}
        known = {cdn: each.first_byte.p95_ms for cdn, each in (alive or readings).items() if each.first_byte}
        best = min(known, key=lambda cdn: known[cdn], default=self._cdns[0])
        return {cdn: 1.0 if cdn == best else 0.0 for cdn in self._cdns}


_DEAD = 0.5


class Failover:
    """Everything to the heaviest; to the next while it fails its checks, three in a row each way."""

    name = "plain failover"
    in_cells: Mapping[Cell, Shares] = MappingProxyType({})
    _ROUNDS = 3
    _FAILING = 0.05

    def __init__(self, course: Course) -> None:
        self._order = sorted(course.cdns, key=lambda cdn: -course.weights[cdn])
        self._is_up = dict.fromkeys(course.cdns, True)
        self._against = dict.fromkeys(course.cdns, 0)

    def decide(self, readings: Mapping[str, Reading], now_s: float) -> Shares:
        """All to the first that is up."""
        for cdn, each in readings.items():
            is_well = each.failures < self._FAILING
            self._against[cdn] = self._against[cdn] + 1 if is_well != self._is_up[cdn] else 0
            if self._against[cdn] >= self._ROUNDS:
                self._is_up[cdn], self._against[cdn] = is_well, 0
        first = next((cdn for cdn in self._order if self._is_up[cdn]), self._order[0])
        return {cdn: 1.0 if cdn == first else 0.0 for cdn in self._order}


class Planned:
    """The planner."""

    name = "planner"

    def __init__(self, course: Course, settings: Settings = USUAL) -> None:
        self.in_cells: Mapping[Cell, Shares] = {}
        self._memory: dict[str, Memory] = {}
        self._cells: CellMemory = {}
        self._settings = settings
        self._wants = Wants(weights=course.weights)
        self.shifts: list[tuple[float, Shift]] = []
        """With their time in seconds."""

    def expect(self, growth: float) -> None:
        """Traffic at the predicted peak over traffic now."""
        self._wants = Wants(weights=self._wants.weights, growth=growth)

    def decide(self, readings: Mapping[str, Reading], now_s: float) -> Shares:
        """One round."""
        done = plan(self._memory, readings, self._wants, now_s, self._settings)
        cells = plan_cells(self._cells, readings, self._wants, done, now_s, self._settings)
        self._memory, self._cells, self.in_cells = done.memory, cells.memory, cells.shares
        self.shifts += [(now_s, shift) for shift in (*done.shifts, *cells.shifts)]
        return done.shares


ALL: tuple[type[Static] | type[Fastest] | type[Failover] | type[Planned], ...] = (
    Static,
    Fastest,
    Failover,
    Planned,
)
