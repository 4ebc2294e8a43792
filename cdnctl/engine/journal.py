"""The journal: who changed what, when and why, and how to do it again.

One JSON object a line, only ever appended, on the disk before `append` returns. Lines are numbered,
also across restarts and across processes (a `disarm` past a hung agent writes here, too), so a missing
one shows. A crash can tear the last line; it is then closed by the next one and skipped when reading.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from cdnctl.model import Actor, Command, Outcome

_TAIL = 64 * 1024


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


class Journal:
    """Appends to, and reads, the file at `path`; makes it and its directory when needed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(
        self,
        actor: Actor,
        command: Command,
        outcome: Outcome,
        before: object = None,
        after: object = None,
        cli: str = "",
    ) -> int:
        """Write one line and return its number; `before` and `after` are any plain values or Structs.

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
                command=msgspec.to_builtins(command),
                reason=getattr(command, "reason", ""),
                ok=outcome.ok,
                text=outcome.text,
                before=before,
                after=after,
            )
            _write(descriptor, (b"\n" if torn else b"") + msgspec.json.encode(entry) + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return entry.seq

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

    def tail(self) -> Iterator[list[Entry]]:
        """At first every whole line, then, at each step, those that were added since; perhaps none.

        The file may come later, and be replaced by another one (rotated): that is read from its beginning.
        """
        identity, place, rest = (0, 0), 0, b""
        while True:
            found: list[Entry] = []
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


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _utc(ns: int) -> str:
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1000:06}Z"
