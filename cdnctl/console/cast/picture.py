"""What is on the app's screen: cells, each a character and how it looks.

Cells, not segments of text, since differences are found by the cell; a row that was there before is
taken over as it is, so that a picture costs what changed in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from rich.cells import get_character_cell_size
from rich.color import Color, ColorType
from rich.segment import Segment
from rich.style import Style
from textual.app import App

BEHIND = ""
"""The text of a cell that the wide character before it covers."""


class Look(NamedTuple):
    """How a cell is drawn. A colour is `#rrggbb`, `color(4)` of the terminal's sixteen, or None: its own."""

    fg: str | None = None
    bg: str | None = None
    bold: bool = False
    italic: bool = False
    underline: bool = False
    reverse: bool = False
    strike: bool = False


PLAIN = Look()
Cell = tuple[str, Look]
Cells = tuple[Cell, ...]


class Picture(NamedTuple):
    """One screen: rows of equal length, top to bottom."""

    rows: tuple[Cells, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        return len(self.rows[0]) if self.rows else 0, len(self.rows)

    @property
    def text(self) -> str:
        """The characters alone; blanks at the ends of lines are left out."""
        return "\n".join("".join(char for char, _ in row).rstrip() for row in self.rows)


class Camera:
    """Takes pictures of one app."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[list[Segment], Cells]] = {}
        self._looks: dict[Style | None, Look] = {None: PLAIN}

    def take(self, app: App[Any]) -> Picture:
        """What the app's screen shows now, a dialog and what is under it included."""
        # The way that Textual's own screenshots take; there is no public one to the styled cells.
        screen = app.screen
        update: Any = screen._compositor.render_update(full=True, screen_stack=app._background_screens)
        width = app.size.width
        rows = []
        for y, strips in enumerate(update.strips):
            segments = [segment for strip in strips for segment in strip]
            before = self._seen.get(y)
            if before is None or before[0] != segments:
                before = self._seen[y] = segments, self._cells(segments, width)
            rows.append(before[1])
        return Picture(tuple(rows))

    def _cells(self, segments: Iterable[Segment], width: int) -> Cells:
        cells: list[Cell] = []
        for text, style, _control in segments:
            look = self._looks.get(style)
            if look is None:
                look = self._looks[style] = look_of(style)
            if text.isascii() and text.isprintable():
                cells += [(char, look) for char in text]
                continue
            for char in text:
                wide = get_character_cell_size(char)
                if not char.isprintable():
                    cells.append((" ", look))  # no text on screen may speak to a terminal
                elif wide:
                    cells += [(char, look), (BEHIND, look)][:wide]
                elif cells:
                    cells[-1] = (cells[-1][0] + char, cells[-1][1])
        return tuple((cells + [(" ", PLAIN)] * (width - len(cells)))[:width])


def look_of(style: Style | None) -> Look:
    """A style, as far as terminals and pictures draw it."""
    if style is None:
        return PLAIN
    return Look(
        fg=_hex(style.color),
        bg=_hex(style.bgcolor),
        bold=bool(style.bold),
        italic=bool(style.italic),
        underline=bool(style.underline),
        reverse=bool(style.reverse),
        strike=bool(style.strike),
    )


def _hex(color: Color | None) -> str | None:
    if color is None or color.is_default:
        return None
    if color.type == ColorType.STANDARD:
        return f"color({color.number})"
    return color.get_truecolor().hex
