"""A whole engine on the tests' interfaces, started again and again over what the one before left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from reloaded import EDGE, File, reachable

from cdnctl import config
from cdnctl.datapath.program import Program
from cdnctl.engine.engine import Engine


@contextlib.contextmanager
def started(
    directory: Path, monkeypatch: pytest.MonkeyPatch, file: File | None = None
) -> Iterator[Callable[[], Engine]]:
    """Gives what starts the next engine; the one before is closed, and its data path stays up."""
    monkeypatch.setenv("CDNCTL_RUN_DIR", str(directory / "run"))
    monkeypatch.setenv("CDNCTL_STATE_DIR", str(directory / "state"))
    file = file or File(directory / "cdnctl.toml")
    running: Engine | None = None

    def start() -> Engine:
        nonlocal running
        if running is not None:
            running.close()
        running = Engine(config.load(file.path))
        running.start()
        return running

    with reachable():
        try:
            yield start
        finally:
            if running is not None:
                running.close(detach=True)
            Program(EDGE).remove()
