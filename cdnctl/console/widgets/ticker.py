"""What happened, the newest on top."""

from __future__ import annotations

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


class Ticker(LiveTable):
    """One row an event."""

    EMPTY = "nothing happened yet"
    COLUMNS = (
        Column("time", "time", 8, right=False, grows=True),
        Column("mark", "", 1, right=False),
        Column("kind", "kind", 8, right=False, from_width=56),
        Column("text", "event", 20, right=False, flex=True),
    )

    def __init__(self, title: str, *, id: str) -> None:
        super().__init__(title, id=id)
        self._events: dict[int, Event] = {}
        self._records: dict[int, Record] = {}

    def update(self, events: Iterable[tuple[int, Event]]) -> None:
        """Show these events; each has its number."""
        numbered = dict(events)
        if numbered.keys() == self._events.keys():
            return
        self._events = numbered
        self._records = {
            number: self._records.get(number) or Record(number, _cells(event))
            for number, event in numbered.items()
        }
        self.fill(list(reversed(self._records.values())))

    def forget(self) -> None:
        """Write every row anew at the next update."""
        self._events, self._records = {}, {}

    def find(self, number: object) -> Event | None:
        """The event of that number, if it is kept."""
        return self._events.get(number) if isinstance(number, int) else None


def _cells(event: Event) -> dict[str, Cell]:
    mark, role = MARKS.get(event.severity, MARKS["info"])
    return {
        "time": (clock(event.at_ns), "muted"),
        "mark": (mark, role),
        "kind": (clean(event.kind, 16), "muted"),
        "text": (clean(event.text, 300), role if event.severity in ("warning", "alarm") else "text"),
    }


def detail(event: Event) -> Row:
    """The whole event."""
    mark, role = MARKS.get(event.severity, MARKS["info"])
    return ((f"{clock(event.at_ns)} ", "muted"), (f"{mark} ", role), (clean(event.text, 400), "text"))
