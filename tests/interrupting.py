"""A step that is interrupted at each of its system calls in turn, by strace: killed, or the call fails.

The step runs in a fork that stops itself before it begins and after its last call, so that no other call
is counted.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

import pytest

FILES = re.compile(
    "open|openat|read|write|pread64|lseek|fstat|newfstatat|mkdir|link|linkat|unlink|rename|fsync|ftruncate"
    "|flock|close"
)
"""Calls that a disk may let fail."""
_CALL = re.compile(r"(\w+)\(")
REFUSED = 3
"""How a step ends that was refused, and said so."""

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None or os.geteuid() != 0, reason="needs strace, and root to trace"
)


def interrupted(
    begin: Callable[[], None], step: Callable[[], None], fault: str, *, every: int = 1, failing: bool = False
) -> Iterator[tuple[str, int | None]]:
    """Run `step` in a fork, after `begin`, once for each of its calls, interrupted at that one; and at last
    to its end. Gives where, and how it ended: None when it was killed, else its status.

    `fault` is strace's, as `signal=KILL` or `error=EIO`; `failing` calls are those that a disk lets fail.
    Of many calls only one in so `every` many is interrupted.
    """
    begin()
    status, said = _run(step, [])
    yield "nowhere", status
    names = [found[1] for line in said.splitlines() if (found := _CALL.match(line))]
    counts: dict[str, int] = {}
    for number, name in enumerate(names):
        counts[name] = counts.get(name, 0) + 1
        if number % every or (failing and not FILES.fullmatch(name)):
            continue
        begin()
        where = f"{name} {counts[name]}"
        status, said = _run(step, ["-e", f"inject={name}:{fault}:when={counts[name]}"])
        assert status is None or "INJECTED" in said, f"not interrupted at {where}"
        yield where, status


def _run(step: Callable[[], None], inject: list[str]) -> tuple[int | None, str]:
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
    with tempfile.TemporaryFile() as log:
        tracer = subprocess.Popen(
            ["strace", "-qq", "-p", str(pid), *inject],
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
    return None if os.WIFSIGNALED(raw) else os.waitstatus_to_exitcode(raw), said


def _await_tracer(pid: int) -> None:
    until = time.monotonic() + 10
    while "TracerPid:\t0\n" in open(f"/proc/{pid}/status").read():  # noqa: SIM115
        assert time.monotonic() < until, "strace does not attach"
        time.sleep(0.001)
