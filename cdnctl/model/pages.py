"""Long lists, a page at a time: what is asked for one, and what comes back."""

from __future__ import annotations

import calendar
import time
from typing import Any

from msgspec import field

from cdnctl.model.base import Base


class Page(Base, frozen=True, kw_only=True):
    """Where in a list an answer's rows come from."""

    next: int | None = None
    """What to ask with for what follows; None: that was the end."""
    looked_at: int = 0
    """Entries that were looked at for it. So many are at most, however few of them matched, so that an
    agent with a million is never busy for long: ask again from `next`."""
    total: int = 0
    """Entries of the whole list."""


class JournalEntry(Base, frozen=True, kw_only=True):
    """One line of the journal: who did what, when and why."""

    seq: int
    at: str
    """UTC, as `2026-01-31T23:59:59.123456Z`."""
    user: str
    uid: int
    pid: int
    client: str
    cli: str
    """The same as a command line."""
    command: dict[str, Any]
    """The command with all its fields; `verb` says which."""
    reason: str = ""
    ok: bool
    text: str
    """What the operator was told."""
    before: Any = None
    after: Any = None
    revision: int = 0
    """Of the state with this change; 0 when it changed nothing."""
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """What each thing that it touched was and is: see cdnctl.engine.objects."""
    undoes: list[int] = field(default_factory=list)
    """Numbers of the lines that it takes back."""
    expires_ns: int = 0
    """Wall time at which it reverts unless it is confirmed; 0: never."""
    reverts: int = 0
    """The revision of the change that it takes back because nobody confirmed it."""

    @property
    def at_ns(self) -> int:
        """`at` as wall time in nanoseconds; 0 if it is none."""
        try:
            return calendar.timegm(time.strptime(self.at[:19], "%Y-%m-%dT%H:%M:%S")) * 1_000_000_000
        except ValueError:
            return 0
