"""Writing so that a crash, at whatever system call, leaves the old contents or the new."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace(path: Path, data: bytes, *, keep_as: Path | None = None) -> None:
    """Write `data` to `path`; on return it is on the disk. Raises OSError, and the old contents then stand.

    `keep_as` gives what is replaced a second name, which stays.
    """
    draft, before = (path.with_name(f".{path.name}.{kind}.{os.getpid()}") for kind in ("new", "old"))
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        is_new = not _link(path, before)
        if keep_as is not None and not is_new:
            _link(path, keep_as)
        draft.rename(path)
        try:
            sync(path.parent)
        except OSError:
            # In force for whoever reads it now, but perhaps not after a power cut: nobody is told both.
            if is_new:
                path.unlink()
            else:
                before.rename(path)
            raise
    finally:
        for left in (draft, before):
            with contextlib.suppress(OSError):
                left.unlink()


def _link(path: Path, name: Path) -> bool:
    """Give a file a second name, in place of what has it now; False when there is no such file."""
    try:
        with contextlib.suppress(FileExistsError):  # left there by a save that was interrupted
            os.link(path, name)
            return True
        name.unlink()
        os.link(path, name)
    except FileNotFoundError:
        return False
    return True


def remove(path: Path) -> None:
    """Remove the file for good, if it is there. Raises OSError; then it is still there."""
    before = path.with_name(f".{path.name}.old.{os.getpid()}")
    if not _link(path, before):
        return
    try:
        path.unlink()
        sync(path.parent)
    except OSError:
        before.rename(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            before.unlink()


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
