"""What a configuration costs, and what its numbers mean together. `cdnctl check` prints it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from cdnctl.config.schema import MAX_ALLOWED, MAX_ENDPOINTS, MAX_TABLES, CdnConfig, Config

# Bytes an entry takes in the kernel. A slot's is the struct's own size, as arrays have no overhead; the
# others are estimates: key, value, the kernel's book-keeping (about 56) and a bucket's share (16).
_OVERHEAD = 72
FLOW_BYTES = 24 + 56 + _OVERHEAD
REVERSE_SLOT_BYTES = 64
BLOCK_BYTES = 16 + 24 + _OVERHEAD
QUIC_ID_BYTES = 24 + 8 + _OVERHEAD  # a value takes a multiple of 8
BLOCK_FILTER_BYTES = 2**24 * 2 // 8 + 2**18  # two bits for each IPv4 /24; of IPv6 a hash of the /48
PICK_TABLE_BYTES = 2 * 16384
_SOURCES_BYTES = 65536 * (16 + 32 + _OVERHEAD)
_FRAGMENTS_BYTES = 4096 * (40 + 64 + _OVERHEAD)
_CENSUS_BYTES = 2 * MAX_ENDPOINTS * 8 * 8
_PREFIX_BYTES = 2 * 96  # a node, and perhaps one where two ways part
_PLAIN_BYTES = 320_000
"""Services, endpoints, links, limits: tables of a fixed size, and the programs."""
PER_CPU_BYTES = 210_000
"""Counters, histograms, sketches and the state of each CPU."""
_PERF_BYTES = (128 + 8 + 2) * 4096
"""Buffers for samples and events, for each CPU, while an agent reads them (datapath/perf.py)."""


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


def bindings(config: Config, family: int) -> int:
    """Translated flows of a family that the ports allow at once, over all endpoints that get any."""
    return len(config.edge.snat_of(family)) * translated(config, family) * ports(config)


def translated(config: Config, family: int) -> int:
    """Endpoints of a family that are translated to, each once a protocol."""
    return sum(
        len(config.protocols_of(cdn, endpoint))
        for cdn in config.cdns
        for endpoint in cdn.endpoints
        if cdn.mode == "nat" and endpoint.family == family
    )


def memory(config: Config) -> dict[str, int]:
    """Bytes of kernel memory by table, estimated, with every table full."""
    limits = config.limits
    return {
        "established flows": limits.flows * FLOW_BYTES,
        "half-open flows": limits.half_open * FLOW_BYTES,
        "reverse slots": slots(config) * REVERSE_SLOT_BYTES,
        "QUIC connection ids": (limits.flows + limits.half_open) * QUIC_ID_BYTES,
        "block list": limits.block_entries * BLOCK_BYTES,
        "block filter": BLOCK_FILTER_BYTES,
        "pick tables": MAX_TABLES * PICK_TABLE_BYTES,
        "busy sources": _SOURCES_BYTES,
        "prefixes of clients": _client_prefixes(config) * _PREFIX_BYTES,
        "fragments, counters and the rest": _FRAGMENTS_BYTES
        + _CENSUS_BYTES
        + _PLAIN_BYTES
        + (os.cpu_count() or 1) * PER_CPU_BYTES,
        "samples and events": (os.cpu_count() or 1) * _PERF_BYTES,
    }


def _client_prefixes(config: Config) -> int:
    of_customers = sum(len(each.prefixes) for each in config.customers)
    return of_customers + sum(len(each.prefixes) for each in config.regions) + MAX_ALLOWED


def notes(config: Config) -> list[str]:
    """What is right but worth knowing, one sentence each; `check` prints them."""
    return [*_flow_notes(config), *_cdn_notes(config), *_service_notes(config), *_region_notes(config)]


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


def _plural(number: int, noun: str, ending: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{ending}"


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
