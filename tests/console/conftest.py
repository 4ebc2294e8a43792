"""Fixtures of the console's tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdnctl.console.screens.dialogs import base

SOON_S = 0.004
"""What is to happen within that is waited for."""


async def at_rest(_min_s: float = 0.0, max_s: float = 1.0) -> None:
    """Wait until nobody has anything to do, now or soon.

    Textual's pilot looks 50 times a second whether the process takes processor time: half of all time goes
    there, and on a busy machine one that waits for its turn looks idle. The loop knows.
    """
    loop: Any = asyncio.get_running_loop()
    until_s, at_leisure = loop.time() + max_s, 0
    while at_leisure < 2 and loop.time() < until_s:  # in between it has looked at its files, too
        await asyncio.sleep(0)
        at_leisure = 0 if loop._ready else at_leisure + 1
        due_s = min((timer.when() for timer in loop._scheduled if not timer.cancelled()), default=until_s)
        if at_leisure and due_s < loop.time() + SOON_S:
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            at_leisure = 0


@pytest.fixture(autouse=True)
def _steady(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """One time zone, nothing remembered, good colours, and dry runs without waiting for typing to settle."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.chdir(tmp_path)  # exports go to where a console was started
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "remembered"))
    time.tzset()
    monkeypatch.setattr(base, "SETTLE_S", 0.0)
    for user in ("app", "pilot"):
        monkeypatch.setattr(f"textual.{user}.wait_for_idle", at_rest)
    yield
    monkeypatch.undo()
    time.tzset()
