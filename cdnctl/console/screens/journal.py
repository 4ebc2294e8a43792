"""The journal: who changed what, when and why; what was otherwise before; and how to do it again."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from typing import Any

from textual.widget import Widget

from cdnctl.console import keys
from cdnctl.console.display import Display
from cdnctl.console.format import clean, clock, day
from cdnctl.console.screens.dialogs.back import BackDialog
from cdnctl.console.screens.house import House
from cdnctl.console.widgets.lines import Lines, Row
from cdnctl.console.widgets.notices import wrapped
from cdnctl.console.widgets.table import Cell, Column, LiveTable, Record
from cdnctl.model import Frame, JournalEntry, ReadJournal, Undo

PAGE = 100
MOST = 2_000
ASKED_EVERY_S = 2.0
NOT_HELD = "frames hold what came of it only, not the command line, nor from where it came"


class JournalTable(LiveTable):
    """One row an entry, the newest on top."""

    EMPTY = "nothing was changed yet"
    COLUMNS = (
        Column("seq", "no.", 5),
        Column("time", "time", 14, right=False, grows=True),
        Column("mark", "", 1, right=False),
        Column("user", "who", 8, right=False, grows=True),
        Column("client", "from", 7, right=False, from_width=90),
        Column("verb", "verb", 8, right=False),
        Column("text", "what came of it", 20, right=False, flex=True, grows=True),
        Column("reason", "reason", 16, right=False, flex=True, from_width=100),
    )

    def update(self, entries: Iterable[JournalEntry]) -> None:
        """Show these."""
        self.fill([Record(entry.seq, _cells(entry), words=entry.cli) for entry in entries])


def _cells(entry: JournalEntry) -> dict[str, Cell]:
    role = "good" if entry.ok else "bad"
    return {
        "seq": (str(entry.seq), "muted"),
        "time": (_when(entry.at), "muted"),
        "mark": ("✔" if entry.ok else "✖", role),
        "user": (clean(entry.user, 32), "text"),
        "client": (clean(entry.client, 16) or "–", "muted"),
        "verb": (clean(str(entry.command.get("verb", "")), 16) or "–", "accent"),
        "text": (clean(entry.text, 300), "text" if entry.ok else "bad"),
        "reason": (clean(entry.reason, 200), "muted"),
    }


def _at_ns(at: str) -> int:
    """Wall time; 0 of what is none."""
    try:
        return int(datetime.fromisoformat(at).timestamp() * 1e9)
    except ValueError:
        return 0


def _when(at: str) -> str:
    """Day and time of day, in the zone that the console uses."""
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        return clean(at, 20)
    at_ns = int(moment.timestamp() * 1e9)
    return f"{day(at_ns)} {clock(at_ns)}"


class Journal(House):
    """Pages of it, asked of the agent."""

    NAME = "journal"
    MAIN = "entries"
    AUTO_FOCUS = "#entries"

    def __init__(self, display: Display) -> None:
        super().__init__(display)
        self.entries: dict[int, JournalEntry] = {}
        """By number; as many as were asked for."""
        self._older: int | None = None
        self._asked_s = 0.0
        self._asked_of = -1
        """The number of the frame of a recording."""

    def panels(self) -> Iterable[Widget]:
        yield JournalTable("journal", id="entries")
        about = Lines(id="entry", classes="panel")
        about.border_title = "entry"
        yield about

    def on_screen_resume(self) -> None:
        """Ask at once."""
        self._asked_s = 0.0

    @property
    def entry(self) -> JournalEntry | None:
        """The entry under the cursor."""
        key = self.query_one(JournalTable).current
        return self.entries.get(key) if isinstance(key, int) else None

    def show_frame(self, frame: Frame) -> None:
        recorded, waited_s = self.session.is_recorded, time.monotonic() - self._asked_s
        is_due = frame.seq != self._asked_of if recorded else waited_s >= ASKED_EVERY_S
        if self.is_current and is_due:
            self._asked_s, self._asked_of = time.monotonic(), frame.seq
            self.run_worker(partial(self._fetch, None), exclusive=True, group="journal")
        self._show()

    def action_older(self) -> None:
        """A page more."""
        if self._older is None or len(self.entries) >= MOST:
            self.said("that is all of it" if self._older is None else f"at most {MOST:,} entries here")
        else:
            self.run_worker(partial(self._fetch, self._older), exclusive=True, group="journal")

    async def _fetch(self, cursor: int | None) -> None:
        outcome = await self.session.request(ReadJournal(cursor=cursor, limit=PAGE))
        if outcome.journal is None or outcome.page is None:
            if not self.entries:
                self.said(outcome.text or "no journal", ok=False)
            return
        if cursor is not None or not self.entries:
            self._older = outcome.page.next
        found = {entry.seq: entry for entry in outcome.journal}
        self.entries = found if self.session.is_recorded else self.entries | found
        if self._older is not None and len(self.entries) < MOST and not self._until_now():
            await self._fetch(self._older)
            return
        self._show()

    def _until_now(self) -> list[JournalEntry]:
        """The entries, the newest first; in the past those that there were by then."""
        entries: Iterable[JournalEntry] = self.entries.values()
        if self.session.playback and self.frame and not self.session.is_recorded:
            until_ns = self.frame.at_ns
            entries = [entry for entry in entries if _at_ns(entry.at) <= until_ns]
        return sorted(entries, key=lambda entry: -entry.seq)

    def _show(self) -> None:
        ordered = self._until_now()
        table = self.query_one(JournalTable)
        table.update(ordered)
        entries = f"{len(ordered):,} {'entry' if len(ordered) == 1 else 'entries'}"
        older = f", {keys.face('older', 'journal')} for older" if self._older else ""
        table.border_title = f"journal · {entries}{older}"
        self._show_entry()

    def _show_entry(self) -> None:
        about, entry = self.query_one("#entry", Lines), self.entry
        about.show(rows_of(entry, max(30, about.size.width - 2)) if entry else [])

    def cursor_moved(self, table: LiveTable) -> None:
        self._show_entry()

    def detail_of(self, table: LiveTable) -> Row:
        entry = self.entry
        known = entry is not None and entry.cli
        return (
            ((f"$ {clean(entry.cli, 300)}", "text"), (f"  {keys.face('copy', 'journal')} copies", "accent"))
            if entry and known
            else ()
        )

    def open_undo_entry(self, newest: Frame) -> None:
        """Take back the entry under the cursor; what keeps that from being done is the agent's to say."""
        if (entry := self.entry) is None:
            self.said("there is no entry under the cursor", ok=False)
        else:
            self._ask(BackDialog(self.session, Undo(seq=entry.seq), f"Take back number {entry.seq}"))

    def action_copy(self) -> None:
        """The command line to the terminal's clipboard."""
        if (entry := self.entry) is not None and not entry.cli:
            self.said(NOT_HELD, ok=False)
        elif entry is not None:
            self.app.copy_to_clipboard(clean(entry.cli, 100_000))
            self.said("copied, if the terminal lets us (OSC 52)")


def rows_of(entry: JournalEntry, width: int) -> list[Row]:
    """An entry in full: what it changed, line by line."""
    role = "text" if entry.ok else "bad"
    origin = f"{clean(entry.client, 16)}, pid {entry.pid}, " if entry.pid else ""
    rows: list[Row] = [
        ((f"{entry.seq}  ", "muted"), (clean(entry.user, 32), "text bold"),
         (f"  {origin}{clean(entry.at, 30)}", "muted")),
        *(wrapped("$", entry.cli, width, "accent") if entry.cli else ()),
        *wrapped("→" if entry.ok else "✖", entry.text, width, role),
    ]  # fmt: skip
    if not entry.cli:
        rows += wrapped("·", NOT_HELD, width, "muted")
    if entry.reason:
        rows += wrapped("·", f"because: {entry.reason}", width, "muted")
    for name, before, after in differences(entry.before, entry.after):
        rows.append(
            (
                (f"   {clean(name, 60)}: ", "muted"),
                (clean(before, 80), "bad"),
                (" → ", "muted"),
                (clean(after, 80), "good"),
            )
        )
    return rows


def differences(before: Any, after: Any, name: str = "") -> list[tuple[str, str, str]]:
    """What is otherwise in two plain values, by the path that leads there."""
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        found = []
        for key in dict.fromkeys((*before, *after)):
            path = f"{name}.{key}" if name else str(key)
            found += differences(before.get(key), after.get(key), path)
        return found
    return [(name or "it", _plain(before), _plain(after))]


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
