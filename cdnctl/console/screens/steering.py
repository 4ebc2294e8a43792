"""Steering: what each CDN is asked for and has room for, the planner, services, customers and limits."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from textual.widget import Widget

from cdnctl.console import keys
from cdnctl.console.format import axis, clean, percent, scaled
from cdnctl.console.screens.dialogs.limit import LimitDialog
from cdnctl.console.screens.house import House
from cdnctl.console.widgets import cdns, planned
from cdnctl.console.widgets.lines import Row
from cdnctl.console.widgets.planned import PlanTable, expectations
from cdnctl.console.widgets.plot import Plot
from cdnctl.console.widgets.scale import linear
from cdnctl.console.widgets.steered import CustomerTable, ServiceTable, WantedTable
from cdnctl.console.widgets.table import LiveTable
from cdnctl.model import Frame, Outcome


class Steering(House):
    """Nothing is applied here: weights, drains and limits go through a plan."""

    NAME = "steering"
    MAIN = "customers"
    BINDINGS = keys.bindings_of(NAME)
    AUTO_FOCUS = "#wanted"

    def panels(self) -> Iterable[Widget]:
        yield WantedTable("CDNs", id="wanted")
        yield ServiceTable("services", id="services")
        yield PlanTable("planner", id="planned")
        yield Plot("Mbit/s, and what was expected", "Mb", axis, partial(linear, least_top=1.0), id="forecast")
        yield CustomerTable("customers", id="customers")

    def show_frame(self, frame: Frame) -> None:
        self.query_one(WantedTable).update(frame.cdns)
        self.query_one(ServiceTable).update(frame.services)
        self.query_one(PlanTable).update(frame.cdns, frame.planner)
        plot = self.query_one("#forecast", Plot)
        if plot.display:
            planner = frame.planner
            off = planner.error if planner is not None else None
            naive = planner.naive_error if planner is not None else None
            known = "" if off is None else f" · off by {percent(off)}, as a week ago {percent(naive or 0.0)}"
            plot.border_title = f"Mbit/s, and what was expected{known}"
            plot.draw(frame.monotonic_ns / 1e9, expectations(self.session.history.frames))
        if self.is_current:
            self.query_one(CustomerTable).update(frame.customers, frame.customers_total)

    def detail_of(self, table: LiveTable) -> Row:
        frame = self.frame
        if isinstance(table, WantedTable) and frame is not None:
            found = next((cdn for cdn in frame.cdns if cdn.name == table.current), None)
            return cdns.detail(found) if found else ()
        if isinstance(table, PlanTable) and frame is not None:
            planned_for = next((cdn for cdn in frame.cdns if cdn.name == table.current), None)
            return planned.detail(planned_for) if planned_for else ()
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
            self.view.cdn = str(table.current)
            self.console_app.action_go("cdns")

    def open_limit(self, newest: Frame) -> None:
        """What a customer may take."""
        table = self.query_one(CustomerTable)
        customer = table.find(table.current)
        if customer is None:
            self.answer(Outcome(ok=False, text="there is no customer to limit"))
        else:
            self._ask(LimitDialog(self.session, customer))
