"""Which endpoints serve which flows, and how many pick tables that takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cdnctl.config.schema import (
    CLASSES,
    MAX_TABLES,
    CdnConfig,
    Config,
    EndpointConfig,
    PolicyName,
    Protocol,
    ServiceConfig,
)

MOST_TABLES = MAX_TABLES // 2
"""A table in use is never written, so while weights change old and new ones are there together."""


class Server(NamedTuple):
    """An endpoint that serves, and its CDN."""

    cdn: CdnConfig
    endpoint: EndpointConfig


def servers(config: Config, service: ServiceConfig, region: str = "") -> list[Server]:
    """Who serves the clients of a region (none: of no region), in the order of `failover`.

    Endpoints bound to other regions do not; but where that leaves nobody, all of them do.
    """
    fitting = [
        Server(cdn, endpoint)
        for cdn in config.cdns_of(service)
        for endpoint in cdn.endpoints
        if endpoint.family == service.family
    ]
    near = [each for each in fitting if not each.endpoint.regions or region in each.endpoint.regions]
    return near or fitting


class _Table(NamedTuple):
    """What decides the contents of a pick table; where it is the same, the table is."""

    kind: str
    protocol: Protocol
    endpoints: tuple[str, ...]


def pick_tables(config: Config) -> int:
    """Different pick tables that the configuration may need at once."""
    tables: set[_Table] = set()
    for service in config.services:
        for region in ("", *(region.name for region in config.regions)):
            order = tuple(server.endpoint.address for server in servers(config, service, region))
            for traffic_class in CLASSES:
                kind = _kind(service.policy_of(traffic_class), traffic_class)
                endpoints = order if kind == "order" else tuple(sorted(order))
                tables |= {_Table(kind, protocol, endpoints) for protocol in service.protocol}
    return len(tables)


def _kind(policy: PolicyName, traffic_class: str) -> str:
    if policy == "failover":
        return "order"
    return "video" if policy == "latency" and traffic_class == "video" else "weights"


def shortfalls(config: Config) -> Iterator[tuple[str, object, str]]:
    """What is too much for the kernel's tables, though every value is right."""
    if (needed := pick_tables(config)) > MOST_TABLES:
        expected = (
            f"the services need {needed} different pick tables, and there is room for {MOST_TABLES}: name"
            " the same CDNs in more services, or bind endpoints to fewer regions"
        )
        yield "service", len(config.services), expected
