"""The journal: who changed what, when and why, and how to do it again.

One JSON object a line, only ever appended, on the disk before `append` returns. Lines are numbered,
also across restarts, so a missing one shows. What root switched past a hung agent, or while there was
none, is written here by the agent that finds it. A crash can tear the last line; it is then closed by the
next one and skipped when reading.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from cdnctl.model import Actor, Command, JournalEntry, Outcome
from cdnctl.state import files, sharing
from cdnctl.state.intents import Record

_TAIL = 64 * 1024
_MOST_READ = 4 * 1024 * 1024
"""Bytes that are read for one page, even if nothing in them is a line of ours."""
RECENT = 4 << 20
"""Bytes of it that are looked at for what can be undone: an operator waits for it, and the frames do."""


class Journal:
    """Appends to, and reads, the file at `path`; makes it and its directory when needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._shared: tuple[int, int] | None = None
        """Mode and group of the file that was last appended to."""

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
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # until close
            last, torn = _last(descriptor)
            entry = JournalEntry(
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

    def _open(self) -> int:
        """To append. One that was rotated away is followed by another that the same people may read, whatever
        the umask and whoever made it."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags)
        except FileNotFoundError:
            descriptor = os.open(self.path, flags | os.O_CREAT, sharing.FILE_MODE)
            with contextlib.suppress(OSError):  # a line that few may read is better than none
                if self._shared is None:
                    sharing.open_to_operators(descriptor)
                else:
                    mode, group = self._shared
                    os.fchown(descriptor, -1, group)
                    os.fchmod(descriptor, mode)
        status = os.fstat(descriptor)
        self._shared = stat.S_IMODE(status.st_mode), status.st_gid
        return descriptor

    def recent(self) -> list[JournalEntry]:
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

    def read(self) -> Iterator[JournalEntry]:
        """Every whole line, the oldest first; damaged ones are skipped. Nothing if there is no file."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            for line in file:
                if (entry := _entry(line)) is not None:
                    yield entry

    def tail(self) -> Iterator[list[JournalEntry]]:
        """At first every whole line, then, at each step, those that were added since; perhaps none.

        The file may come later, and be replaced by another one (rotated): that is read from its beginning.
        """
        identity, place, rest = (0, 0), 0, b""
        while True:
            found: list[JournalEntry] = []
            with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if (status.st_dev, status.st_ino) != identity or status.st_size < place:
                    identity, place, rest = (status.st_dev, status.st_ino), 0, b""
                file.seek(place)
                data = file.read()
                place += len(data)
                *lines, rest = (rest + data).split(b"\n")
                found = [entry for line in lines if (entry := _entry(line)) is not None]
            yield found

    def page(self, end: int | None, count: int) -> tuple[list[JournalEntry], int | None]:
        """At most `count` whole lines before the byte `end` (None: of the file), the newest first, and the
        byte to go on from; None when there is no more. Reads no more of the file than it must."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return [], None
        try:
            size = os.fstat(descriptor).st_size
            end = size if end is None else max(0, min(end, size))
            return _page(descriptor, end, count)
        finally:
            os.close(descriptor)


def _page(descriptor: int, end: int, count: int) -> tuple[list[JournalEntry], int | None]:
    found: list[JournalEntry] = []
    start, looked_at = end, 0
    data = b""
    while start and len(found) < count and looked_at < _MOST_READ:
        begin = max(0, start - _TAIL)
        data = os.pread(descriptor, start - begin, begin) + data
        looked_at += start - begin
        start = begin
        lines = data.split(b"\n")
        # the first may be cut by where we started: it waits for what is before it
        data, whole = (b"", lines) if start == 0 else (lines[0], lines[1:])
        rest = start + len(data) + (1 if data or start else 0)
        for at in reversed(range(len(whole))):
            if (entry := _entry(whole[at])) is not None:
                found.append(entry)
                if len(found) == count:
                    before = rest + sum(len(line) + 1 for line in whole[:at])
                    return found, before if before > 0 else None
    return found, start + len(data) + 1 if start else None


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


def _entry(line: bytes) -> JournalEntry | None:
    try:
        return msgspec.json.decode(line, type=JournalEntry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _reason(command: Command | dict[str, Any]) -> str:
    said = command.get("reason") if isinstance(command, dict) else getattr(command, "reason", "")
    return said if isinstance(said, str) else ""


def _utc(ns: int) -> str:
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1000:06}Z"
