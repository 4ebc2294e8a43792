"""Ids: which number everything has in the kernel.

Live flows carry these numbers, so one that is in use keeps it over restarts and changes of the
configuration: what the kernel's tables say wins, and newcomers get the lowest free ones.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from msgspec import Struct

from cdnctl.config import PROTOCOLS, Config, Protocol, family, show_endpoint
from cdnctl.datapath import abi
from cdnctl.datapath.choice import EndpointKey, ServiceKey
from cdnctl.datapath.tables import Tables
from cdnctl.errors import CdnctlError

K = TypeVar("K", bound=Hashable)


class EndpointPlace(Struct, frozen=True):
    """An endpoint with its numbers: an address and port that two protocols use is two of them."""

    id: int
    cdn_id: int
    cdn: str
    address: str
    port: int
    protocol: Protocol
    regions: tuple[str, ...] = ()
    """Whose clients it serves; none: everybody's."""
    serves: bool = True
    """Whether any service uses it."""

    @property
    def key(self) -> str:
        """`198.51.100.10:443`."""
        return show_endpoint(self.address, self.port)

    @property
    def family(self) -> int:
        """4 or 6."""
        return family(self.address)

    @property
    def kernel_key(self) -> EndpointKey:
        """What the kernel knows it by."""
        return EndpointKey(self.address, self.port, abi.PROTOCOLS[self.protocol])

    @property
    def pool(self) -> abi.Pool:
        """Those that can stand in for it have the same."""
        return abi.pool_of(self.address, abi.PROTOCOLS[self.protocol])


class ServicePlace(Struct, frozen=True):
    """A service of one protocol with its numbers."""

    id: int
    name: str
    vip: str
    vip_index: int
    port: int
    protocol: Protocol

    @property
    def kernel_key(self) -> ServiceKey:
        """What the kernel knows it by."""
        return ServiceKey(self.vip, self.port, abi.PROTOCOLS[self.protocol])


class Layout(Struct, frozen=True):
    """Everybody's numbers."""

    cdns: dict[str, int]
    endpoints: tuple[EndpointPlace, ...]
    services: tuple[ServicePlace, ...]
    vips: dict[str, int]
    regions: dict[str, int]
    """From 1: 0 is everywhere."""
    customers: dict[str, int]
    """From 1: 0 is nobody in particular."""

    def endpoints_of(self, cdn: str) -> tuple[EndpointPlace, ...]:
        """Those of one CDN, in the configuration's order."""
        return tuple(place for place in self.endpoints if place.cdn == cdn)

    def by_id(self) -> dict[int, EndpointPlace]:
        """Endpoints by id."""
        return {place.id: place for place in self.endpoints}


def _number(
    wanted: Iterable[K], known: Mapping[K, int], numbers: range, taken: Iterable[int], what: str
) -> dict[K, int]:
    """A number for each: the known one, or the lowest that is not taken."""
    wanted = list(wanted)
    given: dict[K, int] = {}
    used = set(taken)
    for key in wanted:
        if key in known and known[key] not in given.values():
            given[key] = known[key]
            used.add(known[key])
    for key in wanted:
        if key not in given:
            free = next((number for number in numbers if number not in used), None)
            if free is None:
                raise CdnctlError(
                    f"more than {len(numbers)} {what}, those that left since the tables were made included",
                    "to forget the old ones: `cdnctl detach --stop --yes`, which cuts all flows, and start"
                    " again",
                )
            given[key] = free
            used.add(free)
    return given


def plan(config: Config, tables: Tables) -> Layout:
    """Numbers for this configuration, in keeping with what the kernel holds."""
    cdns, endpoints = _endpoints(config, tables)
    vips, services = _services(config, tables)
    regions, customers = _clients(config, tables)
    return Layout(cdns, endpoints, services, vips, regions, customers)


def hop_addresses(config: Config, layout: Layout, tables: Tables) -> list[str]:
    """Endpoints' addresses that packets leave for, each once: not those that the host's own stack serves.

    Those that left the configuration are among them, while flows go on.
    """
    sent = {cdn.name for cdn in config.cdns if cdn.mode != "pass"}
    found = [place.address for place in layout.endpoints if place.cdn in sent]
    wanted = layout.by_id()
    entries = tables.choice.endpoint_entries()
    for key, number in tables.choice.endpoints().items():
        if number not in wanted and entries[number].transport != abi.Transport.PASS:
            found.append(key.address)
    return list(dict.fromkeys(found))


def _endpoints(config: Config, tables: Tables) -> tuple[dict[str, int], tuple[EndpointPlace, ...]]:
    held = tables.choice.endpoints()
    wanted = {
        EndpointKey(endpoint.host, endpoint.port, abi.PROTOCOLS[protocol]): (cdn, endpoint, protocol)
        for cdn in config.cdns
        for endpoint in cdn.endpoints
        for protocol in config.protocols_of(cdn, endpoint) or PROTOCOLS[:1]
    }
    room = range(min(config.limits.endpoints, abi.MAX_ENDPOINTS))
    numbers = _number(wanted, held, room, held.values(), "endpoints")
    entries = tables.choice.endpoint_entries()
    known: dict[str, int] = {}
    for key, (cdn, _, _) in wanted.items():
        if key in held:
            known.setdefault(cdn.name, entries[held[key]].cdn)
    taken = {entries[number].cdn for number in held.values()}
    cdns = _number([cdn.name for cdn in config.cdns], known, range(abi.MAX_CDNS), taken, "CDNs")
    places = tuple(
        EndpointPlace(
            numbers[key],
            cdns[cdn.name],
            cdn.name,
            endpoint.host,
            endpoint.port,
            protocol,
            endpoint.regions,
            protocol in config.protocols_of(cdn, endpoint),
        )
        for key, (cdn, endpoint, protocol) in wanted.items()
    )
    return cdns, places


def _services(config: Config, tables: Tables) -> tuple[dict[str, int], tuple[ServicePlace, ...]]:
    held, held_vips = tables.choice.known_services(), tables.choice.vips()
    wanted = {
        ServiceKey(service.vip, service.port, abi.PROTOCOLS[protocol]): (service, protocol)
        for service in config.services
        for protocol in service.protocol
    }
    room = range(abi.MAX_SERVICES)
    numbers = _number(wanted, held, room, held.values(), "services")
    vips = _number(
        dict.fromkeys(service.vip for service in config.services), held_vips, room, held_vips.values(), "VIPs"
    )
    places = tuple(
        ServicePlace(numbers[key], service.name, service.vip, vips[service.vip], service.port, protocol)
        for key, (service, protocol) in wanted.items()
    )
    return vips, places


def _clients(config: Config, tables: Tables) -> tuple[dict[str, int], dict[str, int]]:
    """Regions and customers are known by their prefixes."""
    held = tables.clients.held()
    regions: dict[str, int] = {}
    customers: dict[str, int] = {}
    for region in config.regions:
        for prefix in region.prefixes:
            if (entry := held.get(ipaddress.ip_network(prefix))) and entry.region:
                regions.setdefault(region.name, entry.region)
    for customer in config.customers:
        for prefix in customer.prefixes:
            if (entry := held.get(ipaddress.ip_network(prefix))) and entry.customer:
                customers.setdefault(customer.name, entry.customer)
    return (
        _number([each.name for each in config.regions], regions, range(1, abi.MAX_REGIONS), (), "regions"),
        _number(
            [each.name for each in config.customers], customers, range(1, abi.MAX_CUSTOMERS), (), "customers"
        ),
    )
