"""Processes of a lab: started inside namespaces, recorded, ended by identity.

A pid alone names nobody: the kernel gives it away again. So a process is known by its pid *and* its
start time, and only one whose start time is still the recorded one is ever sent a signal.

Each child asks the kernel to be killed when the thread that started it ends (`setpriv --pdeathsig`),
so nothing runs on after a `kill -9`; a lab must therefore be built in a thread that outlives it. The
names and files that such a kill leaves behind are in the run record (`record`).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from msgspec import Struct

from cdnctl.errors import CdnctlError
from cdnctl.lab import netns
from cdnctl.python import environment as environment  # the lab's users take it from here
from cdnctl.python import python_module

NICE = -10
ANSWER_S = 5.0
"""A generator that takes longer to answer an order has failed."""


class LabError(CdnctlError):
    """The lab could not be built, or a part of it failed; the text says which."""


class Identity(Struct, frozen=True):
    """One process, for good."""

    pid: int
    start: int
    """In clock ticks since boot (field 22 of /proc/PID/stat)."""
    what: str

    @classmethod
    def of(cls, pid: int, what: str) -> Identity:
        return cls(pid, start_time(pid) or 0, what)

    def alive(self) -> bool:
        return self.start != 0 and start_time(self.pid) == self.start

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it is still the same process."""
        with contextlib.suppress(ProcessLookupError):
            # The pidfd pins the process down between the look and the signal.
            fd = os.pidfd_open(self.pid)
            try:
                if self.alive():
                    signal.pidfd_send_signal(fd, number)
            finally:
                os.close(fd)


def start_time(pid: int) -> int | None:
    """When a process started, in ticks since boot; None when there is none, or only its zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(rest[18])


def cpu_s(pid: int) -> float:
    """CPU time a process has used, in seconds; 0 when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(
    command: Sequence[str],
    *,
    namespace: str | None = None,
    stdin: int | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = subprocess.DEVNULL,
    stderr: int | IO[bytes] | None = None,
    extra: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command that dies with this thread, in a namespace; LabError if it cannot be.

    It gets a session of its own, so that Ctrl-C in the terminal reaches the lab's owner alone.
    """
    enter = ["nsenter", f"--net={netns.path(namespace)}"] if namespace else []
    try:
        return subprocess.Popen(
            [*enter, "setpriv", "--pdeathsig", "KILL", "--", *command],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=environment(extra),
            start_new_session=True,
        )
    except OSError as error:
        raise LabError(f"cannot start {command[0]}: {error}") from error


def end(process: subprocess.Popen[bytes], *, grace_s: float = 2.0) -> None:
    """Ask a child to end, make it after `grace_s`, and reap it; one stuck in the kernel is left to die."""
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()
    process.terminate()
    process.send_signal(signal.SIGCONT)  # a paused one cannot end
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        # On a busy box, or in the middle of a long system call, even that takes its time.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Taking down is not interrupted by a second Ctrl-C (in the main thread; others get none)."""
    handlers = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            handlers[number] = signal.signal(number, signal.SIG_IGN)
    except ValueError:
        pass
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class Generator:
    """One of the lab's own programs: orders in, answers out, one JSON object a line."""

    def __init__(self, module: str, namespace: str, log: IO[bytes] | None) -> None:
        # Ahead of others: a cable or a clock that waits for the processor would be a fault nobody ordered.
        command = ["nice", "-n", str(NICE), *python_module(f"cdnctl.lab.{module}")]
        self.module = module
        self.process = start(
            command, namespace=namespace, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )
        self._buffer = b""
        self._selector = selectors.DefaultSelector()
        assert self.process.stdout
        self._selector.register(self.process.stdout, selectors.EVENT_READ)

    def order(self, **fields: object) -> None:
        """Send one order; LabError when the program is gone."""
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps(fields).encode() + b"\n")
            self.process.stdin.flush()
        except (OSError, ValueError) as error:
            raise LabError(f"the lab's {self.module} process is gone ({self.process.poll()})") from error

    def answer(self, timeout_s: float = ANSWER_S) -> Any:
        """The next line of answer; LabError when it says `error`, is late, or the program is gone."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not self._selector.select(left):
                raise LabError(f"the lab's {self.module} process gave no answer in {timeout_s:g} s")
            assert self.process.stdout
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                raise LabError(f"the lab's {self.module} process ended ({self.process.poll()})")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise LabError(f"the lab's {self.module} process: {answer['error']}")
        return answer

    def has_answer(self) -> bool:
        """Is there something to read for `answer` now?"""
        return b"\n" in self._buffer or bool(self._selector.select(0))

    def ask(self, **fields: object) -> Any:
        """An order and its answer."""
        self.order(**fields)
        return self.answer()

    def end(self) -> None:
        self._selector.close()
        end(self.process)
