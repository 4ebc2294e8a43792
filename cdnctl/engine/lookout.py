"""Looks out between two frames for what cannot wait for the next one: an attack that has just begun.

A frame's reading takes every counter there is; a glance takes those few by which a flood is seen, in a
fraction of a millisecond. So the shield goes up, and sampling thins out, within some two tenths of a second.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from msgspec import Struct

from cdnctl.datapath import abi
from cdnctl.datapath.counters import CdnTotals
from cdnctl.datapath.tables import Tables
from cdnctl.engine.frames import Observer
from cdnctl.engine.shield import Shielding
from cdnctl.engine.window import packets_of


class Glance(Struct, frozen=True):
    """Some totals at one moment of the kernel's clock."""

    at_ns: int
    verdicts: dict[abi.Verdict, tuple[int, int]]
    """Packets and bytes."""
    services: dict[int, int]
    """By number: new flows."""
    cdns: dict[str, CdnTotals]


def glance(tables: Tables, services: Iterable[int], cdns: Mapping[str, int]) -> Glance:
    """Read them; both by their numbers. Raises OSError."""
    counters = tables.counters
    return Glance(
        time.monotonic_ns(),
        {verdict: (packets, octets) for verdict, packets, octets in counters.verdicts()},
        {number: counters.service_flows(number) for number in services},
        {name: counters.cdn(number) for name, number in cdns.items()},
    )


class Lookout:
    """Of one edge."""

    def __init__(self) -> None:
        self._before: Glance | None = None

    def look(self, now: Glance, observer: Observer, shielding: Shielding, *, armed: bool) -> None:
        """Once more. Raises OSError."""
        before, self._before = self._before, now
        if before is None or now.at_ns <= before.at_ns:
            return
        observer.hasten(packets_of(before, now) / ((now.at_ns - before.at_ns) / 1e9))
        shielding.glance(now, armed=armed)
