"""Which level the load asks for: calm, busy, shedding, siege. Pure; who calls it says what time it is.

A level is reached by how many new flows clients want, by how full the table of half-open ones is, and siege
besides only by flows whose clients do not prove themselves: a crowd of real ones is shed fairly, never
challenged. Each is a *pressure*: what is measured over what is too much, 1 at the threshold.

Up is quick, as a table fills in seconds; down is slow. So that a load which stays about a threshold does
not make the level flutter, a change is followed by `DWELL_S` in which another one needs clearly more (up) or
is not made at all (down), and a level is left only when its pressure was clearly lower for as long. So a load
that stays within `CLEARLY_LESS` and `CLEARLY_MORE` of a threshold changes the level once in that time.

Between two readings there are glances, of a tenth of a second each: they are heeded when they show several
times of what is too much, since by the next reading a flood would have been let through for a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cdnctl.model.shield import LEVELS, ShieldLevel

DWELL_S = 60.0
CLEARLY_MORE, CLEARLY_LESS = 1.3, 0.7
READINGS = 2
"""So many in a row must ask for more: one may be a hiccup of whoever reads."""
SUDDEN = 4.0
"""So many times of what is too much is heeded at a glance: less may be a burst, which a second levels out."""
_BUSY_PART = 0.5
"""Of the flows that are too many; likewise for those of them that are unverified, and siege."""
_SIEGE_PART = 0.5
_HALF_OPEN = {"busy": 0.25, "shedding": 0.5, "siege": 0.8}
"""Shares of the table."""
_MOSTLY = 0.5


class Load(NamedTuple):
    """One reading."""

    flows_per_s: float
    """New flows that clients wanted, let in or not."""
    unverified_share: float
    """Of them, those whose clients have not proved where they are."""
    half_open_share: float
    """Of the table of half-open flows, in use."""


class Turn(NamedTuple):
    """A change of level."""

    level: ShieldLevel
    before: ShieldLevel
    why: str


class Pressure(NamedTuple):
    """How much of what makes a level."""

    ratio: float
    why: str


def pressure(level: ShieldLevel, load: Load, flows_per_s: float) -> Pressure:
    """Of one level; `flows_per_s` new flows are as many as the box and its CDNs take easily."""
    if level == "calm":
        return Pressure(float("inf"), "")
    unverified = load.flows_per_s * load.unverified_share
    flows = {
        "busy": load.flows_per_s / (_BUSY_PART * flows_per_s),
        "shedding": load.flows_per_s / flows_per_s,
        "siege": unverified / (_SIEGE_PART * flows_per_s),
    }[level]
    half_open = load.half_open_share / _HALF_OPEN[level]
    if level == "siege" and load.unverified_share < _MOSTLY:
        half_open = 0.0
    if half_open > flows:
        return Pressure(half_open, f"{100 * load.half_open_share:.0f} % of the half-open flows' table in use")
    share = f", {100 * load.unverified_share:.0f} % of them unverified" if level == "siege" else ""
    return Pressure(flows, f"{load.flows_per_s:,.0f} new flows/s{share}")


@dataclass
class _Asked:
    """Readings in a row that asked for more, and the least that they asked for."""

    times: int = 0
    level: ShieldLevel = "calm"


def sudden_flows_per_s(flows_per_s: float) -> float:
    """New flows a second that would be siege at a glance, had their clients proved nothing.

    The kernel lets no more in while nobody has looked.
    """
    return SUDDEN * _SIEGE_PART * flows_per_s


class Policy:
    """Follows the load, reading by reading."""

    def __init__(self, flows_per_s: float, level: ShieldLevel = "calm") -> None:
        self.flows_per_s = flows_per_s
        self.level: ShieldLevel = level
        self._changed_s = float("-inf")
        self._reading, self._glance = _Asked(), _Asked()
        self._lower_since_s: float | None = None

    def read(self, load: Load, now_s: float) -> Turn | None:
        """One more reading."""
        ratios = {level: pressure(level, load, self.flows_per_s) for level in LEVELS}
        needed = CLEARLY_MORE if now_s - self._changed_s < DWELL_S else 1.0
        return self._up(self._reading, ratios, needed, now_s) or self._down(ratios, load, now_s)

    def glance(self, load: Load, now_s: float) -> Turn | None:
        """A reading of a moment, between two."""
        ratios = {level: pressure(level, load, self.flows_per_s) for level in LEVELS}
        return self._up(self._glance, ratios, SUDDEN, now_s)

    def _up(
        self, asked: _Asked, ratios: dict[ShieldLevel, Pressure], needed: float, now_s: float
    ) -> Turn | None:
        wanted = _highest(ratios, needed)
        if _rank(wanted) <= _rank(self.level):
            asked.times = 0
            return None
        asked.level = wanted if asked.times == 0 else min(wanted, asked.level, key=_rank)
        asked.times += 1
        return self._turn(asked.level, ratios, now_s) if asked.times >= READINGS else None

    def _down(self, ratios: dict[ShieldLevel, Pressure], load: Load, now_s: float) -> Turn | None:
        if self.level == "calm" or ratios[self.level].ratio >= CLEARLY_LESS:
            self._lower_since_s = None
            return None
        if self._lower_since_s is None:
            self._lower_since_s = now_s
        if now_s - max(self._lower_since_s, self._changed_s) < DWELL_S:
            return None
        lower = f"down to {load.flows_per_s:,.0f} new flows/s for {DWELL_S:.0f} s"
        return self._turn(_highest(ratios, CLEARLY_LESS), ratios, now_s, lower)

    def _turn(
        self, level: ShieldLevel, ratios: dict[ShieldLevel, Pressure], now_s: float, why: str = ""
    ) -> Turn:
        turn = Turn(level, self.level, why or ratios[level].why)
        self.level, self._changed_s = level, now_s
        self._reading, self._glance, self._lower_since_s = _Asked(), _Asked(), None
        return turn


def _rank(level: ShieldLevel) -> int:
    return LEVELS.index(level)


def _highest(ratios: dict[ShieldLevel, Pressure], needed: float) -> ShieldLevel:
    return max((level for level in LEVELS if ratios[level].ratio >= needed), key=_rank)
