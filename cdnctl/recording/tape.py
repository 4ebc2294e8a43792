"""Frames by number and by time, over packed groups that are wherever they are."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from cdnctl.errors import RecordingError
from cdnctl.model import Event, Frame
from cdnctl.recording.codec import group_frames

GROUPS_HELD = 8
"""Unpacked groups that are kept: what a console's plots need is five of them."""


class Group(NamedTuple):
    """A run of frames that is packed together."""

    first: int
    """The number of its first frame, from 0."""
    position_ns: int
    """When that was, since the beginning."""


class Stamp(NamedTuple):
    """An event, and the frame that it came with."""

    number: int
    position_ns: int
    event: Event


class Tape(Protocol):
    """What can be played: `length` frames of one edge."""

    edge: str
    length: int
    duration_ns: int
    damage: str

    @property
    def stamps(self) -> Sequence[Stamp]:
        """Its events, the oldest first."""

    def frame(self, number: int) -> Frame: ...

    def position_ns(self, number: int) -> int: ...

    def number_at(self, position_ns: int) -> int: ...

    def window(self, number: int, count: int) -> list[Frame]: ...


class PackedTape:
    """A tape over groups; a subclass says where their bytes are, and keeps `groups` and `length`."""

    edge: str = ""
    length: int = 0
    duration_ns: int = 0
    damage: str = ""
    """Why it ends where it does; empty when it is whole."""
    zero_ns: int = 0
    """Where the groups' own positions begin."""

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self.stamps: list[Stamp] = []
        self._held: OrderedDict[int, list[tuple[int, Frame]]] = OrderedDict()

    @property
    def duration_s(self) -> float:
        """From the first frame to the last."""
        return self.duration_ns / 1e9

    def load(self, group: int) -> bytes:
        """The blocks of a group. Raises RecordingError."""
        raise NotImplementedError

    def frame(self, number: int) -> Frame:
        """The frame with that number, from 0. Raises RecordingError, IndexError."""
        return self._at(number)[1]

    def position_ns(self, number: int) -> int:
        """When the frame was, since the beginning."""
        return self._at(number)[0]

    def at(self, seconds: float) -> Frame:
        """What was on screen so long after the beginning: the last frame until then, or the first."""
        return self.frame(self.number_at(round(min(max(0.0, seconds), 1e9) * 1e9)))

    def number_at(self, position_ns: int) -> int:
        """The number of the last frame at or before that time; 0 before all of them."""
        if not self.groups:
            raise IndexError("a recording without frames")
        group = max(0, bisect_right(self.groups, position_ns, key=lambda each: each.position_ns) - 1)
        positions = [position for position, _frame in self.unpacked(group)]
        return self.groups[group].first + max(0, bisect_right(positions, position_ns) - 1)

    def frames(self, first: int = 0) -> Iterator[Frame]:
        """All frames from that number on. Raises RecordingError where it is damaged, after those before."""
        for number in range(first, self.length):
            yield self.frame(number)

    def window(self, number: int, count: int) -> list[Frame]:
        """That frame and those before it: `count`, or as many as there are."""
        return [self.frame(each) for each in range(max(0, number - count + 1), number + 1)]

    def _at(self, number: int) -> tuple[int, Frame]:
        if not 0 <= number < self.length:
            raise IndexError(f"frame {number} of {self.length}")
        group = bisect_right(self.groups, number, key=lambda each: each.first) - 1
        held, place = self.unpacked(group), number - self.groups[group].first
        if place >= len(held):
            raise RecordingError(
                f"damaged after frame {self.groups[group].first + len(held)} of {self.length}"
            )
        return held[place]

    def forget(self, group: int) -> None:
        """The group's bytes are other ones now."""
        self._held.pop(group, None)

    def unpacked(self, group: int) -> list[tuple[int, Frame]]:
        """The frames of a group with their positions. Raises RecordingError when it has none."""
        held = self._held.get(group)
        if held is None:
            damage: list[RecordingError] = []
            held = group_frames(self.load(group), damage)
            if not held:
                raise damage[0] if damage else RecordingError("frames are missing")
            if self.zero_ns:
                held = [(position_ns - self.zero_ns, frame) for position_ns, frame in held]
            self._held[group] = held
            if len(self._held) > GROUPS_HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(group)
        return held
