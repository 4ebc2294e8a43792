"""A heat map of latency over time: how many handshakes took how long, when.

Time goes to the right, time taken upwards, two steps an octave; where lines are few, several steps together.
Where colours can be mixed, each cell holds two, one above the other; where they cannot (16 colours, or none),
shades tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from cdnctl.console.format import axis, fit
from cdnctl.console.history import History
from cdnctl.console.theme import HEAT
from cdnctl.console.tracks import Tracks
from cdnctl.console.widgets.cursor import SPAN_S, Sight, crossed, time_axis
from cdnctl.console.widgets.lines import Lines, Row, Span, heading
from cdnctl.console.widgets.plot import AXIS
from cdnctl.model import HISTOGRAM_STEPS, Frame, histogram_limits_ms

_SHADES = " ·░▒▓█"
Levels = list[list[int]]
"""From 0 to `HEAT`, by column, then by step from the quickest."""


class HeatMap(Lines):
    """Of one CDN at a time."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, classes="panel")
        self._tracks = Tracks[list[int]](_histograms)
        self._cdn = ""
        self._sight = Sight(History(), 0.0)

    def update(self, name: str, shown: str, sight: Sight) -> None:
        """Show this CDN as far as one sees; `shown` is its name, made safe."""
        self._tracks.follow(sight.frames)
        self._cdn, self._sight = name, sight
        self.border_title = heading(f"handshakes of {shown} by time taken, ms")
        self._redraw()

    def on_resize(self) -> None:
        self._redraw()

    def _redraw(self) -> None:
        height, columns = self.size.height - 1, self.size.width - AXIS
        if height < 2 or columns < 8:
            self.show([])
            return
        counts = [
            [sum(row) for row in zip(*each, strict=True)] if each else []
            for each in self._tracks.columns(self._cdn, self._sight.until_s, SPAN_S, columns)
        ]
        low, high = _known(counts)
        mixes = bool(self.palette.heat) and high - low + 1 > height
        room = height * (2 if mixes else 1)
        wide = joined_steps(low, high, room)
        counts = [_coarse(column, wide) for column in counts]
        most = -(-HISTOGRAM_STEPS // wide)
        most += most % 2 if mixes else 0  # a cell holds two
        steps = min(most, room)
        first = _first(low // wide, high // wide, steps, most)
        levels = _levels(counts, first, steps)
        rows: list[Row] = []
        cursor = self._sight.column(columns)
        for step in range(first + steps - 1, first - 1, -2 if mixes else -1):
            low_ms = histogram_limits_ms(wide * (step - 1 if mixes else step))[0]
            named = not len(rows) % 2
            label = axis(round(low_ms, 1 if low_ms < 10 else 0)) if named else ""
            if mixes:
                spans = _mixed(levels, step - first)
            elif self.palette.heat:
                spans = _joined(("█", f"h{column[step - first]}") for column in levels)
            else:
                spans = _shaded(levels, step - first)
            margin = ((fit(label, AXIS - 2, right=True), "muted"), (" ┤" if named else " │", "faint"))
            rows.append((*margin, *crossed(tuple(spans), cursor)))
        self.show([*rows, time_axis(columns, AXIS, cursor)])


def _histograms(frame: Frame) -> Iterable[tuple[str, list[int]]]:
    return ((cdn.name, cdn.histogram) for cdn in frame.cdns if cdn.histogram)


def _known(counts: Sequence[Sequence[int]]) -> tuple[int, int]:
    """The quickest and the slowest step that something is in."""
    known = [step for column in counts for step, count in enumerate(column) if count]
    return (min(known), max(known)) if known else (10, 20)


def joined_steps(low: int, high: int, room: int) -> int:
    """How many steps are taken together so that those from `low` to `high` have room."""
    return next(wide for wide in range(1, HISTOGRAM_STEPS + 1) if high // wide - low // wide < room)


def _coarse(column: Sequence[int], wide: int) -> list[int]:
    """So many steps together as one: what happened is never drawn where it was not."""
    return [sum(column[at : at + wide]) for at in range(0, len(column), wide)]


def _first(low: int, high: int, steps: int, most: int) -> int:
    """The quickest step in sight: all that happened is, if there is room, and as much below as above."""
    if high - low + 1 >= steps:
        return max(0, high - steps + 1)
    middle = (low + high + 1) // 2
    return max(0, min(most - steps, middle - steps // 2)) if steps < most else 0


def _levels(counts: Sequence[Sequence[int]], first: int, steps: int) -> Levels:
    most = max((count for column in counts for count in column), default=0)
    levels: Levels = []
    for column in counts:
        seen = [0] * steps
        for step, count in enumerate(column):
            if count:
                at = max(0, min(steps - 1, step - first))
                seen[at] = max(seen[at], math.ceil(HEAT * math.sqrt(count / most)))
        levels.append(seen)
    return levels


def _mixed(levels: Levels, upper: int) -> list[Span]:
    return _joined(
        ("▀", f"h{column[upper]} on h{column[upper - 1] if upper else 0}")
        if column[upper] or (upper and column[upper - 1])
        else (" ", "")
        for column in levels
    )


def _shaded(levels: Levels, step: int) -> list[Span]:
    last = len(_SHADES) - 1
    return _joined(
        (_SHADES[math.ceil(last * column[step] / HEAT)], "accent" if column[step] else "")
        for column in levels
    )


def _joined(cells: Iterable[Span]) -> list[Span]:
    """Neighbours of one role as one span."""
    spans: list[Span] = []
    for text, role in cells:
        if spans and spans[-1][1] == role:
            spans[-1] = (spans[-1][0] + text, role)
        else:
            spans.append((text, role))
    return spans
