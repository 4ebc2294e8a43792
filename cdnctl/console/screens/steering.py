"""Steering: what each CDN is asked for and has room for, services and policies, customers and limits."""

from __future__ import annotations

from collections.abc import Iterable

from textual.widget import Widget

from cdnctl.console.format import clean, scaled
from cdnctl.console.screens.dialogs.limit import LimitDialog
from cdnctl.console.screens.house import House
from cdnctl.console.widgets import cdns
from cdnctl.console.widgets.lines import Row
from cdnctl.console.widgets.steered import CustomerTable, ServiceTable, WantedTable
from cdnctl.console.widgets.table import LiveTable
from cdnctl.model import Frame, Outcome


class Steering(House):
    """Nothing is applied here: weights, drains and limits go through a plan."""

    NAME = "steering"
    MAIN = "customers"
    AUTO_FOCUS = "#wanted"

    def panels(self) -> Iterable[Widget]:
        yield WantedTable("CDNs", id="wanted")
        yield ServiceTable("services", id="services")
        yield CustomerTable("customers", id="customers")

    def show_frame(self, frame: Frame) -> None:
        self.query_one(WantedTable).update(frame.cdns)
        self.query_one(ServiceTable).update(frame.services)
        if self.is_current:
            self.query_one(CustomerTable).update(frame.customers, frame.customers_total)

    def detail_of(self, table: LiveTable) -> Row:
        frame = self.frame
        if isinstance(table, WantedTable) and frame is not None:
            found = next((cdn for cdn in frame.cdns if cdn.name == table.current), None)
            return cdns.detail(found) if found else ()
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
        elif isinstance(table, WantedTable):
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
