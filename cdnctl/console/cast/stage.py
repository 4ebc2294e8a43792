"""The app run over a recording's frames, without a terminal and without waiting.

The app is the real one; only its feed is ours. It hands frames over one by one, and the next one is
asked for when the app has drawn what is there. Time is the recording's: keys are pressed, and pictures
taken, at its seconds.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

from textual.keys import REPLACED_KEYS, Keys, key_to_character
from textual.pilot import Pilot

from cdnctl.console import theme
from cdnctl.console.answers import answer
from cdnctl.console.app import ConsoleApp
from cdnctl.console.cast.picture import Camera, Picture
from cdnctl.console.history import History
from cdnctl.console.patience import QUICK_S
from cdnctl.console.screens.arrangement import SMALLEST
from cdnctl.console.settings import Settings
from cdnctl.errors import CdnctlError, UsageError
from cdnctl.model import AnyCommand, Frame, Outcome, PacketFilter, Sampled

LARGEST = (400, 160)
_NAMED = {*(key.value for key in Keys), *REPLACED_KEYS.values()}
_LOOK_S = 0.2
"""Real seconds after which it is asked whether the app still lives; it draws a frame in milliseconds."""
LEAST_STEP_S = 0.05
"""Seconds between two pictures in the cast, at least: nobody sees more."""


Press = tuple[float, Sequence[str]]
"""When keys are pressed, in seconds of the recording, and which: Textual's names of them."""


def require_key(name: str) -> None:
    """Raise UsageError for what is no key: pressed, it would do nothing."""
    known = name in _NAMED or key_to_character(name) is not None
    if len(name) != 1 and not known:
        raise UsageError(f"there is no key {name!r}", "keys are as in `b`, `?`, `tab`, `escape`, `ctrl+p`")


class Size(NamedTuple):
    """Of the terminal that is played to, in cells."""

    columns: int
    rows: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """`120x40`; raises ValueError that says what would be right."""
        parts = text.split("x")
        if len(parts) == 2 and all(part.isascii() and part.isdecimal() and len(part) < 5 for part in parts):
            size = cls(int(parts[0]), int(parts[1]))
            if SMALLEST[0] <= size.columns <= LARGEST[0] and SMALLEST[1] <= size.rows <= LARGEST[1]:
                return size
        least, most = (f"{columns}x{rows}" for columns, rows in (SMALLEST, LARGEST))
        raise ValueError(f"{text!r}: expected columns and rows as in 120x40, from {least} to {most}")


@dataclass(frozen=True)
class Script:
    """What of a recording is played, and how; seconds are the recording's, from its first frame."""

    size: Size
    speed: float = 1.0
    """Seconds of the recording in one of the cast."""
    from_s: float = 0.0
    to_s: float = float("inf")
    idle_limit_s: float = float("inf")
    """No pause between two pictures is longer, in seconds of the recording."""
    keys: Sequence[Press] = ()


class Sight(NamedTuple):
    """What is seen at one moment."""

    cast_s: float
    """Seconds of the cast."""
    recorded_s: float
    """Seconds of the recording."""
    at_ns: int
    """Wall time."""
    picture: Picture


class Reel:
    """The feed of a console that is played to; it changes nothing, there is nobody to ask."""

    role = "cast"  # nothing is greyed, as what is shown is what the operator saw

    def __init__(self, edge: str) -> None:
        self.edge = edge
        self._history = History()
        self._frames = asyncio.Queue[Frame]()

    async def connect(self) -> None:
        """There is no line that could be down."""

    async def frames(self) -> AsyncIterator[Frame]:
        """Those given; it never ends, since a feed that ends is a lost agent."""
        while True:
            frame = await self._frames.get()
            self._history.add(frame)
            yield frame
            self._frames.task_done()

    async def give(self, frames: Iterable[Frame]) -> None:
        """Hand frames over, and wait until they are taken in."""
        for frame in frames:
            self._frames.put_nowait(frame)
        await self._frames.join()

    async def request(self, command: AnyCommand, timeout_s: float = QUICK_S) -> Outcome:
        """What the newest frame has of it; of a change, that there is nothing to change."""
        return answer(self._history, command)

    def watch(self, wanted: PacketFilter | None) -> None:
        """Single packets are not recorded."""

    def take_sampled(self) -> list[Sampled]:
        """There are none."""
        return []

    async def close(self) -> None:
        """Nothing is open."""


class Stage:
    """One console on a recording."""

    def __init__(self, pilot: Pilot[int], reel: Reel) -> None:
        self._pilot, self._reel = pilot, reel
        self._camera = Camera()

    async def give(self, frames: Iterable[Frame]) -> None:
        """Frames come in, and are drawn; raises what the app failed with."""
        taken = asyncio.ensure_future(self._reel.give(frames))
        while not taken.done():
            await asyncio.wait({taken}, timeout=_LOOK_S)
            self._require_running()
        taken.result()
        await self._settle()

    async def press(self, names: Sequence[str]) -> None:
        """Keys are pressed, and do what they do."""
        await self._pilot.press(*names)
        self._require_running()
        await self._settle()

    def look(self) -> Picture:
        """What is on the screen."""
        return self._camera.take(self._pilot.app)

    def _require_running(self) -> None:
        app = self._pilot.app
        if app._exception is not None:
            raise app._exception
        if app.return_code is not None or not app.is_running:
            raise CdnctlError("a key ended the console", "leave it out of --press and --keys")

    async def _settle(self) -> None:
        app = self._pilot.app
        if isinstance(app, ConsoleApp) and app.house is not None:
            app.house.pace.draw_now()
        for _ in range(2):  # what a message leads to is a message, too
            await self._pilot.pause(0)
        self._require_running()


@asynccontextmanager
async def stage(
    edge: str, size: Size, palettes: Mapping[str, theme.Palette], theme_name: str, *, utc: bool = False
) -> AsyncIterator[Stage]:
    """A console of that size and theme, that has not seen a frame; nothing is remembered of it."""
    os.environ.pop("NO_COLOR", None)  # is about this terminal, not about the one that is played to
    reel = Reel(edge)
    settings = Settings(glyphs="braille", utc=utc)
    app = ConsoleApp(lambda: reel, palettes, theme_name=theme_name, settings=settings)
    async with app.run_test(size=(size.columns, size.rows)) as pilot:
        yield Stage(pilot, reel)


def moments(frames: Iterable[tuple[float, Frame]], script: Script) -> Iterator[tuple[float, list[Frame]]]:
    """What comes in when, in seconds of the recording: the first moment brings all that came before it."""
    held: list[Frame] = []
    last_s = 0.0
    begun = cut = False
    for at_s, frame in frames:
        cut = at_s > script.to_s
        if cut:
            break
        held.append(frame)
        last_s = at_s
        if at_s >= script.from_s:
            yield at_s, held
            held, begun = [], True
    if not begun:
        what = f"the last one before is at {last_s:.1f} s" if cut else f"it ends at {last_s:.1f} s"
        raise UsageError(
            "there is no frame of the recording from --from to --to", f"choose another part: {what}"
        )


async def play(
    on: Stage, shown: Iterable[tuple[float, list[Frame]]], script: Script, seen: Callable[[Sight], None]
) -> None:
    """Play moments, and look at each that the cast has time for; the last one is among them."""
    keys = sorted(script.keys, key=_when)
    cast_s = recorded_s = 0.0
    looked_s = -LEAST_STEP_S
    unseen: tuple[float, float, int] | None = None
    for number, (at_s, frames) in enumerate(shown):
        if number:
            cast_s += min(at_s - recorded_s, script.idle_limit_s) / script.speed
        recorded_s = at_s
        at_ns = frames[-1].at_ns
        await on.give(frames)
        while keys and keys[0][0] <= at_s:
            await on.press(keys.pop(0)[1])
        if cast_s - looked_s < LEAST_STEP_S:
            unseen = cast_s, at_s, at_ns
            continue
        seen(Sight(cast_s, at_s, at_ns, on.look()))
        looked_s, unseen = cast_s, None
    if unseen:
        seen(Sight(*unseen, on.look()))


async def hold(
    on: Stage, frames: Iterable[tuple[float, Frame]], at_s: float, keys: Sequence[Press]
) -> Picture:
    """Play up to a second of the recording, and look."""
    left = [pressed for pressed in sorted(keys, key=_when) if pressed[0] <= at_s]
    given: list[Frame] = []
    for when_s, frame in frames:
        if when_s > at_s and given:
            break
        while left and left[0][0] < when_s:
            await on.give(given)
            await on.press(left.pop(0)[1])
            given = []
        given.append(frame)
    await on.give(given)
    for _, names in left:
        await on.press(names)
    return on.look()


def _when(pressed: Press) -> float:
    return pressed[0]
