"""`cdnctl` without a verb: an agent is started only for a console that will be shown."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdnctl.agent import start
from cdnctl.cli import main

Resize = Callable[[int, int], None]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resize]:
    """Called with a size, makes standard input, output and error a terminal of that size."""
    ours, theirs = os.openpty()
    with open(theirs, "w") as screen:

        def become(width: int, height: int) -> None:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
            for name in ("stdin", "stdout", "__stderr__"):
                monkeypatch.setattr(sys, name, screen)

        yield become
        monkeypatch.undo()
    os.close(ours)


@pytest.fixture
def started(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The configurations that an agent was started for; there is one, or a first start would be offered."""
    found: list[Path] = []
    file = run_dir / "cdnctl.toml"
    file.touch()
    monkeypatch.setenv("CDNCTL_CONFIG", str(file))

    def ensure_agent(config: Path, netns: str | None) -> Path:
        found.append(config)
        return run_dir / "ams1.sock"

    monkeypatch.setattr(start, "ensure_agent", ensure_agent)
    monkeypatch.setattr("cdnctl.console.app.ConsoleApp.run", lambda self: self.exit(0))
    return found


def test_a_console_starts_an_agent(terminal: Resize, started: list[Path]) -> None:
    terminal(120, 40)
    assert main([]) == 0
    assert len(started) == 1


def test_no_agent_is_started_where_no_console_fits(
    terminal: Resize, started: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(60, 15)
    assert main([]) == 1
    assert "this terminal is 60x15" in capsys.readouterr().err
    assert started == []


def test_no_agent_is_started_for_an_unknown_theme(
    terminal: Resize, started: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal(120, 40)
    assert main(["--theme", "mauve"]) == 2
    assert "there is no theme mauve" in capsys.readouterr().err
    assert started == []


@pytest.mark.parametrize("named", [[], ["--edge", "ams1"], ["-c", "cdnctl.toml"]])
def test_a_read_only_console_starts_no_agent(
    terminal: Resize,
    started: list[Path],
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    named: list[str],
) -> None:
    terminal(120, 40)
    monkeypatch.chdir(run_dir)
    Path("cdnctl.toml").write_text('[edge]\nname = "ams1"\n')
    assert main(["--read-only", *named]) == 1
    assert "no agent serves" in capsys.readouterr().err
    assert started == []
