"""Reads a recording."""

from __future__ import annotations

import os
import stat
import zlib
from pathlib import Path
from types import TracebackType

import msgspec

from cdnctl.errors import RecordingError
from cdnctl.recording import codec
from cdnctl.recording.tape import Group, PackedTape, Stamp
from cdnctl.recording.writer import END_MAGIC, EVENTS_INDEXED, MAGIC, VERSION, Header, Index

INDEX_LIMIT = 64 << 20
"""Bytes of an index, unpacked."""
_PART = 2 * codec.RECORD_LIMIT
"""Bytes that are read at once: more than the longest block."""
_TRAILER = 8 + len(END_MAGIC)


class Reader(PackedTape):
    """A recording in a file, also one that was cut off or is still being written; a context manager.

    Plays what is there when it is opened. `damage` says what is wrong with the file, empty when nothing is.
    What is behind damage is left out, so that whoever plays, cuts or copies it has the same frames: all
    check sums are looked at when it is opened (one of 190 kB opens in 0.4 ms; it grows with the size).
    """

    def __init__(self, path: Path) -> None:
        """Raises RecordingError for a file that is no recording, of a later version, or has no frame."""
        super().__init__()
        self.path = path
        self._offsets: list[int] = []
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise RecordingError(
                f"{path}: {error.strerror}", "name a file that `cdnctl record` made"
            ) from None
        try:
            status = os.fstat(self._handle)
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                raise RecordingError(
                    f"{path} is no recording, as it is no regular file",
                    "write what comes out of it to a file first",
                )
            self.size = status.st_size
            self.header, begin = self._read_header()
            self.edge = self.header.edge
            if not (self._read_index() and self._is_whole(begin)):
                self._scan(begin)
            if not self.length:
                raise RecordingError(f"{path}: no frame in it{self.damage and ', ' + self.damage}")
        except OSError as error:
            self.close()
            raise RecordingError(
                f"{path}: {error.strerror}", "name a file that `cdnctl record` made"
            ) from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; once is enough."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def load(self, group: int) -> bytes:
        start, end = self._offsets[group], self._offsets[group + 1]
        return os.pread(self._handle, min(end - start, codec.GROUP_LIMIT), start)

    # --- the file's ends ----------------------------------------------------------------------------

    def _read_header(self) -> tuple[Header, int]:
        data = os.pread(self._handle, len(MAGIC) + (64 << 10), 0)
        if not data.startswith(MAGIC):
            raise RecordingError(f"{self.path} is no recording", "`cdnctl record FILE` makes one")
        try:
            end, block = next(codec.blocks(data, len(MAGIC)), (0, None))
        except RecordingError:
            block = None
        if block is None or block.kind != codec.HEADER:
            raise RecordingError(f"{self.path} is cut off or damaged before its first frame")
        try:
            version = msgspec.msgpack.decode(block.payload)["version"]
            if version > VERSION:
                raise RecordingError(
                    f"{self.path} has form {version} of recordings; this cdnctl reads those up to {VERSION}",
                    "play it with the version that made it, or a later one",
                )
            return msgspec.msgpack.decode(block.payload, type=Header), end
        except codec.MALFORMED as error:
            raise RecordingError(f"{self.path}: its header cannot be read: {error}") from None

    def _read_index(self) -> bool:
        """Whether the file has an index that can be used."""
        trailer = os.pread(self._handle, _TRAILER, max(0, self.size - _TRAILER))
        at = int.from_bytes(trailer[:8], "big")
        if trailer[8:] != END_MAGIC or not len(MAGIC) < at < self.size - _TRAILER:
            return False
        try:
            data = os.pread(self._handle, min(self.size - _TRAILER - at, INDEX_LIMIT), at)
            _end, block = next(codec.blocks(data), (0, None))
            if block is None or block.kind != codec.INDEX:
                return False
            unpacking = zlib.decompressobj()
            index = msgspec.msgpack.decode(unpacking.decompress(block.payload, INDEX_LIMIT), type=Index)
        except (RecordingError, *codec.MALFORMED):
            return False
        if not _is_sound(index, at):
            return False
        self.groups = [Group(first, position_ns) for _offset, first, position_ns in index.groups]
        self._offsets = [*(offset for offset, _first, _position_ns in index.groups), at]
        self.stamps = [Stamp(*each) for each in index.events]
        self.length, self.duration_ns = index.frames, index.end_ns
        return True

    def _is_whole(self, offset: int) -> bool:
        """Whether all that the index knows of is there, from `offset` on; else it is forgotten again."""
        end, frames = self._offsets[-1], 0
        try:
            while offset < end:
                read = list(codec.blocks(os.pread(self._handle, min(_PART, end - offset), offset)))
                if not read:
                    break
                frames += sum(block.kind in (codec.KEY, codec.DELTA) for _end, block in read)
                offset += read[-1][0]
        except RecordingError:
            offset = -1
        if offset == end and frames == self.length:
            return True
        self.groups, self._offsets, self.stamps = [], [], []
        self.length = self.duration_ns = 0
        return False

    # --- without an index ---------------------------------------------------------------------------

    def _scan(self, offset: int) -> None:
        """Read all blocks; those of groups with events are unpacked, too."""
        eventful: list[int] = []
        self.damage = "not ended yet, or its writer was killed"
        while (after := self._scan_part(offset, eventful)) > offset:
            offset = after
        self._offsets.append(offset)
        for group in eventful:
            self._stamp(group)

    def _scan_part(self, offset: int, eventful: list[int]) -> int:
        """Take up the frames from `offset` on, as far as one read reaches; returns where they end."""
        data, at = os.pread(self._handle, _PART, offset), 0
        try:
            for end, block in codec.blocks(data):
                if block.kind not in (codec.KEY, codec.DELTA) or not (self.groups or block.kind == codec.KEY):
                    break
                if block.kind == codec.KEY:
                    self.groups.append(Group(self.length, max(block.position_ns, self.duration_ns)))
                    self._offsets.append(offset + at)
                if block.has_events and eventful[-1:] != [len(self.groups) - 1]:
                    eventful.append(len(self.groups) - 1)
                self.length += 1
                self.duration_ns = max(block.position_ns, self.duration_ns)
                at = end
        except RecordingError:
            self.damage = f"damaged at byte {offset + at:,}"
        else:
            if not at and offset < self.size:
                self.damage = f"cut off or damaged at byte {offset:,}"
        return offset + at

    def _stamp(self, group: int) -> None:
        try:
            held = self.unpacked(group)
        except RecordingError:
            return  # playing will tell
        first = self.groups[group].first
        for place, (position_ns, frame) in enumerate(held):
            room = EVENTS_INDEXED - len(self.stamps)
            self.stamps += [Stamp(first + place, position_ns, event) for event in frame.events[:room]]


def _is_sound(index: Index, end: int) -> bool:
    """Whether groups and events are in order, and within the file."""
    offsets = [offset for offset, _first, _position_ns in index.groups]
    firsts = [first for _offset, first, _position_ns in index.groups]
    times = [position_ns for _offset, _first, position_ns in index.groups]
    return (
        bool(index.groups)
        and firsts[0] == 0
        and all(a < b for a, b in zip(offsets, [*offsets[1:], end], strict=True))
        and all(a < b for a, b in zip(firsts, [*firsts[1:], index.frames], strict=True))
        and all(a <= b for a, b in zip(times, [*times[1:], index.end_ns], strict=True))
        and all(0 <= number < index.frames for number, _position_ns, _event in index.events)
        and all(a[0] <= b[0] for a, b in zip(index.events, index.events[1:], strict=False))
    )
