"""Writing so that a crash, at whatever system call, leaves the old contents or the new."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace(path: Path, data: bytes, *, keep_as: Path | None = None) -> None:
    """Write `data` to `path`; on return it is on the disk. Raises OSError, and the old contents then stand.

    `keep_as` gives what is replaced a second name, which stays.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if keep_as is not None:
            with contextlib.suppress(FileNotFoundError):  # there is nothing to keep
                _link(path, keep_as)
        draft.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    try:
        sync(path.parent)
    except OSError:
        # In force for whoever reads it now, but perhaps not after a power cut: nobody is to be told both.
        if keep_as is not None:
            with contextlib.suppress(OSError):
                _link(keep_as, draft)
                draft.rename(path)
        raise


def _link(path: Path, name: Path) -> None:
    """Give a file a second name; one that was left there by an interrupted save goes."""
    with contextlib.suppress(FileExistsError):
        os.link(path, name)
        return
    name.unlink(missing_ok=True)
    os.link(path, name)


def remove(path: Path) -> None:
    """Remove the file for good, if it is there. Raises OSError."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync(path.parent)


def write_all(descriptor: int, data: bytes) -> None:
    """All of it, however many calls that takes. Raises OSError; part of it may be written then."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync(directory: Path) -> None:
    """Have the names in a directory on the disk, too. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear_drafts(directory: Path) -> None:
    """Drafts that a process left which was killed while it wrote."""
    for draft in directory.glob(".*.*"):
        if draft.suffix[1:].isdigit() and not Path(f"/proc/{draft.suffix[1:]}").exists():
            with contextlib.suppress(OSError):
                draft.unlink()
