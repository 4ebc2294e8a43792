"""Who does more than a threshold allows: sources and their networks, told from samples of their packets.

A sample stands for as many packets as it was drawn from, so every figure is an estimate. It counts as far as
it is certain: what is left of it when three standard deviations are taken off. So of a source that hardly
shows among the samples nothing is believed, and a threshold is never passed by chance.

A source is an address, of IPv6 a /64; a network is its /24 or /48. What the offenders in a network do is
theirs alone: it is the rest that makes the network one.

A handshake has failed when the client was answered and never said anything but its SYN. Counted are a
source's SYNs that were challenged, or sent to a CDN which does answer, less its packets of another kind: so
nobody is blamed for a dark CDN, and a client that uses the connections it opens has none.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from math import sqrt
from typing import NamedTuple

from cdnctl.config import BanLimits
from cdnctl.defence.blocklist import Network

READINGS = 2
"""Figures are of so many readings together, and so many in a row must be over a threshold."""
ROOM = 20_000
"""Sources of a reading. What is over it counts nowhere: of so many none can stand out."""
_CERTAIN = 3.0
_MAPPED = bytes(10) + b"\xff\xff"
_SOURCE6, _NETWORK4, _NETWORK6 = 8, 15, 6
"""Bytes of a key; an IPv4 source has all 16."""


class Kind(enum.IntFlag):
    """What a packet says of its source."""

    PACKET = 0
    OPENS = 1
    """It wants a new flow."""
    ANSWERED = 2
    """And was answered, as far as is known."""
    FOLLOWS = 4
    """It goes on with one: its source is there, and means it."""


Seen = tuple[bytes, int, int, int]
"""A sampled packet: source (16 bytes, IPv4 mapped), length in bytes, sampled one in, kind."""


class Offence(NamedTuple):
    """A threshold that somebody is over."""

    network: Network
    why: str
    ratio: float
    """What is certain, over the threshold."""
    pps: float


class _Sum:
    """Of one source or network: estimates, each with its variance."""

    __slots__ = ("bits", "bits_var", "failed", "failed_var", "opened", "opened_var", "packets", "packets_var")

    def __init__(self) -> None:
        self.packets = self.bits = self.opened = self.failed = 0.0
        self.packets_var = self.bits_var = self.opened_var = self.failed_var = 0.0

    def count(self, length: int, one_in: int, kind: int) -> None:
        doubt, bits = one_in * (one_in - 1), 8 * length
        self.packets += one_in
        self.packets_var += doubt
        self.bits += bits * one_in
        self.bits_var += bits * bits * doubt
        if kind:
            if kind & Kind.OPENS:
                self.opened += one_in
                self.opened_var += doubt
            if kind & (Kind.ANSWERED | Kind.FOLLOWS):
                self.failed += one_in if kind & Kind.ANSWERED else -one_in
                self.failed_var += doubt

    def add(self, other: _Sum) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Reading(NamedTuple):
    """Of one interval."""

    seconds: float
    sources: dict[bytes, _Sum]


class Offences:
    """Keeps the last readings; `read` says who is over a threshold in as many as it takes."""

    def __init__(self) -> None:
        self._readings: list[Reading] = []
        self._over: dict[Network, int] = {}
        """In how many readings in a row."""

    def read(
        self, seen: Iterable[Seen], seconds: float, source: BanLimits | None, network: BanLimits | None
    ) -> list[Offence]:
        """One more reading, of so many seconds; the worst offenders first."""
        self._readings = [*self._readings, _read(seen, seconds)][-READINGS:]
        span_s = sum(each.seconds for each in self._readings)
        over = {each.network: each for each in _over(self._sums(), span_s, source, network)}
        self._over = {key: self._over.get(key, 0) + 1 for key in over}
        lasting = (over[key] for key, count in self._over.items() if count >= READINGS)
        return sorted(lasting, key=lambda each: -each.ratio)

    def _sums(self) -> Mapping[bytes, _Sum]:
        sums: dict[bytes, _Sum] = {}
        for reading in self._readings:
            for key, one in reading.sources.items():
                if key not in sums:
                    sums[key] = _Sum()
                sums[key].add(one)
        return sums


def _read(seen: Iterable[Seen], seconds: float) -> Reading:
    sources: dict[bytes, _Sum] = {}
    for address, length, one_in, kind in seen:
        key = address if address.startswith(_MAPPED) else address[:_SOURCE6]
        found = sources.get(key)
        if found is None:
            if len(sources) >= ROOM:
                continue
            found = sources[key] = _Sum()
        found.count(length, one_in, kind)
    return Reading(max(seconds, 0.1), sources)


def _over(
    sums: Mapping[bytes, _Sum], seconds: float, source: BanLimits | None, network: BanLimits | None
) -> Iterator[Offence]:
    networks: dict[bytes, _Sum] = {}
    for key, one in sums.items():
        if source is not None and (found := _offence(key, one, seconds, source)):
            yield found
            continue
        around = key[: _NETWORK4 if key.startswith(_MAPPED) else _NETWORK6]
        if around not in networks:
            networks[around] = _Sum()
        networks[around].add(one)
    if network is not None:
        for key, one in networks.items():
            if found := _offence(key, one, seconds, network):
                yield found


def _offence(key: bytes, one: _Sum, seconds: float, limits: BanLimits) -> Offence | None:
    """The threshold that it is furthest over."""
    figures = (
        (one.packets, one.packets_var, limits.pps, 1.0, "packets/s"),
        (one.bits, one.bits_var, limits.mbit, 1e6, "Mbit/s"),
        (one.opened, one.opened_var, limits.flows_per_s, 1.0, "new flows/s"),
        (one.failed, one.failed_var, limits.failed_per_s, 1.0, "failed handshakes/s"),
    )
    worst, why = 1.0, ""
    for value, variance, most, unit, name in figures:
        if most is None:
            continue
        certain = (value - _CERTAIN * sqrt(variance)) / (most * unit * seconds)
        if certain > worst:
            worst, why = certain, f"{value / unit / seconds:,.0f} {name}, over {most:,g}"
    if not why:
        return None
    return Offence(_network(key), why, worst, one.packets / seconds)


def _network(key: bytes) -> Network:
    if key.startswith(_MAPPED):
        return IPv4Network((key[len(_MAPPED) :].ljust(4, b"\0"), 8 * (len(key) - len(_MAPPED))))
    return IPv6Network((key.ljust(16, b"\0"), 8 * len(key)))
