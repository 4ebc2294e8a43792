"""Forecasts beside `as a week ago`, on a recorded series and on months made up from seeds; and what they are
good for."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from cdnctl.steering.forecast import AHEAD, DAY, SLOT_S, WEEK, Foresight, Series
from cdnctl.steering.planner import Costs, Tariff
from cdnctl.steering.planner.cost import factors
from cdnctl.steering.planner.settings import USUAL
from cdnctl.steering.simulation.course import Cell, Course
from cdnctl.steering.simulation.play import Score, play
from cdnctl.steering.simulation.policies import Planned

MONDAY_S = 4 * 86400
"""The first one of 1970."""


def month(seed: int, days: int = 42) -> list[float]:
    """Slots from a Monday on: the day's course, weekends, a drift, days that are more or less, noise."""
    chance = random.Random(seed)
    phase, depth = chance.uniform(17, 22), chance.uniform(0.4, 0.7)
    weekend, trend = chance.uniform(0.7, 1.3), chance.uniform(-0.004, 0.008)
    series, drift = [], 0.0
    for day in range(days):
        drift = 0.7 * drift + chance.gauss(0, 0.06)
        for slot in range(DAY):
            hour = 24 * slot / DAY
            shape = 1 + depth * math.cos(2 * math.pi * (hour - phase) / 24)
            shape += 0.3 * math.exp(-(((hour - 20.5) / 1.2) ** 2))
            value = 1000 * shape * (weekend if day % 7 >= 5 else 1) * math.exp(drift + trend * day)
            series.append(value * math.exp(chance.gauss(0, 0.03)))
    return series


def recorded() -> dict[int, float]:
    """Slots of a real series, of which each hour has four alike."""
    slots = {}
    path = Path(__file__).parent / "series" / "uk-academic-backbone.txt"
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            continue
        begins, *values = line.split()
        at_s = datetime.fromisoformat(begins).replace(tzinfo=UTC).timestamp()
        for quarter in range(4 * len(values)):
            slots[int(at_s // SLOT_S) + quarter] = float(values[quarter // 4])
    return slots


def fed(values: list[float], series: Series | None = None, start: int = 0) -> Series:
    series = series or Series()
    for slot, value in enumerate(values, start):
        series.add(MONDAY_S + (slot + 1) * SLOT_S, value, SLOT_S)
    return series


@pytest.mark.parametrize("seed", range(8))
def test_better_than_a_week_ago(seed: int) -> None:
    """An hour ahead, over the last two of six weeks."""
    values = month(seed)
    series = fed(values[: 4 * WEEK])
    own = naive = total = 0.0
    for slot in range(4 * WEEK, len(values) - AHEAD):
        series.add(MONDAY_S + (slot + 1) * SLOT_S, values[slot], SLOT_S)
        ahead = series.expected(MONDAY_S + (slot + AHEAD) * SLOT_S)
        assert ahead is not None
        came = values[slot + AHEAD]
        own += abs(ahead - came)
        naive += abs(values[slot + AHEAD - WEEK] - came)
        total += came
    print(f"seed {seed}: {100 * own / total:.1f} %, as a week ago {100 * naive / total:.1f} %")
    assert own < 0.85 * naive
    assert own / total < 0.09
    assert series.errors.own < series.errors.naive
    assert series.is_worth_it()


def test_better_than_a_week_ago_on_a_recorded_series() -> None:
    """A backbone in term, at Christmas and in term again; an hour ahead, in each week after the second."""
    series, slots = Series(), recorded()
    first = min(slots)
    own: dict[str, float] = {}
    naive: dict[str, float] = {}
    total: dict[str, float] = {}
    for slot, value in slots.items():
        series.add((slot + 1) * SLOT_S, value, SLOT_S)
        came = slots.get(slot + AHEAD)
        if slot < first + 2 * WEEK or came is None:
            continue
        ahead = series.expected((slot + AHEAD) * SLOT_S)
        assert ahead is not None
        for name in (f"{datetime.fromtimestamp((slot + AHEAD) * SLOT_S, UTC):%G-W%V}", "all"):
            own[name] = own.get(name, 0.0) + abs(ahead - came)
            naive[name] = naive.get(name, 0.0) + abs(slots[slot + AHEAD - WEEK] - came)
            total[name] = total.get(name, 0.0) + came
    for name, sum_ in total.items():
        print(f"{name}: {100 * own[name] / sum_:.1f} %, as a week ago {100 * naive[name] / sum_:.1f} %")
        assert own[name] < naive[name], name
    assert own["all"] / total["all"] < 0.06
    assert own["all"] < 0.3 * naive["all"], "holidays are no weeks like others"
    assert series.errors.own < series.errors.naive
    assert series.is_worth_it()


def test_what_it_says_of_its_own_errors_is_so() -> None:
    values = month(3)
    series = fed(values[:-DAY])
    made: list[float] = []
    for slot in range(len(values) - DAY, len(values)):
        at_s = MONDAY_S + (slot + 1) * SLOT_S
        low, high = series.band(at_s - SLOT_S) or (0.0, 0.0)
        made.append(low <= values[slot] <= high)
        series.add(at_s, values[slot], SLOT_S)
    assert sum(made) / len(made) > 0.85


def test_kept_over_restarts_exactly() -> None:
    values = month(1, 15)
    whole = fed(values)
    half = fed(values[:1000])
    again = msgspec.json.decode(msgspec.json.encode(half), type=Series)
    assert again == half
    assert fed(values[1000:], again, 1000) == whole
    assert len(msgspec.json.encode(whole)) < 64_000


def test_in_pieces_as_in_one() -> None:
    values = month(2, 8)
    pieces = Series()
    for slot, value in enumerate(values):
        for piece in range(10):
            at_s = MONDAY_S + slot * SLOT_S + (piece + 1) * SLOT_S / 10
            pieces.add(at_s, value * (0.9 + piece / 45), SLOT_S / 10)
    whole = fed(values)
    assert pieces.means == pytest.approx(whole.means)
    assert pieces.errors.own == pytest.approx(whole.errors.own)


def test_what_nobody_expected_is_said_once() -> None:
    values = month(4, 21)
    series = fed(values)
    found = []
    for slot in range(len(values), len(values) + 8):
        usual = values[slot - WEEK]
        found += series.add(MONDAY_S + (slot + 1) * SLOT_S, usual * 3, SLOT_S)
    assert len(found) == 1
    assert found[0].came > 2 * found[0].expected
    calm = fed(month(5, 21))
    assert not [
        each
        for slot in range(21 * DAY, 22 * DAY)
        for each in calm.add(MONDAY_S + (slot + 1) * SLOT_S, month(5, 22)[slot], SLOT_S)
    ]


def test_nothing_known_is_said_so() -> None:
    series = Series()
    assert series.expected(0) is None
    assert series.peak(0, 3600) is None
    assert series.band(0) is None
    assert Foresight().growth("edge", 0, 100, 3600) == 1
    short = Foresight(series={"edge": fed(month(1, 2))})
    assert short.growth("edge", MONDAY_S + 2 * 86400, 1, 3600) == 1, "too few compared"
    day = fed(month(1, 1))
    assert day.expected(MONDAY_S + 86400 + 7200) is not None, "of the same time on another day"


def test_gaps_teach_nothing() -> None:
    series = fed(month(1, 8))
    before = list(series.means)
    series.add(MONDAY_S + 9 * 86400, 10**9, 60)
    series.add(MONDAY_S + 10 * 86400, 10**9, 60)
    changed = sum(a != b for a, b in zip(before, series.means, strict=True))
    assert changed <= 1


def test_those_who_left_are_forgotten() -> None:
    foresight = Foresight()
    foresight.add("cdn a", MONDAY_S, 1, 60)
    foresight.add("cdn b", MONDAY_S, 1, 60)
    foresight.keep(["cdn b", "cdn c"])
    assert list(foresight.series) == ["cdn b"]


def evening(minute: float) -> float:
    """Traffic at a minute of the day: a match begins at 20:00, and within seconds all are there."""
    base = 400 + 100 * math.sin(2 * math.pi * (minute - 600) / 1440)
    return base + (500 * min(1.0, (minute - 1200) / 0.3) if 1200 <= minute < 1320 else 0.0)


def test_weights_are_moved_before_a_peak_that_would_spill() -> None:
    """Each evening at 20:00 traffic doubles within seconds, over what aurora takes at its weight."""
    foresight = Foresight()
    chance = random.Random(11)
    for slot in range(3 * WEEK):
        minutes = [evening((slot * 15 + minute) % 1440) for minute in range(15)]
        value = sum(minutes) / 15 * math.exp(chance.gauss(0, 0.02))
        foresight.add("edge", MONDAY_S + (slot + 1) * SLOT_S, value, SLOT_S)
    step_s, start = 10.0, 19 * 60
    steps = int(3 * 3600 / step_s)
    capacities = {"aurora": 350.0, "borealis": 700.0, "cirrus": 700.0}
    course = Course(
        cdns=list(capacities),
        weights={"aurora": 50, "borealis": 25, "cirrus": 25},
        known=dict(capacities),
        step_s=step_s,
        traffic=[evening(start + step * step_s / 60) for step in range(steps)],
        cells=[[Cell(30.0, 60.0, capacity) for capacity in capacities.values()]] * steps,
    )

    def run(is_foreseen: bool) -> tuple[Score, Planned]:
        policy = Planned(course)
        decide = policy.decide

        def with_foresight(readings: dict, now_s: float) -> dict[str, float]:  # type: ignore[type-arg]
            at_s = MONDAY_S + 21 * 86400 + start * 60 + now_s
            load = sum(each.load for each in readings.values())
            policy.expect(foresight.growth("edge", at_s, load, 1800) if is_foreseen else 1.0)
            return decide(readings, now_s)

        policy.decide = with_foresight  # type: ignore[method-assign,assignment]
        return play(course, policy), policy

    (blind, _), (foreseen, policy) = run(False), run(True)
    print(f"spilled: {blind.failed:.0f} without, {foreseen.failed:.0f} with foresight")
    assert blind.failed > 100
    assert foreseen.failed < 0.05 * blind.failed
    early = [(at_s, shift) for at_s, shift in policy.shifts if shift.code == "forecast"]
    assert early
    assert 1200 < early[0][0] < 3600, "within the half hour before"
    assert foreseen.turns <= 4


def test_a_commit_is_spared_before_the_peak() -> None:
    cost = Costs(tariff=Tariff(commit_mbit=1000), mbit=500, bursts_used=0.95)
    assert factors({"aurora": cost}, USUAL)["aurora"] == 1
    assert factors({"aurora": cost}, USUAL, growth=2)["aurora"] < 0.3
