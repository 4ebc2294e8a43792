"""Plan, then apply: what changes that were worded elsewhere would do."""

from __future__ import annotations

from collections.abc import Sequence

from textual.widget import Widget

from cdnctl.console import keys
from cdnctl.console.format import clean, percent
from cdnctl.console.screens.dialogs.base import FRAME, ChangeDialog
from cdnctl.console.session import Session
from cdnctl.console.widgets.lines import Lines, Row
from cdnctl.console.widgets.notices import wrapped
from cdnctl.model import AnyChange, Outcome
from cdnctl.model.lines import command_line

LISTED = 4


class PlanDialog(ChangeDialog):
    """The changes as command lines, and what the agent says they would do."""

    TITLE_TEXT = "Plan"
    CONFIRM_TEXT = "Apply"
    WIDTH = 76
    BINDINGS = keys.bindings((keys.COPY,))

    def __init__(self, session: Session, wanted: Sequence[AnyChange]) -> None:
        super().__init__(session)
        self._wanted = list(wanted)

    def body(self) -> Sequence[Widget]:
        return (Lines(id="about"),)

    def on_mount(self) -> None:
        rows: list[Row] = []
        for change in self._wanted[:LISTED]:
            rows += wrapped("$", command_line(change), self.WIDTH - FRAME, "text")
        if len(self._wanted) > LISTED:
            rows.append(((f"   and {len(self._wanted) - LISTED} more like these", "muted"),))
        about = self.query_one("#about", Lines)
        about.styles.height = len(rows) + 1
        about.show(rows)
        self.query_one("#box").border_subtitle = "y copies the command line"

    def changes(self) -> list[AnyChange]:
        return self._wanted

    def show_preview(self, outcome: Outcome | None) -> None:
        super().show_preview(outcome)
        if outcome is not None and outcome.ok and outcome.shares:
            then = ", ".join(f"{clean(name, 32)} {percent(share)}" for name, share in outcome.shares.items())
            rows = wrapped("→", outcome.text, self.WIDTH - FRAME, "text")
            self.say([*rows, *wrapped("", f"shares of new flows then: {then}", self.WIDTH - FRAME, "muted")])

    def action_copy(self) -> None:
        """The command lines to the terminal's clipboard."""
        self.app.copy_to_clipboard("\n".join(command_line(change) for change in self._wanted))
        self.query_one("#box").border_subtitle = "copied, if the terminal lets us (OSC 52)"
