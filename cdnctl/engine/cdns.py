"""The CDNs in a frame: what the kernel counts and knows of each and of its endpoints."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from cdnctl.config import CLASSES, CdnConfig, Config, family, show_endpoint
from cdnctl.datapath import abi
from cdnctl.datapath.tables import Tables
from cdnctl.engine import explain
from cdnctl.engine.layout import EndpointPlace, Layout
from cdnctl.engine.ports import Ports
from cdnctl.engine.window import Window, coarse, percentile_ms
from cdnctl.model import Cdn, CdnCell, CdnPlan, CdnState, Endpoint, EndpointState, OutReason

_BEST_FIRST: tuple[EndpointState, ...] = ("drained", "in", "probing", "out")
"""A CDN none of whose endpoints is in is what the best of them is."""
_TAKING: tuple[CdnState, ...] = ("in", "partly")
"""New flows go to those."""


class Wanted(NamedTuple):
    """What operators, and the planner, want now, as far as it shows in a frame."""

    weights: dict[str, int]
    drained: Collection[str]
    shares: dict[str, float]
    video_kept: Mapping[str, float] = {}
    ill: Collection[str] = ()
    """Endpoints that the planner leaves out for what probes say."""
    plans: Mapping[str, CdnPlan] = {}


class CdnPictures:
    """Everything it returns is of the window's newest moment."""

    def __init__(self, config: Config, layout: Layout, tables: Tables, window: Window, ports: Ports) -> None:
        self._configs = {cdn.name: cdn for cdn in config.cdns}
        self._layout = layout
        self._tables = tables
        self._window = window
        self._ports = ports
        self._regions = {0: "", **{number: name for name, number in layout.regions.items()}}
        classes = {service.traffic_class for service in config.services}
        self._has_cells = len(self._regions) > 1 or len(classes) > 1 or "dscp" in classes

    def take(self, wanted: Wanted, now_ns: int) -> list[Cdn]:
        """The CDNs in the configuration's order."""
        healths = self._tables.healths()
        total = sum(self._window.cdn(name).new_flows for name in self._layout.cdns)
        made = [self._cdn(name, healths, wanted, total, now_ns) for name in self._layout.cdns]
        # what is out gives its share to the others
        live = {cdn.name: wanted.shares.get(cdn.name, 0.0) for cdn in made if cdn.state in _TAKING}
        whole = sum(live.values())
        return [
            cdn if not whole else replace(cdn, effective_share=live.get(cdn.name, 0.0) / whole)
            for cdn in made
        ]

    def _cdn(self, name: str, healths: list[abi.Health], wanted: Wanted, total_new: int, now_ns: int) -> Cdn:
        config, span = self._configs[name], self._window.seconds
        now, grown = self._window.newest.cdns[name], self._window.cdn(name)
        handshakes = self._window.handshakes(name)
        first_bytes = self._window.first_bytes(name)
        drained = name in wanted.drained
        places = self._layout.endpoints_of(name)
        endpoints = [
            self._endpoint(place, healths[place.id], drained, place.key in wanted.ill, now_ns)
            for place in places
        ]
        standing = stand(
            [endpoint for endpoint, place in zip(endpoints, places, strict=True) if place.serves] or endpoints
        )
        to_bps, from_bps = 8 * grown.to_cdn_bytes / span, 8 * grown.from_cdn_bytes / span
        return Cdn(
            name=name,
            mode=config.mode,
            state=standing.state,
            reason=standing.reason,
            missing=standing.missing,
            endpoints_in=sum(endpoint.state == "in" for endpoint in endpoints),
            wanted_weight=wanted.weights[name],
            effective_share=0.0,
            share=grown.new_flows / total_new if total_new else 0.0,
            handshake_p50_ms=percentile_ms(handshakes, 0.50),
            handshake_p95_ms=percentile_ms(handshakes, 0.95),
            handshake_p99_ms=percentile_ms(handshakes, 0.99),
            samples=sum(handshakes),
            histogram=coarse(handshakes),
            first_byte_p50_ms=percentile_ms(first_bytes, 0.50),
            first_byte_p95_ms=percentile_ms(first_bytes, 0.95),
            first_byte_p99_ms=percentile_ms(first_bytes, 0.99),
            requests=sum(first_bytes),
            cells=self._cells(name),
            loss_to_cdn=_share(grown.resent_to, grown.segments_to),
            loss_from_cdn=_share(grown.resent_from, grown.segments_from),
            open_flows=max(0, now.promoted - now.closed) if config.mode == "nat" else None,
            capacity_use=_use(config, grown.new_flows / span, to_bps + from_bps),
            spilled_per_s=grown.spilled / span,
            video_kept=wanted.video_kept.get(name, 1.0),
            new_flows_per_s=grown.new_flows / span,
            to_cdn_pps=grown.to_cdn_packets / span,
            from_cdn_pps=grown.from_cdn_packets / span,
            to_cdn_bps=to_bps,
            from_cdn_bps=from_bps,
            new_flows_total=now.new_flows,
            probe_flows_total=now.probe_flows,
            rescued_from_total=now.rescued_from,
            rescued_to_total=now.rescued_to,
            spilled_total=now.spilled,
            reset_dark_total=now.reset_dark,
            to_cdn_packets_total=now.to_cdn_packets,
            to_cdn_bytes_total=now.to_cdn_bytes,
            from_cdn_packets_total=now.from_cdn_packets,
            from_cdn_bytes_total=now.from_cdn_bytes,
            handshakes_total=now.handshakes,
            ejections_total=sum(healths[place.id].ejections_total for place in places),
            last_new_flow_ns=max((healths[place.id].last_new_flow_ns for place in places), default=0),
            plan=wanted.plans.get(name, _NO_PLAN),
            endpoints=endpoints,
        )

    def _cells(self, name: str) -> list[CdnCell]:
        """Where there is but one, it is the whole. Regions that are no more are in the whole alone."""
        if not self._has_cells:
            return []
        return [
            CdnCell(
                region=self._regions[region],
                traffic_class=CLASSES[traffic_class],
                p50_ms=percentile_ms(grown, 0.50) or 0.0,
                p95_ms=percentile_ms(grown, 0.95) or 0.0,
                requests=sum(grown),
                requests_total=sum(total),
            )
            for (region, traffic_class), grown, total in self._window.cells(name)
            if region in self._regions
        ]

    def _endpoint(
        self, place: EndpointPlace, health: abi.Health, drained: bool, ill: bool, now_ns: int
    ) -> Endpoint:
        out = health.state == abi.Breaker.OUT
        probing = out and now_ns >= health.out_until_ns
        state: EndpointState = "drained" if drained else "probing" if probing else "out" if out else "in"
        reason: OutReason = "operator" if drained else explain.REASON.get(health.reason, "") if out else ""
        if ill and state == "in":
            state, reason = "out", "probes"
        limit_us = (self._configs[place.cdn].latency_limit_ms or 0) * 1000
        outlook = self._ports.outlook(place.id)
        return Endpoint(
            address=place.address,
            port=place.port,
            protocol=place.protocol,
            regions=list(place.regions),
            state=state,
            reason=reason,
            back_in_s=max(0.0, (health.out_until_ns - now_ns) / 1e9) if out else 0.0,
            ewma_ms=health.ewma_us / 1000,
            baseline_ms=health.baseline_us / 1000,
            limit_ms=(limit_us or 3 * health.baseline_us + 20_000) / 1000,
            unanswered=health.unanswered,
            ejections=health.ejections,
            ports_held=outlook.held,
            ports_gone_in_s=outlook.gone_in_s,
        )


_NO_PLAN = CdnPlan()


class Standing(NamedTuple):
    """Whether a CDN is in, by its endpoints."""

    state: CdnState
    reason: OutReason = ""
    missing: str = ""


def stand(endpoints: Sequence[Endpoint]) -> Standing:
    """Of a CDN that has these."""
    if not endpoints:
        return Standing("out", missing="no address of its names is known yet")
    best = min((endpoint.state for endpoint in endpoints), key=_BEST_FIRST.index)
    lacking = [endpoint for endpoint in endpoints if endpoint.state not in ("in", "drained")]
    if best != "in" or not lacking:
        return Standing(best, next(endpoint.reason for endpoint in endpoints if endpoint.state == best))
    worst = max(lacking, key=lambda endpoint: _BEST_FIRST.index(endpoint.state))
    more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    kinds = {_kind(endpoint) for endpoint in lacking}
    if len(kinds) == 1 and not kinds & {_kind(each) for each in endpoints if each.state == "in"}:
        who = _kind_words(worst, endpoints)
    else:
        who = f"{show_endpoint(worst.address, worst.port)}{more}"
    why = f": {worst.reason}" if worst.reason else ""
    return Standing("partly", worst.reason, f"{who} {worst.state}{why}")


def _kind(endpoint: Endpoint) -> tuple[int, str]:
    """Those of one kind can stand in for each other."""
    return family(endpoint.address), endpoint.protocol


def _kind_words(one: Endpoint, endpoints: Sequence[Endpoint]) -> str:
    """`IPv6`, `UDP` or both: what tells the kind of `one` from the others'."""
    families = {family(each.address) for each in endpoints}
    protocols = {each.protocol for each in endpoints if family(each.address) == family(one.address)}
    words = [f"IPv{family(one.address)}"] if len(families) > 1 else []
    words += [one.protocol.upper()] if len(protocols) > 1 else []
    return " ".join(words)


def _share(part: int, whole: int) -> float | None:
    return min(1.0, part / whole) if whole else None


def _use(config: CdnConfig, flows_per_s: float, bps: float) -> float | None:
    """By the fuller of its limits."""
    capacity = config.capacity
    if capacity is None:
        return None
    uses = [flows_per_s / capacity.flows_per_s] if capacity.flows_per_s else []
    uses += [bps / (capacity.mbit * 1e6)] if capacity.mbit else []
    return max(uses, default=None)
