"""Plan, then apply: what changes that were worded elsewhere would do."""

from __future__ import annotations

from collections.abc import Sequence

from textual.widget import Widget

from cdnctl.console.format import clean, percent
from cdnctl.console.screens.dialogs.base import FRAME, PREVIEW_LINES, ChangeDialog
from cdnctl.console.screens.dialogs.shares import consequences
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

    def changes(self) -> list[AnyChange]:
        return self._wanted

    def show_line(self, wanted: Sequence[AnyChange]) -> None:
        """All of it stands above."""
        self.query_one("#line").display = False

    def show_preview(self, outcome: Outcome | None) -> None:
        super().show_preview(outcome)
        newest = self.session.live.newest
        if outcome is None or not outcome.ok or not outcome.shares or newest is None:
            return
        then = ", ".join(f"{clean(name, 32)} {percent(share)}" for name, share in outcome.shares.items())
        rows = [
            *self.preview_rows(outcome),
            *wrapped("", f"shares of new flows then: {then}", self.WIDTH - FRAME, "muted"),
            *consequences(newest.cdns, outcome.shares),
        ]
        self.say(rows, most=PREVIEW_LINES + len(newest.cdns))
