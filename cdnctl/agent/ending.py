"""The end of an agent: waited for, and brought about when it hangs."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

from cdnctl import paths
from cdnctl.agent.process import sole_agent
from cdnctl.errors import CdnctlError, NotPermitted, sudo_line

TOLD_S = 20.0
"""How long an agent that was told to end, and answered, may take: detaching waits for drivers."""
TERM_S = 4.0
"""How long one that hangs may take after SIGTERM."""
_KILL_S = 5.0
_LOCKS = Path("/proc/locks")


def holder(edge: str) -> int:
    """The process that holds the edge's lock by the kernel's word: its agent; 0 when nobody does."""
    try:
        lock = paths.lock_path(edge).stat()
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return 0
    wanted = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
    held = (line.split() for line in lines)
    return next((int(words[4]) for words in held if words[1] == "FLOCK" and words[5] == wanted), 0)


def end(edge: str, *, patience_s: float = 0.0) -> str:
    """Return when the edge has no agent any more, in what words it went; empty when there was none.

    One that is there after `patience_s` gets SIGTERM, and SIGKILL if that does not help. Raises
    CdnctlError when it is still there, or may not be ended by this user.
    """
    pid = holder(edge)
    if not pid:
        return ""
    went = f"its agent (pid {pid}) has ended"
    with _handle(pid) as process:
        if holder(edge) != pid or _ends(process, patience_s):
            return went
        _check(edge, pid)
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if _ends(process, TERM_S):
            return went
        signal.pidfd_send_signal(process, signal.SIGKILL)
        if _ends(process, _KILL_S):
            return f"its agent (pid {pid}) hung and was killed"
    raise CdnctlError(f"the agent of edge {edge} (pid {pid}) does not end, not even by SIGKILL", "reboot")


def clear(edge: str) -> None:
    """Remove what an agent that was killed leaves. Raises AgentRuns when another one has started."""
    left = (paths.socket_path(edge), paths.view_socket_path(edge), paths.start_path(edge))
    if not any(path.exists() for path in left):
        return
    with sole_agent(edge):
        for path in left:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _handle(pid: int) -> Iterator[int]:
    """Of this very process, whoever has its number later."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        handle = os.open(os.devnull, os.O_RDONLY)  # always ready to be read, as of one that has ended
    try:
        yield handle
    finally:
        os.close(handle)


def _ends(process: int, seconds: float) -> bool:
    return bool(select.select([process], [], [], seconds)[0])


def _check(edge: str, pid: int) -> None:
    """Raises unless it is an agent that this user may end."""
    lock = paths.lock_path(edge)
    try:
        said = lock.read_text().strip()
    except PermissionError:
        raise NotPermitted(
            f"the agent of edge {edge} (pid {pid}) was told to end and goes on; only root may end it",
            sudo_line(),
        ) from None
    if said != str(pid):
        raise CdnctlError(
            f"{lock} is held by process {pid}, which does not say that it is an agent: it is left alone",
            f"look at it with `ps {pid}`",
        )
