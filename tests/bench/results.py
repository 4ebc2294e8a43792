"""What every suite of the bench states: a figure of ours beside a peer's, and what their ratio should be."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


class Unsound(Exception):
    """The measurement would not be of what the row says."""


@dataclass(frozen=True)
class Result:
    """A row as it came out."""

    name: str
    """`what, under which circumstances / peer`."""
    ours: float
    peer: float
    ratio: float
    """Of what was measured in rounds: the median of the rounds' own ratios."""
    low: float
    high: float
    """Quartiles of those."""
    bound: float | None = None
    """Of the ratio; None when nothing is asked of it."""
    gate: bool = False
    """A miss fails the bench; else the bound is an aim."""
    unit: str = "ns"
    at_least: bool = False
    """More is better: the ratio must not be below its bound."""

    @property
    def holds(self) -> bool:
        """Whether the ratio is within its bound, if it has one."""
        if self.bound is None:
            return True
        return self.ratio >= self.bound if self.at_least else self.ratio <= self.bound

    @property
    def is_open(self) -> bool:
        """Whether it is a gate that the rounds' quartiles lie on both sides of: more of them are wanted."""
        return self.gate and self.bound is not None and self.low <= self.bound <= self.high


def beside(
    name: str,
    ours: Sequence[float],
    peer: Sequence[float],
    *,
    unit: str,
    bound: float | None = None,
    gate: bool = False,
    at_least: bool = False,
) -> Result:
    """A row of interleaved rounds: `ours[n]` and `peer[n]` were measured one right after the other."""
    ratios = [mine / theirs for mine, theirs in zip(ours, peer, strict=True)]
    low, middle, high = _quartiles(ratios)
    return Result(
        name,
        statistics.median(ours),
        statistics.median(peer),
        middle,
        low,
        high,
        bound,
        gate,
        unit,
        at_least,
    )


def within(name: str, ours: Sequence[float], most: float, *, unit: str, gate: bool) -> Result:
    """A row that has no peer but a figure that it may reach and not exceed."""
    return beside(name, ours, [most] * len(ours), unit=unit, bound=1.0, gate=gate)


def _quartiles(ratios: Sequence[float]) -> tuple[float, float, float]:
    if len(ratios) == 1:
        return ratios[0], ratios[0], ratios[0]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return low, middle, high
