"""How much goes where: for forecasts, and for what it costs."""

from __future__ import annotations

import time
from typing import NamedTuple

from cdnctl.config import CdnConfig, Config
from cdnctl.model import Cdn, Frame
from cdnctl.steering.forecast import Foresight, Series, Surprise
from cdnctl.steering.planner import Costs, Tariff, Usage

EDGE = "edge"
"""The series of all CDNs together."""
LONGEST_S = 30.0
"""A frame stands for no more time than this: the agent may have been down, or stopped."""
SETTLED_S = 60.0
"""So much of a slot is a better figure of the traffic now than one frame."""


class Told(NamedTuple):
    """A surprise, for the ticker."""

    text: str
    cdn: str = ""


def of_cdn(name: str) -> str:
    """The name of a CDN's series."""
    return f"cdn {name}"


def of_service(name: str) -> str:
    """The name of a service's series, in new flows a second."""
    return f"service {name}"


def mbit_of(cdn: Cdn) -> float:
    """Of the direction that has more: that is what is billed."""
    return max(cdn.to_cdn_bps, cdn.from_cdn_bps) / 1e6


class TrafficBook:
    """Kept over restarts by whoever owns it."""

    def __init__(self) -> None:
        self.foresight = Foresight()
        self.usage: dict[str, Usage] = {}
        self.mbit: dict[str, float] = {}
        """Now, by CDN."""
        self._last_ns = 0
        self._at_s = 0.0

    def add(self, frame: Frame, config: Config) -> list[Told]:
        """A frame's traffic, for the time since the last one; what was a surprise."""
        self.mbit = {cdn.name: mbit_of(cdn) for cdn in frame.cdns}
        seconds = min(LONGEST_S, (frame.monotonic_ns - self._last_ns) / 1e9) if self._last_ns else 0.0
        self._last_ns, self._at_s = frame.monotonic_ns, frame.at_ns / 1e9
        if seconds <= 0:
            return []
        month = time.strftime("%Y-%m", time.gmtime(self._at_s))
        for cdn in config.cdns:
            if _has_tariff(cdn) and cdn.name in self.mbit:
                usage = self.usage.setdefault(cdn.name, Usage())
                usage.add(self.mbit[cdn.name], seconds, month, tariff_of(cdn))
        flows: dict[str, float] = {}
        for service in frame.services:
            flows[service.name] = flows.get(service.name, 0.0) + service.new_flows_per_s
        values = {
            EDGE: sum(self.mbit.values()),
            **{of_cdn(name): mbit for name, mbit in self.mbit.items()},
            **{of_service(name): each for name, each in flows.items()},
        }
        self.foresight.keep(values)
        told = []
        for name, value in values.items():
            for surprise in self.foresight.add(name, self._at_s, value, seconds):
                told.append(_told(name, surprise))
        return told

    def growth(self, frame: Frame, horizon_s: float) -> float:
        """Traffic at the peak predicted within the horizon over traffic now; 1 where none is."""
        return self.foresight.growth(EDGE, self._at_s, self.now(EDGE, sum(self.mbit.values())), horizon_s)

    def now(self, name: str, latest: float) -> float:
        """The traffic of a series, as steady as it is known."""
        series = self.foresight.series.get(name)
        return series.sum / series.seconds if series and series.seconds >= SETTLED_S else latest

    def series(self, name: str) -> Series | None:
        """One of them, if it is known."""
        return self.foresight.series.get(name)

    @property
    def at_s(self) -> float:
        """Wall time of the last frame."""
        return self._at_s

    def costs(self, config: Config) -> dict[str, Costs]:
        """Of those that have a tariff."""
        return {
            cdn.name: Costs(
                tariff=tariff_of(cdn),
                mbit=self.mbit.get(cdn.name, 0.0),
                bursts_used=self.usage[cdn.name].bursts_used if cdn.name in self.usage else 0.0,
            )
            for cdn in config.cdns
            if _has_tariff(cdn)
        }


def tariff_of(cdn: CdnConfig) -> Tariff:
    """From the configuration."""
    return Tariff(price=cdn.price, commit_mbit=cdn.commit_mbit)


def _has_tariff(cdn: CdnConfig) -> bool:
    return cdn.price is not None or cdn.commit_mbit is not None


def _told(name: str, surprise: Surprise) -> Told:
    kind, _, which = name.partition(" ")
    unit = "new flows/s" if kind == "service" else "Mbit/s"
    more = "more" if surprise.came > surprise.expected else "less"
    text = (
        f"{name} has {more} traffic than anybody expected: {surprise.came:.3g} {unit},"
        f" where {surprise.expected:.3g} were"
    )
    return Told(text, which if kind == "cdn" else "")
