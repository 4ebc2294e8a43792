"""What the terminal shows, so that only what differs from it is sent.

Textual paints whole regions, and sets every piece's whole style. Of a table whose figures change, most cells
stay as they were; over a slow line that is most of the bytes. As curses has always done, the picture is kept
here, cell by cell, and what Textual writes is compared with it (Arnold, "Screen Updating and Cursor Movement
Optimization", 4.3BSD).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rich.cells import get_character_cell_size

from cdnctl.console.terminal import styles

_TOKEN = re.compile(
    r"\x1b\[(?P<row>\d+);(?P<column>\d+)H"
    r"|(?P<style>(?:\x1b\[[\d;]*m)+)"
    r"|(?P<text>[^\x00-\x1f\x7f]+)"
    r"|(?P<harmless>\x07|\x1b\[\?2026[hl]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\))"
    r"|(?P<other>\x1b(?:\[[0-?]*[ -/]*[@-~])?|.)",
    re.DOTALL,
)
_SKIP = 5
"""So many cells that are right already are written again sooner than the cursor is moved over them."""


class Place(NamedTuple):
    """A cell, from 0."""

    row: int
    column: int


class Shadow:
    """The cells of one terminal, each with what is in it and its style; None where that is not known.

    The second cell of a wide character holds "".
    """

    def __init__(self) -> None:
        self._size = (0, 0)
        self.forget()

    def resize(self, width: int, height: int) -> None:
        """It is as large now; what it shows of the old picture is not known."""
        self._size = (width, height)
        self.forget()

    def forget(self) -> None:
        """It may show anything."""
        width, height = self._size
        self._cells: list[list[str | None]] = [[None] * width for _ in range(height)]
        self._styles: list[list[str]] = [[""] * width for _ in range(height)]
        self._cursor: Place | None = None
        self._style: str | None = None

    def spare(self, text: str) -> str:
        """Of what Textual writes, what has to be sent for the same picture. It leaves the cursor anywhere.

        `text` begins without a style, and goes to a place before there is anything to be seen.
        """
        sent: list[str] = []
        place: Place | None = None
        style = ""
        for token in _TOKEN.finditer(text):
            kind, found = token.lastgroup, token[0]
            if kind == "column":
                place = Place(int(token["row"]) - 1, int(token["column"]) - 1)
            elif kind == "style":
                style = styles.after(style, found)
            elif kind == "text" and place is not None:
                place = self._put(place, found, style, sent)
            elif kind == "harmless":
                sent.append(found)
            elif found == "\n":
                place = None  # Textual says next where it goes on
            else:
                self.forget()
                sent.append(found)
        return "".join(sent)

    def _put(self, place: Place, text: str, style: str, sent: list[str]) -> Place:
        """Text of one style; returns the place behind it."""
        cells, is_plain = _cells_of(text)
        row, column = place
        behind = column + len(cells)
        width, height = self._size
        if row >= height or behind > width:
            self._say(place, text, style, sent)
            self._cursor = None
            if row < height:
                self._cells[row][min(column, width - 1) :] = [None] * (width - min(column, width - 1))
            return Place(row, behind)
        old, old_styles = self._cells[row], self._styles[row]
        blank = styles.of_blanks(style)
        looks = [blank if cell == " " else style for cell in cells] if " " in text else [style] * len(cells)
        if old[column:behind] == cells and old_styles[column:behind] == looks:
            return Place(row, behind)
        if not is_plain or "" in old[column : behind + 1]:
            self._say(place, text, style, sent)
            self._cursor = None  # terminals differ in what they take for wide
            if column and old[column] == "":
                old[column - 1] = None  # the first half of a character that is no more
            if behind < width and old[behind] == "":
                old[behind] = None
        else:
            for start, end in _spans(column, cells, looks, old, old_styles):
                part = text[start - column : end - column]
                self._say(Place(row, start), part, style, sent)
                self._cursor = Place(row, end) if end < width else None
        old[column:behind], old_styles[column:behind] = cells, looks
        return Place(row, behind)

    def _say(self, place: Place, text: str, style: str, sent: list[str]) -> None:
        """Go there, take the style, and write."""
        cursor = self._cursor
        if cursor != place:
            ahead = place.column - cursor.column if cursor and cursor.row == place.row else 0
            sent.append(f"\x1b[{ahead}C" if ahead > 0 else f"\x1b[{place.row + 1};{place.column + 1}H")
        if text.isspace():
            style = styles.of_blanks(style)
            if self._style is not None and styles.of_blanks(self._style) == style:
                style = self._style  # what is seen of blanks is the same
        if style != self._style:
            sent.append(styles.change(self._style, style))
            self._style = style
        sent.append(text)


def _cells_of(text: str) -> tuple[list[str | None], bool]:
    """What each cell holds, and whether each character has one of its own."""
    if text.isascii():
        return list(text), True
    cells: list[str | None] = []
    for character in text:
        wide = get_character_cell_size(character)
        if wide:
            cells += (character, "")[:wide]
        elif cells:
            cells[-1] = f"{cells[-1]}{character}"
    return cells, len(cells) == len(text) and "" not in cells


def _spans(
    column: int, cells: list[str | None], looks: list[str], old: list[str | None], old_styles: list[str]
) -> list[tuple[int, int]]:
    """Columns, from and to, of what differs; those close to each other are one."""
    spans: list[tuple[int, int]] = []
    for at, (cell, look) in enumerate(zip(cells, looks, strict=True), column):
        if old[at] == cell and old_styles[at] == look:
            continue
        if spans and at - spans[-1][1] < _SKIP:
            spans[-1] = (spans[-1][0], at + 1)
        else:
            spans.append((at, at + 1))
    return spans
