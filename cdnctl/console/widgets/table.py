"""The live table: rows that keep their identity from frame to frame.

Columns say from which table width on they are shown, so one definition serves all layouts. The cursor
holds a row by its key once it was moved, wherever the row goes; left on top it stays on top. Rows
that did not change are not drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual import events

from cdnctl.console.filters import Filter
from cdnctl.console.format import fit
from cdnctl.console.settings import Settings, sort_of
from cdnctl.console.widgets.lines import Lines, Row, Span

Cell = Span | Callable[[int], Row]
"""A span that the table fits into its column, or what draws exactly that many cells."""
Key = str | int
AROUND = 4
"""Rows beyond those in sight that are composed with them; of thousands, the others wait until they are."""
_UNSEEN: Row = (("", "unseen"),)


@dataclass(frozen=True)
class Column:
    """A column of `width` cells, shown in tables at least `from_width` wide (and under `to_width`)."""

    name: str
    title: str
    width: int
    right: bool = True
    from_width: int = 0
    to_width: int = 1000
    flex: bool = False
    """Takes the room that is left, `width` at least."""
    grows: bool = False
    """Takes as much of that room before as its longest cell needs."""
    of_key: bool = False
    """Says what the rows' keys say, so that those tell how long it gets: of hundreds few cells are made."""


Cells = Mapping[str, Cell]
Widths = tuple[tuple[Column, int], ...]
"""The columns that are shown, and how wide."""


class Record:
    """One row: its identity and its cells by column name; or what makes them, once they are looked at."""

    __slots__ = ("_cells", "_composed", "_widths", "key", "words")

    def __init__(self, key: Key, cells: Cells | Callable[[], Cells], words: str = "") -> None:
        """`words` is what a filter finds it by, besides its key and its plain cells."""
        self.key = key
        self.words = words
        self._cells = cells
        self._widths: Widths = ()
        self._composed: Row = ()

    def composed(self, columns: Widths) -> Row:
        """In these columns; composed once for as long as they stay."""
        if columns != self._widths:
            spans: list[Span] = []
            for column, width in columns:
                cell = self.cells.get(column.name, ("", ""))
                spans += (*_fitted_cell(cell, width, column.right), (" ", ""))
            self._widths, self._composed = columns, tuple(spans)
        return self._composed

    @property
    def cells(self) -> Cells:
        """By column name."""
        cells = self._cells
        if callable(cells):
            cells = self._cells = cells()
        return cells

    @property
    def text(self) -> str:
        """All that a filter looks at."""
        plain = [cell[0] for cell in self.cells.values() if not callable(cell)]
        return " ".join((str(self.key), self.words, *plain))


class LiveTable(Lines, can_focus=True):
    """A table with a pinned header and a cursor."""

    COLUMNS: tuple[Column, ...] = ()
    EMPTY = ""
    """Said when there are no rows."""
    SORTS: tuple[str, ...] = ()
    """The columns that it can be sorted by, the first at first."""

    def __init__(self, title: str, *, id: str) -> None:
        super().__init__(pinned=1, id=id, classes="panel")
        self.border_title = title
        self.empty = self.EMPTY
        self.records: list[Record] = []
        self.cursor = 0
        self.needle = Filter()
        self._held: Key | None = None
        self.sort = self.SORTS[0] if self.SORTS else ""
        self.reverse = False
        self.chosen: dict[str, bool] = {}
        """Columns by name that are shown, or not, whatever the width."""
        self._settings: Settings | None = None
        self._all: list[Record] = []

    @property
    def header(self) -> bool:
        """Whether the columns are named."""
        return self._pinned == 1

    @header.setter
    def header(self, shown: bool) -> None:
        if shown != self.header:
            self._pinned = int(shown)
            self._compose_rows()

    # --- order ------------------------------------------------------------------------------------

    def remember(self, settings: Settings) -> None:
        """Sort as the user did the last time, and keep how it is sorted from now on."""
        self._settings = settings
        self.chosen = settings.columns.get(self.id or "", {})
        if self.SORTS:
            self.sort, self.reverse = sort_of(settings, self.id or "", self.SORTS)

    def choose(self, chosen: dict[str, bool]) -> None:
        """Show these columns, and not those, from now on."""
        self.chosen = chosen
        if self._settings is not None:
            self._settings.columns.pop(self.id or "", None)
            self._settings.columns |= {self.id or "": chosen} if chosen else {}
        self._compose_rows()

    def next_sort(self) -> str:
        """Sort by the next column; what that is."""
        self.sort = self.SORTS[(self.SORTS.index(self.sort) + 1) % len(self.SORTS)]
        return self._resorted()

    def turn_round(self) -> str:
        """Reverse the order; what that is."""
        self.reverse = not self.reverse
        return self._resorted()

    def _resorted(self) -> str:
        if self._settings is not None:
            self._settings.sorts[self.id or ""] = ("-" if self.reverse else "") + self.sort
        self.resort()
        return ""

    def resort(self) -> None:
        """Fill anew, in the order that is wanted now."""

    # --- what is shown ----------------------------------------------------------------------------

    def fill(self, records: Sequence[Record]) -> None:
        """Show those of these rows that the filter keeps; the cursor stays with the row it holds."""
        self._all = list(records)
        self.records = [row for row in self._all if not self.needle or self.needle.keeps(row.text)]
        before = self.cursor
        if self._held is not None:
            keys = [record.key for record in self.records]
            if self._held in keys:
                self.cursor = keys.index(self._held)
        self.cursor = max(0, min(self.cursor, len(self.records) - 1))
        self._compose_rows()
        if before != self.cursor:
            self.repaint(before + self._pinned)
            self.repaint(self.cursor + self._pinned)
            self._scroll_to_cursor()

    def sift(self, needle: Filter) -> None:
        """Keep what this filter keeps, from now on."""
        if needle != self.needle:
            self.needle = needle
            self.fill(self._all)

    @property
    def current(self) -> Key | None:
        """The identity of the row under the cursor; None when the table is empty."""
        return self.records[self.cursor].key if self.records else None

    def _fitted(self) -> Widths:
        room = self.size.width
        shown = list(self.columns_in(room))
        rest = max(0, room - sum(column.width for column in shown) - len(shown))
        widths = {column: column.width for column in shown}
        for column in shown:
            if column.grows:
                extra = min(rest, max(0, self._longest(column) - column.width))
                widths[column] += extra
                rest -= extra
        flexible = [column for column in shown if column.flex]
        share, left = divmod(rest, max(1, len(flexible)))
        for column in flexible:
            widths[column] += share + (left if column is flexible[0] else 0)
        return tuple(widths.items())

    def _titled(self, column: Column, width: int) -> str:
        """A column's title; of the one that is sorted by with an arrow, if there is room for it."""
        if column.name != self.sort or cell_len(column.title) >= width:
            return column.title
        return f"{column.title}{'↑' if self.reverse else '↓'}"

    def columns_in(self, room: int) -> Iterator[Column]:
        """Those that a table of that width shows: as it comes, or as was chosen."""
        for name in dict.fromkeys(column.name for column in self.COLUMNS):
            own = [column for column in self.COLUMNS if column.name == name]
            suited = [column for column in own if column.from_width <= room < column.to_width]
            if self.chosen.get(name, True):
                yield from suited or (own[:1] if name in self.chosen else ())

    @property
    def choices(self) -> list[Column]:
        """The columns that may be shown or not: those with a title, but the first, which tells the rows."""
        titled: dict[str, Column] = {}
        for column in self.COLUMNS:
            if column.title:
                titled.setdefault(column.name, column)
        return list(titled.values())[1:]

    def _longest(self, column: Column) -> int:
        """Terminal cells of a column's longest; what draws itself to any width has none."""
        if column.of_key:
            return max((cell_len(str(record.key)) for record in self.records), default=0)
        cells = (record.cells.get(column.name, ("", "")) for record in self.records)
        return max((cell_len(cell[0]) for cell in cells if not callable(cell)), default=0)

    def _compose_rows(self) -> None:
        if not self.size.width:
            return
        columns = self._fitted()
        header: list[Span] = []
        for column, width in columns:
            role = "text bold" if column.name == self.sort else "muted"
            header += [(fit(self._titled(column, width), width, column.right), role), (" ", "")]
        rows: list[Row] = [tuple(header)] if self.header else []
        top = round(self.scroll_offset.y)
        seen = range(top - AROUND, top + self.size.height + AROUND)
        for index, record in enumerate(self.records):
            if index not in seen:
                rows.append(_UNSEEN)
                continue
            rows.append(record.composed(columns))
        if not self.records and (empty := self.empty_text()):
            rows.append(((empty, "muted"),))
        self.show(rows)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Rows that come into sight are composed now."""
        super().watch_scroll_y(old_value, new_value)
        if len(self.records) > self.size.height:
            self._compose_rows()

    def empty_text(self) -> str:
        """What to say instead of rows."""
        return f"nothing of {len(self._all):,} matches /{self.needle.text}" if self._all else self.empty

    def on_resize(self) -> None:
        self.refill()

    def refill(self) -> None:
        """Lay the same rows out again for a new width."""
        self._compose_rows()

    def row_background(self, index: int) -> str:
        return "on cursor" if self.has_focus and self.records and index == self.cursor + self._pinned else ""

    # --- the cursor -------------------------------------------------------------------------------

    def move_to(self, index: int) -> None:
        """Put the cursor on a row and hold on to it; the first row is held by place, not by key."""
        if not self.records:
            return
        before, self.cursor = self.cursor, max(0, min(index, len(self.records) - 1))
        self._held = self.records[self.cursor].key if self.cursor else None
        self.repaint(before + self._pinned)
        self.repaint(self.cursor + self._pinned)
        self._scroll_to_cursor()

    def hold(self, key: Key) -> None:
        """Put the cursor on the row of that identity, if it is there."""
        found = next((index for index, record in enumerate(self.records) if record.key == key), None)
        if found is not None:
            self.move_to(found)

    def _scroll_to_cursor(self) -> None:
        room = self.size.height - self._pinned
        top = round(self.scroll_offset.y)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False)
        elif room > 0 and self.cursor >= top + room:
            self.scroll_to(y=self.cursor - room + 1, animate=False)

    def on_click(self, event: events.Click) -> None:
        content = event.get_content_offset(self)
        if content is not None and content.y >= self._pinned:
            self.move_to(content.y - self._pinned + round(self.scroll_offset.y))

    def on_focus(self) -> None:
        self.repaint(self.cursor + self._pinned)

    def on_blur(self) -> None:
        self.repaint(self.cursor + self._pinned)


def _fitted_cell(cell: Cell, width: int, right: bool) -> Row:
    if callable(cell):
        return cell(width)
    text, role = cell
    return ((fit(text, width, right), role),)
