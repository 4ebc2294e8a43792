"""The busiest sources, from perf-buffer samples.

Hierarchical heavy hitters (Cormode, Korn, Muthukrishnan, Srivastava, "Finding Hierarchical Heavy
Hitters in Data Streams", VLDB 2003), in the discounted form: a source that stands out is shown itself;
what is left of the prefix around it, if that still stands out, is shown as the prefix, and so on
outwards: /24 and /16, of IPv6 /64, /48 and /32. So nothing is counted twice, and a flood from random
addresses of one prefix is one line.

Every sample stands for `one_in` packets, and for a share of those whose samples were lost. The window
is kept as buckets, one for each `roll`; their sums are kept up to date, so that `top` need not add.

Addresses are the kernel's 16 bytes, an IPv4 one mapped (::ffff:a.b.c.d), and a prefix is as many of
them as it has: its length is its level. So a sample's address is its own key, and nothing is converted
for it.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from math import sqrt
from typing import NamedTuple

from cdnctl.model import FRAME_INTERVAL_S, RATE_WINDOW_S, Talker

Sample = tuple[bytes, int, int, bool, int]
"""Source (16 bytes), frame length in bytes, sampled one in, was it dropped, its way or -1: see `way`."""

NO_CDN = 0xFF


def way(service: int, cdn: int = NO_CDN) -> int:
    """Where a packet was for: the CDN's id, and above it the service's number from 1; 0 is none."""
    return service << 8 | cdn


STANDS_OUT = 0.02
"""A source or prefix with at least this share of all packets stands out ..."""
SAMPLES_NEEDED = 30
"""... if so many samples say so: fewer are too uncertain."""
ROOM = 50_000
"""Of a level in a bucket. What comes when it is full is only counted in the prefix around it, so that a
flood cannot fill the memory."""
SOURCE = 16
"""The level of single sources: bytes of an address."""
LEVELS = (SOURCE, 15, 14, 8, 6, 4, 0)
"""Bytes of a prefix, the finest first: 15 and 14 are IPv4's /24 and /16, 8, 6 and 4 IPv6's /64, /48 and
/32, 0 is everything. No finer one of either family lies in a coarser one of the other."""
_AROUND4 = {SOURCE: 15, 15: 14, 14: 0}
_AROUND6 = {SOURCE: 8, 8: 6, 6: 4, 4: 0}
_MAPPED = bytes(10) + b"\xff\xff"
_EVERYTHING = b""


def _is_ipv4(prefix: bytes) -> bool:
    return prefix.startswith(_MAPPED)


def _around(prefix: bytes) -> bytes:
    """The next wider prefix."""
    return prefix[: (_AROUND4 if prefix.startswith(_MAPPED) else _AROUND6)[len(prefix)]]


def _show(prefix: bytes) -> str:
    """As people write it: a single source is an address."""
    whole = prefix.ljust(SOURCE, b"\0")
    if _is_ipv4(prefix):
        address, length = str(IPv4Address(whole[len(_MAPPED) :])), 8 * (len(prefix) - len(_MAPPED))
    else:
        address, length = str(IPv6Address(whole)), 8 * len(prefix)
    return address if len(prefix) == SOURCE else f"{address}/{length}"


class _Tally:
    """Sums of samples of one prefix. Packets and bytes are estimates of all that were sent."""

    __slots__ = ("bytes", "dropped", "packets", "samples", "thinned", "ways")

    def __init__(self) -> None:
        self.samples = 0
        self.packets = 0.0
        self.bytes = 0.0
        self.dropped = 0.0
        self.thinned = 0.0
        """Samples that may well not have been taken: each counts 1 - 1/N; what makes the error."""
        self.ways: dict[int, float] | None = None
        """Packets by where they were for; of those that were dropped the service alone is known."""

    def add(self, other: _Tally, factor: float) -> None:
        """Add `factor` times the packets of `other`; -factor takes them away again."""
        sign = 1 if factor > 0 else -1
        self.samples += sign * other.samples
        self.packets += factor * other.packets
        self.bytes += factor * other.bytes
        self.dropped += factor * other.dropped
        self.thinned += sign * other.thinned
        if other.ways:
            if self.ways is None:
                self.ways = {}
            for way, packets in other.ways.items():
                self.ways[way] = self.ways.get(way, 0.0) + factor * packets

    def without(self, parts: Iterable[_Tally]) -> _Tally:
        """What is left when `parts` of it are shown by themselves."""
        rest = _Tally()
        rest.add(self, 1.0)
        for part in parts:
            rest.add(part, -1.0)
        return rest


_Levels = dict[int, dict[bytes, _Tally]]
"""Sums by level and prefix."""


def _no_levels() -> _Levels:
    return {level: {} for level in LEVELS}


class _Bucket(NamedTuple):
    seconds: float
    factor: float
    """1, or more if samples were lost."""
    levels: _Levels


class Talkers:
    """A sliding window of samples. One thread may add while another rolls and asks."""

    def __init__(self, window_s: float = RATE_WINDOW_S) -> None:
        self._window_s = window_s
        self._lock = threading.Lock()
        self._open = _no_levels()
        """What came since the last roll, each sample at one level only."""
        self._buckets: deque[_Bucket] = deque()
        self._sums = _no_levels()
        """Of the whole window, as in a bucket, but with every factor applied."""
        self._seconds = 0.0
        self._rolled_s: float | None = None

    def add_batch(self, samples: Iterable[Sample]) -> None:
        """Count `samples` into the open bucket."""
        with self._lock:
            sources = self._open[SOURCE]
            for source, size, one_in, dropped, way in samples:
                tally = sources.get(source)
                if tally is None:
                    tally = self._new(source)
                tally.samples += 1
                tally.packets += one_in
                tally.bytes += size * one_in
                tally.thinned += 1.0 - 1.0 / one_in
                if dropped:
                    tally.dropped += one_in
                    way |= NO_CDN
                if way >= 0 and way != NO_CDN:
                    if tally.ways is None:
                        tally.ways = {}
                    tally.ways[way] = tally.ways.get(way, 0.0) + one_in

    def roll(self, now_s: float, lost: int = 0) -> None:
        """Close the open bucket at `now_s` (any steady clock); `lost` samples of it were not received."""
        with self._lock:
            levels, self._open = self._open, _no_levels()
        seconds = FRAME_INTERVAL_S if self._rolled_s is None else max(now_s - self._rolled_s, 1e-3)
        self._rolled_s = now_s
        for level in LEVELS[:-1]:
            for prefix, tally in levels[level].items():
                around = _around(prefix)
                _merge(levels[len(around)], around, tally, 1.0)
        whole = levels[0].get(_EVERYTHING)
        bucket = _Bucket(seconds, (whole.samples + lost) / whole.samples if whole else 1.0, levels)
        self._buckets.append(bucket)
        self._merge(bucket, bucket.factor)
        self._seconds += seconds
        while self._seconds - self._buckets[0].seconds >= self._window_s - 1e-3:
            oldest = self._buckets.popleft()
            self._merge(oldest, -oldest.factor)
            self._seconds -= oldest.seconds

    def top(
        self,
        n: int = 10,
        cdn_names: Mapping[int, str] | None = None,
        service_names: Mapping[int, str] | None = None,
    ) -> list[Talker]:
        """At most `n` of the busiest sources and prefixes of the closed buckets, the busiest first.

        Those that stand out come first into consideration; remaining lines go to the busiest sources
        that no line covers yet.
        """
        names = cdn_names or {}, service_names or {}
        lines = heapq.nlargest(n, self._standing_out(), key=_packets)
        if len(lines) < n:
            shown = {prefix for prefix, _ in lines}
            others = (
                line
                for line in self._sums[SOURCE].items()
                if shown.isdisjoint((line[0], *_all_around(line[0])))
            )
            lines += heapq.nlargest(n - len(lines), others, key=_packets)
        return [self._talker(line, names) for line in sorted(lines, key=_packets, reverse=True)]

    def _new(self, prefix: bytes) -> _Tally:
        """The sums of a new source, or of the finest prefix around it that there is room for."""
        level = self._open[len(prefix)]
        if prefix in level:
            return level[prefix]
        if len(level) < ROOM:
            return level.setdefault(prefix, _Tally())
        return self._new(_around(prefix))

    def _merge(self, bucket: _Bucket, factor: float) -> None:
        """Add a bucket to the window's sums, or take it away with the negative of its factor."""
        for level, tallies in bucket.levels.items():
            sums = self._sums[level]
            for prefix, tally in tallies.items():
                _merge(sums, prefix, tally, factor)
                if not sums[prefix].samples:
                    del sums[prefix]  # and with it what rounding left of its packets

    def _standing_out(self) -> Iterator[_Line]:
        """Sources that stand out, then prefixes of which what is left does, the finest first."""
        whole = self._sums[0].get(_EVERYTHING)
        least = STANDS_OUT * whole.packets if whole else 0.0
        parts: dict[bytes, list[_Tally]] = {}
        for level in LEVELS[:-1]:
            for prefix, tally in self._sums[level].items():
                if tally.samples < SAMPLES_NEEDED or tally.packets < least:
                    continue
                rest = tally.without(parts[prefix]) if prefix in parts else tally
                if rest.samples >= SAMPLES_NEEDED and rest.packets >= least:
                    for around in _all_around(prefix):
                        parts.setdefault(around, []).append(rest)
                    yield prefix, rest

    def _talker(self, line: _Line, names: tuple[Mapping[int, str], Mapping[int, str]]) -> Talker:
        prefix, tally = line
        packets = tally.packets or 1.0
        cdns, services = names
        return Talker(
            prefix=_show(prefix),
            pps=tally.packets / self._seconds,
            bps=tally.bytes * 8 / self._seconds,
            drop_share=min(max(tally.dropped / packets, 0.0), 1.0),
            cdn=cdns.get(_most(tally, lambda its: its & NO_CDN), ""),
            service=services.get(_most(tally, lambda its: its >> 8), ""),
            samples=tally.samples,
            error=sqrt(max(tally.thinned, 0.0)) / tally.samples,
        )


_Line = tuple[bytes, _Tally]


def _most(tally: _Tally, of: Callable[[int], int]) -> int:
    """What most of its packets were for; -1 where that is known of none."""
    found: dict[int, float] = {}
    for its, packets in (tally.ways or {}).items():
        found[of(its)] = found.get(of(its), 0.0) + packets
    found.pop(of(way(0)), None)
    best, most = max(found.items(), key=lambda entry: entry[1], default=(-1, 0.0))
    return best if most >= 0.5 else -1  # less is what rounding left of those that fell out of the window


def _packets(line: _Line) -> float:
    return line[1].packets


def _all_around(prefix: bytes) -> Iterator[bytes]:
    """Every wider prefix, the nearest first, but for everything."""
    while prefix := _around(prefix):
        yield prefix


def _merge(sums: dict[bytes, _Tally], prefix: bytes, tally: _Tally, factor: float) -> None:
    total = sums.get(prefix)
    if total is None:
        total = sums[prefix] = _Tally()
    total.add(tally, factor)
