"""Taking a lab down goes on to its end, however its processes behave."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

import pytest

from cdnctl.lab import processes
from cdnctl.lab.lab import Lab


class Stuck(subprocess.Popen[bytes]):
    """A child whose death nobody sees: in the middle of a long system call."""

    def wait(self, timeout: float | None = None) -> int:
        raise subprocess.TimeoutExpired("stuck", timeout or 0)


def test_a_child_that_is_slow_to_die_is_left_to_die() -> None:
    child = Stuck(["sleep", "30"])
    processes.end(child, grace_s=0.01)
    assert subprocess.Popen.wait(child, 5) in (-signal.SIGTERM, -signal.SIGKILL)


class Made:
    """A record of nothing that notes that it was asked to remove everything."""

    removed = 0

    def remove_all(self) -> list[str]:
        self.removed += 1
        return ["process 7 (agent)"]


def test_a_failing_step_does_not_keep_the_rest() -> None:
    lab: Any = Lab("t-unit")
    steps: list[str] = []

    def fail() -> None:
        raise OSError("no more descriptors")

    lab._record = made = Made()
    lab._stack.callback(steps.append, "wire")
    lab._stack.callback(fail)
    with pytest.raises(OSError, match="descriptors"):
        lab.close()
    assert steps == ["wire"]
    assert made.removed == 1
    assert lab.left == ["process 7 (agent)"]
    assert lab.close() == ["process 7 (agent)"]
    assert made.removed == 1
