"""The last minutes, packed in memory: the agent keeps them, and a console has them sent part by part."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from cdnctl.errors import RecordingError
from cdnctl.model import Frame, HistoryPart
from cdnctl.recording import codec
from cdnctl.recording.tape import Group, PackedTape, Stamp

KEPT_S = 15 * 60.0
"""At least so long is kept, as long as it fits."""
KEPT_BYTES = 32 << 20
"""What it may take: ten times what the incident's frames do."""


@dataclass
class _Run:
    """A group, and what is in it."""

    position_ns: int
    seqs: list[int] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)


class Past:
    """Keeps frames, the oldest of which go group by group. Numbers are the frames' own, which grow."""

    def __init__(self, kept_s: float = KEPT_S, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_ns, self._kept_bytes = round(kept_s * 1e9), kept_bytes
        self._encoder = codec.Encoder()
        self._runs: deque[_Run] = deque()
        self._newest: Frame | None = None
        self.bytes = 0

    @property
    def newest(self) -> Frame | None:
        """The last frame that was added."""
        return self._newest

    @property
    def seqs(self) -> tuple[int, int]:
        """Numbers of the oldest and the newest frame kept; (0, -1) of none."""
        return (self._runs[0].seqs[0], self._runs[-1].seqs[-1]) if self._runs else (0, -1)

    def add(self, frame: Frame) -> None:
        """Keep it. Raises RecordingError for one that is too large, which is then only the newest."""
        self._newest = frame
        begins, packed = self._encoder.encode(frame)
        if begins:
            self._runs.append(_Run(self._encoder.position_ns))
        run = self._runs[-1]
        run.seqs.append(frame.seq)
        run.data += packed
        self.bytes += len(packed)
        while len(self._runs) > 1 and self._is_over():
            self.bytes -= len(self._runs.popleft().data)

    def _is_over(self) -> bool:
        """Whether the oldest group may go: what is left is enough, or all is too much."""
        age_ns = self._encoder.position_ns - self._runs[1].position_ns
        return age_ns >= self._kept_ns or self.bytes > self._kept_bytes

    def find(self, seq: int) -> Frame | None:
        """The frame with that number; None when it is not kept."""
        if self._newest is not None and self._newest.seq == seq:
            return self._newest
        for run in reversed(self._runs):
            if run.seqs[0] <= seq:
                at = bisect_left(run.seqs, seq)
                is_there = at < len(run.seqs) and run.seqs[at] == seq
                return codec.group_frames(bytes(run.data))[at][1] if is_there else None
        return None

    def last(self, count: int) -> Iterator[Frame]:
        """The last `count` frames as of now, the oldest first; unpacked group by group as they are taken."""
        groups: list[tuple[int, bytes]] = []
        for run in reversed(self._runs):
            if count <= 0:
                break
            groups.append((max(0, len(run.seqs) - count), bytes(run.data)))
            count -= len(run.seqs)
        for skip, data in reversed(groups):
            yield from (frame for _position_ns, frame in codec.group_frames(data)[skip:])

    def part(self, after_seq: int) -> HistoryPart | None:
        """The first group with frames newer than that one; None when there is none."""
        for run in self._runs:
            if run.seqs[-1] > after_seq:
                return HistoryPart(
                    first_seq=run.seqs[0],
                    last_seq=run.seqs[-1],
                    data=bytes(run.data),
                    is_last=run is self._runs[-1],
                )
        return None


class PastTape(PackedTape):
    """The parts that came, as a tape."""

    def __init__(self, edge: str) -> None:
        super().__init__()
        self.edge = edge
        self.last_seq = -1
        self._data: list[bytes] = []
        self._seqs: list[int] = []

    def take(self, part: HistoryPart) -> None:
        """The next part; one that begins as the last one did is the same, with more in it.

        Raises RecordingError.
        """
        again = bool(self._seqs) and self._seqs[-1] == part.first_seq
        if again:
            self._drop_last()
        blocks = [block for _end, block in codec.blocks(part.data)]
        if not blocks or blocks[0].kind != codec.KEY:
            raise RecordingError("the agent sent history that cannot be read")
        if not self.groups:
            self.zero_ns = blocks[0].position_ns
        number = len(self.groups)
        self._data.append(part.data)
        self._seqs.append(part.first_seq)
        self.groups.append(Group(self.length, blocks[0].position_ns - self.zero_ns))
        self.length += len(blocks)
        self.duration_ns = blocks[-1].position_ns - self.zero_ns
        self.last_seq = part.last_seq
        if any(block.has_events for block in blocks):
            first = self.groups[number].first
            for place, (position_ns, frame) in enumerate(self.unpacked(number)):
                self.stamps += [Stamp(first + place, position_ns, event) for event in frame.events]

    def _drop_last(self) -> None:
        group = self.groups.pop()
        self._data.pop()
        self._seqs.pop()
        self.forget(len(self.groups))
        self.length = group.first
        while self.stamps and self.stamps[-1].number >= group.first:
            self.stamps.pop()

    def load(self, group: int) -> bytes:
        return self._data[group]

    def number_of(self, seq: int) -> int:
        """The number on the tape of the frame with that number of its own; the last one until it."""
        group = max(0, bisect_left(self._seqs, seq + 1) - 1)
        frames = self.unpacked(group)
        return self.groups[group].first + max(0, sum(frame.seq <= seq for _at, frame in frames) - 1)
