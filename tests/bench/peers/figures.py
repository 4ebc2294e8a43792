"""What the rounds give, and the rows that are made of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.bench.peers.load import Cost
from tests.bench.results import Result, beside

OURS, HAPROXY, FLOOR = "ours", "HAProxy", "routing"
_LEAST_US = 1.0
"""Clocks and scheduling tell no less apart: an added time below it counts as this."""
_BELOW = 0.99
"""Of a peer's time: less, and not as much."""


@dataclass
class Figures:
    """Of one way, a figure a round."""

    new: list[Cost] = field(default_factory=list)
    """A new connection each request."""
    own_us: list[float] = field(default_factory=list)
    """Of its own processes' time, for each of those requests; of ours: the agent's."""
    kept: list[Cost] = field(default_factory=list)
    big: list[Cost] = field(default_factory=list)
    times_us: list[list[float]] = field(default_factory=list)
    """Of requests at a fixed pace."""

    def quantiles_us(self, share: float) -> list[float]:
        """That part of each round's requests took no longer."""
        return [quantile(times, share) for times in self.times_us]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them do not exceed."""
    ordered = sorted(values)
    # rounded first: 0.99 x 100 is a little more than 99 for a computer
    place = -int(-round(share * len(ordered), 6) // 1)
    return ordered[max(0, place - 1)]


def added_us(through: Iterable[float], straight: Iterable[float]) -> list[float]:
    """What a way adds to straight routing, round by round; noise may not make it less than nothing."""
    return [max(_LEAST_US, mine - floor) for mine, floor in zip(through, straight, strict=True)]


def rows(figures: Mapping[str, Figures], run_us: Sequence[float]) -> list[Result]:
    """All rows that there are figures for; `run_us` is our programs' run time for each new connection."""
    found = costs(figures)
    found += _own(figures, run_us)
    found += added(figures)
    found += _others(figures)
    return found


def _peers(figures: Iterable[str]) -> list[str]:
    return [name for name in figures if name != OURS]


def costs(figures: Mapping[str, Figures]) -> list[Result]:
    """Processor time of the box for a new connection."""
    what = "CPU of the box per new connection"
    costs = {name: [cost.us_per_request for cost in each.new] for name, each in figures.items() if each.new}
    found = [
        beside(f"{what} / HAProxy", costs[OURS], costs[HAPROXY], unit="us", bound=0.6, gate=True),
        beside(f"{what}, aim / HAProxy", costs[OURS], costs[HAPROXY], unit="us", bound=0.5),
    ]
    aims = {"nftables": 0.85}
    for peer in _peers(costs):
        if peer != HAPROXY:
            found.append(
                beside(f"{what} / {peer}", costs[OURS], costs[peer], unit="us", bound=aims.get(peer))
            )
    return found


def _own(figures: Mapping[str, Figures], run_us: Sequence[float]) -> list[Result]:
    """The edge's own share of that."""
    what = "own share per new connection"
    peer = figures[HAPROXY].own_us
    program = [statistics.median(run_us)] * len(peer)
    agent = [mine + program[0] for mine in figures[OURS].own_us]
    return [
        beside(f"{what}, program / HAProxy", program, peer, unit="us", bound=0.3, gate=True),
        beside(f"{what}, program, aim / HAProxy", program, peer, unit="us", bound=0.05),
        beside(f"{what}, program and agent / HAProxy", agent, peer, unit="us"),
    ]


def added(figures: Mapping[str, Figures]) -> list[Result]:
    """Time that is added to a request on a new connection."""
    found = []
    for share in (0.99, 0.5):
        straight = figures[FLOOR].quantiles_us(share)
        more = {name: added_us(each.quantiles_us(share), straight) for name, each in figures.items()}
        for peer in _peers(figures):
            if peer == FLOOR:
                continue
            gates = peer == HAPROXY and share > 0.5
            found.append(
                beside(
                    f"latency added, p{share * 100:.0f} / {peer}",
                    more[OURS],
                    more[peer],
                    unit="us",
                    bound=_BELOW if gates else None,
                    gate=gates,
                )
            )
    return found


def _others(figures: Mapping[str, Figures]) -> list[Result]:
    """What nothing is asked of."""
    ours, found = figures[OURS], list[Result]()
    for name, peer in figures.items():
        if peer is ours:
            continue
        for what, mine, theirs, value, unit in (
            ("CPU of the box per keep-alive request", ours.kept, peer.kept, "us_per_request", "us"),
            ("CPU of the box per gigabyte", ours.big, peer.big, "ms_per_gigabyte", "ms"),
            ("connections at saturation", ours.new, peer.new, "requests_per_s", "/s"),
        ):
            if theirs:
                mine_of, theirs_of = ([getattr(cost, value) for cost in costs] for costs in (mine, theirs))
                more = value == "requests_per_s"
                found.append(beside(f"{what} / {name}", mine_of, theirs_of, unit=unit, at_least=more))
    return found
