"""A tape on the console's screens: a recording, or what the agent keeps of the last minutes.

The screens draw a `History`, and do not know whether it grows from a socket or from a tape: what is on is
its newest frame, and before it are those that led there, so that plots and events are as they were live.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from cdnctl.console.answers import answer
from cdnctl.console.format import clean
from cdnctl.console.history import EVENTS_KEPT, History
from cdnctl.console.patience import QUICK_S
from cdnctl.errors import RecordingError
from cdnctl.model import FRAMES_KEPT, AnyCommand, Frame, Outcome, PacketFilter, Sampled
from cdnctl.recording.player import Player
from cdnctl.recording.tape import Tape

AHEAD_NS = 30_000_000_000
"""How far plots with a cursor look beyond it."""
_ON_BY_STEPS = 30
"""Frames further on that are taken in one by one; beyond, what led there is read anew."""


class Playback:
    """A player, and the history of what it plays."""

    def __init__(
        self,
        tape: Tape,
        *,
        number: int = 0,
        playing: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises RecordingError when that frame cannot be read."""
        self.player = Player(tape, number=number, playing=playing)
        self.history = History()
        self.problem = ""
        """Why it goes on no further."""
        self._clock = clock
        self._shown = -1
        self._moved = asyncio.Event()
        self._ended = False
        self._around, self._around_of = self.history, (-1, -1)
        self._follow()
        self.player.advance(clock())

    def move(self, how: Callable[[Player], None]) -> None:
        """Tell the player something, and go where that leads."""
        try:
            how(self.player)
            self.player.advance(self._clock())
            self._follow()
        except RecordingError as error:
            self._stay(error)
        self._moved.set()

    def _follow(self) -> None:
        """Have the history end at the frame that is on. Raises RecordingError."""
        number = self.player.number
        if 0 < number - self._shown <= _ON_BY_STEPS:
            for each in range(self._shown + 1, number + 1):
                self.history.add(self.player.tape.frame(each))
                self._shown = each
        elif number != self._shown:
            self._read_anew()
        self.problem = clean(self.player.tape.damage) if self.player.at_end else ""

    def _stay(self, error: RecordingError) -> None:
        """There is no way on: pause at the frame that was on."""
        self.player.playing = False
        with suppress(RecordingError):
            self.player.go_to(max(0, self._shown))
        self.problem = clean(error.message)

    def _play_on(self) -> bool:
        """Whether time alone has led to another frame, or to the end."""
        was_playing = self.player.playing
        try:
            if self.player.advance(self._clock()) or was_playing != self.player.playing:
                self._follow()
                return True
        except RecordingError as error:
            self._stay(error)
            return True
        return False

    def _due_s(self) -> float | None:
        """Seconds until the next frame; where that cannot be read, `_play_on` says so at once."""
        try:
            return self.player.due_s()
        except RecordingError:
            return 0.0

    def _read_anew(self) -> None:
        tape, number = self.player.tape, self.player.number
        frames = tape.window(number, FRAMES_KEPT)
        until = bisect_right(tape.stamps, number, key=lambda stamp: stamp.number)
        first = max(0, until - EVENTS_KEPT)
        events = [(first + place + 1, stamp.event) for place, stamp in enumerate(tape.stamps[first:until])]
        self.history = History.of(frames, events)
        self._shown = number

    def around(self) -> History:
        """What led to the frame that is on, and some time after it: what plots with a cursor show."""
        tape, number = self.player.tape, self.player.number
        if self._around_of != (number, tape.length):
            self._around_of, self._around = (number, tape.length), self.history
            with suppress(RecordingError):  # beyond is damage: then there is nothing ahead
                last = tape.number_at(tape.position_ns(number) + AHEAD_NS)
                if last > number:
                    self._around = History.of(tape.window(last, FRAMES_KEPT), ())
        return self._around

    def end(self) -> None:
        """Nobody looks any more."""
        self._ended = True
        self._moved.set()

    async def shown(self) -> AsyncIterator[Frame]:
        """The frame that is on, whenever that is another one, or something else is to be drawn anew."""
        while not self._ended:
            if self.history.newest is not None:
                yield self.history.newest
            while not self._moved.is_set():
                try:
                    await asyncio.wait_for(self._moved.wait(), self._due_s())
                except TimeoutError:
                    if self._play_on():
                        break
            self._moved.clear()


class ReplayFeed:
    """A recording in an agent's place."""

    role = "replay"

    def __init__(self, playback: Playback) -> None:
        self.edge = playback.player.tape.edge
        self.playback = playback

    async def connect(self) -> None:
        """There is no line that could be down."""

    def frames(self) -> AsyncIterator[Frame]:
        """As they are played; never ends."""
        return self.playback.shown()

    async def request(self, command: AnyCommand, timeout_s: float = QUICK_S) -> Outcome:
        """What the frame that is on has of it; of a change, that there is nothing to change."""
        return answer(self.playback.history, command)

    def watch(self, wanted: PacketFilter | None) -> None:
        """Single packets are not recorded."""

    def take_sampled(self) -> list[Sampled]:
        """There are none."""
        return []

    async def close(self) -> None:
        """The file is its owner's."""
