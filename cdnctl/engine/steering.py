"""Puts operators' weights and drains into the kernel: endpoint weights, pick tables, services."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from cdnctl.config import CLASSES, CdnConfig, ClassName, Config, PolicyName, ServiceConfig
from cdnctl.datapath import abi
from cdnctl.datapath.tables import Tables
from cdnctl.engine.layout import EndpointPlace, Layout, ServicePlace
from cdnctl.errors import CdnctlError
from cdnctl.steering import classes, picks, shares
from cdnctl.steering.planner import Cell
from cdnctl.steering.planner.shares import kept_shares

_POLICY = {
    "weighted": abi.Policy.WEIGHTED,
    "latency": abi.Policy.LATENCY,
    "failover": abi.Policy.FAILOVER,
}
_TRANSPORT = {
    "nat": abi.Transport.NAT,
    "ipip": abi.Transport.IPIP,
    "gue": abi.Transport.GUE,
    "pass": abi.Transport.PASS,
}
_CELL_FINE = 10_000
"""In all, of a cell."""
_FINE = 100
"""Weights of a class that leaves a CDN in part are of finer grain."""

Row: TypeAlias = "tuple[ServicePlace, list[list[array[int]]]]"
"""A service, and its tables by region's number and class."""


class Steering(NamedTuple):
    """What is wanted of the choice."""

    weights: Mapping[str, int]
    """By CDN."""
    drained: Collection[str] = ()
    video_kept: Mapping[str, float] = {}
    """The part of its weight (0 to 1) that a CDN keeps for video, under `latency`; not named: all."""
    ill: Collection[str] = ()
    """Endpoints, as `198.51.100.10:443`, that are to get no new flows."""
    cells: Mapping[Cell, Mapping[str, float]] = {}
    """By region and class, and by CDN: what weights are multiplied by there; not named: 1."""

    def in_force(self, cdns: Iterable[str], traffic_class: ClassName, policy: PolicyName) -> dict[str, int]:
        """Weights of the CDNs of one service, drained ones without any, for one class."""
        weights = {cdn: 0 if cdn in self.drained else self.weights[cdn] for cdn in cdns}
        if (traffic_class, policy) != ("video", "latency"):
            return weights
        kept = classes.bounded(weights, self.video_kept)
        return {cdn: _part(weight, kept.get(cdn, 1.0)) for cdn, weight in weights.items()}

    def in_cell(
        self, cell: Cell, policy: PolicyName, weights: Mapping[str, int], cdns: Collection[str], most: float
    ) -> Mapping[str, int]:
        """`weights`, those in force, or what these CDNs have in a cell: at most so much of it is moved.

        Video that leaves a CDN under `latency` does so by the same times: the lower of both holds.
        """
        kept = {cdn: self.cells.get(cell, {}).get(cdn, 1.0) for cdn in cdns}
        if len(set(kept.values())) < 2:
            return weights
        if (cell.traffic_class, policy) == ("video", "latency"):
            kept = {cdn: min(part, self.video_kept.get(cdn, 1.0)) for cdn, part in kept.items()}
        parts = kept_shares({cdn: self.weights[cdn] for cdn in cdns}, kept, most)
        return {cdn: max(1, round(_CELL_FINE * part)) for cdn, part in parts.items()}


def _part(weight: int, kept: float) -> int:
    """In a finer grain, and never nothing of something."""
    return max(1, round(weight * _FINE * kept)) if weight else 0


def scaled(weights: Mapping[str, int], factors: Mapping[str, float]) -> dict[str, int]:
    """The weights in force where the planner has CDNs keep only a part of theirs."""
    if all(factor == 1 for factor in factors.values()):
        return dict(weights)
    return {cdn: _part(weight, factors.get(cdn, 1.0)) for cdn, weight in weights.items()}


def split(
    layout: Layout, weights: Mapping[str, int], drained: Collection[str], ill: Collection[str] = ()
) -> shares.Split[int]:
    """Shares by CDN, and endpoint weights by id: those of one CDN share its weight in each pool."""
    merged: dict[int, int] = {place.id: 0 for place in layout.endpoints}
    for pool in abi.Pool:
        serving = [
            place
            for place in layout.endpoints
            if place.pool == pool and place.serves and place.key not in ill
        ]
        groups = {cdn: [place.id for place in serving if place.cdn == cdn] for cdn in layout.cdns}
        merged |= shares.split(weights, drained, groups).weights
    return shares.Split(merged, shares.shares(weights, [*drained, *_gone(layout, ill)]))


def _gone(layout: Layout, ill: Collection[str]) -> list[str]:
    """CDNs none of whose endpoints get new flows."""
    gone = []
    for cdn in layout.cdns if ill else ():
        places = layout.endpoints_of(cdn)
        if all(place.key in ill for place in [each for each in places if each.serves] or places):
            gone.append(cdn)
    return gone


def planned(layout: Layout, wanted: Steering) -> dict[str, float]:
    """The share of new flows that each CDN gets, as a frame gives it while nothing is out."""
    return split(layout, wanted.weights, wanted.drained, wanted.ill).shares


def planned_by_service(
    config: Config, layout: Layout, wanted: Steering
) -> dict[str, dict[str, float]] | None:
    """The same by service; None when they are the same for all services."""
    return by_service(config, wanted.weights, [*wanted.drained, *_gone(layout, wanted.ill)])


def by_service(
    config: Config, weights: Mapping[str, int], drained: Collection[str]
) -> dict[str, dict[str, float]] | None:
    """Shares by service and CDN; None when they are the same for all services."""
    found = {
        service.name: shares.shares({cdn.name: weights[cdn.name] for cdn in config.cdns_of(service)}, drained)
        for service in config.services
    }
    given = [{cdn: share for cdn, share in each.items() if share} for each in found.values()]
    return found if any(each != given[0] for each in given) else None


def check(config: Config, weights: Mapping[str, int], drained: Collection[str]) -> None:
    """Raises CdnctlError when a service would be left without any CDN."""
    for service in config.services:
        cdns = [cdn.name for cdn in config.cdns_of(service)]
        if not any(weights[cdn] and cdn not in drained for cdn in cdns):
            raise CdnctlError(
                f"service {service.name} would be left without a CDN",
                f"leave one of {', '.join(cdns)} undrained and with a weight above 0",
            )


def apply(config: Config, layout: Layout, tables: Tables, wanted: Steering) -> None:
    """Write it all; each service flips to its new tables in one step. Call `check` first."""
    weights = split(layout, wanted.weights, wanted.drained, wanted.ill).weights
    rows = list(pick_rows(config, layout, wanted))  # first: what cannot be built leaves all as it was
    _settle(tables, weights)
    cdns = {cdn.name: cdn for cdn in config.cdns}
    for place in layout.endpoints:
        _put_endpoint(tables, place, cdns[place.cdn], weights[place.id])
    for number in tables.choice.endpoints().values():
        if number not in weights:
            tables.choice.retire_endpoint(number)
    settings = tables.settings
    for pool in abi.Pool:
        settings.weight_total[pool] = sum(
            weights[place.id] for place in layout.endpoints if place.pool == pool
        )
    tables.settings = settings
    _put_rows(config, layout, tables, rows)


def put_services(config: Config, layout: Layout, tables: Tables, wanted: Steering) -> None:
    """The services alone: what a shift of one class needs."""
    _put_rows(config, layout, tables, list(pick_rows(config, layout, wanted)))


def _put_rows(config: Config, layout: Layout, tables: Tables, rows: list[Row]) -> None:
    services = {service.name: service for service in config.services}
    for place, picked in rows:
        service = services[place.name]
        tables.choice.put_service(
            place.id,
            place.kernel_key,
            place.vip_index,
            policies=[_POLICY[service.policy_of(each)] for each in CLASSES],
            picks=picked,
            members=[server.id for server in servers(config, layout, service, place)],
            traffic_class=(
                abi.CLASS_BY_DSCP if service.traffic_class == "dscp" else CLASSES.index(service.traffic_class)
            ),
        )


def pick_rows(config: Config, layout: Layout, wanted: Steering) -> Iterator[Row]:
    """What every service is to pick from, for each region by its number, and each class."""
    services = {service.name: service for service in config.services}
    for place in layout.services:
        yield place, _tables(config, layout, services[place.name], place, wanted)


def has_room(config: Config, layout: Layout, wanted: Steering) -> bool:
    """Whether there are tables for what is wanted beside those in use, which are as many at most."""
    rows = list(pick_rows(config, layout, wanted))  # those that are the same are the same object
    return len({id(each) for _, row in rows for line in row for each in line}) <= abi.MAX_TABLES // 2


def _put_endpoint(tables: Tables, place: EndpointPlace, cdn: CdnConfig, weight: int) -> None:
    tables.choice.put_endpoint(
        place.id,
        place.kernel_key,
        cdn=place.cdn_id,
        weight=weight,
        limit_us=int((cdn.latency_limit_ms or 0) * 1000),
        transport=_TRANSPORT[cdn.mode],
        flags=abi.EndpointFlag.RESETS if cdn.reset_on_eject else abi.EndpointFlag(0),
        mss=cdn.mss or 0,
        tunnel_port=cdn.tunnel_port if cdn.mode == "gue" else 0,
    )


def servers(
    config: Config, layout: Layout, service: ServiceConfig, place: ServicePlace
) -> list[picks.Server]:
    """Who serves it, in the order of `failover`: by the service's CDNs, then by their endpoints."""
    return [
        picks.Server(each.id, each.key, each.cdn, each.regions)
        for cdn in config.cdns_of(service)
        for each in layout.endpoints_of(cdn.name)
        if each.family == service.family and each.protocol == place.protocol
    ]


def _tables(
    config: Config, layout: Layout, service: ServiceConfig, place: ServicePlace, wanted: Steering
) -> list[list[array[int]]]:
    """For each region by its number, and each class."""
    everybody = [server for server in servers(config, layout, service, place) if server.key not in wanted.ill]
    cdns = {server.cdn for server in everybody}
    by_number = {number: name for name, number in layout.regions.items()}
    rows = []
    for number in range(abi.MAX_REGIONS):
        row, region = [], by_number.get(number, "")
        for traffic_class in CLASSES:
            policy = service.policy_of(traffic_class)
            weights: Mapping[str, int] = wanted.in_force(cdns, traffic_class, policy)
            live = [server for server in everybody if weights[server.cdn]]
            near = picks.near(live, region)
            serving = dict.fromkeys(server.cdn for server in near)
            cell = Cell(region, traffic_class)
            weights = wanted.in_cell(cell, policy, weights, serving, config.planner.most_moved)
            make = picks.ordered if policy == "failover" else picks.spread
            row.append(make(near, weights))
        rows.append(row)
    return rows


def _settle(tables: Tables, weights: Mapping[int, int]) -> None:
    """Breakers before new weights: who leaves the rotation, or comes into it, starts afresh.

    An endpoint without a weight gets no flows, so no probes either, and would stay out, and hold its
    part of the weight that may be out, for ever. One that is out and keeps a weight holds its new one.
    """
    entries = tables.choice.endpoint_entries()
    for identity, health in enumerate(tables.healths()):
        if health.state != abi.Breaker.OUT:
            continue
        weight, before = weights.get(identity, 0), entries[identity].weight
        if not weight or not before:
            fresh = abi.Health(
                ejections_total=health.ejections_total, last_new_flow_ns=health.last_new_flow_ns
            )
            tables.put_health(identity, fresh)
        elif health.reserved_weight != weight:
            health.reserved_weight = weight
            tables.put_health(identity, health)
    reconcile(tables)


def reconcile(tables: Tables) -> None:
    """Make the weight that is out of each pool the sum of what its ejected endpoints hold.

    The kernel keeps the sums true by itself; this mends what a change of weights, written while the
    kernel ejects or reopens, may have got wrong. Cheap enough for every frame.
    """
    out = dict.fromkeys(abi.Pool, 0)
    entries = tables.choice.endpoint_entries()
    for entry, health in zip(entries, tables.healths(), strict=True):
        if health.state == abi.Breaker.OUT:
            out[abi.Pool(entry.pool)] += health.reserved_weight
    for pool, weight in out.items():
        if tables.weight_out(pool) != weight:
            tables.put_weight_out(pool, weight)
