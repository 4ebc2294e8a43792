"""Writes a recording."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec

from cdnctl import __version__
from cdnctl.errors import RecordingError
from cdnctl.model import Event, Frame
from cdnctl.recording import codec

MAGIC = b"cdnrec\r\n"
END_MAGIC = b"cdnend\r\n"
VERSION = 1
"""Of the file's form. A new field of `Frame` does not change it; another meaning of bytes does."""
EVENTS_INDEXED = 20_000
"""Later events are in their frames, but in no list of chapters."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What the file begins with."""

    version: int = VERSION
    edge: str = ""
    began_ns: int = 0
    """Wall time of the first frame."""
    redacted: bool = False
    """Addresses and users are not the real ones."""
    made_by: str = f"cdnctl {__version__}"


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """What it ends with."""

    frames: int
    end_ns: int
    """Position of the last one."""
    groups: list[tuple[int, int, int]]
    """Of each group: where it begins in the file, the number and the position of its first frame."""
    events: list[tuple[int, int, Event]]
    """Each with the number and position of its frame."""


class Writer:
    """A recording being made; a context manager. `close` adds the index: without it a file plays as well.

    Everything raises RecordingError, after which the file ends before the frame that failed.
    """

    def __init__(self, file: Path | BinaryIO, *, redacted: bool = False) -> None:
        """A path must not exist yet; an open file belongs to the writer from here on."""
        self.frames = 0
        self.bytes = 0
        self.duration_s = 0.0
        self.name = str(file) if isinstance(file, Path) else getattr(file, "name", "the recording")
        self._redacted = redacted
        self._encoder = codec.Encoder()
        self._groups: list[tuple[int, int, int]] = []
        self._events: list[tuple[int, int, Event]] = []
        self._file = _create(file) if isinstance(file, Path) else file

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, frame: Frame) -> None:
        """The next frame: written, not only buffered, when this returns."""
        begins, packed = self._encoder.encode(frame)
        head = b"" if self.bytes else self._head(frame)
        at = self.bytes + len(head)
        self._write(head + packed)
        position_ns = self._encoder.position_ns
        if begins:
            self._groups.append((at, self.frames, position_ns))
        room = EVENTS_INDEXED - len(self._events)
        self._events += [(self.frames, position_ns, event) for event in frame.events[:room]]
        self.frames += 1
        self.duration_s = position_ns / 1e9

    def close(self) -> None:
        """Add the index and close the file; once is enough."""
        if self._file.closed:
            return
        try:
            if self.frames:
                index = Index(
                    frames=self.frames,
                    end_ns=self._encoder.position_ns,
                    groups=self._groups,
                    events=self._events,
                )
                at = self.bytes
                payload = zlib.compress(msgspec.msgpack.encode(index), codec.LEVEL)
                self._write(codec.block(codec.INDEX, payload) + at.to_bytes(8, "big") + END_MAGIC)
                os.fsync(self._file.fileno())
        except (OSError, RecordingError):
            pass  # a disk that is full has said so before; without an index the file plays as well
        finally:
            self._file.close()

    def _head(self, frame: Frame) -> bytes:
        header = Header(edge=frame.edge, began_ns=frame.at_ns, redacted=self._redacted)
        return MAGIC + codec.block(codec.HEADER, msgspec.msgpack.encode(header))

    def _write(self, data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            self._take_back()
            raise RecordingError(
                f"{self.name}: {error.strerror or error}", "what is recorded so far can be played"
            ) from None
        self.bytes += len(data)

    def _take_back(self) -> None:
        """Half a block is of no use, and would be in the way of the index."""
        try:
            self._file.truncate(self.bytes)
            self._file.seek(self.bytes)
        except OSError:
            pass


def _create(path: Path) -> BinaryIO:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    except FileExistsError:
        raise RecordingError(f"{path} is there already", "name another file, or remove it") from None
    except OSError as error:
        raise RecordingError(
            f"{path}: {error.strerror}", "name a file in a directory that is there"
        ) from None
    return os.fdopen(handle, "wb", buffering=0)
