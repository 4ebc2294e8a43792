"""Endpoints whose route leaves by an interface that the configuration does not have.

What is steered to them is dropped: the data path sends by its own interfaces only.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cdnctl.config import CdnConfig, Config, EndpointConfig
from cdnctl.datapath.routes import route_to

if TYPE_CHECKING:
    from pyroute2 import IPRoute

Way = Callable[[str], str]
"""From an address to the interface that its route leaves by; empty: there is none, or it is the box's own."""


def astray(config: Config, way: Way | None = None) -> list[str]:
    """A sentence for each such interface, and for each service that has no other CDN."""
    if way is None:
        from pyroute2 import IPRoute

        with IPRoute() as netlink:
            return list(_astray(config, lambda address: _way(netlink, address)))
    return list(_astray(config, way))


def _astray(config: Config, way: Way) -> Iterator[str]:
    found: dict[str, dict[str, list[str]]] = {}
    lost: set[str] = set()
    for cdn, endpoint in _sent_to(config):
        name = way(endpoint.host)
        if name and name not in config.edge.interfaces:
            found.setdefault(name, {}).setdefault(cdn.name, []).append(endpoint.address)
            lost.add(endpoint.address)
    for name, cdns in found.items():
        who = ", ".join(f"{cdn} ({', '.join(addresses)})" for cdn, addresses in cdns.items())
        yield (
            f"{name} is not in edge.interfaces, and the routes to {who} leave by it: what is steered there is"
            " dropped (no_link)"
        )
    for service in config.services:
        keys = [
            each.address
            for cdn in config.cdns_of(service)
            for each in cdn.endpoints
            if each.family == service.family
        ]
        if lost.issuperset(keys):
            yield f"service {service.name} has no other CDN: all of its flows are lost"


def _sent_to(config: Config) -> Iterator[tuple[CdnConfig, EndpointConfig]]:
    """Endpoints that packets leave for: not those that the host's own stack serves."""
    for cdn in config.cdns:
        for endpoint in cdn.endpoints:
            if cdn.mode != "pass" and config.protocols_of(cdn, endpoint):
                yield cdn, endpoint


def _way(netlink: IPRoute, address: str) -> str:
    route = route_to(netlink, address)
    if route is None or route.kind != "unicast":
        return ""
    with contextlib.suppress(OSError):
        return socket.if_indextoname(route.ifindex)
    return ""
