"""Weights and drains, with the shares they lead to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from textual import events
from textual.widget import Widget

from cdnctl.console.format import clean, fit, percent
from cdnctl.console.screens.dialogs.base import ChangeDialog
from cdnctl.console.screens.dialogs.parts import PickTable
from cdnctl.console.screens.dialogs.shares import consequences, moving_risk, with_returning
from cdnctl.console.session import Session
from cdnctl.console.widgets.bars import bar
from cdnctl.console.widgets.cdns import STATES
from cdnctl.console.widgets.lines import Lines, Row, Span
from cdnctl.console.widgets.table import Cell, Column, Record
from cdnctl.model import AnyChange, Cdn, Drain, Outcome, SetWeights, Undrain

HEAVIEST = 1000


@dataclass
class Plan:
    """What is planned for one CDN."""

    weight: int
    drained: bool


class WeightTable(PickTable):
    """One row a CDN: its weight and share now, and as planned."""

    COLUMNS = (
        Column("name", " CDN", 10, right=False, flex=True),
        Column("state", "state", 9, right=False),
        Column("now", "weight", 6),
        Column("share", "share", 5),
        Column("arrow", "", 1),
        Column("plan", "planned", 8),
        Column("then", "share", 5),
        Column("bar", "", 12, right=False),
    )


class WeightsDialog(ChangeDialog):
    """Edits the plan of each CDN; nothing is sent before ctrl+s but dry runs."""

    TITLE_TEXT = "Weights and drains"
    CONFIRM_TEXT = "Apply"
    WIDTH = 76
    SECTIONS = ("dialog", "weights-dialog")

    def __init__(self, session: Session, cdns: Sequence[Cdn], at: str) -> None:
        """`at` names the CDN under the cursor at first."""
        super().__init__(session)
        self._cdns = cdns
        self._plans = {cdn.name: Plan(cdn.wanted_weight, cdn.state == "drained") for cdn in cdns}
        self._then: Mapping[str, float] = {cdn.name: cdn.effective_share for cdn in cdns}
        self._start = next((index for index, cdn in enumerate(cdns) if cdn.name == at), 0)
        self._typing = False

    def body(self) -> Sequence[Widget]:
        table = WeightTable("", id="weights")
        table.can_focus = False
        table.styles.height = min(14, len(self._cdns) + 2)
        return (table, Lines(id="about"))

    def on_mount(self) -> None:
        self.query_one("#box").border_subtitle = "← → by 5 · type a weight · space drains"
        self._redraw()
        self._table.move_to(self._start)

    @property
    def _table(self) -> WeightTable:
        return self.query_one("#weights", WeightTable)

    @property
    def _here(self) -> Plan:
        return self._plans[self._cdns[self._table.cursor].name]

    # --- the plan ---------------------------------------------------------------------------------

    def changes(self) -> list[AnyChange]:
        """Undrains first and drains last, so that no moment in between has fewer CDNs than either end."""
        undrains: list[AnyChange] = []
        drains: list[AnyChange] = []
        weights: dict[str, int] = {}
        for cdn in self._cdns:
            plan = self._plans[cdn.name]
            if plan.weight != cdn.wanted_weight:
                weights[cdn.name] = plan.weight
            if plan.drained and cdn.state != "drained":
                drains.append(Drain(cdn=cdn.name))
            elif cdn.state == "drained" and not plan.drained:
                undrains.append(Undrain(cdn=cdn.name))
        return [*undrains, *([SetWeights(weights=weights)] if weights else []), *drains]

    async def dry_run(self, wanted: list[AnyChange]) -> Outcome | None:
        """One change is tried as it is. Several are tried as weights (a drain is a weight of 0)."""
        if not wanted:
            self._then = {cdn.name: cdn.effective_share for cdn in self._cdns}
            return None
        if len(wanted) == 1:
            outcome = await self.session.request(msgspec.structs.replace(wanted[0], dry_run=True))
        else:
            outcome = await self._try_together()
        if outcome.ok and outcome.shares is not None:
            self._then = outcome.shares
        return outcome

    async def try_whole(self, wanted: list[AnyChange]) -> Outcome:
        """Several are judged by what they lead to together: one of them alone may be refused."""
        return await super().try_whole(wanted) if len(wanted) == 1 else await self._try_together()

    async def _try_together(self) -> Outcome:
        weights = {name: 0 if plan.drained else plan.weight for name, plan in self._plans.items()}
        returning = {cdn.name for cdn in self._cdns if cdn.state == "drained"} & {
            name for name, weight in weights.items() if weight
        }
        now = await self._shares_now() if returning else {}
        outcome = await self.session.request(SetWeights(weights=weights, dry_run=True))
        if not outcome.ok or not outcome.shares:
            return outcome
        left = self._left_by_planner(weights)
        by_service = {
            name: with_returning(its, {cdn: left[cdn] for cdn in its}, returning)
            for name, its in (outcome.service_shares or {}).items()
        }
        shares = with_returning(outcome.shares, left, returning)
        return msgspec.structs.replace(
            outcome,
            text="the shares this leads to are shown above",
            risk=outcome.risk or moving_risk(now, shares),
            shares=shares,
            service_shares=by_service or None,
        )

    def _left_by_planner(self, weights: Mapping[str, int]) -> Mapping[str, float]:
        """The part of each weight that comes into force, as the agent's shares have it."""
        newest = self.session.live.newest
        if newest is None or newest.planner is None or not newest.planner.acts:
            return weights
        kept = {cdn.name: cdn.plan.factor for cdn in newest.cdns if not cdn.plan.pinned}
        return {name: weight * kept.get(name, 1.0) for name, weight in weights.items()}

    async def _shares_now(self) -> Mapping[str, float]:
        """By weights, drains and the planner alone: what `_try_together` can be compared with."""
        weights = {cdn.name: 0 if cdn.state == "drained" else cdn.wanted_weight for cdn in self._cdns}
        outcome = await self.session.request(SetWeights(weights=weights, dry_run=True))
        return outcome.shares or {}

    def show_preview(self, outcome: Outcome | None) -> None:
        self._redraw()
        about, rows = self.query_one("#about", Lines), consequences(self._cdns, self._then)
        about.styles.height = len(rows)
        about.show(rows)
        if outcome is not None and outcome.ok and outcome.service_shares:
            each = "; ".join(f"{name}: {_briefly(its)}" for name, its in outcome.service_shares.items())
            outcome = msgspec.structs.replace(outcome, text=f"by service: {each}")
        super().show_preview(outcome)

    # --- the keys ---------------------------------------------------------------------------------

    def action_move(self, step: int) -> None:
        """Move the cursor, round the ends."""
        self._typing = False
        self._table.move_to((self._table.cursor + step) % len(self._cdns))

    def action_step(self, by: int) -> None:
        """More or less weight."""
        self._set_weight(self._here.weight + by)

    def action_drain(self) -> None:
        """Drain, or take back."""
        self._here.drained = not self._here.drained
        self._edited()

    def action_erase(self) -> None:
        """Take the last digit away."""
        self._set_weight(self._here.weight // 10)
        self._typing = True

    def on_key(self, event: events.Key) -> None:
        if event.character and event.character in "0123456789":
            event.stop()
            typed = self._here.weight * 10 if self._typing else 0
            self._set_weight(typed + int(event.character))
            self._typing = True

    def _set_weight(self, weight: int) -> None:
        self._here.weight = max(0, min(HEAVIEST, weight))
        self._typing = False
        self._edited()

    def _edited(self) -> None:
        self._redraw()
        self.input_changed()

    # --- drawing ----------------------------------------------------------------------------------

    def _redraw(self) -> None:
        self._table.fill([Record(cdn.name, self._cells(cdn, index)) for index, cdn in enumerate(self._cdns)])

    def _cells(self, cdn: Cdn, index: int) -> dict[str, Cell]:
        plan, series = self._plans[cdn.name], f"s{index}"
        then = self._then.get(cdn.name, 0.0)
        changed = plan.weight != cdn.wanted_weight or plan.drained != (cdn.state == "drained")
        mark: Span = ("▌", series)
        planned = (
            ("drained", "warn bold")
            if plan.drained
            else (str(plan.weight), "accent bold" if changed else "text")
        )

        def named(width: int) -> Row:
            return (mark, (fit(clean(cdn.name, 32), width - 1), "text bold"))

        return {
            "name": named,
            "state": STATES.get(cdn.state, ("?", "warn")),
            "now": (str(cdn.wanted_weight), "muted"),
            "share": (percent(cdn.effective_share), "muted"),
            "arrow": ("→", "accent" if changed else "muted"),
            "plan": planned,
            "then": (percent(then), "text bold"),
            "bar": lambda width: bar(then, width, series),
        }


def _briefly(shares: Mapping[str, float]) -> str:
    """`borealis 50%, corona 50%`."""
    return ", ".join(f"{name} {percent(share)}" for name, share in shares.items() if share) or "nobody"
