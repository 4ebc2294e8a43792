"""Disarm, or arm again."""

from __future__ import annotations

from collections.abc import Sequence

from textual.widget import Widget

from cdnctl.console.screens.dialogs.base import ChangeDialog
from cdnctl.console.session import Session
from cdnctl.console.widgets.lines import Lines, Row
from cdnctl.model import AnyChange, Arm, Disarm

_DISARM: tuple[Row, ...] = (
    (("Nothing is dropped, shed or ejected any more.", "text"),),
    (("Known flows stay translated, new ones follow plain weights.", "text"),),
    (("Blocks stay listed, and are in force again once armed.", "muted"),),
)
_ARM: tuple[Row, ...] = (
    (("Blocks and the reflex are in force again, at once.", "text"),),
    (("Live flows from blocked prefixes are cut.", "muted"),),
)


class ArmDialog(ChangeDialog):
    """The panic switch, one way or the other."""

    WIDTH = 68

    def __init__(self, session: Session, arm: bool) -> None:
        super().__init__(session)
        self._arm = arm
        self.TITLE_TEXT = "Arm the edge" if arm else "Disarm the edge"
        self.CONFIRM_TEXT = "Arm" if arm else "Disarm"

    def body(self) -> Sequence[Widget]:
        return (Lines(id="about"),)

    def on_mount(self) -> None:
        about = self.query_one("#about", Lines)
        rows = _ARM if self._arm else _DISARM
        about.styles.height = len(rows) + 1
        about.show(rows)

    def changes(self) -> list[AnyChange]:
        return [Arm()] if self._arm else [Disarm()]
