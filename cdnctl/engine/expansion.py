"""What a configuration only names: prefixes of regions from files, addresses of endpoints from DNS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec.structs import replace

from cdnctl.config import CdnConfig, Config, EndpointConfig, RegionConfig, show_endpoint
from cdnctl.config.schema import MAX_ALLOWED, MAX_CLIENT_PREFIXES
from cdnctl.defence.feeds import regions
from cdnctl.errors import CdnctlError

Addresses = Callable[[str, int], list[str]]
"""Those in force of a host name, of a family (4 or 6)."""


def with_regions(config: Config) -> Config:
    """With the prefixes that regions have in files. Raises CdnctlError with place and remedy."""
    if all(region.file is None for region in config.regions):
        return config
    found = tuple(_with_file(config, number, region) for number, region in enumerate(config.regions, 1))
    total = len({prefix for region in found for prefix in region.prefixes})
    total += sum(len(customer.prefixes) for customer in config.customers)
    if total > (room := MAX_CLIENT_PREFIXES - MAX_ALLOWED):
        raise CdnctlError(
            f"{config.path}: region: {total} prefixes, those in files included",
            f"there is room for {room} prefixes of regions and customers: leave some out",
        )
    return replace(config, regions=found)


def _with_file(config: Config, number: int, region: RegionConfig) -> RegionConfig:
    if region.file is None:
        return region
    path, place = config.path.parent / region.file, f"{config.path}: region[{number}].file"
    parsed = regions.parse(_read(path, place), str(path))
    if region.name not in parsed.prefixes:
        there = ", ".join(sorted(parsed.prefixes))
        raise CdnctlError(f"{place}: {path} has no prefix of {region.name}", f"its labels are {there}")
    mine = [str(network) for network in parsed.prefixes[region.name]]
    return replace(region, prefixes=tuple(dict.fromkeys((*region.prefixes, *mine))))


def _read(path: Path, place: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(regions.MOST_BYTES + 1)
    except OSError as error:
        raise CdnctlError(
            f"{place}: cannot read {path}: {error.strerror}",
            "name a file that is there, relative to the configuration's directory",
        ) from None


def families(config: Config, cdn: CdnConfig) -> list[int]:
    """Of which families addresses of a CDN's names are of use."""
    wanted = {service.family for service in config.services if not service.cdns or cdn.name in service.cdns}
    return sorted(each for each in wanted if cdn.mode != "nat" or config.edge.snat_of(each))


def with_addresses(config: Config, addresses: Addresses) -> Config:
    """With what names lead to as endpoints. Raises CdnctlError for a service that nobody is left for."""
    if not any(cdn.names for cdn in config.cdns):
        return config
    ours = {*config.edge.snat, *(service.vip for service in config.services)}
    taken = {endpoint.address for cdn in config.cdns for endpoint in cdn.endpoints}
    cdns, room = [], config.limits.endpoints - config.endpoint_count()
    for cdn in config.cdns:
        found = []
        for endpoint in _named(config, cdn, addresses):
            takes = max(1, len(config.protocols_of(cdn, endpoint)))
            if endpoint.host not in ours and endpoint.address not in taken and takes <= room:
                taken.add(endpoint.address)
                found.append(endpoint)
                room -= takes  # more than there is room for are of no use, and would keep it from starting
        cdns.append(replace(cdn, endpoints=(*cdn.endpoints, *found)))
    expanded = replace(config, cdns=tuple(cdns))
    for service in expanded.services:
        if not any(cdn.weight for cdn in expanded.cdns_of(service)):
            names = ", ".join(name.host for cdn in config.cdns for name in cdn.names)
            raise CdnctlError(
                f"service {service.name} has no CDN with an IPv{service.family} endpoint: no address is known"
                f" of {names}",
                "see that [dns] servers, or this box's own, answer; or write an address into endpoints",
            )
    return expanded


def _named(config: Config, cdn: CdnConfig, addresses: Addresses) -> Iterator[EndpointConfig]:
    for name in cdn.names:
        for family in families(config, cdn):
            for address in addresses(name.host, family):
                yield EndpointConfig(address=show_endpoint(address, name.port), regions=name.regions)


def host_names(config: Config, addresses: Addresses) -> dict[str, str]:
    """By endpoint, the name that it came from: what a probe of it asks for."""
    return {
        show_endpoint(address, name.port): name.host
        for cdn in config.cdns
        for name in cdn.names
        for family in (4, 6)
        for address in addresses(name.host, family)
    }
