"""Stop one thread of another process: SIGSTOP stops them all."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _ptrace(request: int, tid: int) -> None:
    if _libc.ptrace(ctypes.c_long(request), ctypes.c_long(tid), None, None) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace {request:#x} of thread {tid}: {os.strerror(error)}")


def named(pid: int, name: str) -> int:
    """The one thread of a process that has this name."""
    (found,) = (
        int(path.name)
        for path in Path(f"/proc/{pid}/task").iterdir()
        if (path / "comm").read_text().strip() == name
    )
    return found


@contextlib.contextmanager
def stopped(pid: int, tid: int) -> Iterator[None]:
    """Keep one thread from running, while it waits in the kernel and so holds no lock of Python's."""
    _ptrace(PTRACE_SEIZE, tid)
    try:
        _interrupt_at_rest(pid, tid)
        yield
    finally:
        _ptrace(PTRACE_DETACH, tid)


def _interrupt_at_rest(pid: int, tid: int) -> None:
    for _ in range(100):
        _ptrace(PTRACE_INTERRUPT, tid)
        os.waitpid(tid, WALL)
        # While stopped the file holds the system call it was in; -1 outside of one.
        call = Path(f"/proc/{pid}/task/{tid}/syscall").read_text().split()[0]
        if int(call) >= 0:
            return
        _ptrace(PTRACE_DETACH, tid)
        time.sleep(0.013)
        _ptrace(PTRACE_SEIZE, tid)
    raise AssertionError(f"thread {tid} of {pid} never rests")
