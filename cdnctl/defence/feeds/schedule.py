"""When a feed is fetched again: not all edges at the same second, and less often while it fails."""

from __future__ import annotations

import random
from typing import NamedTuple

JITTER = 0.1
"""A wait is longer or shorter by up to this part."""
FIRST_RETRY_S = 30.0


class Due(NamedTuple):
    """Where a feed stands in its schedule; seconds on any steady clock."""

    at_s: float = 0.0
    failures: int = 0
    """In a row."""

    def after(self, now_s: float, every_s: float, is_good: bool, chance: random.Random) -> Due:
        """After an attempt: in `every_s` again, after a failure sooner, and then less and less so."""
        failures = 0 if is_good else self.failures + 1
        wait_s = min(every_s, FIRST_RETRY_S * 2.0 ** min(failures - 1, 30)) if failures else every_s
        return Due(now_s + wait_s * chance.uniform(1 - JITTER, 1 + JITTER), failures)


def first(now_s: float, every_s: float, age_s: float | None, chance: random.Random) -> Due:
    """At a start: at once where there is no list, else when the one on disk is due, spread over a while."""
    if age_s is None:
        return Due(now_s)
    return Due(now_s + max(0.0, every_s - age_s) + chance.uniform(0, JITTER * every_s))
