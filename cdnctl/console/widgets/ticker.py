"""What happened, the newest on top."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cdnctl.console.format import clean, clock
from cdnctl.console.widgets.lines import Row
from cdnctl.console.widgets.table import Cell, Column, LiveTable, Record
from cdnctl.model import Event

MARKS = {
    "info": ("·", "muted"),
    "notice": ("▸", "accent"),
    "warning": ("▲", "warn"),
    "alarm": ("✖", "bad"),
}
"""Each severity has a shape and a colour."""


SHORT = 90
"""Narrower tables leave out addresses that stand beside a name: they would push out what happened."""
_ADDRESS = re.compile(r" \(\[?[0-9a-f.:]+\]?:\d+\)")


class Ticker(LiveTable):
    """One row an event."""

    EMPTY = "nothing happened yet"
    COLUMNS = (
        Column("time", "time", 8, right=False, grows=True),
        Column("mark", "", 1, right=False),
        Column("kind", "kind", 8, right=False, from_width=SHORT),
        Column("text", "event", 20, right=False, flex=True),
    )

    def __init__(self, title: str, *, id: str) -> None:
        super().__init__(title, id=id)
        self._events: dict[int, Event] = {}
        self._records: dict[int, Record] = {}
        self._short = False

    def update(self, events: Iterable[tuple[int, Event]]) -> None:
        """Show these events; each has its number."""
        numbered, short = dict(events), self.size.width < SHORT
        if short != self._short:
            self._short = short
            self.forget()
        elif numbered.keys() == self._events.keys():
            return
        self._events = numbered
        self._records = {
            number: self._records.get(number) or Record(number, _cells(event, short), words=event.text)
            for number, event in numbered.items()
        }
        self.fill(list(reversed(self._records.values())))

    def forget(self) -> None:
        """Write every row anew at the next update."""
        self._events, self._records = {}, {}

    def find(self, number: object) -> Event | None:
        """The event of that number, if it is kept."""
        return self._events.get(number) if isinstance(number, int) else None


def _cells(event: Event, short: bool) -> dict[str, Cell]:
    text = _ADDRESS.sub("", event.text) if short else event.text
    mark, role = MARKS.get(event.severity, MARKS["info"])
    return {
        "time": (clock(event.at_ns), "muted"),
        "mark": (mark, role),
        "kind": (clean(event.kind, 16), "muted"),
        "text": (clean(text, 300), role if event.severity in ("warning", "alarm") else "text"),
    }


def detail(event: Event) -> Row:
    """The whole event."""
    mark, role = MARKS.get(event.severity, MARKS["info"])
    return ((f"{clock(event.at_ns)} ", "muted"), (f"{mark} ", role), (clean(event.text, 400), "text"))
