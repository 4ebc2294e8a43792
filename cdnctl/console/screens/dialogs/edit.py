"""Dialogs of the lists: edit blocks, allow a prefix, import a file."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from textual.widget import Widget
from textual.widgets import Input

from cdnctl.console.format import clean, parse_lifetime
from cdnctl.console.screens.dialogs.base import ChangeDialog
from cdnctl.console.screens.dialogs.block import DEFAULT_LIFETIME, HINT, Entry
from cdnctl.console.session import Session
from cdnctl.console.widgets.lines import Lines
from cdnctl.model import Allow, AnyChange, Block, BlockList, BlockPrefix, ListPart, Outcome

IMPORTED = 250_000
"""Prefixes of one import, as many as an agent takes of one list."""
MOST_BYTES = 16 << 20
PART = 10_000
"""Prefixes of a message."""
KEPT_S = 200.0
"""What was sent is not sent again for so long: the agent keeps it somewhat longer."""


class EntryDialog(ChangeDialog):
    """A dialog of fields: Enter goes on to the next, and never confirms."""

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.input_changed()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go on to the next field."""
        event.stop()
        self.focus_next()

    def value(self, name: str) -> str:
        """What stands in a field."""
        return self.query_one(f"#{name}", Input).value.strip()


class EditDialog(EntryDialog):
    """Another lifetime, counted from now, and another reason."""

    TITLE_TEXT = "Edit blocks"
    CONFIRM_TEXT = "Apply"

    def __init__(self, session: Session, blocks: Sequence[Block]) -> None:
        super().__init__(session)
        self._blocks = blocks

    def body(self) -> Sequence[Widget]:
        reasons = {block.reason for block in self._blocks}
        reason = clean(reasons.pop(), 200) if len(reasons) == 1 else ""
        return (
            Lines(id="about"),
            Entry("lifetime", "lifetime", DEFAULT_LIFETIME, "10m, 4h, 2d or forever, from now"),
            Entry("reason", "reason", reason, "for the journal and whoever is on call next"),
        )

    def on_mount(self) -> None:
        names = ", ".join(clean(block.prefix, 49) for block in self._blocks[:4])
        more = f" and {len(self._blocks) - 4} more" if len(self._blocks) > 4 else ""
        self.query_one("#about", Lines).show([((names + more, "text bold"),)])

    def changes(self) -> list[AnyChange]:
        lifetime_s, reason = parse_lifetime(self.value("lifetime")), self.value("reason")
        return [
            BlockPrefix(prefix=block.prefix, lifetime_s=lifetime_s, reason=reason) for block in self._blocks
        ]


class AllowDialog(EntryDialog):
    """A prefix that is to be neither blocked nor limited."""

    TITLE_TEXT = "Allow a prefix"
    CONFIRM_TEXT = "Allow"

    def __init__(self, session: Session, prefix: str) -> None:
        super().__init__(session)
        self._prefix = prefix

    def body(self) -> Sequence[Widget]:
        return (
            Entry("prefix", "prefix", clean(self._prefix, 64), HINT),
            Entry("reason", "reason", "", "for the journal and whoever is on call next"),
        )

    def changes(self) -> list[AnyChange]:
        if not (prefix := self.value("prefix")):
            raise ValueError(f"prefix: write an address or a prefix: {HINT}")
        return [Allow(prefix=prefix, reason=self.value("reason"))]


class ImportDialog(EntryDialog):
    """A file of prefixes, one a line, as one change; the rest of a line after `#` or `;` is a comment."""

    TITLE_TEXT = "Import blocks"
    CONFIRM_TEXT = "Block them"
    WIDTH = 76

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._file: tuple[Path, int, int] | None = None
        """Which was read, when it was written, and its bytes: nobody waits for it at each key."""
        self._prefixes: list[bytes] = []
        self._token = ""
        self._sent_at_s: float | None = None

    def body(self) -> Sequence[Widget]:
        return (
            Entry("path", "file", "", f"a prefix a line, at most {IMPORTED:,}; # and ; begin comments"),
            Entry("lifetime", "lifetime", DEFAULT_LIFETIME, "10m, 4h, 2d or forever"),
            Entry("reason", "reason", "", "for the journal and whoever is on call next"),
        )

    def changes(self) -> list[AnyChange]:
        box = self.query_one("#box")
        box.border_subtitle = ""  # never that of an earlier file beside a mistake
        lifetime_s, reason = parse_lifetime(self.value("lifetime")), self.value("reason")
        if not (name := self.value("path")):
            return []
        path = Path(name).expanduser()
        self._read(path)
        box.border_subtitle = f"{len(self._prefixes):,} prefixes"
        return [
            BlockList(
                list=self._token,
                count=len(self._prefixes),
                name=path.name,
                lifetime_s=lifetime_s,
                reason=reason or f"imported from {path.name}",
            )
        ]

    async def dry_run(self, wanted: list[AnyChange]) -> Outcome | None:
        if wanted and (refused := await self._hand_over()):
            return refused
        return await super().dry_run(wanted)

    async def try_whole(self, wanted: list[AnyChange]) -> Outcome:
        tried = await self._hand_over() or await super().try_whole(wanted)
        if not tried.ok:
            self._sent_at_s = None  # another agent may have come meanwhile: the next time anew
        return tried

    def show_preview(self, outcome: Outcome | None) -> None:
        if outcome is None:
            self.say([((" name a file", "muted"),)])
        else:
            super().show_preview(outcome)

    def _read(self, path: Path) -> None:
        """Raises ValueError."""
        try:
            status = path.stat()
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror or error}") from None
        file = (path, status.st_mtime_ns, status.st_size)
        if file != self._file:
            self._prefixes = read_prefixes(path)
            self._file, self._token, self._sent_at_s = file, os.urandom(16).hex(), None

    async def _hand_over(self) -> Outcome | None:
        """Send what is to be blocked; by itself that changes nothing. A refusal, if there is one."""
        if self._sent_at_s is not None and time.monotonic() - self._sent_at_s < KEPT_S:
            return None
        token, prefixes = self._token, self._prefixes
        for at in range(0, len(prefixes), PART):
            part = prefixes[at : at + PART]
            outcome = await self.session.request(
                ListPart(
                    list=token,
                    four=b"".join(row for row in part if len(row) == 5),
                    six=b"".join(row for row in part if len(row) == 17),
                )
            )
            if not outcome.ok:
                return outcome
            self._tell(f"sent {min(at + PART, len(prefixes)):,} of {len(prefixes):,}")
        if token == self._token:
            self._sent_at_s = time.monotonic()
        return None


def read_prefixes(path: Path) -> list[bytes]:
    """The prefixes in a file, each once, as they are sent: the address and a byte of length.

    ValueError names the first lines that are none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path}: more than {MOST_BYTES >> 20} MiB; cut it into parts")
    found: dict[bytes, None] = {}
    wrong: list[str] = []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        words = line.replace(";", "#").split("#")[0].split()
        if not words:
            continue
        try:
            found[_packed(words[0])] = None
        except ValueError:
            wrong.append(f"line {number}: {clean(words[0], 40)}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"{path}: no address or prefix: {'; '.join(wrong[:3])}{more}")
    if not found:
        raise ValueError(f"{path}: there is no prefix in it; write one a line")
    if len(found) > IMPORTED:
        raise ValueError(f"{path}: {len(found):,} prefixes; at most {IMPORTED:,} at a time")
    return list(found)


def _packed(text: str) -> bytes:
    try:
        return (
            socket.inet_pton(socket.AF_INET, text) + b"\x20"
        )  # nearly all of a long list, in a tenth of the time
    except (OSError, ValueError):
        network = ipaddress.ip_network(text)
        return network.network_address.packed + bytes((network.prefixlen,))
