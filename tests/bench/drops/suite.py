"""The suite: rates in turn, on a rig of its own."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Callable
from ipaddress import IPv4Network
from typing import NamedTuple

from cdnctl.datapath.abi import Verdict
from cdnctl.lab import netns
from tests.bench.decisions.rig import CLIENTS_LINK, FAR, HERE, Rig, uncollected
from tests.bench.drops.filter import ROOM, Filter
from tests.bench.drops.live import Generator
from tests.bench.results import Result, beside

BLOCKED = 1_000_000
HOT = 256
"""Sources of a flood that comes from few."""
_FIRST, _END = 0x2000_0000, 0xC000_0000
"""Where sources are from: 32.0.0.0 to 191.255.255.255, none of which is the rig's own."""
_FILTERED = "filtered"
_WARM_UP = 200_000


class _Plan(NamedTuple):
    rounds: int
    frames: int
    """In a run."""


_FULL, _QUICK = _Plan(15, 2_000_000), _Plan(3, 700_000)


def results(*, quick: bool, say: Callable[[str], None]) -> list[Result]:
    """Both rows. Raises Unsound, CdnctlError."""
    plan, allowed = _QUICK if quick else _FULL, os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        say("an edge with a million blocked")
        rig = stack.enter_context(Rig(with_shim=False))
        sources = random.Random(1).sample(range(_FIRST, _END), BLOCKED)
        with uncollected():
            rig.block(IPv4Network(source) for source in sources)
        far, near = _link(_FILTERED)
        peer = Filter(HERE, _FILTERED, near, sources[:ROOM])
        stack.callback(peer.close)
        stack.enter_context(netns.entered(FAR))
        generator = Generator(sources)
        stack.callback(generator.close)
        ours = socket.if_nametoindex(CLIENTS_LINK)
        stack.callback(os.sched_setaffinity, 0, allowed)
        os.sched_setaffinity(0, {max(allowed)})

        def sample(hot: bool, frames: int) -> tuple[Callable[[], float], Callable[[], float]]:
            mine, others = (range(HOT),) * 2 if hot else (range(BLOCKED), range(ROOM))
            return (
                lambda: generator.rate(ours, mine, frames, lambda: rig.counted(Verdict.BLOCKED)),
                lambda: generator.rate(far, others, frames, peer.dropped),
            )

        rates: dict[bool, tuple[list[float], list[float]]] = {True: ([], []), False: ([], [])}
        for hot in rates:
            for run in sample(hot, _WARM_UP):
                run()
        for number in range(plan.rounds):
            say(f"round {number + 1} of {plan.rounds}")
            for hot, found in rates.items():
                both = list(zip(sample(hot, plan.frames), found, strict=True))
                for run, into in both if number % 2 else reversed(both):
                    into.append(run())
            rig.engine.reader.take_samples()
    return [
        beside(name, *rates[hot], unit="Mpps", bound=bound, gate=True, at_least=True)
        for hot, name, bound in (
            (True, f"drops per core, {HOT} sources / xdp-filter", 0.8),
            (False, f"drops per core, 1M sources / xdp-filter, its {ROOM // 1000}k", 0.4),
        )
    ]


def _link(name: str) -> tuple[int, int]:
    """One more link between the rig's namespaces; its numbers there and here."""
    with netns.netlink(HERE) as ip:
        ip.link("add", ifname=name, kind="veth", peer={"ifname": name, "net_ns_fd": FAR})
    for namespace in (HERE, FAR):
        with netns.netlink(namespace) as ip:
            ip.link("set", index=ip.link_lookup(ifname=name)[0], state="up")
    numbers = []
    for namespace in (FAR, HERE):
        with netns.entered(namespace):
            numbers.append(socket.if_nametoindex(name))
    return numbers[0], numbers[1]
