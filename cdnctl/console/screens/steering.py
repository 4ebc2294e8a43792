"""Steering: what each CDN is asked for and has room for, the planner, services, customers and limits."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from textual.widget import Widget

from cdnctl.console.format import axis, clean, percent, scaled
from cdnctl.console.screens.dialogs.limit import LimitDialog
from cdnctl.console.screens.house import House
from cdnctl.console.widgets import cdns
from cdnctl.console.widgets.lines import Row
from cdnctl.console.widgets.planned import PlanTable, expectations
from cdnctl.console.widgets.plot import Plot, Series
from cdnctl.console.widgets.scale import Scale, linear
from cdnctl.console.widgets.steered import CustomerTable, ServiceTable, WantedTable
from cdnctl.console.widgets.table import LiveTable
from cdnctl.model import Frame, Outcome


class Steering(House):
    """Nothing is applied here: weights, drains and limits go through a plan."""

    NAME = "steering"
    MAIN = "customers"
    AUTO_FOCUS = "#wanted"

    _rows = 0
    """Of CDNs or services, whichever are more."""

    def panels(self) -> Iterable[Widget]:
        yield WantedTable("CDNs", id="wanted")
        yield ServiceTable("services", id="services")
        yield PlanTable("planner", id="planned")
        yield Plot("share of new flows, %", "%", axis, _percentages, id="shares")
        yield Plot("Mbit/s, and what was expected", "Mb", axis, partial(linear, least_top=1.0), id="forecast")
        yield CustomerTable("customers", id="customers")

    def show_frame(self, frame: Frame) -> None:
        self.query_one(WantedTable).update(frame.cdns)
        self.query_one(ServiceTable).update(frame.services, [cdn.name for cdn in frame.cdns])
        self.query_one(PlanTable).update(frame.cdns, frame.planner)
        rows = max(len(frame.cdns), len(frame.services))
        if rows != self._rows:
            self._rows = rows
            self.rearrange()
        self._draw_shares(frame)
        self._draw_forecast(frame)
        if self.is_current:
            self.query_one(CustomerTable).update(frame.customers, frame.customers_total)

    def _draw_shares(self, frame: Frame) -> None:
        plot = self.query_one("#shares", Plot)
        if plot.display:
            sight = self.view.sight(frame)
            plot.draw(
                sight,
                [
                    Series(
                        clean(cdn.name, 32),
                        f"s{index}",
                        list(sight.history.series(partial(_share, cdn.name))),
                        percent(cdn.share),
                    )
                    for index, cdn in enumerate(frame.cdns)
                ],
            )

    def _draw_forecast(self, frame: Frame) -> None:
        plot, planner = self.query_one("#forecast", Plot), frame.planner
        if plot.display:
            off = planner.error if planner is not None else None
            naive = planner.naive_error if planner is not None else None
            known = "" if off is None else f" · off by {percent(off)}, as a week ago {percent(naive or 0.0)}"
            plot.border_title = f"Mbit/s, and what was expected{known}"
            sight = self.view.sight(frame)
            plot.draw(sight, expectations(sight.history.frames))

    def lay_out(self, width: int, height: int, size: str) -> None:
        top = min(max(4, self._rows) + 3, height // 3)
        rows = "1fr 5 1fr" if size == "small" else f"{top} 1fr 1fr"
        self.query_one("#body").styles.grid_rows = rows

    def detail_of(self, table: LiveTable) -> Row:
        frame = self.frame
        if isinstance(table, WantedTable) and frame is not None:
            found = next((cdn for cdn in frame.cdns if cdn.name == table.current), None)
            return cdns.detail(found) if found else ()
        if isinstance(table, PlanTable):
            return table.detail()
        if isinstance(table, CustomerTable) and (customer := table.find(table.current)):
            return (
                (clean(customer.name, 32), "text bold"),
                (f"  {clean(', '.join(customer.prefixes), 120)}", "muted"),
                (f"  {scaled(customer.packets_total)} packets let through,", "muted"),
                (f" {scaled(customer.dropped_total)} dropped since load", "muted"),
            )
        if isinstance(table, ServiceTable) and table.current is not None:
            return ((clean(str(table.current), 120), "text"),)
        return ()

    def drill(self, table: LiveTable) -> None:
        if isinstance(table, CustomerTable):
            self.action_change("limit")
        elif isinstance(table, WantedTable | PlanTable):
            self.view.cdn = str(table.current if isinstance(table, WantedTable) else table.cdn)
            self.console_app.action_go("cdns")

    def open_limit(self, newest: Frame) -> None:
        """What a customer may take."""
        table = self.query_one(CustomerTable)
        customer = table.find(table.current)
        if customer is None:
            self.answer(Outcome(ok=False, text="there is no customer to limit"))
        else:
            self._ask(LimitDialog(self.session, customer))


def _share(name: str, frame: Frame) -> float | None:
    """A CDN's, in per cent."""
    return next((100 * cdn.share for cdn in frame.cdns if cdn.name == name), None)


def _percentages(_values: list[float]) -> Scale:
    """All of it, whatever is in sight: half of the height is half of the flows."""
    return Scale(0.0, 100.0)
