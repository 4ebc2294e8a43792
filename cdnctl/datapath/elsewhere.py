"""Where else in this box an edge's program may be attached: in other network namespaces.

An interface can only be asked from within its namespace, and pins are seen from all of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from cdnctl.datapath import attach

_CLONE_NEWNET = 0x4000_0000
NAMED = Path("/run/netns")
"""Namespaces that have names."""
_PROCESSES = Path("/proc")
T = TypeVar("T")


def attached_elsewhere(maps: frozenset[int]) -> Path | None:
    """A namespace other than this one that has the edge's program.

    Looks at the named ones and at those of all processes; needs root.
    """
    seen = {_identity(Path("/proc/thread-self/ns/net")), None}  # None: ended just now
    for path in namespaces():
        there = _identity(path)
        if there not in seen and _attached_in(path, maps):
            return path
        seen.add(there)
    return None


def detach_line(edge: str, maps: frozenset[int]) -> str:
    """What to type, from wherever in this box, to take an edge off, with its agent if there is one, and to
    cut its flows."""
    line = f"cdnctl detach --edge {edge} --stop --yes"
    where = _name_of_here() if attach.attached_to(maps) else attached_elsewhere(maps)
    return f"nsenter --net={where} {line}" if where else line


def _name_of_here() -> Path | None:
    """The present namespace's, if it has one: that of the box itself has none, and needs none."""
    here = _identity(Path("/proc/thread-self/ns/net"))
    names = sorted(NAMED.iterdir()) if NAMED.is_dir() else []
    return next((path for path in names if _identity(path) == here), None)


def _identity(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = path.stat()
        return found.st_dev, found.st_ino
    return None


def namespaces() -> Iterator[Path]:
    """The named ones, then those of all processes; one may come more than once."""
    if NAMED.is_dir():
        yield from sorted(NAMED.iterdir())
    for path in _PROCESSES.iterdir():
        if path.name.isdigit():
            yield path / "ns" / "net"


def shown(path: Path) -> str:
    """A namespace by its name, or by a process that is in it."""
    return path.name if path.parent == NAMED else str(path)


def _attached_in(path: Path, maps: frozenset[int]) -> bool:
    return bool(within(path, lambda: attach.attached_to(maps)))


def within(path: Path, look: Callable[[], T]) -> T | None:
    """What `look` gives in that namespace; None when it cannot be entered, or `look` raises OSError.

    Done by a thread of its own, which alone changes its namespace and ends with it.
    """
    found: list[T] = []

    def quietly() -> None:
        with contextlib.suppress(OSError), path.open("rb") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) == 0:
                found.append(look())

    thread = threading.Thread(target=quietly)
    thread.start()
    thread.join()
    return found[0] if found else None
