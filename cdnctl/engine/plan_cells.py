"""What the planner holds against CDNs in single cells: the clients of a region, a class of traffic.

The planner of cells (cdnctl.steering.planner.cells) after that of the whole, with what it knows from round to
round, and its pictures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct, field

from cdnctl.engine.plan_pictures import why_of
from cdnctl.model import CellPlan
from cdnctl.steering.planner import (
    Cell,
    CellMemory,
    Memory,
    Plan,
    Reading,
    Settings,
    Shift,
    Wants,
    factors,
    plan_cells,
)

SHIFTS_AN_HOUR = 240
"""More, of all cells together, would be a fault of the planner's: cells stay as they are then. They have an
allowance of their own, so that many regions cannot use up what the whole edge may need."""


class KeptCell(Struct, kw_only=True):
    """What is known of a cell, on disk."""

    region: str
    traffic_class: str
    memory: dict[str, Memory] = field(default_factory=dict)
    """By CDN."""


class CellPlanning:
    """Of one engine."""

    def __init__(self) -> None:
        self.memory: CellMemory = {}
        self.is_crowded = False
        """There are not pick tables enough: cells have what their CDNs have as a whole."""
        self._shifted_s: deque[float] = deque()

    def take_up(self, kept: Iterable[KeptCell]) -> None:
        """Go on with what an earlier agent knew."""
        self.memory = {Cell(each.region, each.traffic_class): each.memory for each in kept}

    def kept(self) -> list[KeptCell]:
        """For the next agent."""
        return [
            KeptCell(region=cell.region, traffic_class=cell.traffic_class, memory=memory)
            for cell, memory in self.memory.items()
        ]

    def forget(self) -> None:
        """Begin afresh."""
        self.memory = {}

    def follow(self, regions: Collection[str]) -> None:
        """These there are now, those of no region aside; of others nothing is kept."""
        self.memory = {
            cell: memory for cell, memory in self.memory.items() if not cell.region or cell.region in regions
        }

    def round(
        self,
        readings: Mapping[str, Reading],
        wants: Wants,
        whole: Plan,
        now_s: float,
        settings: Settings,
    ) -> list[Shift]:
        """One round, after the whole's."""
        if self.is_too_restless(now_s):
            return []
        done = plan_cells(self.memory, readings, wants, whole, now_s, settings)
        self.memory = done.memory
        self._shifted_s.extend(now_s for _ in done.shifts)
        return done.shifts

    def is_too_restless(self, now_s: float) -> bool:
        """Whether there were too many shifts."""
        while self._shifted_s and now_s - self._shifted_s[0] > 3600:
            self._shifted_s.popleft()
        return len(self._shifted_s) >= SHIFTS_AN_HOUR

    def factors(self, pinned: Collection[str]) -> dict[Cell, dict[str, float]]:
        """By cell and CDN, what its weight as a whole is multiplied by; where nothing is, nothing."""
        found = {cell: factors(memory, pinned) for cell, memory in self.memory.items()}
        return {cell: each for cell, each in found.items() if each}

    def plans(self, cdn: str) -> list[CellPlan]:
        """What a CDN has less of than as a whole, and why; for a frame."""
        return [
            CellPlan(
                region=cell.region,
                traffic_class=cell.traffic_class,
                factor=memory[cdn].factor,
                code=memory[cdn].code,
                why=why_of(cdn, memory[cdn]),
            )
            for cell, memory in self.memory.items()
            if cdn in memory and memory[cdn].kept < 1
        ]

    def trouble(self, now_s: float) -> str:
        """Why cells are not planned, when they should be."""
        if self.is_crowded:
            return "too many pick tables: regions and classes have what CDNs have as a whole"
        if self.is_too_restless(now_s):
            return f"more than {SHIFTS_AN_HOUR} shifts in an hour of regions and classes: they stay"
        return ""
