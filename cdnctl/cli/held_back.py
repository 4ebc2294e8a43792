"""Whether another configuration is in force than the file says: for `check` and `doctor`."""

from __future__ import annotations

import contextlib
from pathlib import Path

from cdnctl import paths
from cdnctl.agent.blocking import Client
from cdnctl.errors import CdnctlError
from cdnctl.model import Frame, GetFrame, HeldBack

_TIMEOUT_S = 1.5


def held_back(edge: str, file: Path, *, asks: bool = True) -> HeldBack | None:
    """What the edge's agent says of this file; without one, what is on the disk, where this user may look.

    `asks` is False where it is known that none answers.
    """
    frame = _frame(edge) if asks else None
    if frame is None:
        from cdnctl.engine import held

        return held.look(edge, file.absolute())
    said = frame.held_back
    return said if said is not None and _is_same(Path(said.file), file) else None


def _frame(edge: str) -> Frame | None:
    with contextlib.suppress(CdnctlError), Client(paths.socket_path(edge), timeout_s=_TIMEOUT_S) as client:
        return client.request(GetFrame()).frame
    return None


def _is_same(one: Path, other: Path) -> bool:
    """By where they lead: what one is asked about may be a link."""
    try:
        return one.samefile(other)
    except OSError:
        return one == other.absolute()
