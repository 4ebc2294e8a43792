"""Says when the kernel's sweep goes on, which frees reverse slots that no flow holds any more.

It gets a little time at each tick: a round over all slots takes a minute while ports are plenty, and a
few seconds when they get scarce, but never more than its share of a processor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

CALM_ROUND_S = 60.0
HASTY_ROUND_S = 5.0
CALM_BELOW = 0.5
"""Rounds get shorter once so many of the ports towards some endpoint are held ..."""
HASTY_FROM = 0.9
"""... down to the shortest at so many."""
CPU_SHARE = 0.02
_HELPING_S = 0.0005
"""Less is saved up: a step has a least size."""
_LONGEST_TICK_S = 2.0


class Sweeper(Protocol):
    """What it needs of cdnctl.datapath.sweep.Sweep."""

    def step(self, budget_s: float) -> bool:
        """Go on for so long; whether a round was finished. Raises OSError."""


class Collector:
    """Not thread-safe."""

    def __init__(self, sweep: Sweeper, clock: Callable[[], float] = time.perf_counter) -> None:
        self.sweep = sweep
        self._clock = clock
        self._owed_s = 0.0
        self._last_s: float | None = None
        self._began_s = 0.0
        self._spent_s = 0.0
        """In the present round."""
        self._cost_s: float | None = None
        """Of the last round; None: there was none yet."""
        self.tightest = 0.0
        """The largest share of ports held towards any endpoint: what makes it hurry."""
        self.round_s = 0.0
        """How long the last round took, from its beginning to its end."""
        self.cpu = 0.0
        """Share of a processor that it took."""

    def wanted_round_s(self) -> float:
        """How long a round should take now."""
        haste = (self.tightest - CALM_BELOW) / (HASTY_FROM - CALM_BELOW)
        return CALM_ROUND_S + (HASTY_ROUND_S - CALM_ROUND_S) * min(1.0, max(0.0, haste))

    def tick(self, now_s: float) -> bool:
        """Let it go on, if that is due; whether a round is finished. Raises OSError."""
        if self._last_s is None:
            self._last_s = self._began_s = now_s
            return False
        passed_s = min(now_s - self._last_s, _LONGEST_TICK_S)
        self._last_s = now_s
        cost_s = self._cost_s
        share = CPU_SHARE if cost_s is None else min(CPU_SHARE, cost_s / self.wanted_round_s())
        self._owed_s = min(self._owed_s + share * passed_s, CPU_SHARE * _LONGEST_TICK_S)
        if self._owed_s < (_HELPING_S if cost_s is None else min(_HELPING_S, cost_s)):
            return False
        began = self._clock()
        done = self.sweep.step(self._owed_s)
        spent_s = self._clock() - began
        self._owed_s -= spent_s
        self._spent_s += spent_s
        if done:
            self.round_s = now_s - self._began_s
            self.cpu = self._spent_s / max(self.round_s, 1e-3)
            self._cost_s, self._spent_s, self._began_s = self._spent_s, 0.0, now_s
            self._owed_s = min(0.0, self._owed_s)  # the next round begins with nothing saved up
        return done
