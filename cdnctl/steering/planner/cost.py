"""What traffic costs: a price, and a commit billed by the 95th percentile.

A month has 8,640 to 8,928 samples of five minutes, and the highest twentieth of them is free: 36 hours. So
traffic above a commit costs nothing until these are used up; only then is a CDN's weight padded as its
traffic nears its commit.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from cdnctl.steering.planner.settings import Settings

SAMPLE_S = 300
SAMPLES_A_MONTH = 30 * 86400 // SAMPLE_S
FREE_SHARE = 0.05
_PAD_STEPS = 8
"""Padding grows in steps: followed closely, traffic would move shares all the time."""
_NEARLY = 0.8
"""Of the free samples: from here on they are spared."""


class Tariff(Struct, frozen=True, kw_only=True):
    """Of one CDN; None: no such term."""

    price: float | None = None
    """For a gigabyte, in any currency, the same for all."""
    commit_mbit: float | None = None
    """Paid for in any case; the month's 95th percentile beyond it costs more."""


class Usage(Struct, kw_only=True):
    """A CDN's month so far; kept over restarts."""

    month: str = ""
    """As `2026-11`: another one begins afresh."""
    over: int = 0
    """Samples over the commit."""
    samples: int = 0
    sum_mbit: float = 0.0
    """Of the sample under way."""
    seconds: float = 0.0
    """How much of it is over."""
    last_mbit: float = 0.0
    """The last whole sample."""
    highest: list[float] = field(default_factory=list)
    """The month's highest samples, at most as many as are free and one, sorted: the first is its 95th
    percentile once there are enough."""

    def add(self, mbit: float, seconds: float, month: str, tariff: Tariff) -> None:
        """So much traffic for so many seconds."""
        if month != self.month:
            self.month, self.over, self.samples, self.highest = month, 0, 0, []
        self.sum_mbit += mbit * seconds
        self.seconds += seconds
        if self.seconds < SAMPLE_S:
            return
        self.last_mbit = self.sum_mbit / self.seconds
        self.sum_mbit = self.seconds = 0.0
        self.samples += 1
        self.over += tariff.commit_mbit is not None and self.last_mbit > tariff.commit_mbit
        self.highest.append(self.last_mbit)
        self.highest.sort()
        del self.highest[: max(0, len(self.highest) - _free() - 1)]

    @property
    def p95_mbit(self) -> float:
        """The 95th percentile of the month so far."""
        if not self.highest:
            return 0.0
        free = min(len(self.highest) - 1, int(self.samples * FREE_SHARE))
        return self.highest[-1 - free]

    @property
    def bursts_used(self) -> float:
        """Of the month's free samples over the commit, what is gone: over 1 it costs."""
        return self.over / _free()


def _free() -> int:
    return int(SAMPLES_A_MONTH * FREE_SHARE)


class Costs(Struct, frozen=True, kw_only=True):
    """What the planner is told of a CDN's cost in a round."""

    tariff: Tariff
    mbit: float = 0.0
    """Now."""
    bursts_used: float = 0.0


def factors(costs: Mapping[str, Costs], settings: Settings, growth: float = 1.0) -> dict[str, float]:
    """By CDN: what its weight is multiplied by; 1 for those without a tariff. `growth`: traffic at the
    predicted peak over traffic now."""
    prices = [each.tariff.price for each in costs.values() if each.tariff.price]
    cheapest = min(prices, default=0.0)
    return {
        cdn: _padding(each, settings, growth)
        * ((cheapest / each.tariff.price) ** settings.price_pull if each.tariff.price else 1.0)
        for cdn, each in costs.items()
    }


def _padding(cost: Costs, settings: Settings, growth: float) -> float:
    commit = cost.tariff.commit_mbit
    if not commit or cost.bursts_used < _NEARLY:
        return 1.0
    near = (cost.mbit * growth / commit - settings.pad_from) / (1 - settings.pad_from)
    stepped = round(min(1.0, max(0.0, near)) * _PAD_STEPS) / _PAD_STEPS
    return 1 - (1 - settings.pad_least) * stepped
