"""The journal: who changed what, when and why, and how to do it again.

One JSON object a line, only ever appended, on the disk before `append` returns. Lines are numbered,
also across restarts and across processes (a `disarm` past a hung agent writes here, too), so a missing
one shows. A crash can tear the last line; it is then closed by the next one and skipped when reading.
"""

from __future__ import annotations

import calendar
import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from cdnctl.model import Actor, Command, Outcome
from cdnctl.state import files
from cdnctl.state.intents import Record

_TAIL = 64 * 1024
RECENT = 4 << 20
"""Bytes of it that are looked at for what can be undone: an operator waits for it, and the frames do."""


class Entry(Struct, frozen=True, kw_only=True):
    """One line of the journal."""

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


class Journal:
    """Appends to, and reads, the file at `path`; makes it and its directory when needed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(
        self,
        actor: Actor,
        command: Command | dict[str, Any],
        outcome: Outcome,
        before: object = None,
        after: object = None,
        cli: str = "",
        record: Record | None = None,
    ) -> int:
        """Write one line and return its number; `before` and `after` are any plain values or Structs.

        `record` is of what it changed, if it did. What a crash or a full disk has torn is skipped.

        Raises OSError if it cannot be written (no space, read-only): the change may be in force, but
        nobody will know why.
        """
        self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # until close
            last, torn = _last(descriptor)
            entry = Entry(
                seq=last + 1,
                at=_utc(time.time_ns()),
                user=actor.user,
                uid=actor.uid,
                pid=actor.pid,
                client=actor.client,
                cli=cli,
                command=command if isinstance(command, dict) else msgspec.to_builtins(command),
                reason=_reason(command),
                ok=outcome.ok,
                text=outcome.text,
                before=before,
                after=after,
                revision=record.revision if record else 0,
                changes={what: (record.before[what], record.after[what]) for what in record.after}
                if record
                else {},
                undoes=record.undoes if record else [],
                expires_ns=record.ends_at_ns if record else 0,
                reverts=record.reverts if record else 0,
            )
            size = os.fstat(descriptor).st_size
            try:
                files.write_all(descriptor, (b"\n" if torn else b"") + msgspec.json.encode(entry) + b"\n")
                os.fsync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, size)  # who is told that it is not there must not find it later
                raise
        finally:
            with contextlib.suppress(OSError):  # what is on the disk stays there
                os.close(descriptor)
        return entry.seq

    def recent(self) -> list[Entry]:
        """The whole lines of the last `RECENT` bytes, the oldest first."""
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - RECENT))
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return []
        found = (_entry(line) for line in (lines if size <= RECENT else lines[1:]) if line)
        return [entry for entry in found if entry is not None]

    def read(self) -> Iterator[Entry]:
        """Every whole line, the oldest first; damaged ones are skipped. Nothing if there is no file."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            for line in file:
                if (entry := _entry(line)) is not None:
                    yield entry


def _last(descriptor: int) -> tuple[int, bool]:
    """The number of the last whole line (0 if there is none), and whether a torn one follows."""
    size = os.fstat(descriptor).st_size
    torn = bool(size) and os.pread(descriptor, 1, size - 1) != b"\n"
    reach = _TAIL
    while size:
        start = max(size - reach, 0)
        lines = os.pread(descriptor, size - start, start).split(b"\n")
        whole = lines if start == 0 else lines[1:]  # the first may be cut by where we started
        for line in reversed(whole):
            if (entry := _entry(line)) is not None:
                return entry.seq, torn
        if start == 0:
            break
        reach *= 4
    return 0, torn


def _entry(line: bytes) -> Entry | None:
    try:
        return msgspec.json.decode(line, type=Entry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _reason(command: Command | dict[str, Any]) -> str:
    said = command.get("reason") if isinstance(command, dict) else getattr(command, "reason", "")
    return said if isinstance(said, str) else ""


def _utc(ns: int) -> str:
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1000:06}Z"
