"""Processor time of the whole box: what its clients, edge and origins do, and the kernel for all of them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_IDLE, _WAITING, _STOLEN = 3, 4, 7


class Processors(NamedTuple):
    """A reading of /proc/stat.

    Busy is what is not idle: the kernel times idling exactly, but everything else only by looking, at each
    tick of its clock, at what runs.
    """

    processors: int
    at_s: float
    idle_s: float
    """Of all processors; time that the hypervisor took away is nobody's work either."""

    @classmethod
    def read(cls) -> Processors:
        """Now."""
        return cls.parse(Path("/proc/stat").read_text(), time.monotonic())

    @classmethod
    def parse(cls, text: str, at_s: float) -> Processors:
        """Of what /proc/stat says."""
        lines = [line.split() for line in text.splitlines() if line.startswith("cpu")]
        fields = [int(field) for field in lines[0][1:]]
        idle = fields[_IDLE] + fields[_WAITING] + fields[_STOLEN]
        return cls(len(lines) - 1, at_s, idle / _TICKS_PER_S)

    def busy_until(self, later: Processors) -> float:
        """Seconds of work between this reading and a later one, of all processors together."""
        return max(0.0, self.processors * (later.at_s - self.at_s) - (later.idle_s - self.idle_s))


def busy_at_rest(seconds: float) -> float:
    """Seconds of work in a second in which nothing is asked of the box."""
    before = Processors.read()
    time.sleep(seconds)
    after = Processors.read()
    return before.busy_until(after) / (after.at_s - before.at_s)
