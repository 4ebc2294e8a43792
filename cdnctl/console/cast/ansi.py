"""What has to be written to a terminal to make one picture of another, and no more.

Only cells that differ are written; a gap of equal ones that is cheaper to write than to jump is written
too. Colours and attributes are said when they change. No cursor is ever left in a position that the
next text depends on, so that a terminal's wrapping at the right margin plays no part.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

from rich.color import Color, ColorSystem

from cdnctl.console.cast.picture import BEHIND, PLAIN, Cells, Look, Picture

Colors = Literal["truecolor", "256", "16", "none"]
COLORS: tuple[Colors, ...] = ("truecolor", "256", "16", "none")

CLEAR = "\x1b[0m\x1b[?25l\x1b[H\x1b[2J"
"""Before the first picture: nothing on the screen, no cursor."""

_SYSTEMS = {
    "truecolor": ColorSystem.TRUECOLOR,
    "256": ColorSystem.EIGHT_BIT,
    "16": ColorSystem.STANDARD,
}
_ATTRIBUTES = (("bold", 1), ("italic", 3), ("underline", 4), ("reverse", 7), ("strike", 9))
_CHEAPER_THAN_A_JUMP = 4
"""Cells; a jump is as many bytes."""


class Pen:
    """Writes pictures to one terminal, and knows what it has told that terminal."""

    def __init__(self, colors: Colors = "truecolor") -> None:
        self._colors = colors
        self._look = PLAIN
        self._shown: Picture | None = None

    def draw(self, picture: Picture) -> str:
        """What makes the terminal show `picture`; empty when it does."""
        shown, self._shown = self._shown, picture
        if shown is None or shown.size != picture.size:
            self._look = PLAIN
            return CLEAR + "".join(self._row(y, None, row) for y, row in enumerate(picture.rows))
        return "".join(
            self._row(y, old, new)
            for y, (old, new) in enumerate(zip(shown.rows, picture.rows, strict=True))
            if old is not new and old != new
        )

    def leave(self) -> str:
        """The picture stays; the cursor is back, on the last line, in the terminal's own colours."""
        rows = len(self._shown.rows) if self._shown else 1
        return f"\x1b[0m\x1b[{rows};1H\x1b[?25h"

    def _row(self, y: int, old: Cells | None, new: Cells) -> str:
        parts: list[str] = []
        at = -1
        for begin, end in _stretches(old, new):
            # Written to its end a row may have left the cursor on the last cell or beyond it: never jump
            # from there. A stretch that ends there is the row's last.
            parts.append(f"\x1b[{y + 1};{begin + 1}H" if at < 0 else f"\x1b[{begin - at}C")
            for char, look in new[begin:end]:
                if char is BEHIND or char == BEHIND:
                    continue
                if look is not self._look and look != self._look:
                    parts.append(self._sgr(look))
                parts.append(char)
            at = end
        return "".join(parts)

    def _sgr(self, look: Look) -> str:
        before, self._look = self._look, look
        codes: list[str] = []
        if any(getattr(before, name) and not getattr(look, name) for name, _ in _ATTRIBUTES):
            codes, before = ["0"], PLAIN
        codes += [
            str(code) for name, code in _ATTRIBUTES if getattr(look, name) and not getattr(before, name)
        ]
        if self._colors != "none":
            if look.fg != before.fg:
                codes += color_codes(look.fg, self._colors, True)
            if look.bg != before.bg:
                codes += color_codes(look.bg, self._colors, False)
        return f"\x1b[{';'.join(codes)}m" if codes else ""


@lru_cache(maxsize=1024)
def color_codes(color: str | None, colors: Colors, foreground: bool) -> tuple[str, ...]:
    """The SGR parameters of a colour, as near as so many colours come."""
    if color is None:
        return ("39" if foreground else "49",)
    return Color.parse(color).downgrade(_SYSTEMS[colors]).get_ansi_codes(foreground)


def _stretches(old: Cells | None, new: Cells) -> Iterator[tuple[int, int]]:
    """From and to of what has to be written, in whole characters."""
    if old is None:
        yield 0, len(new)
        return
    begin = end = -1
    for x, (before, after) in enumerate(zip(old, new, strict=True)):
        if before == after:
            continue
        if begin < 0:
            begin = x
        elif x - end > _CHEAPER_THAN_A_JUMP:
            yield _whole(begin, end, new)
            begin = x
        end = x + 1
    if begin >= 0:
        yield _whole(begin, end, new)


def _whole(begin: int, end: int, new: Cells) -> tuple[int, int]:
    while begin and new[begin][0] == BEHIND:
        begin -= 1
    while end < len(new) and new[end][0] == BEHIND:
        end += 1
    return begin, end
