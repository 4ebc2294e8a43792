"""Ids: which number each CDN, endpoint and service has in the kernel.

Live flows carry these numbers, so one that is in use keeps it over restarts and changes of the
configuration: what the kernel's tables say wins, and newcomers get the lowest free ones.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from msgspec import Struct

from cdnctl.config import CdnConfig, Config, ServiceConfig, parse_endpoint
from cdnctl.datapath import abi
from cdnctl.datapath.tables import Tables
from cdnctl.errors import CdnctlError

K = TypeVar("K", bound=Hashable)


class EndpointPlace(Struct, frozen=True):
    """An endpoint with its numbers."""

    id: int
    cdn_id: int
    cdn: str
    address: str
    port: int

    @property
    def key(self) -> str:
        """`198.51.100.10:443`."""
        return f"{self.address}:{self.port}"


class Layout(Struct, frozen=True):
    """Everybody's numbers."""

    cdns: dict[str, int]
    endpoints: tuple[EndpointPlace, ...]
    services: dict[str, int]

    def endpoints_of(self, cdn: str) -> tuple[EndpointPlace, ...]:
        """Those of one CDN, in the configuration's order."""
        return tuple(place for place in self.endpoints if place.cdn == cdn)

    def by_id(self) -> dict[int, EndpointPlace]:
        """Endpoints by id."""
        return {place.id: place for place in self.endpoints}


def _number(
    wanted: Iterable[K], known: Mapping[K, int], room: int, taken: set[int], what: str
) -> dict[K, int]:
    numbers: dict[K, int] = {}
    used = set(taken)
    for key in wanted:
        if key in known and known[key] not in numbers.values():
            numbers[key] = known[key]
            used.add(known[key])
    for key in wanted:
        if key not in numbers:
            free = next((number for number in range(room) if number not in used), None)
            if free is None:
                raise CdnctlError(
                    f"more than {room} {what}, those that left since the tables were made included",
                    "`cdnctl detach` and start again to forget the old ones",
                )
            numbers[key] = free
            used.add(free)
    return numbers


def plan(config: Config, tables: Tables) -> Layout:
    """Numbers for this configuration, in keeping with what the kernel holds."""
    held = tables.endpoint_ids()
    keys = [(cdn.name, *parse_endpoint(text)) for cdn in config.cdns for text in cdn.endpoints]
    room = min(config.limits.endpoints, abi.MAX_ENDPOINTS)
    endpoints = _number([key[1:] for key in keys], held, room, set(held.values()), "endpoints")
    cdn_ids = _cdns(config.cdns, held, tables)
    places = tuple(
        EndpointPlace(endpoints[address, port], cdn_ids[cdn], cdn, address, port)
        for cdn, address, port in keys
    )
    return Layout(cdn_ids, places, _services(config.services, tables))


def _cdns(cdns: tuple[CdnConfig, ...], held: Mapping[tuple[str, int], int], tables: Tables) -> dict[str, int]:
    known: dict[str, int] = {}
    for cdn in cdns:
        for text in cdn.endpoints:
            identity = held.get(parse_endpoint(text))
            if identity is not None:
                known.setdefault(cdn.name, tables.endpoint(identity).cdn)
    taken = {tables.endpoint(identity).cdn for identity in held.values()}
    return _number([cdn.name for cdn in cdns], known, abi.MAX_CDNS, taken, "CDNs")


def _services(services: tuple[ServiceConfig, ...], tables: Tables) -> dict[str, int]:
    held = tables.known_services()
    known = {
        service.name: held[service.vip, service.port]
        for service in services
        if (service.vip, service.port) in held
    }
    return _number(
        [service.name for service in services], known, abi.MAX_SERVICES, set(held.values()), "services"
    )
