"""What the planner remembers of each CDN from round to round; kept over restarts."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from cdnctl.steering.planner.settings import Settings

Code = Literal[
    "",
    "failures",
    "loss",
    "first_byte",
    "handshake",
    "capacity",
    "forecast",
    "cost",
    "recovered",
    "roomy",
    "untested",
    "probed",
    "whole",
]
"""Why a share moved; the first four are what is bad about a CDN."""


LONG_AGO_S = -1e12
"""Before any clock; infinity has no place in JSON."""


class Memory(Struct, frozen=True, kw_only=True):
    """Of one CDN. Seconds are of the caller's steady clock."""

    kept: float = 1.0
    """The part of its weight that it has, for how good it is."""
    factor: float = 1.0
    """The part of its weight that is in force: for how good it is, what it costs, and what it takes."""
    bad: int = 0
    """Rounds in a row."""
    good: int = 0
    samples_total: int = 0
    """At the last round that counted."""
    penalty: float = 0.0
    penalty_at_s: float = 0.0
    is_suppressed: bool = False
    room: float | None = None
    """The share that would fill it, as last reckoned with."""
    is_limited: bool = False
    """It would have more if it took more."""
    ceiling: float | None = None
    """The load that it gets back at most, in new flows a second: it went bad at more."""
    ceiling_at_s: float = 0.0
    moved_at_s: float = LONG_AGO_S
    code: Code = ""
    """Why it was moved last."""
    numbers: dict[str, float] = field(default_factory=dict)

    def penalty_now(self, now_s: float, settings: Settings) -> float:
        """What is left of it."""
        halves = max(0.0, now_s - self.penalty_at_s) / settings.half_life_s
        return self.penalty * 0.5**halves if self.penalty else 0.0
