"""What the screens beyond the overview need to look real: customers, endpoints, packets, lists, a journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from frames import EXPLANATIONS, NOON_NS, Edge

from cdnctl.model import Customer, Endpoint, Frame, Sampled, SampledPacket, histogram_limits_ms

if TYPE_CHECKING:
    from driver import Desk


def rich(frames: list[Frame]) -> list[Frame]:
    """The same frames with customers, more endpoints, capacities and histograms."""
    return [_enriched(frame) for frame in frames]


def _enriched(frame: Frame) -> Frame:
    cdns = []
    for index, cdn in enumerate(frame.cdns):
        six = msgspec.structs.replace(
            cdn.endpoints[0], address=f"2001:db8:{index + 1}::10", state="in", reason="", back_in_s=0.0,
            unanswered=0, ejections=0, regions=["eu"],
        )  # fmt: skip
        cdns.append(
            msgspec.structs.replace(
                cdn,
                endpoints=[*cdn.endpoints, six] if index else cdn.endpoints,
                histogram=_histogram(cdn.handshake_p50_ms, cdn.samples),
                first_byte_p50_ms=(cdn.handshake_p50_ms or 0) * 2.2 or None,
                first_byte_p95_ms=(cdn.handshake_p95_ms or 0) * 2.9 or None,
                requests=cdn.samples * 3,
                loss_to_cdn=0.0004,
                loss_from_cdn=0.011 if index == 1 else 0.0002,
                capacity_use=min(1.0, cdn.share * 1.4) if index < 2 else None,
                open_flows=int(cdn.new_flows_per_s * 18),
            )
        )
    return msgspec.structs.replace(frame, cdns=cdns, customers=_customers(frame), customers_total=3)


def _histogram(p50_ms: float | None, samples: int) -> list[int]:
    if p50_ms is None or not samples:
        return []
    parts = []
    for step in range(32):
        low, high = histogram_limits_ms(step)
        distance = abs((low + high) / 2 - p50_ms) / p50_ms
        parts.append(max(0.0, 1 - distance) ** 3)
    whole = sum(parts) or 1
    return [round(samples * part / whole) for part in parts]


def _customers(frame: Frame) -> list[Customer]:
    busy = frame.totals.forwarded_pps
    return [
        Customer(
            name="acme", prefixes=["10.1.0.0/16"], prefix_count=1, pps_limit=2_000.0, mbit_limit=40.0,
            pps=min(2_000.0, busy * 0.5), bps=11.2e6, flows_per_s=51.0, dropped_pps=120.0,
        ),
        Customer(
            name="globex", prefixes=["10.2.0.0/16", "2001:db8:20::/48"], prefix_count=2, flows_limit=200.0,
            pps=880.0, bps=4.9e6, flows_per_s=92.0, limited_by="operator",
        ),
        Customer(name="initech", prefixes=["10.3.0.0/16"], prefix_count=1, pps=310.0, bps=1.7e6),
    ]  # fmt: skip


def packets() -> Sampled:
    """A second's worth of sampled packets."""
    found = [
        SampledPacket("10.66.3.9", "203.0.113.80", 1024 + at, 80, "tcp", "S", 60, "blocked", True, "")
        for at in range(12)
    ]
    found.append(SampledPacket("2001:db8:9::7", "2001:db8:1::80", 4433, 443, "udp", "", 1252, "blocked", True, ""))
    found.append(
        SampledPacket("10.1.0.1", "203.0.113.80", 40000, 80, "tcp", ".", 54, "not_a_start", True, "aurora")
    )
    return Sampled(at_ns=NOON_NS + 10**9, one_in=16, packets=found, missed=31)


async def dress(desk: Desk) -> None:
    """Packets for whoever watches, with the next frame."""
    edge = Edge(seq=900)
    desk.feed.sampled = [packets()]
    newest = desk.app.session.history.newest
    assert newest is not None
    frame = msgspec.structs.replace(newest, seq=newest.seq + 1, monotonic_ns=newest.monotonic_ns + 1, events=[])
    del edge
    await desk.send(frame)


__all__ = ["EXPLANATIONS", "Endpoint", "dress", "packets", "rich"]
