"""`detach --stop`: neither agent nor data path are left when it returns, whatever the agent does."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

import pytest
from test_agent_process import needs_root, running_agent

from cdnctl import paths
from cdnctl.agent import ending, process
from cdnctl.cli import main
from cdnctl.datapath import panic
from cdnctl.errors import CdnctlError

pytestmark = needs_root
EDGE = "ams1"


@pytest.fixture
def pinned(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data path of the edge, whose detaching takes its pins away."""
    monkeypatch.setattr(paths, "BPFFS", run_dir / "bpf")
    pins = paths.pin_dir(EDGE)
    pins.mkdir(parents=True)

    def detach(edge: str) -> str:
        paths.pin_dir(edge).rmdir()
        return f"{edge}: detached from eth0; 34 translated flows were cut"

    monkeypatch.setattr(panic, "detach", detach)
    monkeypatch.setattr(panic, "live_flows", lambda edge: 34)
    monkeypatch.setattr(ending, "TERM_S", 0.5)
    monkeypatch.setattr("cdnctl.cli.panic.AGENT_TIMEOUT_S", 0.3)
    return pins


def left(run_dir: Path) -> list[str]:
    """Files of the edge but for its lock, which stays, and what the test itself made."""
    return sorted(path.name for path in run_dir.glob(f"{EDGE}*") if path.suffix != ".lock")


def test_it_returns_when_the_agent_has_ended(
    run_dir: Path, pinned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_agent(run_dir, close_s=1.0) as agent:
        assert ending.holder(EDGE) == agent.pid
        begun = time.monotonic()
        assert main(["detach", "--stop", "--yes"]) == 0
        assert time.monotonic() - begun > 0.9
        assert agent.poll() == 0
    assert f"its agent (pid {agent.pid}) has ended" in capsys.readouterr().out
    assert (left(run_dir), pinned.exists()) == ([], False)


def test_an_agent_that_hangs_is_ended_too(
    run_dir: Path, pinned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_agent(run_dir) as agent:
        agent.send_signal(signal.SIGSTOP)
        assert main(["detach", "--stop", "--dry-run"]) == 0
        assert (
            f"cuts 34 translated flows, and its agent (pid {agent.pid}) is ended" in capsys.readouterr().out
        )
        assert main(["detach", "--stop", "--yes"]) == 0
        assert agent.poll() == -signal.SIGKILL
    said = capsys.readouterr()
    assert "34 translated flows were cut; " in said.out
    assert f"(pid {agent.pid}) hung and was killed" in said.out
    assert (left(run_dir), pinned.exists()) == ([], False)
    assert main(["detach", "--stop", "--yes", "--edge", EDGE]) == 1
    assert "neither a data path nor an agent" in capsys.readouterr().err


def test_an_agent_without_a_data_path_is_ended(
    run_dir: Path, pinned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pinned.rmdir()
    with running_agent(run_dir) as agent:
        agent.send_signal(signal.SIGSTOP)
        assert main(["detach", "--stop", "--yes"]) == 0
        assert agent.poll() is not None
    assert "no data path was loaded; its agent" in capsys.readouterr().out


def test_what_a_killed_agent_left_is_cleared(
    run_dir: Path, pinned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_agent(run_dir) as agent:
        agent.kill()
        agent.wait()
    assert left(run_dir)
    assert main(["detach", "--stop", "--yes"]) == 0
    assert "no agent was running" in capsys.readouterr().out
    assert (left(run_dir), pinned.exists()) == ([], False)


def test_who_holds_the_lock_and_is_no_agent_is_left_alone(run_dir: Path) -> None:
    assert ending.holder(EDGE) == 0
    with process.sole_agent(EDGE):
        assert ending.holder(EDGE) == os.getpid()
    assert ending.holder(EDGE) == 0
    with paths.lock_path(EDGE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CdnctlError, match="left alone"):
            ending.end(EDGE)
