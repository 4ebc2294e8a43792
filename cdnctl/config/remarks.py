"""What in a configuration is right but odd, or worth knowing."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from msgspec.structs import fields

from cdnctl.config.cost import bindings, burst_ms, ports, translated
from cdnctl.config.schema import (
    CLASSES,
    Capacity,
    CdnConfig,
    Config,
    CustomerConfig,
    PerSource,
    PolicyByClass,
    ServiceConfig,
)
from cdnctl.config.table import Table


def notes(config: Config) -> list[str]:
    """One sentence each; `check` prints them."""
    return [
        *_flow_notes(config),
        *_snat_notes(config),
        *_announced_notes(config),
        *_quota_notes(config),
        *_cdn_notes(config),
        *_service_notes(config),
        *_region_notes(config),
        *_metrics_notes(config),
    ]


def _metrics_notes(config: Config) -> Iterator[str]:
    place = config.metrics.place
    if place is not None and not ip_address(place[0]).is_loopback:
        yield (
            f"metrics.listen is {config.metrics.listen}: whoever reaches it can read names and figures of"
            " this edge, without a password; see that only your monitoring does"
        )


def _flow_notes(config: Config) -> Iterator[str]:
    families = [family for family in (4, 6) if bindings(config, family)]
    most = sum(bindings(config, family) for family in families)
    if all(cdn.mode == "nat" for cdn in config.cdns) and most < config.limits.flows:
        sums = [
            f"{_plural(len(config.edge.snat_of(family)), f'IPv{family} address', 'es')} of edge.snat"
            f" x {_plural(translated(config, family), 'endpoint', 's')} x {ports(config)} ports"
            f" = {bindings(config, family)}"
            for family in families
        ]
        yield (
            f"limits.flows is {config.limits.flows}, but no more than {most} flows can be open at once:"
            f" {' and '.join(sums)}"
        )
    for family in (4, 6):
        if config.edge.snat_of(family) and not translated(config, family):
            yield f"edge.snat has IPv{family} addresses, but no service needs one"


def _snat_notes(config: Config) -> Iterator[str]:
    edge = config.edge
    if edge.snat_from == "anyone":
        if edge.snat_also_from:
            yield 'edge.snat_also_from is of no use: anybody may talk to edge.snat, as snat_from is "anyone"'
        return
    if not edge.snat:
        yield 'edge.snat_from is "providers", but there is no address of edge.snat that they could talk to'
        return
    ranges = [feed.name for feed in config.feeds if feed.kind == "ranges"]
    yield (
        f"edge.snat is for endpoints, the prefixes of {_plural(len(ranges), 'feed', 's')}"
        f" ({', '.join(ranges)}), edge.management and snat_also_from, gateways, name servers, whoever is"
        " logged in over SSH, and whom this box has asked itself: what others send there is dropped"
        " (uninvited), pings too, once each of these feeds has been read"
    )
    if not edge.management:
        yield (
            'edge.management is empty, and snat_from is "providers": over SSH nobody gets in at an address of'
            " edge.snat but who is in, or was within the hour"
        )


def _announced_notes(config: Config) -> Iterator[str]:
    if not config.edge.announced:
        return
    yield (
        f"what is for {', '.join(config.edge.announced)}, and neither for a VIP, an SNAT address, nor for"
        " this box or a network that an interface of it is in, is dropped (unused), but for what comes from"
        " edge.management: leave out networks behind this box that only a route leads to"
    )


def _quota_notes(config: Config) -> Iterator[str]:
    for customer in config.customers:
        yield from _burst_notes(f"customer {customer.name}", customer)
    source, busy = config.quota.per_source, config.quota.busy_pps
    if source is None:
        return
    yield from _burst_notes("quota.per_source", source)
    if source.pps and source.pps < busy:
        yield (
            f"quota.per_source.pps is {source.pps:g}, but only sources that send about {busy} packets/s are"
            " metered: lower quota.busy_pps, too"
        )


def _burst_notes(what: str, limits: CustomerConfig | PerSource | Capacity) -> Iterator[str]:
    """Two units that come together need room for one; a packet may be of 1500 bytes."""
    units = {"packets": getattr(limits, "pps", None), "flows": limits.flows_per_s}
    each_ms = {unit: 1000 / rate for unit, rate in units.items() if rate}
    if limits.mbit:
        each_ms["packets of 1500 bytes"] = 12 / limits.mbit
    if not each_ms:
        if limits.burst_ms != _default(limits, "burst_ms"):
            yield f"{what} has burst_ms, but limits nothing that could come in bursts"
        return
    if not isinstance(limits, Capacity):
        least_ms = burst_ms(limits.burst_ms, pps=limits.pps, mbit=limits.mbit)
        if least_ms > limits.burst_ms:
            yield (
                f"{what} has burst_ms {limits.burst_ms:g}, which is too little for a few packets at its"
                f" limits: it gets {least_ms:g}"
            )
        each_ms = {"flows": each_ms["flows"]} if "flows" in each_ms else {}
    unit, slowest_ms = max(each_ms.items(), key=lambda each: each[1], default=("", 0.0))
    if slowest_ms > limits.burst_ms:
        yield (
            f"{what} has burst_ms {limits.burst_ms:g}, and one of its {unit} takes {slowest_ms:g} ms: of two"
            " that come together one is too many"
        )


def _default(table: Table, name: str) -> object:
    return next(each.default for each in fields(table) if each.name == name)


def _plural(number: int, noun: str, ending: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{ending}"


def _cdn_notes(config: Config) -> Iterator[str]:
    for cdn in config.cdns:
        if cdn.weight == 0:
            yield f"{cdn.name} has weight 0: it gets no new flows until an operator gives it a weight"
        for endpoint in cdn.endpoints:
            if not config.protocols_of(cdn, endpoint):
                yield f"{endpoint.address} of {cdn.name} serves nothing: no service of its family names it"
        if cdn.capacity:
            yield from _burst_notes(f"{cdn.name}'s capacity", cdn.capacity)
        yield from _mode_notes(cdn)


def _mode_notes(cdn: CdnConfig) -> Iterator[str]:
    if cdn.mode in ("ipip", "gue"):
        # IPv6 outside is the larger header; GUE adds UDP and 4 bytes of its own
        outside = 40 + (12 if cdn.mode == "gue" else 0)
        yield (
            f"{cdn.name} gets packets in a tunnel, up to {outside} bytes longer than they came: its servers"
            " should promise clients an MSS that leaves so much room, or the path carry it"
        )
    if cdn.mode != "gue" and cdn.tunnel_port != _default(cdn, "tunnel_port"):
        yield f"{cdn.name} is of mode {cdn.mode}: its tunnel_port is of no use, that is for mode gue"
    if cdn.mode == "pass" and cdn.mss is not None:
        yield f"{cdn.name} is of mode pass: its mss is of no use, its packets are left as they are"
    if cdn.mode == "pass" and cdn.capacity is not None:
        yield f"{cdn.name} is of mode pass: its capacity counts what clients send, not what they get"


def _service_notes(config: Config) -> Iterator[str]:
    for service in config.services:
        serving = config.cdns_of(service)
        for cdn in config.cdns:
            if cdn not in serving and (not service.cdns or cdn.name in service.cdns):
                yield (
                    f"{cdn.name} has no IPv{service.family} endpoint: it gets none of service"
                    f" {service.name}'s flows"
                )
        policies = {service.policy_of(each) for each in CLASSES}
        if policies == {"failover"} and len(serving) == 1:
            yield f"service {service.name} has policy failover, and nobody but {serving[0].name} to serve it"
        yield from _class_notes(service)


def _class_notes(service: ServiceConfig) -> Iterator[str]:
    if not isinstance(service.policy, PolicyByClass) or service.traffic_class == "dscp":
        return
    for each in CLASSES:
        if each != service.traffic_class and service.policy_of(each) != getattr(PolicyByClass(), each):
            yield (
                f"service {service.name} has a policy for class {each}, but all its traffic is"
                f' {service.traffic_class}: class = "dscp" tells them apart'
            )


def _region_notes(config: Config) -> Iterator[str]:
    bound = {region for cdn in config.cdns for endpoint in cdn.endpoints for region in endpoint.regions}
    for region in config.regions:
        if region.name not in bound:
            yield (
                f"no endpoint is bound to region {region.name}: its clients are served as all others, unless"
                " the planner finds a CDN to be slow for them"
            )
