"""The first screen: what the edge does now, at a glance."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from textual.widget import Widget

from cdnctl.console.display import Display
from cdnctl.console.format import NONE, axis, clean, ms, scaled
from cdnctl.console.screens.house import House
from cdnctl.console.widgets import cdns, drops, talkers, ticker
from cdnctl.console.widgets.cdns import CdnTable
from cdnctl.console.widgets.drops import DropTable
from cdnctl.console.widgets.lines import Row
from cdnctl.console.widgets.plot import Plot, Series
from cdnctl.console.widgets.scale import linear, logarithmic
from cdnctl.console.widgets.table import LiveTable
from cdnctl.console.widgets.talkers import TalkerTable
from cdnctl.console.widgets.ticker import Ticker
from cdnctl.model import Cdn, Frame, Talker

TRAFFIC_FROM = 38
"""Height from which the medium layout has room for the traffic plot too."""
SHORT_STATES = {"partly": "partly", "out": "out", "probing": "probes", "drained": "drain"}
"""What the plot's legend says of a CDN that was not measured."""
_TRAFFIC: tuple[tuple[str, str, Callable[[Frame], float | None]], ...] = (
    ("in", "accent", lambda frame: frame.totals.received_pps),
    ("forwarded", "good", lambda frame: frame.totals.forwarded_pps),
    ("dropped", "bad", lambda frame: frame.totals.dropped_pps or None),  # no red line for no drops
    ("challenged", "warn", lambda frame: frame.shield.challenged_per_s or None),
)


class Overview(House):
    """CDNs, latency, traffic, drops, talkers, events."""

    NAME = "overview"
    MAIN = "talkers"
    AUTO_FOCUS = "#cdns"

    def __init__(self, display: Display) -> None:
        super().__init__(display)
        self._rows_of_cdns = 0

    def panels(self) -> Iterable[Widget]:
        yield CdnTable("CDNs", id="cdns")
        yield Plot(
            "handshake p95 in ms, logarithmic", "ms", axis, partial(logarithmic, least_top=20.0), id="latency"
        )
        yield Plot("traffic in packets/s", "pps", axis, partial(linear, least_top=100.0), id="traffic")
        yield DropTable("drops", id="drops")
        yield TalkerTable("top talkers", id="talkers")
        yield Ticker("events", id="events")

    def show_frame(self, frame: Frame) -> None:
        if len(frame.cdns) != self._rows_of_cdns:
            self._rows_of_cdns = len(frame.cdns)
            self.rearrange()
        self.query_one(CdnTable).update(frame.cdns)
        self.query_one(DropTable).update(frame.verdicts)
        if self.is_current:  # under a dialog the order holds
            self.query_one(TalkerTable).update(frame.talkers, [cdn.name for cdn in frame.cdns])
        self.query_one(Ticker).update(self.session.history.events)
        self._draw_plots(frame)

    def _draw_plots(self, frame: Frame) -> None:
        sight = self.view.sight(frame)
        latency = [
            Series(
                clean(cdn.name, 32),
                f"s{index}",
                list(sight.history.series(lambda past, name=cdn.name: _p95(past, name))),  # type: ignore[misc]
                ms(cdn.handshake_p95_ms)
                if cdn.handshake_p95_ms is not None
                else SHORT_STATES.get(cdn.state, NONE),
            )
            for index, cdn in enumerate(frame.cdns)
        ]
        self.query_one("#latency", Plot).draw(sight, latency)
        traffic = self.query_one("#traffic", Plot)
        if traffic.display:
            traffic.draw(
                sight,
                [
                    Series(name, role, list(sight.history.series(value)), scaled(value(frame) or 0))
                    for name, role, value in _TRAFFIC
                    if name != "challenged" or any(value(past) for past in sight.history.frames)
                ],
            )

    def detail_of(self, table: LiveTable) -> Row:
        key = table.current
        if isinstance(table, TalkerTable) and (talker := table.find(key)):
            return talkers.detail(talker)
        if isinstance(table, DropTable) and (verdict := table.find(key)):
            return drops.detail(verdict)
        if isinstance(table, Ticker) and (event := table.find(key)):
            return ticker.detail(event)
        if isinstance(table, CdnTable) and (cdn := self._cdn(key)):
            return cdns.detail(cdn)
        return ()

    def _cdn(self, name: object) -> Cdn | None:
        return next((cdn for cdn in self.frame.cdns if cdn.name == name), None) if self.frame else None

    def drill(self, table: LiveTable) -> None:
        if isinstance(table, CdnTable):
            self.view.cdn = str(table.current)
        names = {"cdns": "cdns", "drops": "drops", "talkers": "talkers", "events": "journal"}
        self.console_app.action_go(names[table.id or "cdns"])

    def meant(self) -> str | Talker:
        table = self.query_one(TalkerTable)
        return (table.find(table.current) if self.focused is table else None) or ""

    def lay_out(self, width: int, height: int, size: str) -> None:
        small, large = size == "small", size == "large"
        traffic = large or (not small and height >= TRAFFIC_FROM)
        self.set_class(traffic, "-traffic")
        cdn_rows = max(1, self._rows_of_cdns) + 1
        grid = self.query_one("#body").styles
        self.query_one(Ticker).header = not small
        if small:
            more = max(0, height - 24)
            shown = min(cdn_rows, 6 + more // 3) + 1
            grid.grid_rows = f"{shown} 1fr {6 + more // 3} {3 + more // 4}"
        else:
            shown = min(cdn_rows + 2, max(7, height // 4))
            drops = " 7" if traffic and not large else ""
            grid.grid_rows = f"{shown} 1fr{drops} {max(13, height // 3)}"


def _p95(frame: Frame, name: str) -> float | None:
    return next((cdn.handshake_p95_ms for cdn in frame.cdns if cdn.name == name), None)
