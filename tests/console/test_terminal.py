"""The console as a process in a real terminal, on the agent's real socket."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from terminals import Terminal, until

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RUN = "import sys; from cdnctl.console.app import run; sys.exit(run(None))"

pytestmark = [
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
    pytest.mark.flaky(reruns=1),  # processes that have 15 s, on a machine with neighbours
]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A made-up edge behind a real socket, for all; its value is the file of the commands it got."""
    with made_up(tmp_path_factory.mktemp("edge")) as told:
        yield told


@contextlib.contextmanager
def made_up(directory: Path) -> Iterator[Path]:
    told = directory / "told"
    environment = {**os.environ, "CDNCTL_RUN_DIR": str(directory / "run")}
    with told.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, HERE / "made_up_agent.py"], stdout=out, cwd=ROOT, env=environment
        )
    try:
        until(lambda: "ready" in told.read_text(), told.read_text)
        yield told
    finally:
        process.terminate()
        process.wait(5)


@pytest.fixture
def terminal(
    tmp_path: Path, agent: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Terminal]]:
    """Opens terminals in which the console runs, at the agent of all or where `CDNCTL_RUN_DIR` says."""
    monkeypatch.setenv("CDNCTL_RUN_DIR", str(agent.parent / "run"))
    monkeypatch.delenv("CDNCTL_EDGE", raising=False)
    opened: list[Terminal] = []

    def open_terminal(size: tuple[int, int] = (120, 40), code: str = RUN) -> Terminal:
        command = f"cd {shlex.quote(str(ROOT))}; {shlex.join([sys.executable, '-c', code])}"
        opened.append(Terminal(tmp_path, command, size))
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()


def test_live_block_and_quit_by_keys_alone(terminal: Callable[..., Terminal], agent: Path) -> None:
    window = terminal()
    window.shows("● live", "10.66.0.0/16", "handshake p95", "borealis is back", "traffic")
    window.keys("b")
    window.shows("Block a prefix", "→ blocks 10.66.0.0/16")
    window.keys("C-s")
    window.shows("✔ blocks 10.66.0.0/16")
    until(lambda: '"prefix":"10.66.0.0/16","lifetime_s":14400.0' in agent.read_text(), agent.read_text)
    window.keys("q")
    window.shows("leave the edge running")
    window.keys("Enter")
    window.shows("ended with 0")
    assert '"verb":"stop"' not in agent.read_text()


def test_detaching_ends_the_agent_and_the_console(
    terminal: Callable[..., Terminal], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with made_up(tmp_path) as told:
        monkeypatch.setenv("CDNCTL_RUN_DIR", str(tmp_path / "run"))
        window = terminal((80, 24))
        window.shows("● live")
        window.keys("q")
        window.shows("leave the edge running")
        window.keys("j")
        window.shows("Detach and quit")
        window.keys("C-s")
        window.shows("ended with 0")
        stop = next(line for line in told.read_text().splitlines() if '"verb":"stop"' in line)
    assert '"dry_run":false' in stop
    assert '"detach":true' in stop


def test_resizing_and_coming_back(terminal: Callable[..., Terminal]) -> None:
    window = terminal()
    window.shows("● live")
    window.resize(60, 15)
    window.shows("cdnctl needs 80x24", "this terminal is 60x15")
    for width in range(80, 200, 17):
        window.resize(width, 20 + width // 8)
    window.resize(200, 50)
    window.shows("traffic in packets/s", "half-open", "● live")


def test_a_terminal_too_small_is_refused_at_the_start(terminal: Callable[..., Terminal]) -> None:
    window = terminal((70, 20))
    window.shows("this terminal is 70x20, the console needs 80x24", "ended with 1")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_signals_end_it(terminal: Callable[..., Terminal], number: signal.Signals) -> None:
    window = terminal()
    window.shows("● live")
    os.kill(window.child, number)
    window.shows(f"ended with {128 + number}")


def test_ctrl_c_ends_it(terminal: Callable[..., Terminal]) -> None:
    window = terminal()
    window.shows("● live")
    window.keys("C-c")
    window.shows("ended with 0")


def test_a_closed_terminal_leaves_no_process_behind(terminal: Callable[..., Terminal]) -> None:
    window = terminal()
    window.shows("● live")
    child = window.child
    window.close()
    until(lambda: not Path(f"/proc/{child}").exists(), lambda: "the process has ended")


def run_console(*, stdin: int = subprocess.DEVNULL, code: str = RUN) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=20,
        cwd=ROOT,
        check=False,
    )


def test_without_a_terminal_it_says_what_to_do() -> None:
    done = run_console()
    assert done.returncode == 1
    assert "cdnctl: the console needs a terminal" in done.stderr
    assert "cdnctl status" in done.stderr


def test_an_unknown_theme_is_a_usage_error(terminal: Callable[..., Terminal]) -> None:
    window = terminal(code=RUN.replace("None", "None, theme='mauve'"))
    window.shows("there is no theme mauve", "there are midnight", "ended with 2")


def test_importing_the_console_is_quick_enough() -> None:
    code = "import time; t = time.process_time(); import cdnctl.console.app; print(time.process_time() - t)"
    assert any(float(run_console(code=code).stdout) < 1.0 for _ in range(3))
