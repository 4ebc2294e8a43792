"""Leave the console: the edge goes on, or it is detached."""

from __future__ import annotations

import os
from collections.abc import Sequence

from textual.widget import Widget

from cdnctl import paths
from cdnctl.console import keys
from cdnctl.console.screens.dialogs.base import ChangeDialog
from cdnctl.console.screens.dialogs.parts import PickTable, Push
from cdnctl.console.session import Session
from cdnctl.console.widgets.lines import Lines, Row
from cdnctl.console.widgets.table import Column, Record
from cdnctl.model import AnyChange, Outcome, Stop

LEAVE, DETACH = "leave", "detach"
_ABOUT: dict[str, tuple[Row, ...]] = {
    LEAVE: ((("This window ends. Kernel and agent go on as they are.", "muted"),),),
    DETACH: ((("The program leaves its interfaces and the agent ends.", "warn"),),),
}
_OF_DEMO: Row = (("This window ends, and the demo with it: its edge is taken down.", "muted"),)


class _Choices(PickTable):
    COLUMNS = (Column("mark", "", 3, right=False), Column("what", "", 30, right=False, flex=True))


class QuitDialog(ChangeDialog):
    """Enter leaves the edge running, which harms nobody; detaching takes a choice and ctrl+s."""

    TITLE_TEXT = "Quit"
    CONFIRM_TEXT = "Quit"
    WIDTH = 66
    SECTIONS = ("dialog", "pick")

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.choice = LEAVE
        self._of_demo = bool(os.environ.get(paths.OF_DEMO))

    def body(self) -> Sequence[Widget]:
        table = _Choices("", id="choices")
        table.can_focus = False
        table.header = False
        return (table, Lines(id="about"))

    def on_mount(self) -> None:
        self._redraw()

    def cancel_pressed(self) -> None:
        """Enter: the default, which is to leave the edge running; Cancel once detaching is chosen."""
        if self.choice == LEAVE:
            self.app.exit(0)
        else:
            self.action_cancel()

    def _redraw(self) -> None:
        leave = "end the demo" if self._of_demo else "leave the edge running"
        texts = {LEAVE: leave, DETACH: "detach: cut every translated flow"}
        if self.session.read_only:
            texts[DETACH] += "  (read only)"
        records = []
        for name, text in texts.items():
            mark = " ●" if name == self.choice else " ○"
            off = name == DETACH and self.session.read_only
            role = "muted" if off else "text bold" if name == self.choice else "muted"
            records.append(Record(name, {"mark": (mark, "accent"), "what": (text, role)}))
        self.query_one("#choices", _Choices).fill(records)
        leaving = self.choice == LEAVE
        self.query_one("#about", Lines).show(
            (_OF_DEMO,) if leaving and self._of_demo else _ABOUT[self.choice]
        )
        self.query_one("#confirm", Push).relabel(
            "Quit" if leaving else "Detach and quit",
            keys.face("confirm", "dialog"),
            "accent" if leaving else "bad",
        )
        self.query_one("#confirm", Push).display = not leaving  # Enter does the same
        cancel = self.query_one("#cancel", Push)
        cancel.relabel(
            ("Quit, the demo ends" if self._of_demo else "Quit, edge goes on") if leaving else "Cancel",
            "enter" if leaving else keys.face("cancel", "dialog"),
            "text",
        )

    def changes(self) -> list[AnyChange]:
        return [Stop(detach=True)] if self.choice == DETACH else []

    def show_preview(self, outcome: Outcome | None) -> None:
        if outcome is None:
            self.say([((f" {keys.face('cancel', 'dialog')} stays here", "muted"),)])
        else:
            super().show_preview(outcome)

    async def action_confirm(self) -> None:
        """Quit, after detaching if that was chosen; a refused detach keeps the console."""
        if self.choice == LEAVE:
            self.app.exit(0)
        else:
            await super().action_confirm()

    def carried_out(self, outcome: Outcome) -> None:
        if outcome.ok:
            self.app.exit(0)
        else:
            self.show_preview(outcome)

    def action_move(self, step: int) -> None:
        """To the other choice."""
        self._choose(DETACH if step > 0 else LEAVE)

    def action_move_first(self) -> None:
        """To leaving."""
        self._choose(LEAVE)

    def action_move_last(self) -> None:
        """To detaching."""
        self._choose(DETACH)

    def _choose(self, choice: str) -> None:
        if choice == DETACH and self.session.read_only:
            self.say_problem(f"read only: {self.session.read_only}")
            return
        self.choice = choice
        self.query_one("#choices", _Choices).move_to(0 if choice == LEAVE else 1)
        self._redraw()
        self.input_changed()
