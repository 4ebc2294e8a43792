"""The cursor of those who look back: where in a plot the frame is that all else shows.

Live, and in a recording, that is the right end, and there is none. In the past of a live edge plots
go on for a while after it, so that one sees what one goes towards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cdnctl.console.history import History
from cdnctl.console.widgets.lines import Row, Span
from cdnctl.model import Frame

SPAN_S = 120.0
"""How far back a plot looks."""


class Sight(NamedTuple):
    """What plots show."""

    history: History
    until_s: float
    """The right end, on the kernel's clock."""
    cursor_s: float | None = None
    """The frame that all else shows; None: it is the right end."""

    @property
    def frames(self) -> Sequence[Frame]:
        """What is drawn, the oldest first."""
        return self.history.frames

    def column(self, columns: int) -> int | None:
        """Which of so many columns the cursor is in; None: there is no cursor."""
        if self.cursor_s is None:
            return None
        cell_s = SPAN_S / columns
        at = int(self.cursor_s / cell_s) - (int(self.until_s / cell_s) - columns + 1)
        return max(0, min(columns - 1, at))


def crossed(row: Row, at: int | None) -> Row:
    """The row with the cursor through its cell number `at`: a line where nothing is drawn, else brighter.

    Every character of the row is one cell wide.
    """
    if at is None or at < 0:
        return row
    spans: list[Span] = []
    begin = 0
    for text, role in row:
        place = at - begin
        begin += len(text)
        if not 0 <= place < len(text):
            spans.append((text, role))
            continue
        here = text[place]
        spans += [(text[:place], role), ("│", "accent") if here in " ┈" else (here, "text bold"),
                  (text[place + 1 :], role)]  # fmt: skip
    return tuple(span for span in spans if span[0])


def time_axis(columns: int, margin: int, cursor: int | None = None) -> Row:
    """Seconds back from now, or from the cursor, under `columns` cells, which begin after the margin."""
    every = 30 if columns >= 40 else 60
    line = [" "] * columns
    here = columns if cursor is None else cursor
    ahead_s = SPAN_S * (columns - here) / columns if cursor is not None else 0.0
    for back in range(int(SPAN_S - ahead_s), -1, -every) if cursor is None else _backs(ahead_s, every):
        label = ("now" if cursor is None else "▲") if back == 0 else f"{'−' if back > 0 else '+'}{abs(back)}s"
        at = round(here - columns * back / SPAN_S)
        at = max(0, min(at - len(label) // 2, columns - len(label)))
        line[at : at + len(label)] = label
    text = "".join(line)
    return crossed(((" " * margin, ""), (text, "muted")), None if cursor is None else margin + cursor)


def _backs(ahead_s: float, every: int) -> list[int]:
    """Seconds back, or less than none for ahead, that are named beside the cursor; itself last."""
    named = range(-int(ahead_s) // every * every, int(SPAN_S - ahead_s) + 1, every)
    return [*(back for back in named if back and back >= -ahead_s), 0]
