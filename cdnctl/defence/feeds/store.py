"""The last good version of each feed on disk: what stands while its publisher is down or wrong.

One file a feed, replaced as a whole: a line of JSON about the list, then the list as it came.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from cdnctl.errors import CdnctlError
from cdnctl.paths import NAME
from cdnctl.state.files import replace

_VERSION = 1


class Stored(Struct, frozen=True, kw_only=True):
    """A list, and how to ask whether there is a newer one."""

    source: str
    """The file or URL that it came from."""
    data: bytes
    at_ns: int
    """Wall time when it came; lifetimes in it begin then."""
    etag: str = ""
    modified: str = ""
    """As the server has put it: `Last-Modified`."""


class _Head(Struct, kw_only=True):
    version: int = _VERSION
    source: str
    at_ns: int
    etag: str = ""
    modified: str = ""
    length: int
    """Of the list in bytes: a file that was cut short is none."""


class Store:
    """Keeps them in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def load(self, feed: str) -> Stored | None:
        """The last good list, or None where there is none that is whole. Raises CdnctlError."""
        path = self._path(feed)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CdnctlError(
                f"cannot read {path}: {error.strerror}", "mend the file, or remove it"
            ) from None
        line, _, body = data.partition(b"\n")
        try:
            head = msgspec.json.decode(line, type=_Head)
        except msgspec.DecodeError:
            return None
        if head.version != _VERSION or head.length != len(body):
            return None
        return Stored(source=head.source, data=body, at_ns=head.at_ns, etag=head.etag, modified=head.modified)

    def save(self, feed: str, stored: Stored) -> None:
        """Replace it; on return it is on the disk. Raises CdnctlError, the one before then stands."""
        path = self._path(feed)
        head = _Head(
            source=stored.source,
            at_ns=stored.at_ns,
            etag=stored.etag,
            modified=stored.modified,
            length=len(stored.data),
        )
        try:
            self.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            replace(path, msgspec.json.encode(head) + b"\n" + stored.data)
        except OSError as error:
            raise CdnctlError(
                f"cannot write {path}: {error.strerror}",
                "the list is in force but would not survive a restart; make room or mend the directory",
            ) from None

    def forget(self, feed: str) -> None:
        """Remove it; for a feed that has left the configuration."""
        self._path(feed).unlink(missing_ok=True)

    def _path(self, feed: str) -> Path:
        if not NAME.fullmatch(feed):
            raise CdnctlError(f"{feed!r} is no name of a feed", "use 1 to 32 of a-z, 0-9 and '-'")
        return self.directory / f"{feed}.feed"
