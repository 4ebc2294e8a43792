"""Which columns a table shows."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from cdnctl.console import keys
from cdnctl.console.screens.dialogs.parts import PickTable, Push
from cdnctl.console.screens.dialogs.whole import Whole
from cdnctl.console.widgets.lines import heading
from cdnctl.console.widgets.table import Column, LiveTable, Record


class _Choices(PickTable):
    COLUMNS = (
        Column("mark", "", 3, right=False),
        Column("name", "column", 16, right=False, grows=True),
        Column("why", "", 20, right=False, flex=True),
    )


class ColumnsDialog(Whole[None]):
    """Shown at once, and remembered; nothing but the picture changes, so it needs no confirming."""

    AUTO_FOCUS = "#cancel"

    def __init__(self, table: LiveTable) -> None:
        super().__init__()
        self._table = table
        self._columns = table.choices
        keys.bind(
            self,
            (*keys.section("dialog")[1:2], *keys.section("pick"), *keys.section("columns-dialog")),
        )

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = heading(f"Columns of {self._table.id}")
            box.border_subtitle = (
                f"{keys.face('choose', 'columns-dialog')} shows or hides ·"
                f" {keys.face('forget', 'columns-dialog')} as they come"
            )
            box.styles.width = 60
            choices = _Choices("", id="columns")
            choices.can_focus = False
            choices.styles.height = min(16, len(self._columns) + 2)
            yield choices
            with Horizontal(id="buttons"):
                yield Push("cancel", "Close", keys.face("cancel", "dialog"), "text", focusable=True)

    def on_mount(self) -> None:
        self._redraw()

    @property
    def _choices(self) -> _Choices:
        return self.query_one("#columns", _Choices)

    def _redraw(self) -> None:
        shown = {column.name for column in self._table.columns_in(self._table.size.width)}
        records = []
        for column in self._columns:
            mark = (" ●", "accent") if column.name in shown else (" ○", "muted")
            chosen = self._table.chosen.get(column.name)
            least = f"from {column.from_width} cells on" if column.from_width else ""
            why = "chosen" if chosen else "hidden" if chosen is False else least
            records.append(
                Record(
                    column.name,
                    {"mark": mark, "name": (column.title, "text bold"), "why": (why, "muted")},
                )
            )
        self._choices.fill(records)

    def action_choose(self) -> None:
        """Show the column under the cursor, or hide it."""
        name = str(self._choices.current)
        shown = {column.name for column in self._table.columns_in(self._table.size.width)}
        self._table.choose({**self._table.chosen, name: name not in shown})
        self._redraw()

    def action_forget(self) -> None:
        """As they come, by the width alone."""
        self._table.choose({})
        self._redraw()

    def action_move(self, step: int) -> None:
        """Move the cursor."""
        self._choices.move_to(self._choices.cursor + step)

    def action_move_first(self) -> None:
        """To the first column."""
        self._choices.move_to(0)

    def action_move_last(self) -> None:
        """To the last one."""
        self._choices.move_to(len(self._columns) - 1)

    def on_push_pressed(self, _message: Push.Pressed) -> None:
        self.action_cancel()

    def action_cancel(self) -> None:
        """Close it."""
        self.dismiss(None)
