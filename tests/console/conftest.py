"""Fixtures of the console's tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdnctl.console.screens.dialogs import base


@pytest.fixture(autouse=True)
def _steady(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """One time zone, nothing remembered, good colours, and dry runs without waiting for typing to settle."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.chdir(tmp_path)  # exports go to where a console was started
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "remembered"))
    time.tzset()
    monkeypatch.setattr(base, "SETTLE_S", 0.0)
    # Textual's pilot looks 50 times a second whether the app has come to rest; we are in a hurry.
    monkeypatch.setattr("textual._wait.SLEEP_GRANULARITY", 0.004, raising=False)
    monkeypatch.setattr("textual._wait.SLEEP_IDLE", 0.001, raising=False)
    yield
    monkeypatch.undo()
    time.tzset()
