"""What group `cdnctl` may read of an edge's directory: journal, recordings and the log of ports.

Modes are set, not only asked for when something is made: a service manager's umask takes the group's part
away. Where the group does not exist all stays root's alone.
"""

from __future__ import annotations

import contextlib
import grp
import os
from pathlib import Path

from cdnctl import paths

FILE_MODE = 0o640
DIRECTORY_MODE = 0o750
ROOT_MODE = 0o711
"""Of what all edges' directories are in: to be passed through, not looked into."""


def operators() -> int | None:
    """The number of the operators' group; None where there is none."""
    with contextlib.suppress(KeyError):
        return grp.getgrnam(paths.OPERATORS_GROUP).gr_gid
    return None


def open_to_operators(descriptor: int, mode: int = FILE_MODE) -> None:
    """Let them read an open file or directory. Raises OSError; nobody else may read it then, either."""
    if (group := operators()) is not None:
        os.fchown(descriptor, -1, group)  # first: the mode must not be another group's for a moment
        os.fchmod(descriptor, mode)


def directory(path: Path) -> None:
    """Make an edge's directory, or one in it, and let them read it. Raises OSError."""
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
        path.parent.chmod(ROOT_MODE)
    path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        open_to_operators(descriptor, DIRECTORY_MODE)
    finally:
        os.close(descriptor)


def file(path: Path, flags: int = os.O_RDONLY) -> None:
    """Let them read a file, which is never reached through a link. Raises OSError."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        open_to_operators(descriptor)
    finally:
        os.close(descriptor)


def journal(edge: str) -> None:
    """Let operators read the journal, as far as there is their group. Nothing else in there is theirs."""
    if operators() is None:
        return
    path = paths.journal_path(edge)
    with contextlib.suppress(OSError):  # who has something to write there will say what is wrong
        directory(path.parent)
        file(path, os.O_WRONLY | os.O_CREAT)
