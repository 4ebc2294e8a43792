"""Frames into blocks of bytes, and back.

A group is a whole frame and up to `GROUP - 1` differences, in one zlib stream that is flushed after each.
Everything that is unpacked is bounded before it is: by `RECORD_LIMIT` and `GROUP_LIMIT`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from cdnctl.errors import RecordingError
from cdnctl.model import Frame
from cdnctl.recording.delta import BadPatch, Names, Tree, diff, patched

GROUP = 60
"""Frames from one whole one to the next: more is smaller, and slower to seek in."""
RECORD_LIMIT = 2 << 20
"""Bytes of one frame or difference, unpacked."""
GROUP_LIMIT = 32 << 20
"""Bytes of a group, unpacked."""
PACKED_LIMIT = 4 << 20
"""Bytes of a group after which it ends: one goes to a client in one message."""
LEVEL = 6

HEADER, KEY, DELTA, INDEX = 1, 2, 3, 4
EVENTS = 0x80
"""Added to the kind of a frame that has events."""
HEAD = struct.Struct(">BIIq")
MALFORMED = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError,
    zlib.error, struct.error, msgspec.MsgspecError,
)  # fmt: skip
"""What reading bytes that mean nothing may raise."""

_encoder = msgspec.msgpack.Encoder()
_plain = msgspec.msgpack.Decoder()


class Block(NamedTuple):
    """One block of a recording."""

    kind: int
    has_events: bool
    position_ns: int
    payload: bytes


def block(kind: int, payload: bytes, position_ns: int = 0) -> bytes:
    """A block as it stands in the file."""
    return HEAD.pack(kind, len(payload), zlib.crc32(payload), position_ns) + payload


def blocks(data: bytes | memoryview, offset: int = 0) -> Iterator[tuple[int, Block]]:
    """The blocks of `data` from `offset`, each with where it ends. Ends before one that is cut off.

    Raises RecordingError at one that is damaged.
    """
    while offset + HEAD.size <= len(data):
        kind, length, check, position_ns = HEAD.unpack_from(data, offset)
        end = offset + HEAD.size + length
        if end > len(data):
            return
        payload = bytes(data[offset + HEAD.size : end])
        if zlib.crc32(payload) != check or kind & ~EVENTS not in (HEADER, KEY, DELTA, INDEX):
            raise RecordingError(f"damaged at byte {offset}")
        yield end, Block(kind & ~EVENTS, bool(kind & EVENTS), position_ns, payload)
        offset = end


def tree_of(frame: Frame) -> dict[str, Tree]:
    """The frame as MessagePack has it. Raises RecordingError for one that it cannot have."""
    try:
        tree: dict[str, Tree] = _plain.decode(_encoder.encode(frame))
    except MALFORMED as error:
        raise RecordingError(f"frame {frame.seq} cannot be written: {error}") from None
    return tree


class Encoder:
    """Packs frames, each by the one before."""

    def __init__(self) -> None:
        self.frames = 0
        """How many so far."""
        self._restart = True
        self._left = 0
        self._first_ns = 0
        self._position_ns = 0
        self._tree: dict[str, Tree] = {}

    @property
    def position_ns(self) -> int:
        """Of the last frame: by the kernel's clock since the first; goes back never."""
        return self._position_ns

    def restart(self) -> None:
        """Have the next frame begin a group."""
        self._left = 0

    def encode(self, frame: Frame) -> tuple[bool, bytes]:
        """The frame's block, and whether it begins a group. Raises RecordingError for one too large."""
        tree = tree_of(frame)
        if not self.frames:
            self._first_ns = frame.monotonic_ns
        position_ns = max(self._position_ns, min(frame.monotonic_ns - self._first_ns, (1 << 63) - 1))
        begins = self._left == 0
        if begins:
            self._names, self._packing = Names(), zlib.compressobj(LEVEL)
            self._left, self._unpacked, self._packed = GROUP, 0, 0
            record = _encoder.encode(tree)
        else:
            patch = diff(self._tree, tree, self._names)
            record = _encoder.encode([self._names.take_fresh(), patch])
        if len(record) > RECORD_LIMIT:
            self.restart()
            raise RecordingError(f"frame {frame.seq} has {len(record):,} bytes; {RECORD_LIMIT:,} are taken")
        payload = self._packing.compress(record) + self._packing.flush(zlib.Z_SYNC_FLUSH)
        self._unpacked += len(record)
        self._packed += len(payload)
        full = self._unpacked > GROUP_LIMIT - RECORD_LIMIT or self._packed > PACKED_LIMIT
        self._left = 0 if full else self._left - 1
        self._tree, self._position_ns = tree, position_ns
        self.frames += 1
        kind = (KEY if begins else DELTA) | (EVENTS if frame.events else 0)
        return begins, block(kind, payload, position_ns)


class Decoder:
    """Unpacks the blocks of one group, in order. Raises RecordingError for what is none."""

    def __init__(self) -> None:
        self._unpacking = zlib.decompressobj()
        self._names = Names()
        self._unpacked = 0
        self._tree: Tree = None

    def decode(self, block: Block) -> dict[str, Tree]:
        """The next frame as a tree; shares with those before what is the same: change nothing in it."""
        try:
            record = self._unpacking.decompress(block.payload, RECORD_LIMIT + 1)
            self._unpacked += len(record)
            if len(record) > RECORD_LIMIT or self._unpacked > GROUP_LIMIT or self._unpacking.unconsumed_tail:
                raise RecordingError("a frame that is too large")
            if block.kind == KEY and self._tree is None:
                self._tree = _plain.decode(record)
            elif block.kind == DELTA and self._tree is not None:
                fresh, patch = _plain.decode(record)
                self._names.learn(fresh)
                if patch is not None:
                    self._tree = patched(self._tree, patch, self._names)
            else:
                raise BadPatch("frames that are out of order")
            if not isinstance(self._tree, dict):
                raise BadPatch("a frame without fields")
        except MALFORMED as error:
            raise RecordingError(f"a frame that cannot be unpacked: {error}") from None
        tree: dict[str, Tree] = self._tree
        return tree


def frame_of(tree: dict[str, Tree]) -> Frame:
    """The frame that a tree is of; unknown fields are passed over. Raises RecordingError."""
    try:
        return msgspec.convert(tree, Frame)
    except MALFORMED as error:
        raise RecordingError(f"a frame that cannot be understood: {error}") from None


def group_frames(
    data: bytes | memoryview, damage: list[RecordingError] | None = None
) -> list[tuple[int, Frame]]:
    """The frames of one group, each with its position in ns.

    Where it is damaged: those before, and the error appended to `damage`, or raised when that is None.
    """
    found: list[tuple[int, Frame]] = []
    decoder = Decoder()
    try:
        for _end, each in blocks(data):
            found.append((each.position_ns, frame_of(decoder.decode(each))))
    except RecordingError as error:
        if damage is None:
            raise
        damage.append(error)
    return found
