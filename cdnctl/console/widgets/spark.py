"""A course of values in one line of text."""

from __future__ import annotations

from collections.abc import Sequence

from cdnctl.console.widgets.lines import Row

_STEPS = " ▁▂▃▄▅▆▇█"


def spark(values: Sequence[float | None], role: str, most: float = 0.0) -> Row:
    """One cell a value, as high as it is of the largest (or of `most`); a blank where there is none."""
    top = max(most, max((value for value in values if value is not None), default=0.0))
    drawn = []
    for value in values:
        if value is None or top <= 0:
            drawn.append(" ")
        else:
            level = max(0.0, min(1.0, value / top))
            drawn.append(_STEPS[max(1, round(level * 8))] if level > 0 else "▁")
    return (("".join(drawn), role if top > 0 else "faint"),)


def highest(columns: Sequence[Sequence[float]]) -> list[float | None]:
    """The largest of each part of the time; None where nothing is known."""
    return [max(column) if column else None for column in columns]
