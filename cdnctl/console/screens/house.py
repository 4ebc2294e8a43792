"""What all screens have in common: headline, banner, footer, the keys of the house, and the one gate.

A screen adds its panels, says what they show of a frame, and what the row under the cursor means. What
changes the edge goes through `action_change`, whatever asked for it: a key, the palette or the command
line.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from textual.app import ComposeResult
from textual.containers import Container
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget

from cdnctl.console import keys
from cdnctl.console.display import Display
from cdnctl.console.filters import Filter
from cdnctl.console.format import clean, clock, duration
from cdnctl.console.pace import Pace
from cdnctl.console.screens.arrangement import Arrangement
from cdnctl.console.screens.gate import Gate
from cdnctl.console.screens.speaking import Speaking
from cdnctl.console.screens.travel import Travel
from cdnctl.console.session import STALE_S, Session
from cdnctl.console.widgets.headline import Headline
from cdnctl.console.widgets.lines import Row, Span
from cdnctl.console.widgets.notices import OF_A_TAPE, AnswerLine, Banner, Footer, Tabs, TooSmall
from cdnctl.console.widgets.prompt import Prompt
from cdnctl.console.widgets.table import LiveTable
from cdnctl.console.widgets.ticker import Ticker
from cdnctl.console.widgets.transport import TransportLine
from cdnctl.model import Frame, HeldBack, Outcome, Pending

if TYPE_CHECKING:
    from cdnctl.console.app import ConsoleApp

TICK_S = 0.5
_PARTS = (Headline, Banner, TransportLine)
"""What every tick writes to."""


class House(Arrangement, Gate, Speaking, Travel, Screen[None]):  # type: ignore[misc]  # they name what a screen has
    """A screen of the console; it shows the frame on display while it is the current one."""

    NAME = ""
    """As in `keys.SCREENS`."""
    MAIN = ""
    """The id of the table that sorts, filters and exports are about unless another has the focus."""

    def __init__(self, display: Display) -> None:
        super().__init__()
        self.view = display
        self.needle = Filter()
        self.pace = Pace(self._call_draw_news)
        self._composed = False
        self._ticking: Timer | None = None
        self._veiled = False
        """A dialog lies over it."""
        keys.bind(self, (*keys.of(self.NAME), *keys.ways()))

    @property
    def session(self) -> Session:
        """The line to the agent."""
        return self.view.session

    @property
    def console_app(self) -> ConsoleApp:
        """The app, by its own type."""
        return cast("ConsoleApp", self.app)

    # --- what a screen says of itself -------------------------------------------------------------

    def panels(self) -> Iterable[Widget]:
        """What stands between headline and footer."""
        return ()

    def show_frame(self, frame: Frame) -> None:
        """Show this in the panels."""

    def detail_of(self, table: LiveTable) -> Row:
        """One line on the row under a table's cursor."""
        return ()

    def drill(self, table: LiveTable) -> None:
        """Enter was hit on a row."""

    # --- frames -----------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Headline(id="headline")
        yield Tabs(self.NAME, id="tabs")
        yield Banner(id="banner")
        with Container(id="body"):
            yield from self.panels()
        yield TooSmall(id="too-small")
        yield TransportLine(id="transport")
        yield AnswerLine(id="answer")
        yield Prompt(self.view.spoken, id="prompt")
        yield Footer(keys.footer(self.NAME), id="footer")

    def on_mount(self) -> None:
        if not self.query("#body"):
            return  # the console ended while this was being made
        for table in self.query(LiveTable):
            table.remember(self.view.settings)
        self._composed = True
        self.restore_layout()
        self._ticking = self.set_interval(TICK_S, self._grow_old, pause=not self._is_shown)
        self._tick()
        self._draw_footer()

    @property
    def _is_shown(self) -> bool:
        """Also under a dialog."""
        return self in self.app.screen_stack

    def on_screen_suspend(self) -> None:
        """Another screen, or a dialog, is on: what is not seen costs nothing."""
        self._veiled = self._is_shown
        if self._ticking is not None and not self._is_shown:
            self._ticking.pause()

    def on_screen_resume(self) -> None:
        """Back from another screen: much may have come meanwhile. Below a dialog all was drawn as it came,
        unless the picture is held: then what the dialog did is asked for."""
        was_veiled, self._veiled = self._veiled, False
        if self._ticking is not None:
            self._ticking.resume()
        if self._composed and (not was_veiled or self.view.frozen is not None):
            self._tick()
            self.draw()

    @property
    def frame(self) -> Frame | None:
        """The frame on display."""
        return self.view.frame

    def news(self) -> None:
        """Something came in: draw it, once for all that comes together."""
        self.pace.news()

    def _call_draw_news(self) -> None:
        self.call_later(self._draw_news)

    def _draw_news(self) -> None:
        if self.is_mounted:
            self._tick()
            if self.view.frozen is None:
                self.draw()

    def draw(self) -> None:
        """Show the frame on display, and what led to it."""
        frame = self.frame
        if frame is None or not self._composed:
            return
        self.show_frame(frame)
        self._draw_detail()
        self._draw_footer()

    # --- headline, banner, footer -----------------------------------------------------------------

    def on_unmount(self) -> None:
        """The panels are gone; a timer may still come."""
        self._composed = False

    def _grow_old(self) -> None:
        """What time alone changes; a frame that has just come has written it anew."""
        if self.session.silent_s >= TICK_S or self.frame is None:
            self._tick()

    def _tick(self) -> None:
        if not self._composed or not all(self.query(part) for part in _PARTS):
            return  # they are being made, or taken away, one after the other
        frame = self.frame
        edge = self.session.edge or (frame.edge if frame else "")
        place = "▷ replay " if self.session.is_replay else "◁ past " if self.session.playback else ""
        self.query_one(Headline).update(frame, edge, self._age_s(frame), place)
        self.query_one(Banner).say(self._banner(frame))
        self._draw_transport()

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
        if newest is not None and newest.pending is not None and not self.session.playback:
            spans.append((_waiting(newest.pending, silent_s), "background on warn bold"))
        if newest is not None and newest.held_back is not None and not self.session.playback:
            spans.append((_held_back(newest.held_back), "background on warn bold"))
        if (frozen := self.view.frozen) is not None:
            newer = (self.session.history.newest or frozen).seq - frozen.seq
            text = (
                f"❙❙ FROZEN at {clock(frozen.at_ns)}  {newer:,} newer frames · {keys.face('freeze')} goes on"
            )
            spans.append((text, "background on warn bold"))
        if self.needle:
            text = f"/ {clean(self.needle.text, 60)}  only rows that match · {keys.face('back')} shows all"
            spans.append((text, "background on accent bold"))
        if self.alone is not None:
            text = f"▣ one panel alone · {keys.face('next-panel')} the next · {keys.face('alone')} shows all"
            spans.append((text, "background on accent bold"))
        return spans

    def _draw_footer(self) -> None:
        frame = self.frame
        armed = frame is None or (frame.armed and not frame.bypassed)
        playback, hold = self.session.playback, "go on" if self.view.frozen else "freeze"
        if playback:
            hold = "pause" if playback.player.playing else "play"
        labels = {"disarm": "disarm" if armed else "arm", "freeze": hold}
        playing = playback is not None
        labels |= OF_A_TAPE if playing else {}
        self.query_one(Footer).update(read_only=bool(self.session.read_only), labels=labels, playing=playing)

    def _draw_detail(self) -> None:
        prompt = self.query_one(Prompt)
        if prompt.is_open and prompt.sign == ":":
            return  # how the line may go on stands there
        table = self.focused
        self.query_one(AnswerLine).detail(self.detail_of(table) if isinstance(table, LiveTable) else ())

    def answer(self, outcome: Outcome | None) -> None:
        """Show what became of a change."""
        if outcome is not None:
            self.query_one(AnswerLine).answer(outcome)

    def said(self, text: str, *, ok: bool = True) -> None:
        """Show a word of the console's own."""
        self.answer(Outcome(ok=ok, text=text))

    def redraw_times(self) -> None:
        """The clock is another: write all times anew."""
        for ticker in self.query(Ticker):
            ticker.forget()
        self._tick()
        self.draw()

    # --- keys that look ---------------------------------------------------------------------------

    def action_help(self) -> None:
        """All keys and words."""
        from cdnctl.console.screens.dialogs.help import HelpDialog

        self.app.push_screen(HelpDialog(self.NAME))

    def action_freeze(self) -> None:
        """Hold the display, or let it go on."""
        if self.session.playback:
            self.action_travel("toggle")
            return
        self.view.frozen = None if self.view.frozen else self.session.history.newest
        self._tick()
        self.draw()

    def action_back(self) -> None:
        """Take the message away, else the filter, else this screen."""
        if self.query_one(AnswerLine).dismiss():
            return
        if self.needle:
            self.sift(Filter())
        elif not self.leave_mode() and not self.end_travel() and self.view.back:
            self.console_app.action_go(self.view.back.pop(), back=True)

    def leave_mode(self) -> bool:
        """End what a screen was put into by a key; False when it was not."""
        return False

    def sift(self, needle: Filter) -> None:
        """Keep the rows that match, from now on."""
        self.needle = needle
        for table in self.query(LiveTable):
            table.sift(needle)
        self._tick()
        self._draw_detail()

    def action_export(self) -> None:
        """Write what is seen to files."""
        from cdnctl.console.export import export

        self.answer(export(self.console_app, self.NAME, self.table))

    def action_drill(self) -> None:
        """Into the row under the cursor."""
        if (table := self.table) is not None and table.current is not None:
            self.drill(table)

    def action_cursor(self, step: int) -> None:
        """The cursor of the focused table up or down."""
        if isinstance(self.focused, LiveTable):
            self.focused.move_to(self.focused.cursor + step)
            self.cursor_moved(self.focused)
            self._draw_detail()

    def cursor_moved(self, table: LiveTable) -> None:
        """The cursor of a table went to another row."""

    def action_cursor_first(self) -> None:
        """To the first row."""
        self.action_cursor(-1_000_000_000)

    def action_cursor_last(self) -> None:
        """To the last row."""
        self.action_cursor(1_000_000_000)

    def on_descendant_focus(self) -> None:
        self._draw_detail()

    def _ask(self, dialog: Screen[Any]) -> None:
        self.app.push_screen(dialog, self.answer)


def _waiting(pending: Pending, silent_s: float) -> str:
    left_s = max(0.0, pending.left_s - silent_s)
    if pending.trouble:
        return f"▲ CANNOT REVERT  {clean(pending.cli, 60)}: {clean(pending.trouble, 80)}"
    return (
        f"▲ CONFIRM  reverts in {duration(left_s)}: {clean(pending.cli, 60)} by {clean(pending.by, 20)}"
        f" · {keys.face('confirm')} keeps it · {keys.face('undo')} takes it back"
    )


def _held_back(held: HeldBack) -> str:
    file = clean(held.file.rpartition("/")[2], 40)
    if held.why == "edited":
        return f"▲ HELD BACK  {file} was edited while a reload waits: c or z, then :reload puts it into force"
    return f"▲ HELD BACK  {file} was not confirmed: :reload puts it into force"
