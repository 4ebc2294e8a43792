"""Values over the kept frames by name, each frame looked at once.

`History.series` reads all frames anew, which is fine for one line; a spark in each of fifty rows, twice a
second, would not be.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from cdnctl.model import FRAMES_KEPT, Frame

T = TypeVar("T")


class Tracks(Generic[T]):
    """What `of` finds in frames, by name and time."""

    def __init__(self, of: Callable[[Frame], Iterable[tuple[str, T]]]) -> None:
        self._of = of
        self._times: deque[float] = deque(maxlen=FRAMES_KEPT)
        self._rows: deque[dict[str, T]] = deque(maxlen=FRAMES_KEPT)
        self._last: object = None

    def follow(self, frames: Sequence[Frame]) -> None:
        """Take in what came since; after another agent's start, or a boot, all anew."""
        fresh: list[Frame] = []
        for frame in reversed(frames):
            if _identity(frame) == self._last:
                break
            fresh.append(frame)
        if len(fresh) == len(frames):
            self._times.clear()
            self._rows.clear()
        for frame in reversed(fresh):
            self._times.append(frame.monotonic_ns / 1e9)
            self._rows.append(dict(self._of(frame)))
            self._last = _identity(frame)

    def columns(self, name: str, until_s: float, span_s: float, count: int) -> list[list[T]]:
        """The values of `name` in `count` equal parts of the time before `until_s`, the oldest first.

        The parts are counted from the clock's zero, so that a past one never changes.
        """
        part_s = span_s / count
        newest = int(until_s / part_s)
        found: list[list[T]] = [[] for _ in range(count)]
        end = bisect_right(self._times, until_s)
        for index in range(end - 1, -1, -1):
            column = int(self._times[index] / part_s) - (newest - count + 1)
            if column < 0:
                break
            row = self._rows[index]
            if name in row:
                found[column].append(row[name])
        return found


def _identity(frame: Frame) -> tuple[int, int, int]:
    return frame.agent_pid, frame.agent_started_ns, frame.seq
