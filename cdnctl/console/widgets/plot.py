"""A live line plot in braille: time to the right, one colour a series, two by four dots a cell.

Time is cut into cells of a fixed length, counted from the clock's zero, so a finished cell never
changes: it is drawn once, kept, and moves left as a whole. Only the newest cell is drawn anew with
each frame, and everything only when the scale or the size changes.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from cdnctl.console.format import fit
from cdnctl.console.history import History, Point
from cdnctl.console.widgets.cursor import SPAN_S, Sight, crossed, time_axis
from cdnctl.console.widgets.lines import Lines, Row, Span
from cdnctl.console.widgets.scale import Scale

GAP_S = 3.0
"""Samples further apart than this are not joined."""

AXIS = 8
LEGEND = 20
"""Cells for a legend of short names; longer ones have more where the plot is wide."""
LEGEND_FROM = 66
"""Narrower plots have the names only, in a row above."""
_BESIDE_NAME = 9
"""Of a legend's cells: mark and latest value."""
LEGEND_ABOVE_FROM = 4
"""Lower ones have not even that: the colours are those of the table."""

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Braille bits of the left and the right half of a cell, from the top down (Unicode 15, section 21.1)."""

DASHES = ("1", "1110", "10", "1000", "1100", "11110100", "111111000", "1010000")
"""Where colours do not tell the lines apart: which of a series' dots along the time are drawn."""
_SAMPLE = 4
"""Dots of a pattern that a legend shows, in two cells."""

Cells = tuple[tuple[int, int], ...]
"""One column of the plot, from the top: braille bits and the series that colours them."""


@dataclass(frozen=True)
class Series:
    """One line: its name and role, its points in time order, and its latest value in words."""

    name: str
    role: str
    points: Sequence[Point]
    latest: str


class Plot(Lines):
    """Draws `Series` over the last `SPAN_S` seconds."""

    def __init__(
        self,
        title: str,
        unit: str,
        number: Callable[[float], str],
        scale: Callable[[list[float]], Scale],
        *,
        id: str,
    ) -> None:
        """`number` writes an axis value, `scale` makes the axis for the values in sight."""
        super().__init__(id=id, classes="panel")
        self.border_title = title
        self._unit = unit
        self._number = number
        self._scale_for = scale
        self._sight = Sight(History(), 0.0)
        self._series: Sequence[Series] = ()
        self._kept: dict[int, Cells] = {}
        self._kept_for: object = None
        self._marks: dict[str, str] = {}
        """Three cells for each series' name in a legend."""

    def draw(self, sight: Sight, series: Sequence[Series]) -> None:
        """Show these series, as far as one sees."""
        self._sight, self._series = sight, series
        self._redraw()

    @property
    def _now_s(self) -> float:
        return self._sight.until_s

    def on_resize(self) -> None:
        self._redraw()

    def _redraw(self) -> None:
        rows, width = self.size.height - 1, self.size.width
        dashed = self.palette.one_hue
        self._marks = {
            series.name: f"{sample(number)} " if dashed else " ● "
            for number, series in enumerate(self._series)
        }
        longest = max((cell_len(series.name) for series in self._series), default=0)
        legend = max(LEGEND, min(longest, width // 6) + _BESIDE_NAME) if width >= LEGEND_FROM else 0
        above = [] if legend or rows < LEGEND_ABOVE_FROM else [self._names(width)]
        rows -= len(above)
        columns = width - AXIS - legend
        if rows < 2 or columns < 8:
            self.show([])
            return
        cell_s = SPAN_S / columns
        newest = math.floor(self._now_s / cell_s)
        lines = [_Line(series.points) for series in self._series]
        scale = self._scale_for([value for line in lines for value in line.since(self._now_s - SPAN_S)])
        made_for = (
            rows,
            columns,
            scale,
            dashed,
            tuple((series.name, series.role) for series in self._series),
        )
        if made_for != self._kept_for:
            self._kept_for = made_for
            self._kept.clear()
        shown = [
            self._column(index, cell_s, rows, scale, lines, dashed)
            for index in range(newest - columns + 1, newest + 1)
        ]
        for index in [index for index in self._kept if index <= newest - columns]:
            del self._kept[index]
        margin = self._legend(rows, scale, lines, legend - _BESIDE_NAME) if legend else [()] * rows
        ticks = scale.ticks(rows)
        cursor = self._sight.column(columns)
        body = [
            self._axis(ticks.get(row), first=row == 0)
            + crossed(_plot_row(shown, row, row in ticks, self._series), cursor)
            + margin[row]
            for row in range(rows)
        ]
        self.show([*above, *body, time_axis(columns, AXIS, cursor)])

    def _column(
        self, index: int, cell_s: float, rows: int, scale: Scale, lines: list[_Line], dashed: bool
    ) -> Cells:
        kept = self._kept.get(index)
        if kept is None:
            kept = _rasterise(index, cell_s, rows, scale, lines, dashed)
            if (index + 1) * cell_s + GAP_S < self._now_s:
                self._kept[index] = kept
        return kept

    def _axis(self, value: float | None, first: bool) -> Row:
        label = "" if value is None else self._number(value)
        if first and len(label) + 1 + len(self._unit) <= AXIS - 2:
            label += f" {self._unit}"
        return ((fit(label, AXIS - 2, right=True), "muted"), (" ┤" if value is not None else " │", "faint"))

    def _names(self, width: int) -> Row:
        row: list[Span] = [(" " * (AXIS - 1), "")]
        used = AXIS
        for series in self._series:
            mark = f" {self._marks[series.name].lstrip()}"
            used += cell_len(mark + series.name)
            if used <= width:
                row += [(mark, series.role), (series.name, "muted")]
        return tuple(row)

    def _legend(self, rows: int, scale: Scale, lines: list[_Line], name_cells: int) -> list[Row]:
        """Each series' name and latest value, level with the end of its line as far as there is room."""
        wanted = []
        ends = [(line.latest(), series) for line, series in zip(lines, self._series, strict=True)]
        for value, series in sorted(
            ends, key=lambda end: -math.inf if end[0] is None else end[0], reverse=True
        ):
            level = rows - 1 if value is None else round((1 - scale.level(value)) * (rows - 1))
            wanted.append((level, series))
        margin: list[Row] = [()] * rows
        for row, series in spread(wanted, rows):
            name = fit(series.name, name_cells)
            latest = fit(series.latest, 6, right=True)
            margin[row] = ((self._marks[series.name], series.role), (name, "text"), (latest, "muted"))
        return margin


class _Line:
    """One series, ready to be asked for its value at a time."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._times = [at for at, _ in points]
        self._values = [value for _, value in points]

    def since(self, since_s: float) -> list[float]:
        values = self._values[bisect_left(self._times, since_s) :]
        return [value for value in values if value is not None]

    def latest(self) -> float | None:
        return self._values[-1] if self._values else None

    def at(self, begin_s: float, end_s: float) -> float | None:
        """The highest value in a stretch of time; between samples, the straight line that joins them."""
        first, last = bisect_right(self._times, begin_s), bisect_right(self._times, end_s)
        if first < last:
            return max((value for value in self._values[first:last] if value is not None), default=None)
        if first == 0 or first == len(self._times):
            return None
        before, after = self._values[first - 1], self._values[first]
        gap_s = self._times[first] - self._times[first - 1]
        if before is None or after is None or gap_s > GAP_S:
            return None
        return before + (after - before) * ((begin_s + end_s) / 2 - self._times[first - 1]) / gap_s


def spread(wanted: Sequence[tuple[int, Series]], rows: int) -> list[tuple[int, Series]]:
    """Labels at their wanted rows, moved apart where they would collide; those without room left out."""
    ordered = sorted(wanted, key=lambda item: item[0])[:rows]
    placed: list[int] = []
    for level, _ in ordered:
        placed.append(max(level, placed[-1] + 1 if placed else 0))
    limit = rows - 1
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], limit)
        limit = placed[index] - 1
    return [(row, series) for row, (_, series) in zip(placed, ordered, strict=True)]


def _rasterise(
    index: int, cell_s: float, rows: int, scale: Scale, lines: list[_Line], dashed: bool = False
) -> Cells:
    bits = [0] * rows
    owner = [0] * rows
    highest = rows * 4 - 1
    half_s = cell_s / 2
    for number, line in enumerate(lines):
        begin_s = index * cell_s
        before = _dot(line.at(begin_s - half_s, begin_s), scale, highest)
        for half in (0, 1):
            now = _dot(line.at(begin_s + half * half_s, begin_s + (half + 1) * half_s), scale, highest)
            jumps = before is not None and now is not None and abs(now - before) > 1
            if now is not None and (not dashed or jumps or _drawn(number, 2 * index + half)):
                start = now if before is None else before + (1 if now > before else -1 if now < before else 0)
                for dot in range(min(start, now), max(start, now) + 1):
                    row, part = divmod(highest - dot, 4)
                    bits[row] |= _DOTS[half][part]
                    owner[row] = number
            before = now
    return tuple(zip(bits, owner, strict=True))


def _drawn(number: int, dot: int) -> bool:
    """Whether the pattern of that series has a dot there; counted from the clock's zero, as cells are."""
    pattern = DASHES[number % len(DASHES)]
    return pattern[dot % len(pattern)] == "1"


def sample(number: int) -> str:
    """Two cells of a series' pattern."""
    return "".join(
        chr(0x2800 + sum(_DOTS[half][1] for half in (0, 1) if _drawn(number, cell + half)))
        for cell in range(0, _SAMPLE, 2)
    )


def _dot(value: float | None, scale: Scale, highest: int) -> int | None:
    return None if value is None else round(scale.level(value) * highest)


def _plot_row(columns: Sequence[Cells], row: int, grid: bool, series: Sequence[Series]) -> Row:
    """One row of cells as spans, neighbours of one colour joined."""
    spans: list[Span] = []
    text, role = "", ""
    for column in columns:
        bits, number = column[row]
        char = chr(0x2800 + bits) if bits else "┈" if grid else " "
        wears = series[number].role if bits else "faint" if grid else role
        if wears != role and text:
            spans.append((text, role))
            text = ""
        text, role = text + char, wears
    return (*spans, (text, role)) if text else tuple(spans)
