"""Makes frames: one picture of the edge from the kernel's tables and the samples."""

from __future__ import annotations

import struct
import time
from collections.abc import Collection
from typing import NamedTuple

from msgspec.structs import replace

from cdnctl.config import Config, parse_endpoint
from cdnctl.datapath import abi
from cdnctl.datapath.attach import Attached
from cdnctl.datapath.perf import PerfReader
from cdnctl.datapath.perf import Sample as RawSample
from cdnctl.datapath.tables import CdnTotals, Tables
from cdnctl.defence.talkers import Talkers
from cdnctl.engine import explain, window
from cdnctl.engine.layout import EndpointPlace, Layout
from cdnctl.model import (
    Cdn,
    Endpoint,
    EndpointState,
    Interface,
    Sampling,
    Service,
    Totals,
    Verdict,
)

SAMPLES_PER_S = 4000
"""What sampling is aimed at: enough for a talker of one percent to be known within a few percent."""
_FROM_CDN = frozenset(
    {abi.Verdict.REPLIED, abi.Verdict.RESET_CDN, abi.Verdict.NO_OWNER, abi.Verdict.STALE_REPLY}
)
_BEST_FIRST: tuple[EndpointState, ...] = ("drained", "in", "probing", "out")
"""A CDN is in what the best of its endpoints is in."""
_NO_TOTALS = CdnTotals(*[0] * 10)


class Wanted(NamedTuple):
    """What operators want now, as far as it shows in a frame."""

    weights: dict[str, int]
    drained: Collection[str]
    shares: dict[str, float]


class Observer:
    """Keeps the window and the talkers; everything it returns is of the last `observe`."""

    def __init__(self, config: Config, layout: Layout, tables: Tables, reader: PerfReader) -> None:
        self._config = config
        self._layout = layout
        self._tables = tables
        self._reader = reader
        self._window = window.Window()
        self.talkers = Talkers()
        self._lost_before = reader.lost
        self._endpoints = {abi.address(place.address) for place in layout.endpoints}
        self._cdn_names = {identity: name for name, identity in layout.cdns.items()}
        self.one_in = max(1, tables.settings.sample_one_in)

    def observe(self) -> int:
        """Read the kernel; returns the kernel clock of the reading."""
        now_ns = time.monotonic_ns()
        self._window.push(
            window.take(self._tables, self._layout, now_ns, self._reader.received, self._reader.lost)
        )
        self.talkers.add_batch(self._by_source(self._reader.take_samples()))
        lost = self._reader.lost
        self.talkers.roll(now_ns / 1e9, lost - self._lost_before)
        self._lost_before = lost
        self._adapt()
        return now_ns

    def _by_source(self, samples: list[RawSample]) -> list[tuple[int, int, int, bool, int]]:
        """What clients and strangers sent; CDNs are no talkers."""
        swap = struct.Struct("=I").pack
        first_drop, nobody = abi.FIRST_DROP, abi.NO_CDN_ID
        return [
            (
                int.from_bytes(swap(sample.source), "big"),
                sample.length,
                sample.one_in,
                sample.verdict >= first_drop,
                -1 if sample.cdn == nobody else sample.cdn,
            )
            for sample in samples
            if sample.verdict not in _FROM_CDN and sample.source not in self._endpoints
        ]

    def _adapt(self) -> None:
        """Sample one in N so that user space gets about as much in a flood as in calm."""
        newest, oldest = self._window.newest, self._window.oldest
        if newest is oldest:
            return
        recent = self._packets() / self._window.seconds
        wanted = 1
        while recent / wanted > SAMPLES_PER_S:
            wanted *= 2
        # one step down only when it stays well below, so that N does not flap
        if wanted == self.one_in // 2 and recent / wanted > SAMPLES_PER_S * 0.8:
            wanted = self.one_in
        if wanted != self.one_in:
            self.one_in = wanted
            settings = self._tables.settings
            settings.sample_one_in = wanted
            self._tables.settings = settings

    def _packets(self) -> int:
        newest, oldest = self._window.newest.verdicts, self._window.oldest.verdicts
        return sum(packets - oldest[verdict][0] for verdict, (packets, _) in newest.items())

    # -- the parts of a frame --

    def verdicts(self) -> list[Verdict]:
        """The exact account."""
        span, before = self._window.seconds, self._window.oldest.verdicts
        return [
            Verdict(
                name=verdict.name.lower(),
                drop=verdict >= abi.FIRST_DROP,
                explanation=explain.EXPLANATION[verdict],
                packets_total=packets,
                bytes_total=octets,
                pps=(packets - before[verdict][0]) / span,
                bps=8 * (octets - before[verdict][1]) / span,
            )
            for verdict, (packets, octets) in self._window.newest.verdicts.items()
        ]

    def totals(self, verdicts: list[Verdict]) -> Totals:
        """The whole edge."""
        new = sum(self._delta(name, "new_flows") for name in self._layout.cdns)
        promoted = sum(totals.promoted for totals in self._window.newest.cdns.values())
        pending = sum(
            self._delta(name, "new_flows") - self._delta(name, "promoted") for name in self._layout.cdns
        )
        return Totals(
            received_pps=sum(verdict.pps for verdict in verdicts),
            received_bps=sum(verdict.bps for verdict in verdicts),
            forwarded_pps=sum(
                verdict.pps for verdict in verdicts if verdict.name in ("forwarded", "replied")
            ),
            dropped_pps=sum(verdict.pps for verdict in verdicts if verdict.drop),
            passed_pps=sum(verdict.pps for verdict in verdicts if verdict.name in ("passed", "bypassed")),
            new_flows_per_s=new / self._window.seconds,
            packets_total=sum(verdict.packets_total for verdict in verdicts),
            half_open=max(0, min(pending, self._config.limits.half_open)),
            half_open_limit=self._config.limits.half_open,
            rescued_total=sum(totals.rescued_from for totals in self._window.newest.cdns.values()),
            promoted_total=promoted,
        )

    def sampling(self, now_ns: int) -> Sampling:
        """How the samples are doing."""
        newest, oldest, span = self._window.newest, self._window.oldest, self._window.seconds
        return Sampling(
            one_in=self.one_in,
            received_total=newest.samples,
            lost_total=newest.lost,
            received_per_s=(newest.samples - oldest.samples) / span,
            lost_per_s=(newest.lost - oldest.lost) / span,
            stale_s=max(0.0, (now_ns - self._reader.rounds_ns) / 1e9),
        )

    def services(self) -> list[Service]:
        """The VIPs."""
        return [
            Service(
                name=service.name,
                vip=service.vip,
                port=service.port,
                protocol="/".join(service.protocol),
                policy=service.policy,
                new_flows_total=self._window.newest.services.get(service.name, 0),
            )
            for service in self._config.services
        ]

    def cdns(self, wanted: Wanted, now_ns: int) -> list[Cdn]:
        """The CDNs in the configuration's order."""
        healths = {place.id: self._tables.health(place.id) for place in self._layout.endpoints}
        total = sum(self._delta(name, "new_flows") for name in self._layout.cdns)
        made = [self._cdn(name, healths, wanted, total, now_ns) for name in self._layout.cdns]
        # what is out gives its share to the others
        live = {cdn.name: wanted.shares.get(cdn.name, 0.0) for cdn in made if cdn.state == "in"}
        whole = sum(live.values())
        return [
            cdn if not whole else replace(cdn, effective_share=live.get(cdn.name, 0.0) / whole)
            for cdn in made
        ]

    def talker_names(self) -> dict[int, str]:
        """Names of CDN ids."""
        return self._cdn_names

    def _delta(self, cdn: str, counter: str) -> int:
        newest = self._window.newest.cdns.get(cdn, _NO_TOTALS)
        oldest = self._window.oldest.cdns.get(cdn, newest)
        return int(getattr(newest, counter)) - int(getattr(oldest, counter))

    def _cdn(
        self, name: str, healths: dict[int, abi.Health], wanted: Wanted, total_new: int, now_ns: int
    ) -> Cdn:
        span = self._window.seconds
        now, newest = self._window.newest.cdns[name], self._window.newest.handshakes[name]
        oldest = self._window.oldest.handshakes.get(name, newest)
        buckets = [after - before for after, before in zip(newest, oldest, strict=True)]
        drained = name in wanted.drained
        places = self._layout.endpoints_of(name)
        endpoints = [self._endpoint(place, healths[place.id], drained, now_ns) for place in places]
        states = [endpoint.state for endpoint in endpoints]
        state = min(states, key=_BEST_FIRST.index)
        new = self._delta(name, "new_flows")
        return Cdn(
            name=name,
            state=state,
            reason="operator" if drained else next((e.reason for e in endpoints if e.state == state), ""),
            wanted_weight=wanted.weights[name],
            effective_share=0.0,
            share=new / total_new if total_new else 0.0,
            handshake_p50_ms=window.percentile_ms(buckets, 0.50),
            handshake_p95_ms=window.percentile_ms(buckets, 0.95),
            handshake_p99_ms=window.percentile_ms(buckets, 0.99),
            samples=sum(buckets),
            new_flows_per_s=new / span,
            to_cdn_pps=self._delta(name, "to_cdn_packets") / span,
            from_cdn_pps=self._delta(name, "from_cdn_packets") / span,
            to_cdn_bps=8 * self._delta(name, "to_cdn_bytes") / span,
            from_cdn_bps=8 * self._delta(name, "from_cdn_bytes") / span,
            new_flows_total=now.new_flows,
            probe_flows_total=now.probe_flows,
            rescued_from_total=now.rescued_from,
            rescued_to_total=now.rescued_to,
            to_cdn_packets_total=now.to_cdn_packets,
            to_cdn_bytes_total=now.to_cdn_bytes,
            from_cdn_packets_total=now.from_cdn_packets,
            from_cdn_bytes_total=now.from_cdn_bytes,
            handshakes_total=now.handshakes,
            ejections_total=sum(healths[place.id].ejections_total for place in places),
            last_new_flow_ns=max((healths[place.id].last_new_flow_ns for place in places), default=0),
            endpoints=endpoints,
        )

    def _endpoint(self, place: EndpointPlace, health: abi.Health, drained: bool, now_ns: int) -> Endpoint:
        out = health.state == abi.Breaker.OUT
        probing = out and now_ns >= health.out_until_ns
        state: EndpointState = "drained" if drained else "probing" if probing else "out" if out else "in"
        limit_us = self._tables.endpoint(place.id).limit_us or 3 * health.baseline_us + 20_000
        return Endpoint(
            address=place.address,
            port=place.port,
            state=state,
            reason="operator" if drained else explain.REASON.get(health.reason, "") if out else "",
            back_in_s=max(0.0, (health.out_until_ns - now_ns) / 1e9) if out else 0.0,
            ewma_ms=health.ewma_us / 1000,
            baseline_ms=health.baseline_us / 1000,
            limit_ms=limit_us / 1000,
            unanswered=health.unanswered,
            ejections=health.ejections,
        )


def interfaces(config: Config, attached: dict[str, Attached]) -> list[Interface]:
    """The configured interfaces and how they are attached."""
    return [
        Interface(name=name, mode=attached[name].mode if name in attached else "detached")
        for name in config.edge.interfaces
    ]


def endpoint_addresses(config: Config) -> list[str]:
    """All endpoints' addresses, each once."""
    return list(dict.fromkeys(parse_endpoint(text)[0] for cdn in config.cdns for text in cdn.endpoints))
