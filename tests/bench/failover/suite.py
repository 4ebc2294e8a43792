"""The suite: trials in rounds, in a lab of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

from cdnctl.lab import netns
from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import LabError
from tests.bench.failover import rows
from tests.bench.failover.balancers import Balancer, Edge, HAProxy
from tests.bench.failover.syns import Syns
from tests.bench.failover.trial import (
    CDNS,
    DARK,
    HANDSHAKE_MS,
    LOSSY,
    REFUSING,
    SLOW,
    VICTIM,
    Clients,
    Fault,
    Seen,
    run,
)
from tests.bench.results import Result

NAME = "bench-failover"
"""Of the lab: a killed one's leavings are removed by the next of the same name."""
LIMITS = {"endpoints": 12, "flows": 100_000, "block_entries": 10_000}
FULL: Mapping[Fault, int] = {DARK: 4, SLOW: 1, REFUSING: 2, LOSSY: 1}
QUICK: Mapping[Fault, int] = {DARK: 1}
"""Rounds of each."""


def results(*, quick: bool, say: Callable[[str], None]) -> list[Result]:
    """All rows. Raises Unsound, LabError."""
    found: list[Result] = []
    with contextlib.ExitStack() as stack:
        say("an edge, clients and CDNs")
        lab = stack.enter_context(Lab(NAME, CDNS, handshakes_ms=[HANDSHAKE_MS] * len(CDNS), limits=LIMITS))
        _forget_ports(lab)
        syns = stack.enter_context(contextlib.closing(Syns(lab.topology.wire, lab.sites[VICTIM].edge_peer)))
        clients = Clients(lab)
        balancers: dict[str, Balancer] = {
            rows.EDGE: Edge(lab, agent_runs=True),
            rows.PROXY: HAProxy(lab, syns),
            rows.STOPPED: Edge(lab, agent_runs=False),
        }
        if quick:
            del balancers[rows.STOPPED]
        for fault, rounds in (QUICK if quick else FULL).items():
            trials: dict[str, list[Seen]] = {who: [] for who in balancers}
            for number in range(rounds):
                for who in _in_turn(list(balancers), number):
                    say(f"{fault.name}, round {number + 1} of {rounds}: {who}")
                    with balancers[who] as balancer:
                        trials[who].append(run(lab, clients, syns, balancer, fault))
            found += rows.rows(fault, trials)
    if lab.left:
        raise LabError(f"not to be removed: {', '.join(lab.left)}")
    return found


def _in_turn(names: Sequence[str], number: int) -> Sequence[str]:
    return names if number % 2 == 0 else names[::-1]


def _forget_ports(lab: Lab) -> None:
    """The CDNs keep no connection that is over.

    An edge that is put on afresh, as here for each trial, does not know which of its ports rest.
    """
    for site in lab.sites.values():
        with netns.entered(site.namespace):
            netns.sysctl("net.ipv4.tcp_max_tw_buckets", 0)
