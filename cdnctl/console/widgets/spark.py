"""A course of values in one line of text: a thin line of braille, two values a cell, four heights."""

from __future__ import annotations

from collections.abc import Sequence

from cdnctl.console.widgets.lines import Row

_LEFT = (0x40, 0x04, 0x02, 0x01)
_RIGHT = (0x80, 0x20, 0x10, 0x08)
"""Braille bits of a cell's halves, from the bottom up (Unicode 15, section 21.1)."""


def spark(values: Sequence[float | None], role: str) -> Row:
    """One cell for two values, as high as they are of the largest; a blank where there is none."""
    top = max((value for value in values if value is not None), default=0.0)
    levels = [None if value is None or top <= 0 else round(3 * max(0.0, value / top)) for value in values]
    drawn: list[str] = []
    before: int | None = None
    for at in range(0, len(levels) - 1, 2):
        bits = 0
        for level, dots in ((levels[at], _LEFT), (levels[at + 1], _RIGHT)):
            if level is not None:
                start = level if before is None else before
                for dot in range(min(start, level), max(start, level) + 1):
                    bits |= dots[dot]
            before = level
        drawn.append(chr(0x2800 + bits) if bits else " ")
    return (("".join(drawn), role if top > 0 else "muted"),)


def highest(columns: Sequence[Sequence[float]]) -> list[float | None]:
    """The largest of each part of the time; None where nothing is known."""
    return [max(column) if column else None for column in columns]
