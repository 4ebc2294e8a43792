"""What a configuration costs, and what its numbers mean together. `cdnctl check` prints it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from cdnctl.config.schema import MAX_ENDPOINTS, MAX_TABLES, CdnConfig, Config

# Bytes an entry takes in the kernel. A slot's is the struct's own size, as arrays have no overhead; the
# others are estimates: key, value, the kernel's book-keeping (about 56) and a bucket's share (16).
_OVERHEAD = 72
FLOW_BYTES = 24 + 56 + _OVERHEAD
REVERSE_SLOT_BYTES = 64
BLOCK_BYTES = 16 + 24 + _OVERHEAD
QUIC_ID_BYTES = 24 + 4 + _OVERHEAD
BLOCK_FILTER_BYTES = 2**24 * 2 // 8 + 2**18  # two bits for each IPv4 /24; of IPv6 a hash of the /48
PICK_TABLE_BYTES = 2 * 16384
_SOURCES_BYTES = 65536 * (16 + 32 + _OVERHEAD)
_FRAGMENTS_BYTES = 4096 * (40 + 64 + _OVERHEAD)
_CENSUS_BYTES = 2 * MAX_ENDPOINTS * 8 * 8
_PER_CPU_BYTES = 160_000
"""Counters, histograms, sketches and the state of each CPU."""


def ports(config: Config) -> int:
    """Ports of each SNAT address."""
    first, last = config.edge.snat_ports
    return last - first + 1


def snat_rows(config: Config) -> int:
    """Rows of reverse slots that each endpoint has: as many as the family with more SNAT addresses."""
    return max(len(config.edge.snat_of(4)), len(config.edge.snat_of(6)))


def slots(config: Config) -> int:
    """Reverse slots: one for each endpoint there is room for, row and port; without SNAT just one, since
    the kernel makes no table of none."""
    return max(1, config.limits.endpoints * snat_rows(config) * ports(config))


def datagrams(config: Config) -> int:
    """Flows of UDP without a proof of where their client is. Half as many as there may be established ones:
    a flood fills any number, and flows that are answered by a packet or two need no place for long."""
    return max(1, config.limits.flows // 2)


def bindings(config: Config) -> int:
    """Translated flows that the ports allow at once, over all endpoints that get any."""
    return sum(
        len(config.edge.snat_of(endpoint.family)) * len(config.protocols_of(cdn, endpoint)) * ports(config)
        for cdn in config.cdns
        for endpoint in cdn.endpoints
        if cdn.mode == "nat"
    )


def memory(config: Config) -> dict[str, int]:
    """Bytes of kernel memory by table, estimated, with every table full."""
    limits = config.limits
    return {
        "established flows": limits.flows * FLOW_BYTES,
        "half-open flows": limits.half_open * FLOW_BYTES,
        "datagrams' flows": datagrams(config) * FLOW_BYTES,
        "reverse slots": slots(config) * REVERSE_SLOT_BYTES,
        "QUIC connection ids": (limits.flows + limits.half_open) * QUIC_ID_BYTES,
        "block list": limits.block_entries * BLOCK_BYTES,
        "block filter": BLOCK_FILTER_BYTES,
        "pick tables": MAX_TABLES * PICK_TABLE_BYTES,
        "busy sources": _SOURCES_BYTES,
        "fragments, census, counters": _FRAGMENTS_BYTES
        + _CENSUS_BYTES
        + (os.cpu_count() or 1) * _PER_CPU_BYTES,
    }


def notes(config: Config) -> list[str]:
    """What is right but worth knowing, one sentence each; `check` prints them."""
    return [*_flow_notes(config), *_cdn_notes(config), *_service_notes(config), *_region_notes(config)]


def _flow_notes(config: Config) -> Iterator[str]:
    if all(cdn.mode == "nat" for cdn in config.cdns) and bindings(config) < config.limits.flows:
        families = [family for family in (4, 6) if config.edge.snat_of(family)]
        addresses = " and ".join(str(len(config.edge.snat_of(family))) for family in families)
        yield (
            f"limits.flows is {config.limits.flows}, but no more than {bindings(config)} flows can be open at"
            f" once: SNAT addresses ({addresses}) x endpoints ({config.endpoint_count()})"
            f" x ports ({ports(config)})"
        )
    for family in (4, 6):
        if config.edge.snat_of(family) and not _translates(config, family):
            yield f"edge.snat has IPv{family} addresses, but no service needs one"


def _translates(config: Config, family: int) -> bool:
    return any(
        cdn.mode == "nat" and endpoint.family == family and config.protocols_of(cdn, endpoint)
        for cdn in config.cdns
        for endpoint in cdn.endpoints
    )


def _cdn_notes(config: Config) -> Iterator[str]:
    for cdn in config.cdns:
        if cdn.weight == 0:
            yield f"{cdn.name} has weight 0: it gets no new flows until an operator gives it a weight"
        for endpoint in cdn.endpoints:
            if not config.protocols_of(cdn, endpoint):
                yield f"{endpoint.address} of {cdn.name} serves nothing: no service of its family names it"
        yield from _mode_notes(cdn)


def _mode_notes(cdn: CdnConfig) -> Iterator[str]:
    if cdn.mode in ("ipip", "gue"):
        # IPv6 outside is the larger header; GUE adds UDP and 4 bytes of its own
        outside = 40 + (12 if cdn.mode == "gue" else 0)
        yield (
            f"{cdn.name} gets packets in a tunnel, up to {outside} bytes longer than they came: its servers"
            " should promise clients an MSS that leaves so much room, or the path carry it"
        )
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


def _region_notes(config: Config) -> Iterator[str]:
    bound = {region for cdn in config.cdns for endpoint in cdn.endpoints for region in endpoint.regions}
    for region in config.regions:
        if region.name not in bound:
            yield f"no endpoint is bound to region {region.name}: its clients are served as all others"
