"""How a screen's panels lie: by the terminal's size, one of them alone, and what their tables show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual import events
from textual.widget import Widget

from cdnctl.console.widgets.notices import TooSmall
from cdnctl.console.widgets.table import LiveTable

if TYPE_CHECKING:
    from cdnctl.console.display import Display
    from cdnctl.console.session import Session

SMALLEST = (80, 24)
MEDIUM = (110, 34)
LARGE = (170, 44)
ALONE = "-alone"
"""Worn by the panel that stands alone, and by what it stands in."""


class Arrangement:
    """What of a screen lays out and orders; mixed into `House`."""

    NAME = ""
    MAIN = ""

    if TYPE_CHECKING:
        view: Display
        app: Any
        focused: Any

        @property
        def session(self) -> Session: ...
        def set_class(self, add: bool, *names: str) -> Any: ...
        def set_focus(self, widget: Widget | None) -> None: ...
        def query(self, kind: Any) -> Any: ...
        def query_one(self, kind: Any, *args: Any) -> Any: ...
        def call_after_refresh(self, what: Any) -> Any: ...
        def draw(self) -> None: ...
        def _tick(self) -> None: ...
        def said(self, text: str, *, ok: bool = True) -> None: ...
        def _draw_detail(self) -> None: ...

    def lay_out(self, width: int, height: int, size: str) -> None:
        """Lay the panels out; `size` is `small`, `medium` or `large`."""

    # --- by size ------------------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        self.rearrange()
        self.call_after_refresh(self.draw)

    def rearrange(self) -> None:
        """Lay out for the terminal's size."""
        width, height = self.app.size
        tiny = width < SMALLEST[0] or height < SMALLEST[1]
        height -= 1 if self.session.playback else 0  # its line: the panels are as they were without
        small = width < MEDIUM[0] or height < MEDIUM[1]
        large = width >= LARGE[0] and height >= LARGE[1]
        self.set_class(tiny, "-tiny")
        self.set_class(small, "-small")
        self.set_class(not small and not large, "-medium")
        self.set_class(large, "-large")
        if tiny:
            self.query_one(TooSmall).say(width, height, SMALLEST)
            return
        self.lay_out(width, height, "small" if small else "large" if large else "medium")

    # --- one panel alone ----------------------------------------------------------------------------

    @property
    def _panels(self) -> list[Widget]:
        return list(self.query_one("#body").children)

    @property
    def alone(self) -> Widget | None:
        """The panel that stands alone."""
        return next((panel for panel in self._panels if panel.has_class(ALONE)), None)

    def stand_alone(self, chosen: Widget | None) -> None:
        """Show this panel alone, or all of them."""
        for panel in self._panels:
            panel.set_class(panel is chosen, ALONE)
        self.query_one("#body").set_class(chosen is not None, ALONE)
        if isinstance(chosen, LiveTable):
            self.set_focus(chosen)
        self._tick()
        self.call_after_refresh(self.draw)

    def restore_layout(self) -> None:
        """As it was left the last time."""
        name = self.view.settings.layouts.get(self.NAME, "")
        self.stand_alone(next((panel for panel in self._panels if panel.id == name), None))

    def action_alone(self) -> None:
        """The focused panel alone, or all of them again."""
        focused = self.focused if self.focused in self._panels else self._panels[0]
        self._keep(None if self.alone else focused)

    def _keep(self, chosen: Widget | None) -> None:
        self.stand_alone(chosen)
        self.view.settings.layouts.pop(self.NAME, None)
        if chosen is not None:
            self.view.settings.layouts[self.NAME] = chosen.id or ""
        self._remember("")

    def action_focus_panel(self, step: int) -> None:
        """The focus to the next table; while one panel stands alone, that is the next one of all."""
        if (alone := self.alone) is not None:
            self._keep(self._panels[(self._panels.index(alone) + step) % len(self._panels)])
        elif shown := [table for table in self.query(LiveTable) if table.display]:
            at = shown.index(self.focused) if self.focused in shown else -1
            self.set_focus(shown[(at + step) % len(shown)])
        self._draw_detail()

    # --- what tables show ---------------------------------------------------------------------------

    @property
    def table(self) -> LiveTable | None:
        """The table that a key is about: the focused one, else the screen's main one."""
        if isinstance(self.focused, LiveTable):
            return self.focused
        return self.query_one(f"#{self.MAIN}", LiveTable) if self.MAIN else None

    @property
    def sorted_table(self) -> LiveTable | None:
        """The focused table if it sorts, else the main one."""
        main = self.query_one(f"#{self.MAIN}", LiveTable)
        return next((table for table in (self.table, main) if table is not None and table.SORTS), None)

    def action_sort(self) -> None:
        """Sort by the next column."""
        if (table := self.sorted_table) is not None:
            self._remember(table.next_sort())

    def action_reverse(self) -> None:
        """Turn the order round."""
        if (table := self.sorted_table) is not None:
            self._remember(table.turn_round())

    def action_columns(self) -> None:
        """Choose the columns of the table that keys are about."""
        from cdnctl.console.screens.dialogs.columns import ColumnsDialog

        if (table := self.table) is not None:
            self.app.push_screen(ColumnsDialog(table), lambda _none: self._remember(""))

    def _remember(self, told: str) -> None:
        if problem := self.view.settings.save():
            self.said(problem, ok=False)
        elif told:
            self.said(told)
