"""Asks for a line of text; nothing is changed by it."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Input

from cdnctl.console import keys
from cdnctl.console.screens.dialogs.block import Entry
from cdnctl.console.screens.dialogs.parts import Push
from cdnctl.console.screens.dialogs.whole import Whole
from cdnctl.console.widgets.lines import heading


class AskDialog(Whole[str | None]):
    """What was typed, or None. Enter takes it: it only asks."""

    AUTO_FOCUS = "#asked"

    def __init__(self, title: str, label: str, text: str, hint: str) -> None:
        super().__init__()
        keys.bind(self, keys.section("dialog")[:2])
        self._parts = (title, label, text, hint)

    def compose(self) -> ComposeResult:
        title, label, text, hint = self._parts
        with Vertical(id="box") as box:
            box.border_title = title
            box.border_subtitle = heading(hint)
            box.styles.width = 72
            yield Entry("asked", label, text, hint)
            with Horizontal(id="buttons"):
                yield Push("confirm", "Ask", "enter", "accent")
                yield Push("cancel", "Cancel", "esc", "text", focusable=True)

    def on_push_pressed(self, message: Push.Pressed) -> None:
        if message.button == "confirm":
            self.action_confirm()
        else:
            self.dismiss(None)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_confirm()

    def action_confirm(self) -> None:
        """Take what stands there."""
        self.dismiss(self.query_one("#asked", Input).value.strip() or None)

    def action_cancel(self) -> None:
        """Never mind."""
        self.dismiss(None)
