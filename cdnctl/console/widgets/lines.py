"""Rows of coloured text on Textual's line API: the base of everything that draws here.

A row is a tuple of spans, a span is text and a *role* (see theme.py). `show` compares the new rows
with those on screen and repaints only those that differ; strips are made once and kept until their
row, the theme or the width changes. Nothing is parsed as markup on the way.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from cdnctl.console.format import clean
from cdnctl.console.theme import Palette, palette_of

Span = tuple[str, str]
Row = tuple[Span, ...]

TITLE = 300
"""Characters of a title, of which a panel shows what it has room for."""


def cut(row: Row, width: int) -> Row:
    """The row in at most `width` cells: where something is left out stands an ellipsis."""
    if cell_len("".join(text for text, _ in row).rstrip()) <= width:
        return row
    kept: list[Span] = []
    room = width - 1
    for text, role in row:
        if cell_len(text) > room:
            return (*kept, (f"{set_cell_size(text, room)}…" if room >= 0 else "", role))
        kept.append((text, role))
        room -= cell_len(text)
    return tuple(kept)


def heading(text: str) -> Content:
    """A panel's title, which Textual would read as markup: for all that has a name or a filter in it.

    Not by escaping, which leaves a bracket that is never closed, as a cut name may have, to be read.
    """
    return Content(clean(text, TITLE) or " ")


class Lines(ScrollView, can_focus=False):
    """Shows rows; the first `pinned` of them stay when the rest scrolls."""

    def __init__(self, *, pinned: int = 0, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.rows: list[Row] = []
        self._pinned = pinned
        self._strips: dict[int, Strip] = {}
        self._base = Style.null()

    @property
    def palette(self) -> Palette:
        """The colours in use."""
        return palette_of(self.app)

    @property
    def text(self) -> str:
        """All rows as plain text, for tests and exports."""
        return "\n".join("".join(span[0] for span in row) for row in self.rows)

    def show(self, rows: Sequence[Row]) -> None:
        """Put `rows` on screen, repainting those that changed."""
        old, self.rows = self.rows, list(rows)
        if len(old) != len(rows):
            self._grow(Size(self.scrollable_content_region.width, len(rows)))
            self._strips.clear()
            self.refresh()
            return
        for index, row in enumerate(self.rows):
            if row != old[index]:
                self.repaint(index)

    def _grow(self, size: Size) -> None:
        """It has so many rows now. The screen is laid out anew only when that moves something."""
        room = self.size.height
        if self.styles.is_auto_height or (self.virtual_size.height > room) != (size.height > room):
            self.virtual_size = size
        else:
            self.set_reactive(Lines.virtual_size, size)
            self._scroll_update(size)

    def repaint(self, index: int) -> None:
        """Draw one row again."""
        self._strips.pop(index, None)
        y = index if index < self._pinned else index - self.scroll_offset.y
        if not self.size.height:
            self.refresh()  # not shown yet, and its old lines are kept somewhere
        elif 0 <= y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    def repaint_all(self) -> None:
        """Draw everything again: the theme or the focus changed."""
        self._strips.clear()
        self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._strips.clear()

    def row_background(self, index: int) -> str:
        """A role such as `on cursor` under the whole row; empty for none."""
        return ""

    def render_line(self, y: int) -> Strip:
        base = self.rich_style
        if base != self._base:
            self._base = base
            self._strips.clear()
        index = y if y < self._pinned else y + self.scroll_offset.y
        strip = self._strips.get(index)
        width = self.size.width
        if strip is None or strip.cell_length != width:
            strip = self._strips[index] = self._make_strip(index, base, width)
        return strip

    def _uncoloured(self, role: str) -> Style:
        style = self.palette.style(role)
        return Style(bold=style.bold, underline=style.underline)

    def _make_strip(self, index: int, base: Style, width: int) -> Strip:
        if index >= len(self.rows):
            return Strip.blank(width, base)
        style_of = self.palette.style
        if under := self.row_background(index):
            base += style_of(under)
            if not self.palette.mixes:
                style_of = self._uncoloured  # turned round, each colour would be a ground of its own
        segments = [Segment(text, base + style_of(role)) for text, role in self.rows[index] if text]
        return Strip(segments).crop_extend(0, width, base)
