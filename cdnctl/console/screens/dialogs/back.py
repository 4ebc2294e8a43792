"""Keep the change that waits to be confirmed, take it back, or take back the last one."""

from __future__ import annotations

from cdnctl.console.screens.dialogs.base import ChangeDialog
from cdnctl.console.session import Session
from cdnctl.model import AnyChange, Confirm, Revert, Undo


class BackDialog(ChangeDialog):
    """Says, by a dry run, what it would keep or take back."""

    WIDTH = 76

    def __init__(self, session: Session, change: Confirm | Revert | Undo, what: str = "") -> None:
        """`what` names an entry of the journal that is meant."""
        super().__init__(session)
        self._change = change
        self.TITLE_TEXT, self.CONFIRM_TEXT = {
            Confirm: ("Keep what waits to be confirmed", "Keep"),
            Revert: ("Take back what waits to be confirmed", "Revert"),
            Undo: ("Take back the last change", "Undo"),
        }[type(change)]
        self.TITLE_TEXT = what or self.TITLE_TEXT

    def changes(self) -> list[AnyChange]:
        return [self._change]
