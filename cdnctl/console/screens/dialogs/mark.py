"""Set a mark: a chapter of what is recorded."""

from __future__ import annotations

from collections.abc import Sequence

from textual.widget import Widget
from textual.widgets import Input

from cdnctl.console.screens.dialogs.base import ChangeDialog
from cdnctl.console.screens.dialogs.block import Entry
from cdnctl.model import AnyChange, Mark


class MarkDialog(ChangeDialog):
    """One line of text; the focus is in it, for a mark changes nothing."""

    TITLE_TEXT = "Mark this moment"
    CONFIRM_TEXT = "Mark"
    AUTO_FOCUS = "#text"

    def body(self) -> Sequence[Widget]:
        return (Entry("text", "text", "", "what happens now, in a few words"),)

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.input_changed()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter goes on to Cancel; it never confirms."""
        event.stop()
        self.focus_next()

    def changes(self) -> list[AnyChange]:
        text = self.query_one("#text", Input).value.strip()
        if not text:
            raise ValueError("text: say what the mark is of")
        return [Mark(text=text)]
