"""Who was in and who was out over the last two minutes: a line a CDN, a shape a state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cdnctl.console.format import clean, fit
from cdnctl.console.history import History
from cdnctl.console.tracks import Tracks
from cdnctl.console.widgets.cursor import SPAN_S, Sight, crossed, time_axis
from cdnctl.console.widgets.lines import Lines, Row, Span
from cdnctl.model import Cdn, Frame

SHAPES = {
    "in": ("─", "good"),
    "partly": ("◑", "warn"),
    "probing": ("◐", "warn"),
    "drained": ("◌", "warn"),
    "out": ("✖", "bad"),
}
"""As in the table of CDNs; `in` is the quiet line that the others stand out from."""
_WORST = ("out", "probing", "partly", "drained", "in")
TITLE = "breakers"
_SHAPES_NAMED = "  ".join(f"{SHAPES[name][0]} {name}" for name in reversed(_WORST))
NAME, WIDE, WIDE_FROM = 10, 16, 70
"""Cells for a CDN's name, and in panels from that width on."""


class Timeline(Lines):
    """The breaker of every CDN."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, classes="panel")
        self.border_title = TITLE
        self._tracks = Tracks[str](_states)
        self._cdns: Sequence[Cdn] = ()
        self._sight = Sight(History(), 0.0)

    def update(self, frame: Frame, sight: Sight) -> None:
        """Show the CDNs of this frame, as far as one sees."""
        self._tracks.follow(sight.frames)
        self._cdns, self._sight = frame.cdns, sight
        self._redraw()

    def on_resize(self) -> None:
        self._redraw()

    def _redraw(self) -> None:
        name = NAME if self.size.width < WIDE_FROM else WIDE
        columns = self.size.width - name
        if columns < 8 or not self._cdns:
            self.show([])
            return
        rows: list[Row] = []
        cursor = self._sight.column(columns)
        for index, cdn in enumerate(self._cdns):
            seen = self._tracks.columns(cdn.name, self._sight.until_s, SPAN_S, columns)
            rows.append(
                (
                    ("▌", f"s{index}"),
                    (fit(clean(cdn.name, 32), name - 2), "text"),
                    (" ", ""),
                    *crossed(tuple(_course(seen)), cursor),
                )
            )
        if len(rows) < self.size.height:
            rows.append(time_axis(columns, name, cursor))
        legend = _legend(self.size.width)
        fits = len(rows) + len(legend) < self.size.height
        self.border_title = TITLE if fits else f"{TITLE} · {_SHAPES_NAMED}"
        self.show([*rows, (), *legend] if fits else rows)


def _legend(width: int) -> list[Row]:
    """What the shapes mean, in as few rows as it takes."""
    rows: list[Row] = [()]
    for name in reversed(_WORST):
        shape, role = SHAPES[name]
        entry: Row = ((f"{shape} ", role), (f"{name}  ", "muted"))
        used = sum(len(text) for text, _ in (*rows[-1], *entry))
        rows = [*rows, entry] if used > width + 2 else [*rows[:-1], (*rows[-1], *entry)]
    return rows


def _states(frame: Frame) -> Iterable[tuple[str, str]]:
    return ((cdn.name, cdn.state) for cdn in frame.cdns)


def _course(seen: Iterable[Sequence[str]]) -> list[Span]:
    """The worst of each part of the time."""
    spans: list[Span] = []
    last = ""
    for states in seen:
        state = min(states, key=lambda each: _WORST.index(each) if each in _WORST else 0, default=last)
        last = state if states else last
        text, role = SHAPES.get(state, (" ", ""))
        if spans and spans[-1][1] == role:
            spans[-1] = (spans[-1][0] + text, role)
        else:
            spans.append((text, role))
    return spans
