"""Scales, and what the braille plot draws."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnctl.console.widgets import heat, plot, scale
from cdnctl.console.widgets.plot import Series
from cdnctl.model import HISTOGRAM_STEPS

values = st.lists(st.floats(0.01, 1e6), max_size=20)


@given(values)
def test_a_logarithmic_scale_holds_its_values_and_spreads_them(known: list[float]) -> None:
    made = scale.logarithmic(known, 20.0)
    assert made.top >= 20
    assert made.top / made.bottom >= 3.99
    assert all(made.bottom * 0.999 <= value <= made.top for value in known)
    assert made.level(made.bottom) == 0
    assert made.level(made.top) == 1


@given(values)
def test_a_linear_scale_starts_at_zero(known: list[float]) -> None:
    made = scale.linear(known, 100.0)
    assert made.bottom == 0
    assert all(value < made.top for value in known)


@pytest.mark.parametrize("rows", range(2, 40))
@pytest.mark.parametrize("made", [scale.linear([52_000.0], 100.0), scale.logarithmic([10.0, 220.0], 20.0)])
def test_ticks_name_the_ends_and_do_not_crowd(rows: int, made: scale.Scale) -> None:
    ticks = made.ticks(rows)
    assert ticks[0] == made.top
    assert ticks[rows - 1] == made.bottom
    at = sorted(ticks)
    assert all(after - before >= 2 for before, after in itertools.pairwise(at)) or rows == 2
    assert [ticks[row] for row in at] == sorted(ticks.values(), reverse=True)


def line(*points: tuple[float, float | None]) -> plot._Line:
    return plot._Line(points)


def test_between_samples_the_line_is_straight_and_gaps_stay_empty() -> None:
    drawn = line((10.0, 20.0), (12.0, 40.0), (13.0, None), (14.0, 10.0), (20.0, 10.0))
    assert drawn.at(10.9, 11.1) == pytest.approx(30.0)
    assert drawn.at(11.9, 12.1) == 40.0
    assert drawn.at(12.4, 12.6) is None  # towards a gap
    assert drawn.at(16.9, 17.1) is None  # too far apart to be joined
    assert drawn.at(1.0, 2.0) is None
    assert drawn.at(21.0, 22.0) is None


def test_a_spike_within_one_dot_is_not_lost() -> None:
    drawn = line((10.0, 20.0), (10.1, 200.0), (10.2, 20.0))
    assert drawn.at(9.5, 10.5) == 200.0


def test_a_finished_column_is_the_same_when_drawn_later() -> None:
    early = [(at / 2, 15.0 + math.sin(at)) for at in range(60)]
    later = [*early, *((at / 2, 300.0) for at in range(60, 90))]
    made = scale.logarithmic([10.0, 300.0], 20.0)
    for index in range(20):
        args = (index, 1.2, 12, made)
        assert plot._rasterise(*args, [line(*early)]) == plot._rasterise(*args, [line(*later)])


def test_where_colours_do_not_tell_lines_apart_patterns_do() -> None:
    level = line(*((float(at), 100.0) for at in range(100)))
    made = scale.logarithmic([50.0, 300.0], 20.0)
    drawn = set()
    for number in range(8):
        lines = [line()] * number + [level]
        columns = [plot._rasterise(index, 1.0, 12, made, lines, True) for index in range(10, 34)]
        drawn.add(tuple(tuple(bits for bits, _ in column) for column in columns))
        solid = [plot._rasterise(index, 1.0, 12, made, lines) for index in range(10, 34)]
        assert all(bits | whole == whole for column, full in zip(columns, solid, strict=True)
                   for (bits, _), (whole, _) in zip(column, full, strict=True))  # fmt: skip
    assert len(drawn) == 8
    assert len({plot.sample(number) for number in range(5)}) == 5
    assert plot.sample(0) == "⠒⠒"


def test_labels_are_moved_apart_and_stay_inside() -> None:
    series = [Series(str(number), "s0", [], "") for number in range(5)]
    placed = plot.spread([(3, one) for one in series], 5)
    assert [row for row, _ in placed] == [0, 1, 2, 3, 4]
    assert [row for row, _ in plot.spread([(4, one) for one in series[:2]], 5)] == [3, 4]
    assert len(plot.spread([(0, one) for one in series], 3)) == 3


@pytest.mark.parametrize("room", range(3, 40))
def test_a_heat_map_draws_nothing_where_it_was_not(room: int) -> None:
    """However few lines there are: each step is on the line that its limits say."""
    known = [0] * HISTOGRAM_STEPS
    known[6] = known[7] = 90
    known[19] = 1
    wide = heat.joined_steps(6, 19, room)
    together = heat._coarse(known, wide)
    first = heat._first(6 // wide, 19 // wide, min(room, len(together)), len(together))
    assert sum(together) == sum(known)
    shown = range(first, first + min(room, len(together)))
    for step in (6, 7, 19):
        assert together[step // wide]
        assert step // wide in shown
