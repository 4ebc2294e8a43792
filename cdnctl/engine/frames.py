"""Makes frames: one picture of the edge from the kernel's tables and the samples."""

from __future__ import annotations

import time
from collections.abc import Mapping

from cdnctl.config import CLASSES, Config, CustomerConfig, ServiceConfig
from cdnctl.datapath import abi
from cdnctl.datapath.perf import PerfReader
from cdnctl.datapath.perf import Sample as RawSample
from cdnctl.datapath.tables import Tables
from cdnctl.defence.talkers import Talkers, way
from cdnctl.engine import clients, explain, window
from cdnctl.engine.cdns import CdnPictures, Wanted
from cdnctl.engine.layout import Layout
from cdnctl.engine.ports import Ports
from cdnctl.model import (
    CUSTOMER_PREFIXES,
    Cdn,
    Customer,
    Sampling,
    Service,
    Talker,
    Totals,
    Verdict,
)
from cdnctl.state import CustomerLimit

SAMPLES_PER_S = 3000
"""What sampling is aimed at: enough for the ten largest talkers to be known within a tenth, for which a third
of it is too few. Each costs the box some 10 us until it is counted."""
SUDDEN = 2.0
"""So many times of that is too much to wait for the next frame."""
_FROM_CDN = frozenset(
    {abi.Verdict.REPLIED, abi.Verdict.RESET_CDN, abi.Verdict.NO_OWNER, abi.Verdict.STALE_REPLY}
)


class Observer:
    """Keeps the window and the talkers; everything it returns is of the last `observe`."""

    def __init__(
        self, config: Config, layout: Layout, tables: Tables, reader: PerfReader, ports: Ports
    ) -> None:
        self._reader = reader
        self._ports = ports
        self.window = window.Window()
        self.talkers = Talkers()
        self.samples: list[RawSample] = []
        """Those since the last `observe` but one."""
        self._lost_before = reader.lost
        self.one_in = max(1, tables.settings.sample_one_in)
        self.follow(config, layout, tables)

    def follow(self, config: Config, layout: Layout, tables: Tables) -> None:
        """Picture these from now on; the next `observe` reads them. What was seen so far stays."""
        self._config = config
        self._layout = layout
        self._tables = tables
        self._cdns = CdnPictures(config, layout, tables, self.window, self._ports)
        self.endpoints = {abi.packed(place.address) for place in layout.endpoints}
        self._services = {
            (abi.packed(each.vip), abi.port(each.port), abi.PROTOCOLS[each.protocol]): way(number, 0)
            for number, each in enumerate(layout.services, 1)
        }
        self._service_names = {number: place.name for number, place in enumerate(layout.services, 1)}
        self._cdn_names = {identity: name for name, identity in layout.cdns.items()}

    def observe(self) -> int:
        """Read the kernel; returns the kernel clock of the reading."""
        now_ns = time.monotonic_ns()
        self.window.push(
            window.take(self._tables, self._layout, now_ns, self._reader.received, self._reader.lost)
        )
        self.samples = self._reader.take_samples()
        self.talkers.add_batch(self._by_source(self.samples))
        lost = self._reader.lost
        self.talkers.roll(now_ns / 1e9, lost - self._lost_before)
        self._lost_before = lost
        self._adapt()
        return now_ns

    def _by_source(self, samples: list[RawSample]) -> list[tuple[bytes, int, int, bool, int]]:
        """What clients and strangers sent; CDNs are no talkers, nor are frames without IP addresses."""
        first_drop, services = abi.FIRST_DROP, self._services
        return [
            (
                sample.source,
                sample.length,
                sample.one_in,
                sample.verdict >= first_drop,
                services.get((sample.target, sample.target_port, sample.protocol), 0) | sample.cdn,
            )
            for sample in samples
            if sample.verdict not in _FROM_CDN
            and sample.source not in self.endpoints
            and sample.source != abi.NOBODY
        ]

    def _adapt(self) -> None:
        """Sample one in N so that user space gets about as much in a flood as in calm."""
        newest, oldest = self.window.newest, self.window.oldest
        if newest is oldest:
            return
        # up at once, down when the whole window is over
        self._sample(max(self.window.packets() / self.window.seconds, self.window.latest_pps))

    def hasten(self, pps: float) -> None:
        """So many packets a second came just now: when N was meant for far fewer, it does not wait."""
        if pps / self.one_in > SUDDEN * SAMPLES_PER_S:
            self._sample(pps)

    def _sample(self, pps: float) -> None:
        wanted = 1
        while pps / wanted > SAMPLES_PER_S:
            wanted *= 2
        # one step down only when it stays well below, so that N does not flap
        if wanted == self.one_in // 2 and pps / wanted > SAMPLES_PER_S * 0.8:
            wanted = self.one_in
        if wanted != self.one_in:
            self.one_in = wanted
            settings = self._tables.settings
            settings.sample_one_in = wanted
            self._tables.settings = settings

    # -- the parts of a frame --

    def verdicts(self) -> list[Verdict]:
        """The exact account."""
        span, before, switched = (
            self.window.seconds,
            self.window.oldest.verdicts,
            self.window.in_this_mode.verdicts,
        )
        since = {each: (switched if each >= abi.FIRST_DROP else before)[each] for each in before}
        return [
            Verdict(
                name=verdict.name.lower(),
                drop=verdict >= abi.FIRST_DROP,
                explanation=explain.EXPLANATION[verdict],
                packets_total=packets,
                bytes_total=octets,
                pps=(packets - since[verdict][0]) / span,
                bps=8 * (octets - since[verdict][1]) / span,
            )
            for verdict, (packets, octets) in self.window.newest.verdicts.items()
        ]

    def totals(self, verdicts: list[Verdict]) -> Totals:
        """The whole edge."""
        grown = [self.window.cdn(name) for name in self._layout.cdns]
        new = sum(totals.new_flows for totals in grown)
        promoted = sum(totals.promoted for totals in self.window.newest.cdns.values())
        pending = sum(totals.new_flows - totals.promoted for totals in grown)
        return Totals(
            received_pps=sum(verdict.pps for verdict in verdicts),
            received_bps=sum(verdict.bps for verdict in verdicts),
            forwarded_pps=sum(
                verdict.pps for verdict in verdicts if verdict.name in ("forwarded", "replied")
            ),
            dropped_pps=sum(verdict.pps for verdict in verdicts if verdict.drop),
            passed_pps=sum(verdict.pps for verdict in verdicts if verdict.name in ("passed", "bypassed")),
            new_flows_per_s=new / self.window.seconds,
            packets_total=sum(verdict.packets_total for verdict in verdicts),
            half_open=max(0, min(pending, self._config.limits.half_open)),
            half_open_limit=self._config.limits.half_open,
            rescued_total=sum(totals.rescued_from for totals in self.window.newest.cdns.values()),
            promoted_total=promoted,
        )

    def sampling(self, now_ns: int) -> Sampling:
        """How the samples are doing."""
        newest, oldest, span = self.window.newest, self.window.oldest, self.window.seconds
        return Sampling(
            one_in=self.one_in,
            received_total=newest.samples,
            lost_total=newest.lost,
            received_per_s=(newest.samples - oldest.samples) / span,
            lost_per_s=(newest.lost - oldest.lost) / span,
            stale_s=max(0.0, (now_ns - self._reader.rounds_ns) / 1e9),
        )

    def services(self) -> list[Service]:
        """The VIPs, ports and protocols."""
        configs = {service.name: service for service in self._config.services}
        now, before = self.window.newest.services, self.window.oldest.services
        return [
            Service(
                name=place.name,
                vip=place.vip,
                port=place.port,
                protocol=place.protocol,
                family=6 if configs[place.name].family == 6 else 4,
                policy=policy_words(configs[place.name]),
                traffic_class=configs[place.name].traffic_class,
                cdns=[cdn.name for cdn in self._config.cdns_of(configs[place.name])],
                new_flows_per_s=(now[place.id] - before.get(place.id, now[place.id])) / self.window.seconds,
                new_flows_total=now[place.id],
            )
            for place in self._layout.services
        ]

    def cdns(self, wanted: Wanted, now_ns: int) -> list[Cdn]:
        """The CDNs in the configuration's order."""
        return self._cdns.take(wanted, now_ns)

    def customers(self, limits: Mapping[str, CustomerLimit]) -> list[Customer]:
        """Those of the configuration, the busiest first; `limits` are the operators' own."""
        pictures = [self._customer(config, limits) for config in self._config.customers]
        return sorted(pictures, key=lambda each: (-(each.pps + each.dropped_pps), each.name))

    def _customer(self, config: CustomerConfig, limits: Mapping[str, CustomerLimit]) -> Customer:
        number, span = self._layout.customers[config.name], self.window.seconds
        grown = self.window.customer(number)
        total = self.window.newest.customers.get(number, window.NO_CUSTOMER_TOTALS)
        limit = clients.limit_of(config, limits)
        return Customer(
            name=config.name,
            prefixes=list(config.prefixes[:CUSTOMER_PREFIXES]),
            prefix_count=len(config.prefixes),
            pps_limit=limit.pps,
            mbit_limit=limit.mbit,
            flows_limit=limit.flows_per_s,
            limited_by="operator" if config.name in limits else "config",
            pps=grown.passed_packets / span,
            bps=8 * grown.passed_bytes / span,
            flows_per_s=grown.flows / span,
            dropped_pps=grown.dropped_packets / span,
            dropped_bps=8 * grown.dropped_bytes / span,
            refused_per_s=grown.flows_refused / span,
            packets_total=total.passed_packets,
            dropped_total=total.dropped_packets,
            flows_total=total.flows,
            refused_total=total.flows_refused,
        )

    def cdn_names(self) -> dict[int, str]:
        """By id."""
        return self._cdn_names

    def top_talkers(self, most: int) -> list[Talker]:
        """The busiest sources, by name of what they send to."""
        return self.talkers.top(most, self._cdn_names, self._service_names)


def policy_words(service: ServiceConfig) -> str:
    """`latency`, or each class's own."""
    policies = {each: service.policy_of(each) for each in CLASSES}
    if len(set(policies.values())) == 1:
        return policies["interactive"]
    return ", ".join(f"{each} {policy}" for each, policy in policies.items())
