"""What the agent writes to stderr: a line a record, for people or for programs.

    14:03:07 INFO    blocked 198.51.100.0/24 for 4h  user=alice uid=1000 verb=block outcome=done
    {"at":"2026-01-31T14:03:07.123456Z","level":"info","edge":"ams1","text":"blocked ...","user":"alice", ...}

The text is for reading and may change; the fields are for searching and stay. With systemd at the other end
(JOURNAL_STREAM) each line begins with its priority, as `<4>`, and has no time: the journal has its own.

What clients do to be refused could fill a disk: of such records (`few`) a handful of each kind is written in
`FEW_S`, and the next one tells how many were left out.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import IO, Any, Literal

import msgspec

Style = Literal["text", "json"]
FEW, FEW_S = 5, 10.0
_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}


def fields(few: str = "", **values: object) -> dict[str, Any]:
    """For `extra=`: fields of a record; `few`: its kind, when there may be swarms of it."""
    return {"fields": values, "few": few}


class Few(logging.Filter):
    """Lets some of each kind pass; a filter of the logger, so that nothing is formatted for the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._since_s: dict[str, float] = {}
        self._seen: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is written."""
        kind = getattr(record, "few", "")
        if not kind:
            return True
        now_s, seen = self._clock(), self._seen.get(kind, 0)
        if now_s - self._since_s.get(kind, -FEW_S) >= FEW_S:
            if seen > FEW:
                record.fields = {**getattr(record, "fields", {}), "left_out_before": seen - FEW}
            self._since_s[kind], seen = now_s, 0
        self._seen[kind] = seen + 1
        return seen < FEW


class TextFormatter(logging.Formatter):
    """For people: the text, then the fields as `name=value`."""

    def __init__(self, *, under_systemd: bool) -> None:
        super().__init__()
        self._under_systemd = under_systemd

    def format(self, record: logging.LogRecord) -> str:
        """Further lines (a remedy, a traceback) begin as the first does: each has its priority."""
        start = _priority(record) if self._under_systemd else time.strftime("%H:%M:%S ", _clock(record))
        head = f"{start}{record.levelname:<7} "
        words = "".join(f" {name}={_value(value)}" for name, value in _fields(record).items())
        first, *rest = [_plain(line) for line in _text(self, record).splitlines()] or [""]
        lines = [f"{first} {words}" if words else first, *(f"  {line}" for line in rest)]
        return "\n".join(head + line for line in lines)


class JsonFormatter(logging.Formatter):
    """For programs: one object a line."""

    def __init__(self, edge: str, *, under_systemd: bool) -> None:
        super().__init__()
        self._edge, self._under_systemd = edge, under_systemd

    def format(self, record: logging.LogRecord) -> str:
        """Whatever it is of, it is one line."""
        fraction = f".{int(record.created % 1 * 1e6):06}Z"
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + fraction
        found = {"at": at, "level": record.levelname.lower(), "edge": self._edge, "text": _text(self, record)}
        line = msgspec.json.encode({**found, **_fields(record)}, enc_hook=str).decode()
        return _priority(record) + line if self._under_systemd else line


def to_stderr(style: Style, edge: str, *, stream: IO[str] | None = None) -> None:
    """Write the records of all of cdnctl there from now on."""
    stream = stream or sys.stderr
    under_systemd = is_journal(stream)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        JsonFormatter(edge, under_systemd=under_systemd)
        if style == "json"
        else TextFormatter(under_systemd=under_systemd)
    )
    root = logging.getLogger("cdnctl")
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def is_journal(stream: IO[str], environment: Mapping[str, str] = os.environ) -> bool:
    """Whether it leads to systemd's journal: then JOURNAL_STREAM names its very device and inode."""
    try:
        there = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"


def _priority(record: logging.LogRecord) -> str:
    return f"<{_PRIORITIES.get(record.levelno, 6)}>"


def _clock(record: logging.LogRecord) -> time.struct_time:
    return time.localtime(record.created)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return getattr(record, "fields", {})


def _text(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    return f"{text}\n{formatter.formatException(record.exc_info)}" if record.exc_info else text


def _plain(text: str) -> str:
    """What a client said must not move the cursor of whoever reads the log."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _value(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not any(each in ' "=' for each in text):
        return text
    return msgspec.json.encode(text).decode()
