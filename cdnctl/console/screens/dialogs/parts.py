"""What dialogs are made of: buttons that show their keys, and tables to pick from."""

from __future__ import annotations

from textual import events
from textual.message import Message

from cdnctl.console.widgets.lines import Lines, Row
from cdnctl.console.widgets.table import LiveTable


class Push(Lines):
    """A button that shows its key. Only Cancel takes the focus; Enter then presses it."""

    class Pressed(Message):
        """It was clicked, or Enter was hit on it."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.button = name

    def __init__(self, name: str, label: str, face: str, role: str, *, focusable: bool = False) -> None:
        super().__init__(id=name, classes="push")
        self.can_focus = focusable
        self._parts = (label, face, role)

    def on_mount(self) -> None:
        self._redraw()

    def relabel(self, label: str, face: str, role: str) -> None:
        """Another text on the same button."""
        self._parts = (label, face, role)
        self._redraw()

    def _redraw(self) -> None:
        label, face, role = self._parts
        focused = self.has_focus
        row: Row = (
            ("▸ " if focused else "  ", role),
            (f"{label}  ", f"{role} bold"),
            (face, "muted"),
            ("  ", ""),
        )
        self.styles.width = sum(len(text) for text, _ in row)
        self.show([row])
        self.repaint_all()

    def row_background(self, index: int) -> str:
        return "on cursor" if self.has_focus else ""

    def on_focus(self) -> None:
        self._redraw()

    def on_blur(self) -> None:
        self._redraw()

    def on_click(self) -> None:
        self.post_message(self.Pressed(self.id or ""))

    def on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            self.post_message(self.Pressed(self.id or ""))


class PickTable(LiveTable):
    """A table whose cursor shows although the focus is on Cancel."""

    def row_background(self, index: int) -> str:
        return "on cursor" if self.records and index == self.cursor + self._pinned else ""
