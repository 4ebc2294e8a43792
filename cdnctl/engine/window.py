"""Rates and percentiles over the last seconds, from totals that only grow."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from msgspec import Struct

from cdnctl.datapath import abi
from cdnctl.datapath.tables import CdnTotals, Tables
from cdnctl.engine.layout import Layout
from cdnctl.model import RATE_WINDOW_S


class Snapshot(Struct, frozen=True):
    """All totals at one moment of the kernel's clock."""

    at_ns: int
    verdicts: dict[abi.Verdict, tuple[int, int]]
    """Packets and bytes."""
    cdns: dict[str, CdnTotals]
    handshakes: dict[str, tuple[int, ...]]
    services: dict[str, int]
    samples: int
    lost: int


def take(tables: Tables, layout: Layout, at_ns: int, samples: int, lost: int) -> Snapshot:
    """Read them."""
    return Snapshot(
        at_ns,
        {verdict: (packets, octets) for verdict, packets, octets in tables.verdicts()},
        {name: tables.cdn_totals(identity) for name, identity in layout.cdns.items()},
        {name: tables.handshakes(identity) for name, identity in layout.cdns.items()},
        {name: tables.service_flows(identity) for name, identity in layout.services.items()},
        samples,
        lost,
    )


class Window:
    """The snapshots of the last `RATE_WINDOW_S`."""

    def __init__(self) -> None:
        self._snapshots: deque[Snapshot] = deque()

    def push(self, snapshot: Snapshot) -> None:
        """Add the newest, and forget what is older than the window needs."""
        self._snapshots.append(snapshot)
        horizon = snapshot.at_ns - int(RATE_WINDOW_S * 1e9)
        while len(self._snapshots) > 2 and self._snapshots[1].at_ns <= horizon:
            self._snapshots.popleft()

    @property
    def oldest(self) -> Snapshot:
        """The start of the window."""
        return self._snapshots[0]

    @property
    def newest(self) -> Snapshot:
        """Its end."""
        return self._snapshots[-1]

    @property
    def seconds(self) -> float:
        """Its length; never 0."""
        return max((self.newest.at_ns - self.oldest.at_ns) / 1e9, 1e-9)


def percentile_ms(buckets: Sequence[int], share: float) -> float | None:
    """Linear within its bucket; None when there is no sample. Buckets are of microseconds."""
    total = sum(buckets)
    if not total:
        return None
    rank = share * total
    for bucket, count in enumerate(buckets):
        if count and rank <= count:
            low, high = abi.bucket_limits_us(bucket)
            return (low + (high - low) * rank / count) / 1000
        rank -= count
    return None
