"""Limits in the packet tests: customers, a clock that stands still, and what the arithmetic should say."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from ipaddress import ip_network
from typing import NamedTuple

from harness import DataPath
from segments import Flag
from session import Session

from cdnctl.datapath import abi
from cdnctl.datapath.abi import ClientFlag, Verdict
from cdnctl.datapath.clients import Client
from cdnctl.datapath.counters import CustomerTotals

ACME, GLOBEX = 1, 2
ACMES, GLOBEXS = "10.7.0.1", "10.8.0.1"
"""A client of each."""
FREE = "10.7.9.9"
"""One of Acme's that is allowed."""
PREFIXES = {
    ip_network("10.7.0.0/16"): Client(customer=ACME),
    ip_network("10.7.9.9/32"): Client(customer=ACME, flags=ClientFlag.ALLOWED),
    ip_network("10.8.0.0/16"): Client(customer=GLOBEX),
    ip_network("2001:db8:7::/48"): Client(customer=ACME),
}
NO_LIMIT = abi.Limit()


class Clock:
    """The kernel's time, which passes only when told to."""

    def __init__(self, path: DataPath) -> None:
        self._path = path
        self.ns = time.monotonic_ns()
        self.sleep(0)

    def sleep(self, ms: float) -> None:
        """Let so much pass."""
        self.ns += round(ms * 1e6)
        self._path.clock(self.ns)


class Gcra:
    """One rate, as bpf/limit.h keeps it, in whole ticks."""

    def __init__(self, burst_ticks: int) -> None:
        self._burst = burst_ticks
        self.at = 0

    def exceeds(self, now: int) -> bool:
        """Would one more come too early?"""
        return self.at - now > self._burst

    def add(self, cost: int, now: int) -> None:
        """It came."""
        self.at = max(self.at, now) + cost


class Model:
    """All of a limit: what a packet must come to."""

    def __init__(self, limit: abi.Limit) -> None:
        self._limit = limit
        self._packets, self._bytes, self._flows = (Gcra(limit.burst_ticks) for _ in range(3))

    def verdict(self, now_ns: int, size: int, *, opens: bool) -> Verdict:
        """Of a frame of so many bytes; GO_ON when it is within."""
        now = now_ns * abi.TICKS_PER_NS
        costs = {
            self._flows: (self._limit.flow_ticks if opens else 0, Verdict.OVER_FLOW_QUOTA),
            self._bytes: (size * self._limit.kib_ticks >> 10, Verdict.OVER_QUOTA),
            self._packets: (self._limit.packet_ticks, Verdict.OVER_QUOTA),
        }
        for rate, (cost, over) in costs.items():
            if cost and rate.exceeds(now):
                return over
        for rate, (cost, _) in costs.items():
            if cost:
                rate.add(cost, now)
        return Verdict.GO_ON


class Quotas(NamedTuple):
    """A data path with two customers."""

    path: DataPath
    clock: Clock

    def limit(self, customer: int = ACME, **limits: float) -> None:
        """Limits of one customer, none of the other."""
        self.path.tables.clients.set_limits({customer: abi.limit(**limits)})

    def limit_sources(self, busy_pps: int = 100, **limits: float) -> None:
        """Limits of each source; on this CPU, as on each, half of `busy_pps` makes one busy."""
        settings = self.path.tables.settings
        settings.source_limit = abi.limit(**limits)
        settings.source_busy, settings.busy_share = busy_pps, busy_pps // 2
        self.path.tables.settings = settings

    def totals(self, customer: int = ACME) -> CustomerTotals:
        """A customer's exact totals."""
        return self.path.tables.counters.customer(customer)

    def open(self, client: str = ACMES, service: str = "solo") -> Session:
        """A session of the client's, before any limit."""
        return Session(self.path, service, client=client).open()

    def meters(self) -> int:
        """How many sources have one."""
        return len(list(self.path.map("sources").keys()))


def grown(before: CustomerTotals, after: CustomerTotals) -> Mapping[str, int]:
    """What is different."""
    return {
        field: new - old for field, new, old in zip(before._fields, after, before, strict=True) if new != old
    }


def quotas(path: DataPath) -> Quotas:
    """Both customers are known; none has a limit."""
    path.change(dark_connects=1_000_000)
    path.tables.clients.load(PREFIXES)
    return Quotas(path, Clock(path))


def sent(session: Session, count: int, payload: bytes = b"") -> Counter[Verdict]:
    """What became of so many segments of the client."""
    return Counter(session.up(Flag.ACK, payload=payload).verdict for _ in range(count))
