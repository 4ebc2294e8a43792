"""What a command of the command line's own said."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.app import ComposeResult

from cdnctl.console import keys
from cdnctl.console.format import clean
from cdnctl.console.screens.dialogs.whole import Whole
from cdnctl.console.widgets.lines import Lines, Row, heading


class OutputDialog(Whole[None]):
    """Rows that scroll."""

    BINDINGS = keys.bindings(
        (
            keys.Key("escape,enter,q", "close", "esc", "close", "close", "In a dialog"),
            keys.Key("j,down", "move(1)", "j ↓", "down", "down", "In a dialog"),
            keys.Key("k,up", "move(-1)", "k ↑", "up", "up", "In a dialog"),
            keys.Key("pagedown,space", "move(10)", "pgdn", "page down", "page down", "In a dialog"),
            keys.Key("pageup", "move(-10)", "pgup", "page up", "page up", "In a dialog"),
        )
    )
    AUTO_FOCUS = "#help"

    def __init__(self, title: str, rows: Sequence[Row]) -> None:
        super().__init__()
        self._title, self._rows = title, list(rows)

    def compose(self) -> ComposeResult:
        lines = Lines(id="help")
        lines.can_focus = True
        lines.border_title = heading(clean(self._title, 60))
        lines.border_subtitle = "j k scroll · esc closes"
        yield lines

    def on_resize(self, event: events.Resize) -> None:
        lines = self.query_one("#help", Lines)
        widest = max((sum(len(text) for text, _ in row) for row in self._rows), default=0)
        lines.styles.width = max(44, min(widest + 8, event.size.width))
        lines.styles.max_height = event.size.height - 2
        lines.styles.height = max(1, len(self._rows)) + 2
        lines.show(self._rows or [(("it said nothing", "muted"),)])

    def action_move(self, step: int) -> None:
        """Scroll."""
        lines = self.query_one("#help", Lines)
        lines.scroll_to(y=lines.scroll_offset.y + step, animate=False)

    def action_close(self) -> None:
        """Close it."""
        self.dismiss(None)
