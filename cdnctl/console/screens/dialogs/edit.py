"""Dialogs of the lists: edit blocks, allow a prefix, import a file."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

from textual.widget import Widget
from textual.widgets import Input

from cdnctl.console.format import clean, parse_lifetime
from cdnctl.console.screens.dialogs.base import ChangeDialog
from cdnctl.console.screens.dialogs.block import DEFAULT_LIFETIME, HINT, Entry
from cdnctl.console.session import Session
from cdnctl.console.widgets.lines import Lines
from cdnctl.model import Allow, AnyChange, Block, BlockPrefix, Outcome

IMPORTED = 1_000
"""Entries of one import: each is a change of its own, with a line in the journal."""
MOST_BYTES = 1 << 20


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
    """A file of prefixes, one a line; the rest of a line after `#` or `;` is a comment."""

    TITLE_TEXT = "Import blocks"
    CONFIRM_TEXT = "Block them"
    WIDTH = 76

    def body(self) -> Sequence[Widget]:
        return (
            Entry("path", "file", "", f"a prefix a line, at most {IMPORTED:,}; # and ; begin comments"),
            Entry("lifetime", "lifetime", DEFAULT_LIFETIME, "10m, 4h, 2d or forever"),
            Entry("reason", "reason", "", "for the journal and whoever is on call next"),
        )

    def changes(self) -> list[AnyChange]:
        lifetime_s, reason = parse_lifetime(self.value("lifetime")), self.value("reason")
        if not (name := self.value("path")):
            return []
        path = Path(name).expanduser()
        prefixes = read_prefixes(path)
        self.query_one("#box").border_subtitle = f"{len(prefixes):,} prefixes"
        return [
            BlockPrefix(prefix=prefix, lifetime_s=lifetime_s, reason=reason or f"imported from {path.name}")
            for prefix in prefixes
        ]

    def show_preview(self, outcome: Outcome | None) -> None:
        if outcome is None:
            self.say([((" name a file", "muted"),)])
        else:
            super().show_preview(outcome)


def read_prefixes(path: Path) -> list[str]:
    """The prefixes in a file, each once. ValueError names the first lines that are none."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path}: more than {MOST_BYTES >> 20} MiB; cut it into parts")
    found: dict[str, None] = {}
    wrong: list[str] = []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        words = line.replace(";", "#").split("#")[0].split()
        if not words:
            continue
        try:
            found[str(ipaddress.ip_network(words[0]))] = None
        except ValueError:
            wrong.append(f"line {number}: {clean(words[0], 40)}")
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"{path}: no address or prefix: {'; '.join(wrong[:3])}{more}")
    if len(found) > IMPORTED:
        raise ValueError(f"{path}: {len(found):,} prefixes; at most {IMPORTED:,} at a time")
    return list(found)
