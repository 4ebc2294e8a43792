"""What the console has seen: the last two minutes of frames and the latest events.

The agent sends its own last frames on connecting, so that a console starts with full plots. A frame
that comes twice, after a reconnect, counts once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from sys import intern

from msgspec.structs import replace

from cdnctl.model import FRAMES_KEPT, Event, Frame, Talker, Verdict

EVENTS_KEPT = 300
PAST_TALKERS = 100
"""So many of a past frame, the busiest: an agent's frame has no more, a stranger's may."""

Point = tuple[float, float | None]
"""Seconds on the kernel's clock, and a value or None for a gap."""


class History:
    """Frames and events, oldest first."""

    def __init__(self) -> None:
        self.frames: deque[Frame] = deque(maxlen=FRAMES_KEPT)
        """Whole is only the newest; those before have what plots and courses draw."""
        self.events: deque[tuple[int, Event]] = deque(maxlen=EVENTS_KEPT)
        """Each with a number of the console's own, which holds over restarts of the agent."""
        self._events_seen = 0
        self._last_seq = -1

    @classmethod
    def of(cls, frames: Iterable[Frame], events: Iterable[tuple[int, Event]]) -> History:
        """These frames, and these events with their numbers: what led to the last frame."""
        made = cls()
        made.frames.extend(frames)
        made.events.extend(events)
        if made.events:
            made._events_seen, newest = made.events[-1]
            made._last_seq = newest.seq
        return made

    @property
    def newest(self) -> Frame | None:
        """The last frame taken in; None before the first."""
        return self.frames[-1] if self.frames else None

    def add(self, frame: Frame) -> bool:
        """Take a frame in; False for one that is no news (seen already, or older than the newest)."""
        newest = self.newest
        if newest is not None:
            if (frame.agent_pid, frame.agent_started_ns) != (newest.agent_pid, newest.agent_started_ns):
                self._last_seq = -1  # another agent: it counts from its own start
                if frame.monotonic_ns < newest.monotonic_ns:
                    self.frames.clear()  # and after a boot, so does the clock
            elif frame.seq <= newest.seq:
                return False
        if self.frames:
            self.frames[-1] = _past(self.frames[-1])
        self.frames.append(frame)
        for event in frame.events:
            if event.seq > self._last_seq:
                self._last_seq = event.seq
                self._events_seen += 1
                self.events.append((self._events_seen, event))
        return True

    def series(self, value: Callable[[Frame], float | None]) -> Iterator[Point]:
        """One value of each kept frame over time."""
        return ((frame.monotonic_ns / 1e9, value(frame)) for frame in self.frames)


def _past(frame: Frame) -> Frame:
    """What remains of a frame when there is a newer one: lists and texts are shown of the newest only."""
    return replace(
        frame,
        talkers=[_once(each) for each in frame.talkers[:PAST_TALKERS]],
        verdicts=[_drawn(each) for each in frame.verdicts],
        blocks=[], customers=[], services=[], interfaces=[], watchers=[], maps=[], blocks_by_source={},
    )  # fmt: skip


def _once(talker: Talker) -> Talker:
    """The same with what is in hundreds of frames shared: its words, and shares to a thousandth."""
    prefix, cdn, service = (intern(word) for word in (talker.prefix, talker.cdn, talker.service))
    drop_share, error = _shared(round(talker.drop_share, 3)), _shared(round(talker.error, 3))
    return replace(talker, prefix=prefix, cdn=cdn, service=service, drop_share=drop_share, error=error)


@lru_cache(maxsize=2048)
def _shared(value: float) -> float:
    return value


def _drawn(verdict: Verdict) -> Verdict:
    return replace(verdict, explanation="") if verdict.explanation else verdict
