"""Stand-ins for addresses, people and hosts in the parts of a report."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cdnctl.model import Frame
from cdnctl.recording.redaction import Redactor

_MAC = re.compile(r"(?<![0-9A-Fa-f:])(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f:])")
_HOST = "this-host"
_NOBODY_IN_PARTICULAR = frozenset({"localhost", "host", "debian", "ubuntu"})


class StandIns:
    """The same for the same, in everything that it is shown."""

    def __init__(self, edge: str, people: Iterable[str], hosts: Iterable[str]) -> None:
        self._redactor = Redactor()
        for person in sorted(set(people)):
            self._redactor.add_user(person)
        names = sorted(
            {name for name in hosts if name} - _NOBODY_IN_PARTICULAR - {edge}, key=len, reverse=True
        )
        words = "|".join(map(re.escape, names))
        self._hosts = re.compile(rf"(?<![\w-])(?:{words})(?![\w-])") if words else None
        self._macs: dict[str, str] = {}

    def words(self, text: str) -> str:
        """A text, redacted."""
        text = _MAC.sub(self._mac, text)
        text = self._redactor.text(text)
        return text if self._hosts is None else self._hosts.sub(_HOST, text)

    def text(self, data: bytes) -> bytes:
        """A file of lines, redacted; what is no UTF-8 in it is shown as escapes."""
        lines = data.decode(errors="backslashreplace").splitlines(keepends=True)
        return "".join(map(self.words, lines)).encode()

    def frame(self, frame: Frame) -> Frame:
        """A frame, redacted."""
        return self._redactor.frame(frame)

    def _mac(self, found: re.Match[str]) -> str:
        """Of a range for documentation (RFC 7042)."""
        known = self._macs.setdefault(found[0].lower(), f"{len(self._macs) & 0xFF:02x}")
        return f"00:00:5e:00:53:{known}"
