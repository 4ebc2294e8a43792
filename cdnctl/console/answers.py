"""What a recording answers where a screen would ask the agent: whatever its frames hold of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from cdnctl.console.filters import Filter
from cdnctl.console.history import History
from cdnctl.model import (
    AnyCommand,
    Event,
    FindBlocks,
    Frame,
    JournalEntry,
    ListBlocks,
    ListCustomers,
    ListTalkers,
    Outcome,
    Page,
    ReadJournal,
    Who,
)

OF_THE_PAST: frozenset[type[Any]] = frozenset({FindBlocks, ListBlocks, ListTalkers, ListCustomers})
"""What is answered from the frame that is on also where there is an agent, who only knows what is now."""
NOTHING_TO_CHANGE = "this is a recording: nothing can be changed in it"


def answer(history: History, command: AnyCommand) -> Outcome:
    """The answer as of the frame that is on."""
    frame, found = history.newest, _ANSWERS.get(type(command))
    if frame is None or found is None:
        return Outcome(ok=False, text=NOTHING_TO_CHANGE)
    return found(frame, history, command)


def _blocks(frame: Frame, _history: History, command: FindBlocks) -> Outcome:
    needle = Filter(command.text)
    kept = [each for each in frame.blocks if needle.keeps(f"{each.prefix} {each.reason} {each.source}")]
    start = command.cursor or 0
    end = start + max(1, command.limit)
    page = Page(next=end if end < len(kept) else None, looked_at=len(frame.blocks), total=frame.blocks_wanted)
    return Outcome(ok=True, text="", blocks=kept[start:end], page=page)


def _journal(_frame: Frame, history: History, _command: ReadJournal) -> Outcome:
    """The journal itself is not recorded; that something was commanded is."""
    entries = [_entry(event) for _number, event in history.events if event.kind == "command"]
    return Outcome(ok=True, text="", journal=entries[::-1], page=Page(looked_at=len(entries)))


def _entry(event: Event) -> JournalEntry:
    user, colon, text = event.text.partition(": ")
    at = datetime.fromtimestamp(event.at_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return JournalEntry(
        seq=event.seq, at=at, user=user if colon else "", uid=-1, pid=0, client="", cli="", command={},
        ok=event.severity == "notice", text=text if colon else event.text,
    )  # fmt: skip


_ANSWERS: dict[type[Any], Callable[[Frame, History, Any], Outcome]] = {
    FindBlocks: _blocks,
    ListBlocks: lambda frame, _history, _command: Outcome(ok=True, text="", blocks=frame.blocks),
    ListTalkers: lambda frame, _history, _command: Outcome(ok=True, text="", talkers=frame.talkers),
    ListCustomers: lambda frame, _history, _command: Outcome(ok=True, text="", customers=frame.customers),
    Who: lambda frame, _history, _command: Outcome(ok=True, text="", watchers=frame.watchers),
    ReadJournal: _journal,
}
