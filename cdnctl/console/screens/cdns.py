"""CDNs: each endpoint, how long handshakes took and take, who was out when, and why."""

from __future__ import annotations

from collections.abc import Iterable

from textual.widget import Widget

from cdnctl.console.format import clean
from cdnctl.console.screens.house import House
from cdnctl.console.widgets import endpoints, ticker
from cdnctl.console.widgets.endpoints import EndpointTable
from cdnctl.console.widgets.heat import HeatMap
from cdnctl.console.widgets.histogram import Histogram, facts
from cdnctl.console.widgets.lines import Lines, Row, heading
from cdnctl.console.widgets.regions import RegionTable
from cdnctl.console.widgets.table import LiveTable
from cdnctl.console.widgets.ticker import Ticker
from cdnctl.console.widgets.timeline import Timeline
from cdnctl.model import Cdn, Frame

REASONS = frozenset({"eject", "reopen", "probe", "rescue", "shift", "spill", "drain", "ports"})
"""Kinds of events that say why a CDN got more or less; besides those that name one."""


class Cdns(House):
    """What is drawn is of the CDN under the cursor."""

    NAME = "cdns"
    MAIN = "endpoints"
    AUTO_FOCUS = "#endpoints"

    def panels(self) -> Iterable[Widget]:
        yield EndpointTable("endpoints", id="endpoints")
        yield RegionTable("regions", id="regions")
        yield HeatMap(id="heat")
        yield Histogram(id="histogram")
        yield Timeline(id="timeline")
        yield Ticker("why", id="why")
        about = Lines(id="facts", classes="panel")
        about.border_title = "facts"
        yield about

    def show_frame(self, frame: Frame) -> None:
        table = self.query_one(EndpointTable)
        table.update(frame, self.session.history.frames)
        regions = self.query_one(RegionTable)
        regions.update(frame.cdns)
        self.set_class(bool(regions.records), "-regions")
        if self.view.cdn:
            table.go_to(self.view.cdn)
            self.view.cdn = ""
        self.query_one(Timeline).update(frame, self.view.sight(frame))
        told = [
            (number, event)
            for number, event in self.session.history.events
            if event.cdn or event.kind in REASONS
        ]
        self.query_one(Ticker).update(told)
        self._draw_chosen(frame)

    def _chosen(self, frame: Frame) -> Cdn | None:
        table = self.query_one(EndpointTable)
        found = table.find(table.current)
        return found[0] if found else next(iter(frame.cdns), None)

    def _draw_chosen(self, frame: Frame) -> None:
        cdn = self._chosen(frame)
        if cdn is None:
            return
        role = f"s{[each.name for each in frame.cdns].index(cdn.name)}"
        shown = clean(cdn.name, 32)
        self.query_one(HeatMap).update(cdn.name, shown, self.view.sight(frame))
        self.query_one(Histogram).update(cdn, role)
        about = self.query_one("#facts", Lines)
        about.border_title = heading(f"facts of {shown}")
        about.show(facts(cdn))

    def cursor_moved(self, table: LiveTable) -> None:
        if isinstance(table, EndpointTable) and self.frame is not None:
            self._draw_chosen(self.frame)

    def detail_of(self, table: LiveTable) -> Row:
        if isinstance(table, EndpointTable) and (found := table.find(table.current)):
            return endpoints.detail(*found)
        if isinstance(table, Ticker) and (event := table.find(table.current)):
            return ticker.detail(event)
        return ()

    def lay_out(self, width: int, height: int, size: str) -> None:
        frame = self.frame
        rows = sum(len(cdn.endpoints) for cdn in frame.cdns) if frame else 3
        cdns = len(frame.cdns) if frame else 3
        grid = self.query_one("#body").styles
        self.query_one("#why", Ticker).header = False
        if size == "small":
            grid.grid_rows = f"{min(rows + 2, max(5, height // 3))} 1fr {min(cdns + 2, height // 4)}"
        else:
            grid.grid_rows = f"{min(rows + 3, height // 3)} 1fr {max(min(cdns + 3, height // 3), 12)}"
