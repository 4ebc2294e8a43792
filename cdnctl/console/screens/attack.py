"""Attack: how hard it is for new flows and why, who sends, what each rule drops, and who gets through."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from textual.widget import Widget

from cdnctl.console.format import axis, clean, scaled
from cdnctl.console.screens.house import House
from cdnctl.console.widgets import talkers
from cdnctl.console.widgets.lines import Row
from cdnctl.console.widgets.plot import Plot, Series
from cdnctl.console.widgets.scale import logarithmic
from cdnctl.console.widgets.shield import BanTable, RuleTable, ShieldPanel, ban_detail
from cdnctl.console.widgets.table import LiveTable
from cdnctl.console.widgets.talkers import TalkerTable
from cdnctl.console.widgets.verdicts import VerdictTable
from cdnctl.model import Ban, Frame, Shield, Talker, Unblock

_FLOWS: tuple[tuple[str, str, Callable[[Frame], float | None]], ...] = (
    ("wanted", "accent", lambda frame: frame.shield.offered_flows_per_s or None),
    ("under way", "good", lambda frame: frame.shield.opened_per_s or None),
    ("shed", "bad", lambda frame: frame.shield.shed_per_s or None),
    ("challenged", "warn", lambda frame: frame.shield.challenged_per_s or None),
)
"""What is got under way beside what is wanted: honest clients get all of theirs."""


class Attack(House):
    """Sources, rules and bans, beside the new flows that got through."""

    NAME = "attack"
    MAIN = "sources"
    AUTO_FOCUS = "#sources"

    def panels(self) -> Iterable[Widget]:
        yield ShieldPanel(id="shield")
        yield Plot("new flows/s, logarithmic", "/s", axis, partial(logarithmic, least_top=100.0), id="flows")
        yield TalkerTable("sources", id="sources")
        yield RuleTable("rules", id="rules")
        yield BanTable("bans", id="bans")

    def show_frame(self, frame: Frame) -> None:
        self.query_one(ShieldPanel).update(
            frame.shield, frame.at_ns, is_known=frame.planner is not None or frame.shield != Shield()
        )
        sight = self.view.sight(frame)
        self.query_one("#flows", Plot).draw(
            sight,
            [
                Series(name, role, list(sight.history.series(value)), scaled(value(frame) or 0))
                for name, role, value in _FLOWS
            ],
        )
        self.query_one(RuleTable).update(frame, self.session.history.frames)
        self.query_one(BanTable).update(frame.autoban, frame.at_ns)
        if self.is_current:  # under a dialog the order holds
            self.query_one(TalkerTable).update(frame.talkers, [cdn.name for cdn in frame.cdns])

    def detail_of(self, table: LiveTable) -> Row:
        key = table.current
        if isinstance(table, TalkerTable) and (talker := table.find(key)):
            return talkers.detail(talker)
        if isinstance(table, VerdictTable) and (verdict := table.find(key)):
            return ((clean(verdict.explanation, 300), "text"),)
        if isinstance(table, BanTable) and (found := table.find(key)):
            return ban_detail(found)
        return ()

    def drill(self, table: LiveTable) -> None:
        places = {"sources": "talkers", "rules": "drops", "bans": "lists"}
        self.console_app.action_go(places[table.id or "sources"])

    def meant(self) -> str | Talker:
        table = self.focused
        if isinstance(table, TalkerTable):
            return table.find(table.current) or ""
        return str(table.current or "") if isinstance(table, BanTable) else ""

    def open_unblock(self, newest: Frame) -> None:
        """Lift the ban under the cursor."""
        table = self.focused
        found = table.find(table.current) if isinstance(table, BanTable) else None
        if isinstance(found, Ban):
            self.plan(Unblock(prefix=found.prefix, source="auto"))
        else:
            super().open_unblock(newest)

    def lay_out(self, width: int, height: int, size: str) -> None:
        grid = self.query_one("#body").styles
        grid.grid_rows = {"small": "8 2fr 1fr", "medium": "9 3fr 2fr", "large": "12 3fr 2fr"}[size]
