"""Bars of one line: a share as a length."""

from __future__ import annotations

from cdnctl.console.widgets.lines import Row


def bar(share: float, width: int, role: str) -> Row:
    """A thin bar, filled from the left to half a cell: `━━━━╸────`. `share` is from 0 to 1."""
    halves = round(max(0.0, min(1.0, share)) * width * 2)
    if share > 0 and halves == 0:
        halves = 1
    full, half = divmod(halves, 2)
    drawn = "━" * full + "╸" * half
    return ((drawn, role), ("─" * (width - len(drawn)), "faint"))
