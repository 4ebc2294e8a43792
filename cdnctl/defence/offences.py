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

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from math import inf, sqrt
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


# What a packet says of its source. Plain numbers: thousands of them are looked at in each frame's time.
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


_Sum = list[float]
"""Of one source or network: what is estimated, and after each its variance."""
_PACKETS, _BITS, _OPENED, _FAILED = 0, 2, 4, 6
_NONE = (0.0,) * 8


class Reading(NamedTuple):
    """Of one interval."""

    seconds: float
    sources: dict[bytes, _Sum]


class Offences:
    """Keeps the last two readings; `read` says who is over a threshold in as many as it takes."""

    def __init__(self) -> None:
        self._readings: list[Reading] = []
        self._over: dict[Network, int] = {}
        """In how many readings in a row."""

    def read(
        self, seen: Iterable[Seen], seconds: float, source: BanLimits, network: BanLimits
    ) -> list[Offence]:
        """One more reading, of so many seconds; the worst offenders first."""
        self._readings = [*self._readings, _read(seen, seconds)][-READINGS:]
        span_s = sum(each.seconds for each in self._readings)
        over = {each.network: each for each in _over(self._sums(), span_s, source, network)}
        self._over = {key: self._over.get(key, 0) + 1 for key in over}
        lasting = (over[key] for key, count in self._over.items() if count >= READINGS)
        return sorted(lasting, key=lambda each: -each.ratio)

    def _sums(self) -> Mapping[bytes, _Sum]:
        """Of all readings together."""
        before, now = self._readings[0].sources, self._readings[-1].sources
        if before is now:
            return now
        both = {key: _added(one, now[key]) if key in now else one for key, one in before.items()}
        return {**now, **both}


def _read(seen: Iterable[Seen], seconds: float) -> Reading:
    sources: dict[bytes, _Sum] = {}
    for address, length, one_in, kind in seen:
        key = address if address.startswith(_MAPPED) else address[:_SOURCE6]
        found = sources.get(key)
        if found is None:
            if len(sources) >= ROOM:
                continue
            found = sources[key] = [*_NONE]
        doubt, bits = one_in * (one_in - 1), 8 * length
        found[_PACKETS] += one_in
        found[_PACKETS + 1] += doubt
        found[_BITS] += bits * one_in
        found[_BITS + 1] += bits * bits * doubt
        if kind:
            if kind & OPENS:
                found[_OPENED] += one_in
                found[_OPENED + 1] += doubt
            if kind & (ANSWERED | FOLLOWS):
                found[_FAILED] += one_in if kind & ANSWERED else -one_in
                found[_FAILED + 1] += doubt
    return Reading(max(seconds, 0.1), sources)


def _added(one: _Sum, other: _Sum) -> _Sum:
    return [a + b for a, b in zip(one, other, strict=True)]


class _Floor(NamedTuple):
    """Who has less than both is over no threshold: most need not be looked at any closer."""

    packets: float
    bits: float


def _floor(limits: BanLimits, seconds: float) -> _Floor:
    counts = [each for each in (limits.pps, limits.flows_per_s, limits.failed_per_s) if each is not None]
    bits = inf if limits.mbit is None else limits.mbit * 1e6
    return _Floor(min(counts, default=inf) * seconds, bits * seconds)


def _over(
    sums: Mapping[bytes, _Sum], seconds: float, source: BanLimits, network: BanLimits
) -> Iterator[Offence]:
    least, offenders = _floor(source, seconds), set[bytes]()
    for key, one in sums.items():
        stands_out = one[_PACKETS] > least.packets or one[_BITS] > least.bits
        if stands_out and (found := _offence(key, one, seconds, source)):
            offenders.add(key)
            yield found
    least, around = _floor(network, seconds), dict[bytes, list[bytes]]()
    for key in sums:
        if key not in offenders:
            around.setdefault(key[: _NETWORK4 if key.startswith(_MAPPED) else _NETWORK6], []).append(key)
    for wider, keys in around.items():
        packets = sum(sums[key][_PACKETS] for key in keys)
        if packets > least.packets or sum(sums[key][_BITS] for key in keys) > least.bits:
            whole = [sum(values) for values in zip(*(sums[key] for key in keys), strict=True)]
            if found := _offence(wider, whole, seconds, network):
                yield found


def _offence(key: bytes, one: _Sum, seconds: float, limits: BanLimits) -> Offence | None:
    """The threshold that it is furthest over."""
    figures = (
        (_PACKETS, limits.pps, 1.0, "packets/s"),
        (_BITS, limits.mbit, 1e6, "Mbit/s"),
        (_OPENED, limits.flows_per_s, 1.0, "new flows/s"),
        (_FAILED, limits.failed_per_s, 1.0, "failed handshakes/s"),
    )
    worst, why = 1.0, ""
    for what, most, unit, name in figures:
        if most is None:
            continue
        value, variance = one[what], one[what + 1]
        certain = (value - _CERTAIN * sqrt(variance)) / (most * unit * seconds)
        if certain > worst:
            worst, why = certain, f"{value / unit / seconds:,.0f} {name}, over {most:,g}"
    if not why:
        return None
    return Offence(_network(key), why, worst, one[_PACKETS] / seconds)


def _network(key: bytes) -> Network:
    if key.startswith(_MAPPED):
        return IPv4Network((key[len(_MAPPED) :].ljust(4, b"\0"), 8 * (len(key) - len(_MAPPED))))
    return IPv6Network((key.ljust(16, b"\0"), 8 * len(key)))
