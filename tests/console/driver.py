"""Drives the app headless: constructed frames in, keys in, text out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from feeds import ScriptedFeed
from frames import incident
from textual.pilot import Pilot

from cdnctl import paths
from cdnctl.cli.spoken import CommandLine
from cdnctl.console import theme
from cdnctl.console.app import ConsoleApp
from cdnctl.console.screens.house import House
from cdnctl.console.screens.overview import Overview
from cdnctl.console.settings import Settings
from cdnctl.model import AnyCommand, Frame, Outcome

PALETTES, PROBLEMS = theme.load(paths.theme_dirs()[:1])


ASKING = frozenset({"preview", "page", "journal", "more", "trace"})
"""Groups of the workers that ask the agent for what is to be seen; they end by themselves."""


class StoppedClock:
    """However slow this machine is, nothing grows old by itself."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Desk:
    """A running console, its feed, and what one sees."""

    def __init__(
        self, app: ConsoleApp, feed: ScriptedFeed, pilot: Pilot[int], clock: StoppedClock | None = None
    ) -> None:
        self.app, self.feed, self.pilot = app, feed, pilot
        self.clock = clock or StoppedClock()

    @property
    def overview(self) -> Overview:
        return next(screen for screen in self.app.screen_stack if isinstance(screen, Overview))

    @property
    def house(self) -> House:
        """The screen that is shown, or under the dialog that is."""
        house = self.app.house
        assert house is not None
        return house

    async def go(self, name: str) -> None:
        """To a screen."""
        self.app.action_go(name)
        await self.settle()

    @property
    def text(self) -> str:
        """The whole terminal as plain text."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)

    async def press(self, *keys: str) -> None:
        """Press keys, and let what they started come to rest."""
        await self.pilot.press(*keys)
        await self.settle()

    async def settle(self) -> None:
        """Wait until messages, previews and pages are through, and all is drawn that came of them."""
        for _ in range(2):
            await self.pilot.pause()
        while self.app.house is not None and self.app.house.pace.is_due:
            await self.pilot.pause(0.005)
            await self.pilot.pause()
        for _ in range(50):
            await self.pilot.pause()
            drawing = self.app.screen._update_timer._active.is_set()
            if not (drawing or any(w.group in ASKING and not w.is_finished for w in self.app.workers)):
                break
        await self.pilot.pause(0)

    async def send(self, *frames: Frame) -> None:
        """More frames, drawn."""
        self.feed.send(*frames)
        await self.settle()

    async def resize(self, width: int, height: int) -> None:
        """The terminal has another size; Textual waits a moment for more of the same."""
        await self.pilot.resize_terminal(width, height)
        await self.until(lambda: self.app._resize_event is None)
        await self.settle()

    async def until(self, seen: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait for something to be so."""
        for _ in range(int(seconds / 0.02)):
            if seen():
                return
            await self.pilot.pause(0.02)
        raise AssertionError(f"not within {seconds} s; on screen:\n{self.text}")


@asynccontextmanager
async def console(
    frames: Sequence[Frame] | None = None,
    size: tuple[int, int] = (120, 40),
    *,
    role: str = "operate",
    read_only: bool = False,
    theme_name: str = theme.DEFAULT,
    answer: Callable[[AnyCommand], Outcome] | None = None,
    settings: Settings | None = None,
) -> AsyncIterator[Desk]:
    """The console over these frames (the incident by default), past and drawn."""
    feed = ScriptedFeed(list(incident() if frames is None else frames), role)
    feed.answer = answer or feed.answer
    app = ConsoleApp(
        lambda: feed,
        PALETTES,
        theme_name=theme_name,
        read_only=read_only,
        settings=settings or Settings(glyphs="braille"),
        grammar=CommandLine(),
    )
    clock = StoppedClock()
    app.session.clock, app.session.received_at = clock, clock.now_s
    async with app.run_test(size=size) as pilot:
        desk = Desk(app, feed, pilot, clock)
        await desk.settle()
        yield desk
