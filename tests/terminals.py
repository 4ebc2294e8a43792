"""A real terminal for tests: a tmux of its own with one window, driven by keys and read as text."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def until(seen: Callable[[], bool], what: Callable[[], str], seconds: float = 15.0) -> None:
    """Wait for something to be so; AssertionError with what there is instead when it is not in time."""
    deadline = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what()}"
        time.sleep(0.02)


class Terminal:
    """The window runs `command` in a shell, which outlives it and says how it ended."""

    def __init__(
        self,
        directory: Path,
        command: str,
        size: tuple[int, int] = (120, 40),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._socket = str(directory / "tmux")
        self._environment = {**os.environ, **(environment or {})}
        script = f"{command}; echo ended with $?; exec sleep 60"
        width, height = map(str, size)
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", width, "-y", height, f"sh -c {shlex.quote(script)}"
        )

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-u", "-S", self._socket, *arguments],
            capture_output=True, text=True, check=True, env=self._environment,
        )  # fmt: skip
        return done.stdout

    @property
    def text(self) -> str:
        """What one sees."""
        return self._tmux("capture-pane", "-p")

    def keys(self, *keys: str) -> None:
        """Press these, as tmux names them."""
        self._tmux("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        """Another size."""
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def shows(self, *words: str, seconds: float = 15.0) -> None:
        """Wait until all of these are seen."""
        until(lambda: all(word in self.text for word in words), lambda: f"{words} in\n{self.text}", seconds)

    @property
    def child(self) -> int:
        """The process that the shell runs."""
        shell = self._tmux("list-panes", "-F", "#{pane_pid}").strip()
        return int(Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[0])

    def close(self) -> None:
        """End it, and what runs in it."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._tmux("kill-server")
