"""Rates and percentiles over the last seconds, from totals that only grow."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate
from operator import sub
from typing import Protocol

from msgspec import Struct

from cdnctl.datapath import abi
from cdnctl.datapath.counters import CdnTotals, CellNumber, CustomerTotals, buckets, summed
from cdnctl.datapath.tables import Tables
from cdnctl.engine.layout import Layout
from cdnctl.metrics.times import Histogram, Times
from cdnctl.model import HISTOGRAM_STEPS, RATE_WINDOW_S, histogram_limits_ms

Buckets = tuple[int, ...]
_SWITCHES = abi.Mode.DISARMED | abi.Mode.BYPASS | abi.Mode.OBSERVE
_LIMITS_US = tuple(abi.bucket_limits_us(bucket) for bucket in range(abi.HISTOGRAM_BUCKETS))
NO_CDN_TOTALS = CdnTotals(*[0] * len(CdnTotals._fields))
NO_CUSTOMER_TOTALS = CustomerTotals(*[0] * len(CustomerTotals._fields))


class Snapshot(Struct, frozen=True):
    """All totals at one moment of the kernel's clock."""

    at_ns: int
    mode: abi.Mode
    """What is switched off."""
    verdicts: dict[abi.Verdict, tuple[int, int]]
    """Packets and bytes."""
    cdns: dict[str, CdnTotals]
    handshakes: dict[str, Buckets]
    first_bytes: dict[str, dict[CellNumber, bytes]]
    """By CDN, region and class, as the kernel has them: those that were ever timed."""
    services: dict[int, int]
    """By number: new flows."""
    customers: dict[int, CustomerTotals]
    """By number; those that sent nothing yet are not there."""
    samples: int
    lost: int


def take(tables: Tables, layout: Layout, at_ns: int, samples: int, lost: int) -> Snapshot:
    """Read them."""
    counters = tables.counters
    regions = 1 + max(layout.regions.values(), default=0)
    return Snapshot(
        at_ns,
        tables.mode & _SWITCHES,
        {verdict: (packets, octets) for verdict, packets, octets in counters.verdicts()},
        {name: counters.cdn(identity) for name, identity in layout.cdns.items()},
        {name: counters.handshakes(identity) for name, identity in layout.cdns.items()},
        {name: counters.timed(identity, regions) for name, identity in layout.cdns.items()},
        {place.id: counters.service_flows(place.id) for place in layout.services},
        counters.customers() if layout.customers else {},
        samples,
        lost,
    )


class Window:
    """The snapshots of the last `RATE_WINDOW_S`."""

    def __init__(self) -> None:
        self._snapshots: deque[Snapshot] = deque()
        self._switched: Snapshot | None = None

    def push(self, snapshot: Snapshot) -> None:
        """Add the newest, and forget what is older than the window needs."""
        if self._snapshots and snapshot.mode != self.newest.mode:
            self._switched = snapshot
        self._snapshots.append(snapshot)
        horizon = snapshot.at_ns - int(RATE_WINDOW_S * 1e9)
        while len(self._snapshots) > 2 and self._snapshots[1].at_ns <= horizon:
            self._snapshots.popleft()

    @property
    def oldest(self) -> Snapshot:
        """The start of the window."""
        return self._snapshots[0]

    @property
    def in_this_mode(self) -> Snapshot:
        """Where counting begins of what depends on the switches: what was dropped before the edge was
        disarmed says nothing of what is dropped now."""
        if self._switched is None or self._switched.at_ns < self.oldest.at_ns:
            return self.oldest
        return self._switched

    @property
    def newest(self) -> Snapshot:
        """Its end."""
        return self._snapshots[-1]

    @property
    def latest_pps(self) -> float:
        """Packets a second between its last two snapshots."""
        if len(self._snapshots) < 2:
            return 0.0
        before, now = self._snapshots[-2], self._snapshots[-1]
        return packets_of(before, now) / max((now.at_ns - before.at_ns) / 1e9, 1e-9)

    @property
    def seconds(self) -> float:
        """Its length; never 0."""
        return max((self.newest.at_ns - self.oldest.at_ns) / 1e9, 1e-9)

    # -- what became more in it --

    def cdn(self, name: str) -> CdnTotals:
        """By how much each total of a CDN has grown."""
        newest = self.newest.cdns.get(name, NO_CDN_TOTALS)
        return CdnTotals(*_grown(newest, self.oldest.cdns.get(name, newest)))

    def customer(self, number: int) -> CustomerTotals:
        """By how much each total of a customer has grown."""
        newest = self.newest.customers.get(number, NO_CUSTOMER_TOTALS)
        before, switched = (
            each.customers.get(number, NO_CUSTOMER_TOTALS) for each in (self.oldest, self.in_this_mode)
        )
        return CustomerTotals(*_grown(newest, before))._replace(
            dropped_packets=newest.dropped_packets - switched.dropped_packets,
            dropped_bytes=newest.dropped_bytes - switched.dropped_bytes,
            flows_refused=newest.flows_refused - switched.flows_refused,
        )

    def handshakes(self, name: str) -> Buckets:
        """Of a CDN, by time."""
        newest = self.newest.handshakes[name]
        return _grown(newest, self.oldest.handshakes.get(name, newest))

    def first_bytes(self, name: str, traffic_class: int | None = None) -> Buckets:
        """Of a CDN, by time, of one class of traffic or of all."""
        newest = self.newest.first_bytes[name]
        oldest = self.oldest.first_bytes.get(name, newest)
        return _grown(together(newest, traffic_class), together(oldest, traffic_class))

    def cells(self, name: str) -> Iterator[tuple[CellNumber, Buckets, Buckets]]:
        """The same by region and class, of those with any in the window; and all there ever were."""
        newest = self.newest.first_bytes[name]
        oldest = self.oldest.first_bytes.get(name, newest)
        for cell, row in newest.items():
            before = oldest.get(cell, b"")
            if row == before:
                continue
            total = buckets(row)
            yield cell, _grown(total, buckets(before)) if before else total, total

    def packets(self) -> int:
        """Of all verdicts."""
        return packets_of(self.oldest, self.newest)


class _Verdicts(Protocol):
    @property
    def verdicts(self) -> Mapping[abi.Verdict, tuple[int, int]]: ...


def packets_of(before: _Verdicts, now: _Verdicts) -> int:
    """Packets between two readings, of all verdicts."""
    return sum(packets - before.verdicts[verdict][0] for verdict, (packets, _) in now.verdicts.items())


def _grown(newest: Sequence[int], oldest: Sequence[int]) -> tuple[int, ...]:
    return tuple(map(sub, newest, oldest))


def together(timed: Mapping[CellNumber, bytes], traffic_class: int | None = None) -> Buckets:
    """From everywhere, of one class of traffic or of all."""
    return summed([row for (_, each), row in timed.items() if traffic_class in (None, each)])


def observed_times(snapshot: Snapshot) -> dict[str, Times]:
    """Its histograms, of all regions and classes together, by CDN."""
    return {
        name: Times(
            Histogram(_LIMITS_US, handshakes), Histogram(_LIMITS_US, together(snapshot.first_bytes[name]))
        )
        for name, handshakes in snapshot.handshakes.items()
    }


def coarse(counts: Sequence[int]) -> list[int]:
    """A histogram as frames have it; empty when it is."""
    if not any(counts):
        return []
    steps = [0] * HISTOGRAM_STEPS
    for bucket, count in enumerate(counts):
        if count:
            steps[_step_of(bucket)] += count
    return steps


@cache
def _step_of(bucket: int) -> int:
    low, high = abi.bucket_limits_us(bucket)
    first_ms = histogram_limits_ms(0)[0]
    step = math.floor(2 * math.log2((low + high) / 2000 / first_ms))
    return max(0, min(HISTOGRAM_STEPS - 1, step))


def percentile_ms(counts: Sequence[int], share: float) -> float | None:
    """Linear within its bucket; None when there is no sample. `counts` are by buckets of microseconds."""
    up_to = list(accumulate(counts))
    if not up_to or up_to[-1] <= 0:
        return None
    rank = share * up_to[-1]
    bucket = min(bisect_left(up_to, rank), len(up_to) - 1)
    low, high = abi.bucket_limits_us(bucket)
    count = max(1, counts[bucket])  # between two tables a total may be smaller for a moment
    return (low + (high - low) * (1 - (up_to[bucket] - rank) / count)) / 1000
