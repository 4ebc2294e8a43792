"""One trial: a balancer under traffic, a fault, and what it made of it.

A busy service, of IPv4, and a quiet one, of IPv6, have endpoints at the same CDNs; each endpoint is judged by
its own connects alone, so one fault shows both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from cdnctl.lab.lab import Lab
from cdnctl.lab.topology import PORT, VIP, VIP6
from cdnctl.lab.traffic import Request, Traffic
from tests.bench.failover.balancers import Balancer
from tests.bench.failover.syns import Syns
from tests.bench.results import Unsound

CDNS = ("aurora", "borealis", "corona")
VICTIM = CDNS[0]
HANDSHAKE_MS = 10.0
"""Of all three: nobody is preferred."""
BUSY, QUIET = 500.0, 2.0
"""New flows/s of the two services."""
LATE_MS, HELD_UP_MS = 1000.0, 200.0
_LEARNING = 100.0
"""New flows/s of the quiet service until its endpoints are known."""
_KNOWN_S, _CALM_S, _QUIET_S = 15.0, 1.0, 25.0
_POLL_S = 0.02
SLOW_EXTRA_MS = 150.0
LOSS = 0.3
"""Each way."""


@dataclass(frozen=True)
class Fault:
    """A kind of fault, and for how long it is looked at."""

    name: str
    cause: Callable[[Lab], int]
    """Makes it; returns when it was in force, or was ordered (CLOCK_MONOTONIC, ns)."""
    seconds: float
    share_from_s: float = 0.0
    """From when on the CDN's share of the new flows is taken."""


def _refuse(lab: Lab) -> int:
    ordered_ns = time.monotonic_ns()  # nginx is gone some time before we hear of it
    lab.refuse(VICTIM)
    return ordered_ns


DARK = Fault("dark", lambda lab: lab.darken(VICTIM), 1.6)
SLOW = Fault(f"slow by {SLOW_EXTRA_MS:g} ms", lambda lab: lab.slow(VICTIM, SLOW_EXTRA_MS), 4.0, 1.0)
REFUSING = Fault("refusing", _refuse, 1.0)
LOSSY = Fault(f"lossy by {100 * LOSS:g} %", lambda lab: lab.set_link(VICTIM, loss=LOSS), 4.0, 1.0)


@dataclass(frozen=True)
class Seen:
    """What became of the CDN with the fault, and of the clients."""

    interval_ms: float
    """Between two new flows of the busy service to it, before the fault."""
    last_ms: float
    """From the fault to the last of them, probes and checks apart; 0 when there was none."""
    looked_ms: float
    """How long one looked."""
    flows: int
    """So many there were."""
    quiet_flows: int
    """And of the quiet service."""
    share: float
    """Of the busy service's new flows, probes among them, from `Fault.share_from_s` on."""
    requests: int
    """Of the busy service, begun from just before the fault on."""
    late: int
    """Of these: failed, or took over `LATE_MS`."""
    held_up: int
    """Failed, or took over `HELD_UP_MS`."""

    @property
    def goes_on(self) -> bool:
        """Was it still given new flows at the end?"""
        return self.looked_ms - self.last_ms < 10 * self.interval_ms


class Clients:
    """Of both services."""

    def __init__(self, lab: Lab) -> None:
        targets = ((VIP, PORT), (VIP6, PORT))
        self.busy: Traffic = lab.start_clients(rate=0, pool=0, share6=0.0, targets=targets)
        self.quiet: Traffic = lab.start_clients(rate=0, pool=0, share6=1.0, targets=targets)

    def rates(self, busy: float, quiet: float) -> None:
        """New flows a second, from now on."""
        self.busy.set_rate(busy)
        self.quiet.set_rate(quiet)

    def settle(self) -> None:
        """Nobody asks, and everybody has been answered or has given up."""
        self.rates(0, 0)
        for clients in (self.busy, self.quiet):
            clients.settle()


def run(lab: Lab, clients: Clients, syns: Syns, balancer: Balancer, fault: Fault) -> Seen:
    """One trial with a balancer that is up. LabError; Unsound when there was nothing to be seen."""
    syns.begin()
    clients.rates(BUSY, _LEARNING)
    _until("every CDN is known", _KNOWN_S, lambda: all(balancer.knows(cdn) for cdn in CDNS))
    clients.rates(BUSY, QUIET)
    balancer.halt()
    time.sleep(_CALM_S)
    calm_ns = time.monotonic_ns() - int(_CALM_S * 1e9)
    fault_ns = fault.cause(lab)
    before = len(syns.seen(calm_ns, fault_ns))
    if before < 0.5 * BUSY * _CALM_S / len(CDNS):
        raise Unsound(f"{VICTIM} got {before} new flows in the second before its fault")
    end_ns = fault_ns + int(fault.seconds * 1e9)
    time.sleep(max(0, end_ns - time.monotonic_ns()) / 1e9)
    last_ns = balancer.last_new_flow_ns(VICTIM, fault_ns)
    if fault is DARK:
        clients.busy.set_rate(0)
        _until("the quiet service leaves it", _QUIET_S, lambda: balancer.gave_up(VICTIM, 6))
    quiet_ns = balancer.last_new_flow_ns(VICTIM, fault_ns, 6)
    _over(lab, clients)
    asked = clients.busy.begun(fault_ns - int(LATE_MS * 1e6), end_ns)
    met = [request for request in asked if request.start_ns + request.total_ms * 1e6 > fault_ns]
    share_ns = fault_ns + int(fault.share_from_s * 1e9)
    late = sum(request.start_ns >= share_ns for request in asked)
    return Seen(
        interval_ms=1000 * _CALM_S / before,
        last_ms=(last_ns - fault_ns) / 1e6,
        looked_ms=fault.seconds * 1000,
        flows=len(syns.seen(fault_ns, last_ns + 1_000_000)),
        quiet_flows=len(syns.seen(fault_ns, quiet_ns + 1_000_000, family=6)),
        share=len(syns.seen(share_ns, end_ns)) / max(1, late),
        requests=len(met),
        late=hit(met, LATE_MS),
        held_up=hit(met, HELD_UP_MS),
    )


def _over(lab: Lab, clients: Clients) -> None:
    """The CDN is well, and nobody asks any more."""
    lab.heal(VICTIM)
    lab.restore(VICTIM)
    clients.settle()


def hit(requests: list[Request], ms: float) -> int:
    """How many failed, or took longer."""
    return sum(not request.ok or request.total_ms > ms for request in requests)


def _until(what: str, seconds: float, found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        if time.monotonic() > deadline:
            raise Unsound(f"not within {seconds:g} s: {what}")
        time.sleep(_POLL_S)
