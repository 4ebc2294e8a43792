"""A step that is interrupted at each of its system calls in turn, by strace: killed, or the call fails.

The step runs in a fork that stops itself before it begins and after its last call, so that no other call
is counted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

import pytest

FILES = (
    "open,openat,read,write,pread64,lseek,fstat,newfstatat,mkdir,link,linkat,unlink,rename,fsync,ftruncate,"
    "flock,close"
)
"""Calls that a disk may let fail."""
MOST = 3_000
"""A step of more calls than this hangs."""
REFUSED = 3
"""How a step ends that was refused, and said so."""

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None or os.geteuid() != 0, reason="needs strace, and root to trace"
)


def interrupted(
    step: Callable[[], None], fault: str, every: int = 1, calls: str = "all"
) -> Iterator[int | None]:
    """Run `step` in a fork, interrupted at its first call, then at its second, and so on, until one runs
    through. Gives how each ended: None when it was killed, else its status; 0 is what ran through.

    `fault` is strace's, as `signal=KILL` or `error=EIO`.
    """
    for number in range(1, MOST, every):
        status, was_hit = _run(step, f"inject={calls}:{fault}:when={number}")
        yield status
        if not was_hit:
            assert status == 0
            return
    raise AssertionError(f"more than {MOST} calls")


def _run(step: Callable[[], None], inject: str) -> tuple[int | None, bool]:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.kill(os.getpid(), signal.SIGSTOP)
            step()
            status = 0
        except OSError as error:
            os.write(2, f"not foreseen: {error!r}\n".encode())
        except Exception:
            status = REFUSED
        finally:
            os._exit(status)
    os.waitpid(pid, os.WUNTRACED)
    log = tempfile.TemporaryFile()  # noqa: SIM115, closed below
    tracer = subprocess.Popen(
        ["strace", "-qq", "-p", str(pid), "-e", "trace=all", "-e", inject],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
    )
    try:
        _await_tracer(pid)
        os.kill(pid, signal.SIGCONT)
        _, raw = os.waitpid(pid, 0)
        tracer.wait(10)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        tracer.kill()
        tracer.wait()
        log.seek(0)
        said = log.read().decode(errors="replace")
        log.close()
    ended = None if os.WIFSIGNALED(raw) else os.waitstatus_to_exitcode(raw)
    return ended, "INJECTED" in said or ended is None


def _await_tracer(pid: int) -> None:
    until = time.monotonic() + 10
    while "TracerPid:\t0\n" in open(f"/proc/{pid}/status").read():  # noqa: SIM115
        assert time.monotonic() < until, "strace does not attach"
        time.sleep(0.001)
