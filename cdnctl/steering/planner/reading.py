"""What the planner is told of each CDN in a round."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from cdnctl.model import Cdn, Frame


class Latency(NamedTuple):
    """Of the last seconds."""

    p95_ms: float
    samples: int


class Cell(NamedTuple):
    """Traffic of one class from the clients of one region: what one pick table of a service is for."""

    region: str
    """Empty: clients of no region."""
    traffic_class: str

    def __str__(self) -> str:
        return f"{self.traffic_class} from {self.region or 'no region'}"


class Timed(NamedTuple):
    """First bytes of a CDN in one cell."""

    latency: Latency
    total: int
    """Samples ever."""


class Reading(NamedTuple):
    """One CDN in one round. What is unknown is None, and judged by nobody."""

    first_byte: Latency | None = None
    handshake: Latency | None = None
    loss: float = 0.0
    """Share of the segments that were sent again."""
    segments: int = 0
    failures: float = 0.0
    """Share of the attempts that came to nothing."""
    attempts: int = 0
    samples_total: int = 0
    """Samples of latency and attempts ever."""
    load: float = 0.0
    """What it carries: new flows a second."""
    room: float | None = None
    """The share of all new flows that would fill it, as they come now: more than 1 is enough for all."""
    is_out: bool = False
    """The kernel has taken it out, and sends its flows elsewhere: nothing is measured."""
    cells: Mapping[Cell, Timed] = MappingProxyType({})
    """First bytes by cell; none where all traffic is of one."""
    regions: frozenset[str] = frozenset()
    """Its endpoints are for the clients of these alone; none: for all."""


class Capacity(NamedTuple):
    """What a CDN takes, from the configuration; None: not limited by that."""

    flows_per_s: float | None = None
    mbit: float | None = None


def readings(
    frame: Frame, before: Frame | None = None, capacities: Mapping[str, Capacity] | None = None
) -> dict[str, Reading]:
    """The readings of a frame; failures are those since the frame `before`."""
    earlier = {cdn.name: cdn for cdn in before.cdns} if before is not None else {}
    flows = sum(cdn.new_flows_per_s for cdn in frame.cdns)
    bits = sum(max(cdn.to_cdn_bps, cdn.from_cdn_bps) for cdn in frame.cdns)
    return {
        cdn.name: _reading(cdn, earlier.get(cdn.name), _room((capacities or {}).get(cdn.name), flows, bits))
        for cdn in frame.cdns
    }


def _reading(cdn: Cdn, before: Cdn | None, room: float | None) -> Reading:
    failures = attempts = 0
    if before is not None and cdn.new_flows_total >= before.new_flows_total:
        attempts = cdn.new_flows_total - before.new_flows_total
        # Connects that went unanswered. Flows that were reset when it went dark were begun long before.
        failures = max(0, cdn.rescued_from_total - before.rescued_from_total)
    return Reading(
        first_byte=_latency(cdn.first_byte_p95_ms, cdn.requests),
        handshake=_latency(cdn.handshake_p95_ms, cdn.samples),
        loss=max(cdn.loss_to_cdn or 0.0, cdn.loss_from_cdn or 0.0),
        # A frame says whether there were any, not how many: take it that packets carried data.
        segments=0 if cdn.loss_to_cdn is None and cdn.loss_from_cdn is None else _segments(cdn),
        failures=min(1.0, failures / attempts) if attempts else 0.0,
        attempts=attempts,
        samples_total=cdn.handshakes_total + cdn.new_flows_total,
        load=cdn.new_flows_per_s,
        room=room if room is not None else _room_by_use(cdn),
        is_out=cdn.state in ("out", "probing"),
        cells={
            Cell(each.region, each.traffic_class): Timed(
                Latency(each.p95_ms, each.requests), each.requests_total
            )
            for each in cdn.cells
        },
        regions=_regions(cdn),
    )


def _regions(cdn: Cdn) -> frozenset[str]:
    if not all(endpoint.regions for endpoint in cdn.endpoints):
        return frozenset()
    return frozenset(region for endpoint in cdn.endpoints for region in endpoint.regions)


def _segments(cdn: Cdn) -> int:
    return int(5 * max(cdn.to_cdn_pps, cdn.from_cdn_pps))


def _latency(p95_ms: float | None, samples: int) -> Latency | None:
    return None if p95_ms is None else Latency(p95_ms, samples)


def _room(capacity: Capacity | None, flows: float, bits: float) -> float | None:
    if capacity is None:
        return None
    rooms = []
    if capacity.flows_per_s is not None and flows:
        rooms.append(capacity.flows_per_s / flows)
    if capacity.mbit is not None and bits:
        rooms.append(capacity.mbit * 1e6 / bits)
    return min(rooms, default=None)


def _room_by_use(cdn: Cdn) -> float | None:
    """From how full it says it is; a CDN that is nearly empty has too rough a figure."""
    return cdn.share / cdn.capacity_use if cdn.capacity_use and cdn.share > 0.02 else None
