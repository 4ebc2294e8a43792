"""The one screen: what the edge does now, and the keys that act on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from textual import events
from textual.app import ComposeResult
from textual.containers import Container
from textual.screen import Screen

from cdnctl.console import keys
from cdnctl.console.format import NONE, axis, clean, clock, duration, ms, scaled
from cdnctl.console.screens.dialogs.arm import ArmDialog
from cdnctl.console.screens.dialogs.back import BackDialog
from cdnctl.console.screens.dialogs.block import BlockDialog
from cdnctl.console.screens.dialogs.help import HelpDialog
from cdnctl.console.screens.dialogs.quit import QuitDialog
from cdnctl.console.screens.dialogs.unblock import UnblockDialog
from cdnctl.console.screens.dialogs.weights import WeightsDialog
from cdnctl.console.session import STALE_S, Session
from cdnctl.console.widgets import cdns, drops, talkers, ticker
from cdnctl.console.widgets.cdns import CdnTable
from cdnctl.console.widgets.drops import DropTable
from cdnctl.console.widgets.headline import Headline
from cdnctl.console.widgets.lines import Row, Span
from cdnctl.console.widgets.notices import AnswerLine, Banner, Footer, TooSmall
from cdnctl.console.widgets.plot import Plot, Series
from cdnctl.console.widgets.scale import linear, logarithmic
from cdnctl.console.widgets.table import LiveTable
from cdnctl.console.widgets.talkers import TalkerTable
from cdnctl.console.widgets.ticker import Ticker
from cdnctl.model import Cdn, Confirm, Frame, Outcome, Pending, Revert, Undo

SMALLEST = (80, 24)
MEDIUM = (110, 34)
LARGE = (170, 44)
TRAFFIC_FROM = 38
"""Height from which the medium layout has room for the traffic plot too."""
TICK_S = 0.5
SHORT_STATES = {"partly": "partly", "out": "out", "probing": "probes", "drained": "drain"}
"""What the plot's legend says of a CDN that was not measured."""
_TRAFFIC: tuple[tuple[str, str, Callable[[Frame], float | None]], ...] = (
    ("in", "accent", lambda frame: frame.totals.received_pps),
    ("forwarded", "good", lambda frame: frame.totals.forwarded_pps),
    ("dropped", "bad", lambda frame: frame.totals.dropped_pps or None),  # no red line for no drops
)


class Overview(Screen[None]):
    """Shows the session's newest frame, or the one it was frozen at."""

    BINDINGS = keys.bindings(keys.OVERVIEW)
    AUTO_FOCUS = "#cdns"

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.frozen: Frame | None = None
        self._due = False
        self._rows_of_cdns = 0

    def compose(self) -> ComposeResult:
        yield Headline(id="headline")
        yield Banner(id="banner")
        with Container(id="body"):
            yield CdnTable("CDNs", id="cdns")
            yield Plot(
                "handshake p95 in ms, logarithmic",
                "ms",
                axis,
                partial(logarithmic, least_top=20.0),
                id="latency",
            )
            yield Plot("traffic in packets/s", "pps", axis, partial(linear, least_top=100.0), id="traffic")
            yield DropTable("drops", id="drops")
            yield TalkerTable("top talkers", id="talkers")
            yield Ticker("events", id="events")
        yield TooSmall(id="too-small")
        yield AnswerLine(id="answer")
        yield Footer(id="footer")

    def on_mount(self) -> None:
        self.set_interval(TICK_S, self._tick)
        self._tick()
        self._draw_footer()

    # --- frames -----------------------------------------------------------------------------------

    @property
    def frame(self) -> Frame | None:
        """The frame on display."""
        return self.frozen or self.session.history.newest

    def news(self) -> None:
        """Something came in: draw it, once for all that came in together."""
        if not self._due:
            self._due = True
            self.call_later(self._draw_news)

    def _draw_news(self) -> None:
        self._due = False
        if self.is_mounted:
            self._tick()
            if self.frozen is None:
                self.draw()

    def draw(self) -> None:
        """Show the frame on display, and what led to it."""
        frame = self.frame
        if frame is None:
            return
        if len(frame.cdns) != self._rows_of_cdns:
            self._rows_of_cdns = len(frame.cdns)
            self._arrange()
        self.query_one(CdnTable).update(frame.cdns)
        self.query_one(DropTable).update(frame.verdicts)
        if self.is_current:  # under a dialog the order holds
            self.query_one(TalkerTable).update(frame.talkers, [cdn.name for cdn in frame.cdns])
        self.query_one(Ticker).update(self.session.history.events)
        self._draw_plots(frame)
        self._draw_detail()
        self._draw_footer()

    def _draw_plots(self, frame: Frame) -> None:
        history, now_s = self.session.history, frame.monotonic_ns / 1e9
        latency = [
            Series(
                clean(cdn.name, 32),
                f"s{index}",
                list(history.series(lambda past, name=cdn.name: _p95(past, name))),  # type: ignore[misc]
                ms(cdn.handshake_p95_ms)
                if cdn.handshake_p95_ms is not None
                else SHORT_STATES.get(cdn.state, NONE),
            )
            for index, cdn in enumerate(frame.cdns)
        ]
        self.query_one("#latency", Plot).draw(now_s, latency)
        traffic = self.query_one("#traffic", Plot)
        if traffic.display:
            traffic.draw(
                now_s,
                [
                    Series(name, role, list(history.series(value)), scaled(value(frame) or 0))
                    for name, role, value in _TRAFFIC
                ],
            )

    # --- headline, banner, footer -----------------------------------------------------------------

    def _tick(self) -> None:
        frame = self.frame
        edge = self.session.edge or (frame.edge if frame else "")
        self.query_one(Headline).update(frame, edge, self._age_s(frame))
        self.query_one(Banner).say(self._banner(frame))

    def _age_s(self, frame: Frame | None) -> float:
        newest = self.session.history.newest
        if frame is None or newest is None:
            return 0.0
        return self.session.silent_s + (newest.monotonic_ns - frame.monotonic_ns) / 1e9

    def _banner(self, frame: Frame | None) -> list[Span]:
        spans: list[Span] = []
        silent_s = self.session.silent_s
        if self.session.lost and (frame is not None or silent_s > STALE_S):
            spans.append((f"▲ AGENT LOST  {self.session.lost}; trying again", "background on bad bold"))
        if frame is not None and silent_s >= STALE_S:
            at = clock(self.session.history.newest.at_ns) if self.session.history.newest else ""
            spans.append(
                (f"▲ STALE  no frame for {duration(silent_s)}, since {at}", "background on bad bold")
            )
        newest = self.session.history.newest
        if newest is not None and newest.pending is not None:
            spans.append((_waiting(newest.pending, silent_s), "background on warn bold"))
        if self.frozen is not None:
            newer = (self.session.history.newest or self.frozen).seq - self.frozen.seq
            text = f"❙❙ FROZEN at {clock(self.frozen.at_ns)}  {newer:,} newer frames · space goes on"
            spans.append((text, "background on warn bold"))
        return spans

    def _draw_footer(self) -> None:
        frame = self.frame
        armed = frame is None or (frame.armed and not frame.bypassed)
        labels = {"disarm": "disarm" if armed else "arm", "freeze": "go on" if self.frozen else "freeze"}
        self.query_one(Footer).update(read_only=bool(self.session.read_only), labels=labels)

    def _draw_detail(self) -> None:
        self.query_one(AnswerLine).detail(self._detail())

    def _detail(self) -> Row:
        table = self.focused
        key = table.current if isinstance(table, LiveTable) else None
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

    # --- layout -----------------------------------------------------------------------------------

    def on_resize(self, event: events.Resize) -> None:
        self._arrange()
        self.call_after_refresh(self.draw)

    def _arrange(self) -> None:
        width, height = self.app.size
        small = width < MEDIUM[0] or height < MEDIUM[1]
        large = width >= LARGE[0] and height >= LARGE[1]
        tiny = width < SMALLEST[0] or height < SMALLEST[1]
        self.set_class(tiny, "-tiny")
        self.set_class(small, "-small")
        self.set_class(not small and not large, "-medium")
        self.set_class(large, "-large")
        traffic = large or (not small and height >= TRAFFIC_FROM)
        self.set_class(traffic, "-traffic")
        if tiny:
            self.query_one(TooSmall).say(width, height, SMALLEST)
            return
        cdn_rows = max(1, self._rows_of_cdns) + 1
        grid = self.query_one("#body").styles
        self.query_one(Ticker).header = not small
        if small:
            more = height - SMALLEST[1]
            shown = min(cdn_rows, 6 + more // 3) + 1
            grid.grid_rows = f"{shown} 1fr {6 + more // 3} {3 + more // 4}"
        else:
            shown = min(cdn_rows + 2, max(7, height // 4))
            drops = " 7" if traffic and not large else ""
            grid.grid_rows = f"{shown} 1fr{drops} {max(13, height // 3)}"

    # --- keys that look ---------------------------------------------------------------------------

    def action_help(self) -> None:
        """All keys and words."""
        self.app.push_screen(HelpDialog())

    def action_freeze(self) -> None:
        """Hold the display, or let it go on."""
        self.frozen = None if self.frozen else self.session.history.newest
        self._tick()
        self.draw()

    def action_sort(self) -> None:
        """Sort the talkers by the next column."""
        self.query_one(TalkerTable).next_sort()

    def action_reverse(self) -> None:
        """Turn the talkers' order round."""
        self.query_one(TalkerTable).turn_round()

    def action_clear(self) -> None:
        """Take the message away."""
        self.query_one(AnswerLine).dismiss()

    def action_focus_panel(self, step: int) -> None:
        """The focus to the next table."""
        shown = [table for table in self.query(LiveTable) if table.display]
        at = (
            shown.index(self.focused) if isinstance(self.focused, LiveTable) and self.focused in shown else -1
        )
        self.set_focus(shown[(at + step) % len(shown)])
        self._draw_detail()

    def action_cursor(self, step: int) -> None:
        """The cursor of the focused table up or down."""
        if isinstance(self.focused, LiveTable):
            self.focused.move_to(self.focused.cursor + step)
            self._draw_detail()

    def action_cursor_first(self) -> None:
        """To the first row."""
        self.action_cursor(-1_000_000)

    def action_cursor_last(self) -> None:
        """To the last row."""
        self.action_cursor(1_000_000)

    def on_descendant_focus(self) -> None:
        self._draw_detail()

    # --- keys that change the edge ----------------------------------------------------------------

    def action_change(self, name: str) -> None:
        """The one gate before everything that changes the edge."""
        if reason := self.session.read_only:
            self.answer(Outcome(ok=False, text=f"read only: {reason}"))
            return
        frame = self.frame
        if frame is None:
            self.answer(Outcome(ok=False, text="no frame has come in yet"))
            return
        getattr(self, f"_open_{name}")(frame)

    def _open_block(self, frame: Frame) -> None:
        table = self.query_one(TalkerTable)
        talker = table.find(table.current) if self.focused is table else None
        talker = talker or max(frame.talkers, key=lambda talker: talker.pps, default=None)
        self.app.push_screen(BlockDialog(self.session, talker), self.answer)

    def _open_unblock(self, frame: Frame) -> None:
        newest = self.session.history.newest or frame
        self.app.push_screen(UnblockDialog(self.session, newest.blocks, newest.blocks_wanted), self.answer)

    def _open_weights(self, frame: Frame) -> None:
        newest = self.session.history.newest or frame
        table = self.query_one(CdnTable)
        at = str(table.current) if self.focused is table else ""
        if not newest.cdns:
            self.answer(Outcome(ok=False, text="there is no CDN to weigh"))
            return
        self.app.push_screen(WeightsDialog(self.session, newest.cdns, at), self.answer)

    def _open_disarm(self, frame: Frame) -> None:
        newest = self.session.history.newest or frame
        self.app.push_screen(ArmDialog(self.session, not newest.armed or newest.bypassed), self.answer)

    def _open_confirm(self, frame: Frame) -> None:
        self.app.push_screen(BackDialog(self.session, Confirm()), self.answer)

    def _open_undo(self, frame: Frame) -> None:
        newest = self.session.history.newest or frame
        self.app.push_screen(BackDialog(self.session, Revert() if newest.pending else Undo()), self.answer)

    def action_leave(self) -> None:
        """Ask how to quit."""
        self.app.push_screen(QuitDialog(self.session), self.answer)

    def answer(self, outcome: Outcome | None) -> None:
        """Show what became of a change."""
        if outcome is not None:
            self.query_one(AnswerLine).answer(outcome)


def _waiting(pending: Pending, silent_s: float) -> str:
    left_s = max(0.0, pending.left_s - silent_s)
    if pending.trouble:
        return f"▲ CANNOT REVERT  {clean(pending.cli, 60)}: {clean(pending.trouble, 80)}"
    return (
        f"▲ CONFIRM  reverts in {duration(left_s)}: {clean(pending.cli, 60)} by {clean(pending.by, 20)}"
        " · c keeps it · z takes it back"
    )


def _p95(frame: Frame, name: str) -> float | None:
    return next((cdn.handshake_p95_ms for cdn in frame.cdns if cdn.name == name), None)
