"""Fixtures shared by the unit tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_double import ServedDouble, serving


@pytest.fixture
def run_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty run directory for everybody, with a path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="cdnctl-") as name:
        os.chmod(name, 0o755)
        monkeypatch.setenv("CDNCTL_RUN_DIR", name)
        monkeypatch.setenv("CDNCTL_CONFIG", f"{name}/cdnctl.toml")
        monkeypatch.delenv("CDNCTL_EDGE", raising=False)
        yield Path(name)


@pytest.fixture
def served(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedDouble]:
    """A served test double, with frames 25 times as fast as usual, and clients that may be as fast."""
    monkeypatch.setattr("cdnctl.agent.server.FRAME_INTERVAL_S", 0.02)
    for name in ("CLIENT_RATE", "CLIENT_BURST", "USER_RATE", "USER_BURST"):
        monkeypatch.setattr(f"cdnctl.agent.limits.{name}", 1e9)
    with serving() as double:
        yield double
