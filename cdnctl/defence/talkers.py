"""The busiest sources, from perf-buffer samples.

Hierarchical heavy hitters (Cormode, Korn, Muthukrishnan, Srivastava, "Finding Hierarchical Heavy
Hitters in Data Streams", VLDB 2003), in the discounted form: a source that stands out is shown itself;
what is left of its /24, if that still stands out, is shown as the /24; and what is left of a /16 as
the /16. So nothing is counted twice, and a flood from random addresses of one prefix is one line.

Every sample stands for `one_in` packets, and for a share of those whose samples were lost. The window
is kept as buckets, one for each `roll`; their sums are kept up to date, so that `top` need not add.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address
from itertools import pairwise
from math import sqrt
from typing import NamedTuple

from cdnctl.model import FRAME_INTERVAL_S, RATE_WINDOW_S, Talker

Sample = tuple[int, int, int, bool, int]
"""Source (IPv4, host order), frame length in bytes, sampled one in, was it dropped, CDN's id or -1."""

STANDS_OUT = 0.02
"""A source or prefix with at least this share of all packets stands out ..."""
SAMPLES_NEEDED = 30
"""... if so many samples say so: fewer are too uncertain."""
SOURCES_PER_BUCKET = 50_000
"""Sources beyond these are only counted in their /16, so that a flood cannot fill the memory."""
LEVELS = (32, 24, 16)


class _Tally:
    """Sums of samples of one prefix. Packets and bytes are estimates of all that were sent."""

    __slots__ = ("bytes", "cdns", "dropped", "packets", "samples", "thinned")

    def __init__(self) -> None:
        self.samples = 0
        self.packets = 0.0
        self.bytes = 0.0
        self.dropped = 0.0
        self.thinned = 0.0
        """Samples that may well not have been taken: each counts 1 - 1/N; what makes the error."""
        self.cdns: dict[int, float] | None = None
        """Packets by CDN."""

    def add(self, other: _Tally, factor: float) -> None:
        """Add `factor` times the packets of `other`; -factor takes them away again."""
        sign = 1 if factor > 0 else -1
        self.samples += sign * other.samples
        self.packets += factor * other.packets
        self.bytes += factor * other.bytes
        self.dropped += factor * other.dropped
        self.thinned += sign * other.thinned
        if other.cdns:
            if self.cdns is None:
                self.cdns = {}
            for cdn, packets in other.cdns.items():
                self.cdns[cdn] = self.cdns.get(cdn, 0.0) + factor * packets

    def without(self, parts: Iterable[_Tally]) -> _Tally:
        """What is left when `parts` of it are shown by themselves."""
        rest = _Tally()
        rest.add(self, 1.0)
        for part in parts:
            rest.add(part, -1.0)
        return rest


class _Bucket(NamedTuple):
    seconds: float
    factor: float
    """1, or more if samples were lost."""
    levels: dict[int, dict[int, _Tally]]
    """Level to (prefix shifted right) to sums."""


class Talkers:
    """A sliding window of samples. One thread may add while another rolls and asks."""

    def __init__(self, window_s: float = RATE_WINDOW_S) -> None:
        self._window_s = window_s
        self._lock = threading.Lock()
        self._sources: dict[int, _Tally] = {}
        self._beyond: dict[int, _Tally] = {}
        self._buckets: deque[_Bucket] = deque()
        self._sums: dict[int, dict[int, _Tally]] = {level: {} for level in LEVELS}
        """Of the whole window, as in a bucket, but with every factor applied."""
        self._seconds = 0.0
        self._rolled_s: float | None = None

    def add_batch(self, samples: Iterable[Sample]) -> None:
        """Count `samples` into the open bucket."""
        with self._lock:
            sources = self._sources
            for source, size, one_in, dropped, cdn in samples:
                tally = sources.get(source)
                if tally is None:
                    tally = self._new_source(source)
                tally.samples += 1
                tally.packets += one_in
                tally.bytes += size * one_in
                tally.thinned += 1.0 - 1.0 / one_in
                if dropped:
                    tally.dropped += one_in
                elif cdn >= 0:
                    if tally.cdns is None:
                        tally.cdns = {}
                    tally.cdns[cdn] = tally.cdns.get(cdn, 0.0) + one_in

    def roll(self, now_s: float, lost: int = 0) -> None:
        """Close the open bucket at `now_s` (any steady clock); `lost` samples of it were not received."""
        with self._lock:
            sources, self._sources = self._sources, {}
            beyond, self._beyond = self._beyond, {}
        seconds = FRAME_INTERVAL_S if self._rolled_s is None else max(now_s - self._rolled_s, 1e-3)
        self._rolled_s = now_s
        levels = _levels(sources, beyond)
        received = sum(tally.samples for tally in levels[16].values())
        bucket = _Bucket(seconds, (received + lost) / received if received else 1.0, levels)
        self._buckets.append(bucket)
        self._merge(bucket, bucket.factor)
        self._seconds += seconds
        while self._seconds - self._buckets[0].seconds >= self._window_s - 1e-3:
            oldest = self._buckets.popleft()
            self._merge(oldest, -oldest.factor)
            self._seconds -= oldest.seconds

    def top(self, n: int = 10, cdn_names: Mapping[int, str] | None = None) -> list[Talker]:
        """At most `n` of the busiest sources and prefixes of the closed buckets, the busiest first.

        Those that stand out come first into consideration; remaining lines go to the busiest sources
        that no line covers yet.
        """
        names = cdn_names or {}
        lines = heapq.nlargest(n, self._standing_out(), key=_packets)
        if len(lines) < n:
            shown = {(level, prefix) for level, prefix, _ in lines}
            others = (
                (32, source, tally)
                for source, tally in self._sums[32].items()
                if not shown.intersection(((32, source), (24, source >> 8), (16, source >> 16)))
            )
            lines += heapq.nlargest(n - len(lines), others, key=_packets)
        return [self._talker(line, names) for line in sorted(lines, key=_packets, reverse=True)]

    def _new_source(self, source: int) -> _Tally:
        if len(self._sources) < SOURCES_PER_BUCKET:
            return self._sources.setdefault(source, _Tally())
        return self._beyond.setdefault(source >> 16, _Tally())

    def _merge(self, bucket: _Bucket, factor: float) -> None:
        """Add a bucket to the window's sums, or take it away with the negative of its factor."""
        for level, tallies in bucket.levels.items():
            sums = self._sums[level]
            for prefix, tally in tallies.items():
                _merge(sums, prefix, tally, factor)
                if not sums[prefix].samples:
                    del sums[prefix]  # and with it what rounding left of its packets

    def _standing_out(self) -> Iterator[_Line]:
        """Sources, then what is left of /24s, then of /16s, that stand out."""
        least = STANDS_OUT * sum(tally.packets for tally in self._sums[16].values())
        shown: list[_Line] = []
        for level in LEVELS:
            parts: dict[int, list[_Tally]] = {}
            for finer, prefix, tally in shown:
                parts.setdefault(prefix >> (finer - level), []).append(tally)
            for prefix, tally in self._sums[level].items():
                if tally.samples < SAMPLES_NEEDED or tally.packets < least:
                    continue
                rest = tally.without(parts[prefix]) if prefix in parts else tally
                if rest.samples >= SAMPLES_NEEDED and rest.packets >= least:
                    shown.append((level, prefix, rest))
        return iter(shown)

    def _talker(self, line: _Line, names: Mapping[int, str]) -> Talker:
        level, prefix, tally = line
        address = str(IPv4Address(prefix << (32 - level)))
        packets = tally.packets or 1.0
        cdn, most = max((tally.cdns or {-1: 0.0}).items(), key=lambda entry: entry[1])
        if most < 0.5:  # less than a packet is what rounding left of those that fell out of the window
            cdn = -1
        return Talker(
            prefix=address if level == 32 else f"{address}/{level}",
            pps=tally.packets / self._seconds,
            bps=tally.bytes * 8 / self._seconds,
            drop_share=min(max(tally.dropped / packets, 0.0), 1.0),
            cdn=names.get(cdn, ""),
            samples=tally.samples,
            error=sqrt(max(tally.thinned, 0.0)) / tally.samples,
        )


_Line = tuple[int, int, _Tally]
"""Prefix length, prefix (shifted right), sums."""


def _packets(line: _Line) -> float:
    return line[2].packets


def _levels(sources: dict[int, _Tally], beyond: dict[int, _Tally]) -> dict[int, dict[int, _Tally]]:
    """Sums of `sources` for each level; those of `beyond` are known by their /16 only."""
    levels: dict[int, dict[int, _Tally]] = {32: sources, 24: {}, 16: {}}
    for finer, level in pairwise(LEVELS):
        for prefix, tally in levels[finer].items():
            _merge(levels[level], prefix >> (finer - level), tally, 1.0)
    for prefix, tally in beyond.items():
        _merge(levels[16], prefix, tally, 1.0)
    return levels


def _merge(sums: dict[int, _Tally], prefix: int, tally: _Tally, factor: float) -> None:
    total = sums.get(prefix)
    if total is None:
        total = sums[prefix] = _Tally()
    total.add(tally, factor)
