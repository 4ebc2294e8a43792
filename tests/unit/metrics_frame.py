"""A frame with something of everything that metrics are made of, and histograms to go with it."""

from __future__ import annotations

from cdnctl.metrics.times import Histogram, Times
from cdnctl.model import (
    Cdn,
    Customer,
    Endpoint,
    Frame,
    Interface,
    MapFill,
    Service,
    Talker,
    Totals,
    Verdict,
    Watcher,
)

CDNS = ("aurora", "borealis")


def limits_us() -> list[tuple[float, float]]:
    """Of the kernel's buckets: eight an octave, from the first microsecond on."""
    return [
        (float(1 << octave), float(2 << octave))
        if octave < 3
        else ((1 << octave) + step * (1 << octave - 3), (1 << octave) + (step + 1) * (1 << octave - 3))
        for octave in range(32)
        for step in range(8)
    ]


def histogram(**counts: int) -> Histogram:
    """`us300=2`: two of 300 microseconds."""
    limits = limits_us()
    found = [0] * len(limits)
    for name, count in counts.items():
        took_us = int(name.removeprefix("us"))
        found[next(n for n, (low, high) in enumerate(limits) if low <= took_us < high)] += count
    return Histogram(limits, found)


def times() -> dict[str, Times]:
    empty = histogram()
    return {name: Times(histogram(us300=2, us11000=5), empty) for name in CDNS}


def frame() -> Frame:
    return Frame(
        seq=17,
        at_ns=1_700_000_000_500_000_000,
        monotonic_ns=5,
        edge="ams1",
        armed=True,
        interfaces=[Interface(name="eth0", mode="native"), Interface(name="eth1", mode="detached")],
        services=[Service(name="www", vip="203.0.113.80", port=80, protocol="tcp", policy="latency")],
        cdns=[cdn(name) for name in CDNS],
        verdicts=[
            Verdict(
                name="blocked",
                drop=True,
                explanation="x",
                packets_total=2**60,
                bytes_total=3,
                pps=0.0,
                bps=0.0,
            ),
            Verdict(
                name="forwarded",
                drop=False,
                explanation="x",
                packets_total=9,
                bytes_total=10,
                pps=0.0,
                bps=0.0,
            ),
        ],
        talkers=[Talker(prefix="10.66.0.0/16", pps=1.0, bps=1.0, drop_share=0.0)],
        blocks_wanted=4,
        blocks_enforced=2,
        blocks_by_source={"manual": 3, 'a"b\\c\n': 1},
        block_prefixes=3,
        customers=[Customer(name="acme", prefixes=["192.0.2.0/26"], packets_total=5, dropped_total=6)],
        customers_total=1,
        watchers=[Watcher(user="alice", pid=1, client="console", role="view", since_ns=1)],
        totals=Totals(half_open=12),
        maps=[
            MapFill(name="established", entries=250, room=1000),
            MapFill(name="reverse", entries=0, room=0),
        ],
        agent_pid=4242,
        agent_started_ns=1_600_000_000_000_000_000,
    )


def cdn(name: str) -> Cdn:
    ends = [
        Endpoint(address="198.51.100.10", port=80, state="in", ports_held=0.25, ports_gone_in_s=90.0),
        Endpoint(address="2001:db8:a::10", port=80, state="out", reason="dark", ports_held=0.5),
    ]
    return Cdn(
        name=name,
        state="partly" if name == "aurora" else "out",
        endpoints_in=1,
        wanted_weight=60,
        effective_share=0.75,
        share=0.5,
        open_flows=3 if name == "aurora" else None,
        rescued_from_total=8,
        endpoints=ends,
    )
