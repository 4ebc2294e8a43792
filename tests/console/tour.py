"""A tour of the console: every screen, the dialogs that matter and the lines, at fixed moments.

The screens play the recordings that come with cdnctl, paused, as `cdnctl replay NAME --pause --utc` does.
A recording has neither sampled packets nor customers, and nothing can be changed in one: what needs those
is walked through over made-up frames (`pictures`), at an agent that answers. One app serves a whole tour,
since starting one costs more than drawing all its screens.

    async with replaying("incident", (80, 24)) as tour:
        async for stop in tour.stops(INCIDENT):
            stop.name, tour.picture().text
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache

import pictures
import pytest
from driver import PALETTES, Desk, console
from feeds import ScriptedFeed
from frames import incident

from cdnctl import paths
from cdnctl.cli.spoken import CommandLine
from cdnctl.console.app import ConsoleApp
from cdnctl.console.cast.picture import Camera, Picture
from cdnctl.console.playback import Playback, ReplayFeed
from cdnctl.console.screens import lists, trace
from cdnctl.console.settings import Settings
from cdnctl.model import AnyCommand, Frame, Outcome
from cdnctl.recording.reader import Reader

Size = tuple[int, int]
"""Columns and rows."""
SIZES: tuple[Size, ...] = ((80, 24), (120, 40), (200, 50))


@dataclass(frozen=True)
class Stop:
    """One look: what is done to come there, and to leave again."""

    name: str
    screen: str
    at_s: float | None = None
    """Seconds of the recording; None: where it is."""
    keys: tuple[str, ...] = ()
    until: str = ""
    """What must be read on the screen then."""
    leave: tuple[str, ...] = ()


INCIDENT = (
    Stop("overview-slow", "overview", 20.0),
    Stop("overview", "overview", 36.0),
    Stop("help", "overview", keys=("question_mark",), leave=("escape",)),
    Stop("command-line", "overview", keys=("colon", *"un"), until="undrain", leave=("escape",)),
    Stop("filter", "overview", keys=("slash", *"10.2", "enter"), until="only rows", leave=("escape",)),
    Stop("cdns", "cdns", keys=("j", "j")),
    Stop("trace", "trace"),
)
"""In the recording of that name: one CDN is slow, then another dark."""
FLOOD = (
    Stop("overview-flood", "overview", 24.0),
    Stop("talkers", "talkers"),
    Stop("talkers-gathered", "talkers", keys=("v",), until="by /24", leave=("v", "v", "v", "escape")),
    Stop("overview-blocked", "overview", 37.0),
    Stop("drops", "drops"),
    Stop("lists", "lists", until="10.66.0.0"),
    Stop("steering", "steering"),
    Stop("journal", "journal", until="blocked"),
)
"""In the recording of that name: a flood, and an operator who blocks it."""
AT_AN_AGENT = (
    Stop("live-drops", "drops", keys=("j", "k"), until="10.66.3.9"),
    Stop("live-lists", "lists", keys=("m", "j", "m"), until="2 marked", leave=("M",)),
    Stop("edit-dialog", "lists", keys=("k", "e"), until="ctrl+s", leave=("escape",)),
    Stop("live-steering", "steering", until="globex"),
    Stop("limit-dialog", "steering", keys=("l",), until="ctrl+s", leave=("escape",)),
    Stop("weights-dialog", "steering", keys=("w", "right", "j", "space"), until="→", leave=("escape",)),
    Stop("live-trace", "trace", keys=("e", "enter"), until="slot 17"),
    Stop("attack", "attack", until="SIEGE"),
    Stop("live-journal", "journal", keys=("j",), until="bob"),
    Stop("block-dialog", "talkers", keys=("b",), until="12 live flows", leave=("escape",)),
    Stop("unblock-dialog", "overview", keys=("u",), until="ctrl+s", leave=("escape",)),
    Stop("disarm-dialog", "overview", keys=("d",), until="ctrl+s", leave=("escape",)),
    Stop("quit-dialog", "overview", keys=("q",), until="esc", leave=("escape",)),
    Stop("frozen", "overview", keys=("space",), until="FROZEN", leave=("space",)),
    Stop("palette", "overview", keys=("ctrl+p", *"block"), until="under the cursor", leave=("escape",)),
)
"""Over made-up frames: what a recording cannot show."""

STOPS = (*INCIDENT, *FLOOD, *AT_AN_AGENT)


class Tour:
    """A console that is walked through."""

    def __init__(self, desk: Desk, playback: Playback | None = None) -> None:
        self.desk = desk
        self._playback = playback

    async def stops(self, wanted: Sequence[Stop]) -> AsyncIterator[Stop]:
        """Go from one to the next; each is on the screen while the caller has it."""
        for stop in wanted:
            await self._come(stop)
            yield stop
            if stop.leave:
                await self.desk.press(*stop.leave)

    async def _come(self, stop: Stop) -> None:
        if stop.at_s is not None and self._playback is not None:
            await self._seek(stop.at_s)
        await self.desk.go(stop.screen)
        if self._playback is None and stop.screen == "drops":
            await pictures.dress(self.desk)  # packets come to who watches
        if stop.keys:
            await self.desk.press(*stop.keys)
        if stop.until:
            await self.desk.until(lambda: stop.until in self.picture().text)
        await self.desk.settle()

    async def _seek(self, at_s: float) -> None:
        playback = self._playback
        assert playback is not None
        number = playback.player.tape.number_at(round(at_s * 1e9))
        playback.move(lambda player: player.go_to(number))
        await self.desk.settle()

    async def wear(self, theme: str) -> None:
        """Another theme."""
        if self.desk.app.theme != theme:
            self.desk.app.theme = theme
            await self.desk.settle()

    def picture(self) -> Picture:
        """What is on the screen, whatever the dialog over it."""
        return Camera().take(self.desk.app)


@asynccontextmanager
async def replaying(recording: str, size: Size) -> AsyncIterator[Tour]:
    """Over a shipped recording, paused at its beginning, times in UTC."""
    with Reader(paths.shipped_recordings_dir() / f"{recording}.rec") as reader:
        playback = Playback(reader)
        app = ConsoleApp(
            lambda: ReplayFeed(playback),
            PALETTES,
            settings=Settings(glyphs="braille", utc=True),
            grammar=CommandLine(),
        )
        async with app.run_test(size=size) as pilot:
            desk = Desk(app, ScriptedFeed([reader.frame(0)]), pilot)
            await desk.settle()
            yield Tour(desk, playback)


@asynccontextmanager
async def at_an_agent(
    size: Size, answer: Callable[[AnyCommand], Outcome] = pictures.answer
) -> AsyncIterator[Tour]:
    """Over made-up frames of a flood, from an agent that has customers, packets and a long block list."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "run_line", pictures.answer_line)
        patch.setattr(lists, "ASKED_EVERY_S", 1e12)  # once, when the screen is opened
        settings = Settings(glyphs="braille", utc=True)
        async with console(_rich(), size, answer=answer, settings=settings) as desk:
            yield Tour(desk)


@cache
def _rich() -> tuple[Frame, ...]:
    return tuple(pictures.rich(incident()[:200]))


@asynccontextmanager
async def along(wanted: Sequence[Stop], size: Size) -> AsyncIterator[Tour]:
    """The console that these stops are in; one of the three tuples above, or a part of it."""
    recording = next((name for name, stops in _RECORDED.items() if wanted[0] in stops), None)
    async with replaying(recording, size) if recording else at_an_agent(size) as tour:
        yield tour


_RECORDED = {"incident": INCIDENT, "flood": FLOOD}
TOURS = {"incident": INCIDENT, "flood": FLOOD, "at-an-agent": AT_AN_AGENT}
