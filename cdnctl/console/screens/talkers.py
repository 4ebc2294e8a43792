"""Talkers: who sends how much, how sure that is, and where from around there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.widget import Widget

from cdnctl.console import keys
from cdnctl.console.display import Display
from cdnctl.console.screens.house import House
from cdnctl.console.widgets import sources
from cdnctl.console.widgets.lines import Row
from cdnctl.console.widgets.sources import SourceTable
from cdnctl.console.widgets.table import LiveTable
from cdnctl.model import Frame, ListTalkers, Outcome, Talker

ASKED_EVERY = 4
"""Frames between two questions for more talkers than a frame has."""
MORE = 200


class Talkers(House):
    """The frame's talkers; where the agent is asked live, many more of them."""

    NAME = "talkers"
    MAIN = "sources"
    BINDINGS = keys.bindings_of(NAME)
    AUTO_FOCUS = "#sources"

    def __init__(self, display: Display) -> None:
        super().__init__(display)
        self._more: Sequence[Talker] = ()
        self._asked_for = -ASKED_EVERY
        """The frame that more were asked for at."""

    def panels(self) -> Iterable[Widget]:
        yield SourceTable("talkers", id="sources")

    def show_frame(self, frame: Frame) -> None:
        if not self.is_current:
            return  # under a dialog the order holds
        live = frame is self.view.newest and not self.session.lost
        if live and frame.seq - self._asked_for >= ASKED_EVERY:
            self._asked_for = frame.seq
            self.run_worker(self._ask_more(), exclusive=True, group="more")
        known = {talker.prefix for talker in frame.talkers}
        more = [talker for talker in self._more if talker.prefix not in known] if live else []
        self.query_one(SourceTable).update([*frame.talkers, *more], frame, self.session.history.frames)

    async def _ask_more(self) -> None:
        outcome = await self.session.request(ListTalkers(limit=MORE))
        self._more = outcome.talkers or ()

    def action_follow(self) -> None:
        """Keep the source under the cursor on top, or let it go."""
        table = self.query_one(SourceTable)
        name = str(table.current) if table.current is not None else ""
        table.followed = "" if table.followed == name else name
        table.resort()
        table.move_to(0)
        self.answer(Outcome(ok=True, text=f"follows {name}" if table.followed else "follows nobody"))

    def action_gather(self) -> None:
        """Gather by prefix or CDN."""
        self.said(f"by {self.query_one(SourceTable).next_view()}")

    def leave_mode(self) -> bool:
        table = self.query_one(SourceTable)
        if not table.followed:
            return False
        table.followed = ""
        table.resort()
        return True

    def meant(self) -> str | Talker:
        table = self.query_one(SourceTable)
        found = table.find(table.current)
        return found.talker if found and table.gathered != "CDN" else ""

    def drill(self, table: LiveTable) -> None:
        self.action_gather()

    def detail_of(self, table: LiveTable) -> Row:
        if isinstance(table, SourceTable) and (source := table.find(table.current)):
            return sources.detail(source)
        return ()
