"""The same by cell: who is bad for the clients of one region, or in one class of traffic, has less of that.

A cell is planned as the whole is (plan.py), with the weights that the whole leads to for operators' ones, and
first bytes in the cell for readings. So what a CDN has of a cell is what it has as a whole times what it
keeps there; no more than half of a cell is moved away, and who is alone in one has all of it. A CDN that is
bad as a whole is left to the whole's judgement: nothing is held against it in cells meanwhile.

A cell in which nothing is held against anybody has no memory, and costs a comparison.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from cdnctl.steering.planner.judge import judge_cells
from cdnctl.steering.planner.memory import Memory
from cdnctl.steering.planner.plan import Plan, Shift, Wants, plan
from cdnctl.steering.planner.reading import Cell, Reading
from cdnctl.steering.planner.settings import USUAL, Settings
from cdnctl.steering.planner.shares import Shares

CellMemory = dict[Cell, dict[str, Memory]]
"""By cell and CDN; cells in which nothing is held against anybody are not in it."""

_FORGIVEN = 1.0
"""A penalty under this is over."""


class CellPlan(NamedTuple):
    """What a round leads to."""

    memory: CellMemory
    shares: dict[Cell, Shares]
    """Of the cells in the memory."""
    shifts: list[Shift]


def plan_cells(
    memory: Mapping[Cell, Mapping[str, Memory]],
    readings: Mapping[str, Reading],
    wants: Wants,
    whole: Plan,
    now_s: float,
    settings: Settings = USUAL,
) -> CellPlan:
    """One round, after the whole's. Pure as that is."""
    done = CellPlan({}, {}, [])
    ill = {cdn for cdn, each in whole.memory.items() if each.bad}
    for cell in _to_plan(memory, readings, whole, settings):
        weights = {cdn: whole.weights[cdn] for cdn in serving(cell.region, readings, whole.weights)}
        own = {
            cdn: replace(each, bad=0, good=0) if cdn in ill else each
            for cdn, each in memory.get(cell, {}).items()
        }
        found = {
            cdn: _reading(cell, readings[cdn], own.get(cdn), cdn in ill) for cdn in weights if cdn in readings
        }
        of_cell = Wants(weights=weights, pinned=[cdn for cdn in wants.pinned if cdn in weights])
        planned = plan(own, found, of_cell, now_s, settings)
        done.shifts.extend(_in_cell(shift, cell) for shift in planned.shifts)
        if not all(_is_at_rest(each, now_s, settings) for each in planned.memory.values()):
            done.memory[cell] = planned.memory
            done.shares[cell] = planned.shares
    return done


def factors(memory: Mapping[str, Memory], pinned: Collection[str] = ()) -> dict[str, float]:
    """By CDN what its weight is multiplied by in a cell; empty: nothing changes.

    Who was pinned after the last round has all of its weight at once: the cell waits for the next one.
    """
    if any(cdn in memory and memory[cdn].kept < 1 for cdn in pinned):
        return {}
    found = {cdn: each.factor for cdn, each in memory.items()}
    return found if any(factor < 1 for factor in found.values()) else {}


def serving(region: str, readings: Mapping[str, Reading], weights: Mapping[str, float]) -> list[str]:
    """The CDNs with a weight that the clients of a region may get: where that leaves nobody, all."""
    live = [cdn for cdn, weight in weights.items() if weight]
    near = [
        cdn
        for cdn in live
        if cdn not in readings or not readings[cdn].regions or region in readings[cdn].regions
    ]
    return near or live


def _to_plan(
    memory: Mapping[Cell, Mapping[str, Memory]],
    readings: Mapping[str, Reading],
    whole: Plan,
    settings: Settings,
) -> list[Cell]:
    """Those with a memory, and those in which somebody is bad now; in an order that is always the same."""
    playing = [cdn for cdn, weight in whole.weights.items() if weight and cdn in readings]
    playing = [cdn for cdn in playing if not readings[cdn].is_out]
    bad = {
        cell
        for cdn in playing
        for cell, verdict in judge_cells(
            readings[cdn], [readings[other] for other in playing if other != cdn], settings
        ).items()
        if verdict.fault
    }
    return sorted(bad | memory.keys())


def _reading(cell: Cell, reading: Reading, memory: Memory | None, is_ill: bool) -> Reading:
    timed = reading.cells.get(cell)
    if timed is None:  # no request in the window: none is new
        return Reading(samples_total=memory.samples_total if memory else 0, is_out=reading.is_out or is_ill)
    return Reading(first_byte=timed.latency, samples_total=timed.total, is_out=reading.is_out or is_ill)


def _in_cell(shift: Shift, cell: Cell) -> Shift:
    """Prices and room move nothing here: who moves without a reason of the cell's own follows the whole."""
    return replace(shift, cell=cell, code="whole" if shift.code in ("cost", "roomy") else shift.code)


def _is_at_rest(memory: Memory, now_s: float, settings: Settings) -> bool:
    return (
        memory.kept >= 1
        and memory.factor >= 1
        and not memory.bad
        and memory.penalty_now(now_s, settings) < _FORGIVEN
    )
