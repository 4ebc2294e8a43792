"""How a console ends, or stops and comes back: by signals, by a terminal that is gone, by ctrl+z."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ptys import CONSOLE, Pty, made_up_edge

from cdnctl.lab import processes

JOB = """
import os, signal, sys, termios
before = termios.tcgetattr(0)
job = os.fork()
if not job:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execvp(sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
while os.WIFSTOPPED(status := os.waitpid(job, os.WUNTRACED)[1]):
    os.tcsetpgrp(0, os.getpgrp())
    print("stopped, restored:", termios.tcgetattr(0) == before, flush=True)
    sys.stdin.readline()
    os.tcsetpgrp(0, job)
    os.killpg(job, signal.SIGCONT)
status = os.waitstatus_to_exitcode(status)
print("ended with", status, "restored:", termios.tcgetattr(0) == before, flush=True)
"""
"""What a shell does with a job, and no more: it leaves the terminal's modes alone."""
RESTORING = (b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?2004l", b"\x1b[?1000l", b"\x1b[?7h")


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A made-up edge; the environment that finds it."""
    with made_up_edge(tmp_path_factory.mktemp("edge")) as (environment, _):
        yield environment


@pytest.fixture
def window(edge: dict[str, str]) -> Iterator[Callable[..., Pty]]:
    """Opens consoles."""
    opened: list[Pty] = []

    def open_one(words: tuple[str, ...] = CONSOLE, **options: object) -> Pty:
        opened.append(Pty(words, environment=edge, **options))  # type: ignore[arg-type]
        opened[-1].shows("● live", "handshake p95")
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def sent(console: Pty) -> bytes:
    return b"".join(data for _at, data in console.chunks)


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)],
)
def test_a_signal_ends_it_and_the_terminal_is_as_it_was(
    window: Callable[..., Pty], number: signal.Signals, status: int
) -> None:
    console = window()
    console.process.send_signal(number)
    assert console.ends(5) == status
    assert console.is_restored
    console.until(lambda: all(mode in sent(console) for mode in RESTORING), 3)
    assert b"Traceback" not in sent(console)


@pytest.mark.parametrize("controls", [True, False], ids=["told by SIGHUP", "told by nobody"])
@pytest.mark.parametrize("stalled", [False, True], ids=["read", "in the middle of a write"])
def test_a_terminal_that_is_gone_ends_it(window: Callable[..., Pty], controls: bool, stalled: bool) -> None:
    console = window(size=(200, 50), controls=controls)
    if stalled:
        console.hold()
        for key in "2345618123456":
            console.keys(key)
            time.sleep(0.1)
    before_s = console.cpu_s()
    pid = console.process.pid
    console.hang_up()
    used_s, began = before_s, time.monotonic()
    while console.process.poll() is None and time.monotonic() - began < 6:
        used_s = max(used_s, processes.cpu_s(pid))
        time.sleep(0.05)
    assert console.process.poll() == 129
    assert time.monotonic() - began < 4
    assert used_s - before_s < 1.5, "no spin"


def test_ctrl_z_and_fg(window: Callable[..., Pty]) -> None:
    console = window((sys.executable, "-c", JOB, *CONSOLE))
    for _ in range(2):
        came = console.bytes_read
        console.keys("\x1a")
        console.shows("stopped, restored: True", seconds=5)
        left = sent(console)[came:]
        assert all(mode in left.partition(b"stopped, restored")[0] for mode in RESTORING)
        console.wipe()
        stopped = console.bytes_read
        time.sleep(1.2)
        assert console.bytes_read == stopped, "nothing is painted into somebody else's terminal"
        console.keys("\n")
        console.shows("● live", "handshake p95", "aurora", seconds=5)
    console.keys("j")
    console.shows("borealis  198.51.100.20", seconds=3)
    console.keys("q")
    console.shows("leave the edge running")
    console.keys("\r")
    console.shows("ended with 0 restored: True", seconds=5)


@pytest.mark.soak
def test_ctrl_z_and_fg_while_the_terminal_takes_nothing(window: Callable[..., Pty]) -> None:
    """What was under way comes before the other screen is entered again, and does not leave it after."""
    at_once = JOB.replace("sys.stdin.readline()", "time.sleep(0.3)").replace("import os", "import time, os")
    job = "".join(line for line in at_once.splitlines(keepends=True) if "stopped, restored" not in line)
    console = window((sys.executable, "-c", job, *CONSOLE), size=(200, 50))
    console.hold()
    for key in "23456181234561234561":
        console.keys(key)
        time.sleep(0.1)
    console.keys("\x1a")
    time.sleep(1.5)
    console.go_on()
    console.until(lambda: sent(console).count(b"\x1b[?1049h") > 1, 5)
    console.keys("2")
    console.shows("endpoints ·", seconds=5)
    assert sent(console).rfind(b"\x1b[?1049l") < sent(console).rfind(b"\x1b[?1049h")


def test_ctrl_z_without_a_shell_to_come_back_from_does_not_stop_it(window: Callable[..., Pty]) -> None:
    console = window()
    console.keys("\x1a")
    time.sleep(0.5)
    console.keys("2")
    console.shows("endpoints ·", seconds=5)
    assert console.state in "SR"


def test_stopped_and_continued_past_it(window: Callable[..., Pty]) -> None:
    console = window()
    tasks = len(os.listdir(f"/proc/{console.process.pid}/task"))
    for _ in range(3):
        console.process.send_signal(signal.SIGSTOP)
        console.until(lambda: console.state == "T")
        console.process.send_signal(signal.SIGCONT)
        console.until(lambda: console.state != "T")
    console.keys("2")
    console.shows("endpoints ·", seconds=5)
    assert len(os.listdir(f"/proc/{console.process.pid}/task")) == tasks, "one reads, one writes, as before"


def test_nothing_is_left_running(edge: dict[str, str]) -> None:
    mine = f"CDNCTL_RUN_DIR={edge['CDNCTL_RUN_DIR']}".encode()
    left = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mine in (entry / "environ").read_bytes():
                    left.append((entry / "cmdline").read_bytes())
            except OSError:
                continue
    assert all(b"made_up_agent" in each for each in left), left
