"""What the honest clients met: their requests, and figures about them."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import IO, NamedTuple

from cdnctl.lab import topology
from cdnctl.lab.processes import Generator, LabError

TIMEOUT_S = 3.0
"""How long a client waits for an answer (`clients.TIMEOUT_NS`)."""
WAIT_S = 5.0
"""And how long until we must have heard of it."""
PREFIXES_PER_REGION = 24


class Request(NamedTuple):
    """One request of a client, when it was over. Times are CLOCK_MONOTONIC."""

    start_ns: int
    kind: str
    """`new` (a connection of its own) or `keepalive`."""
    opened_ns: int
    """When its connection was begun: `start_ns` for a new one."""
    connection: int
    connect_ms: float | None
    """None when the connection never came about."""
    total_ms: float
    """From `start_ns` to the last byte, or to the failure."""
    outcome: str
    """`ok`, `timeout`, `reset`, `refused`, `badbody` or `error N` (errno)."""
    cdn: str
    """Who served it, by its body; empty when nobody did."""
    source: str

    @property
    def ok(self) -> bool:
        return self.outcome == "ok"


class Summary(NamedTuple):
    """Figures of some requests."""

    sent: int
    failed: int
    outcomes: dict[str, int]
    by_cdn: dict[str, int]
    connect_p50_ms: float | None
    connect_p95_ms: float | None
    total_p50_ms: float | None
    total_p95_ms: float | None


def summary(requests: Iterable[Request]) -> Summary:
    """Count them, and take percentiles of those that were served."""
    chosen = list(requests)
    served = [request for request in chosen if request.ok]
    # A request on an idle connection made no handshake.
    connects = sorted(r.connect_ms for r in served if r.connect_ms is not None and r.opened_ns >= r.start_ns)
    totals = sorted(request.total_ms for request in served)
    return Summary(
        sent=len(chosen),
        failed=len(chosen) - len(served),
        outcomes=dict(Counter(request.outcome for request in chosen)),
        by_cdn=dict(Counter(request.cdn for request in served)),
        connect_p50_ms=quantile(connects, 0.5),
        connect_p95_ms=quantile(connects, 0.95),
        total_p50_ms=quantile(totals, 0.5),
        total_p95_ms=quantile(totals, 0.95),
    )


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The value that `share` of an ordered sequence does not exceed; None of an empty one."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def sources() -> tuple[list[str], list[str]]:
    """Where clients come from, each a /24 or a /48 with room for a number; neighbours in a list are of
    different regions."""
    regions = [region.rsplit(".", 2)[0] for region in topology.REGIONS]
    regions6 = [region.partition("::")[0] for region in topology.REGIONS6]
    networks = range(1, PREFIXES_PER_REGION + 1)
    return (
        [f"{region}.{n}.{{}}" for n in networks for region in regions],
        [f"{region}:{n:x}::{{:x}}" for n in networks for region in regions6],
    )


class Traffic:
    """The running clients: their requests arrive here within 100 ms of their end.

    `targets` are an IPv4 and an IPv6 one; `share6` of the connections go to the latter.
    """

    def __init__(
        self,
        namespace: str,
        targets: Sequence[tuple[str, int]],
        rate: float,
        *,
        pool: int,
        share6: float,
        log: IO[bytes] | None,
    ) -> None:
        self.requests: list[Request] = []
        self.open_ns = self.started_ns = time.monotonic_ns()
        """Requests begun before this moment are over, and in `requests`."""
        self._generator = Generator("clients", namespace, log)
        self.pid = self._generator.process.pid
        self._generator.order(targets=targets, sources=sources(), share6=share6, rate=rate, pool=pool)
        self._reader = threading.Thread(target=self._read, name="lab-traffic", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        stdout = self._generator.process.stdout
        assert stdout
        try:
            for line in stdout:
                said = json.loads(line)
                self.requests.extend(Request._make(record) for record in said["done"])
                self.open_ns = said["open_ns"]
        except ValueError:  # closed while reading: the lab ends
            return

    def begun(self, start_ns: int, end_ns: int | None = None) -> list[Request]:
        """Requests begun in [start, end), of those that are over; `wait` for them first."""
        end = end_ns if end_ns is not None else time.monotonic_ns()
        return [request for request in self.requests[:] if start_ns <= request.start_ns < end]

    def set_rate(self, rate: float) -> None:
        """Requests a second from now on; 0 pauses."""
        self._generator.order(rate=rate)

    def wait(self, until_ns: int) -> None:
        """Wait until every request is over that was begun before this moment."""
        late_ns = max(until_ns, time.monotonic_ns()) + int((TIMEOUT_S + WAIT_S) * 1e9)
        while self.open_ns < until_ns:
            self.check()
            if time.monotonic_ns() > late_ns:
                raise LabError(f"the lab's clients are late by {WAIT_S:g} s")
            time.sleep(0.02)

    def settle(self) -> None:
        """Stop asking, and wait until every request is over."""
        self.set_rate(0)
        self.wait(time.monotonic_ns() + 200_000_000)  # some were begun before they heard of it

    def check(self) -> None:
        """LabError when the clients are gone."""
        if self._generator.process.poll() is not None:
            raise LabError(f"the lab's clients ended ({self._generator.process.returncode})")

    def end(self) -> None:
        """End the clients; the requests so far stay."""
        self._generator.end()
        self._reader.join(2.0)
