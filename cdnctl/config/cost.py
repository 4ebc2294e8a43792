"""What a configuration costs: memory, slots, ports. `cdnctl check` prints it."""

from __future__ import annotations

import os

from cdnctl.config.schema import MAX_ALLOWED, MAX_ENDPOINTS, MAX_INVITED, MAX_TABLES, Config

# Bytes an entry takes in the kernel. A slot's is the struct's own size, as arrays have no overhead; the
# others are estimates: key, value, the kernel's book-keeping (about 56) and a bucket's share (16).
_OVERHEAD = 72
FLOW_BYTES = 24 + 56 + _OVERHEAD
REVERSE_SLOT_BYTES = 64
BLOCK_BYTES = 16 + 24 + _OVERHEAD  # nothing, if they are single addresses of IPv4: those are in lines
BLOCK_LINE_BYTES = 64
_BLOCK_HITS_BYTES = 65536 * (8 + 8 + _OVERHEAD)
_BLOCKS_A_LINE = 4
"""Of seven: hardly any line is full."""
QUIC_ID_BYTES = 24 + 8 + _OVERHEAD  # a value takes a multiple of 8
BLOCK_FILTER_BYTES = 2**22 * 2 // 8 + 2**18  # two bits for each IPv4 /22; of IPv6 a hash of the /48
PICK_TABLE_BYTES = 2 * 16384
_SOURCES_BYTES = 65536 * (16 + 32 + _OVERHEAD)
_SHIELD_BYTES = 65536 * (16 + 24 + _OVERHEAD) + 65536 * 64 + 4 * 2 * 4096 * 8
_MANNERS_BYTES = 16384 * 64
_FRAGMENTS_BYTES = 4096 * (40 + 64 + _OVERHEAD)
_CENSUS_BYTES = 2 * MAX_ENDPOINTS * 8 * 8
_PREFIX_BYTES = 2 * 96  # a node, and perhaps one where two ways part
_PLAIN_BYTES = 2_070_000
"""Services, endpoints, limits, what earlier tables counted: tables of a fixed size, and the programs."""
PER_CPU_BYTES = 900_000
"""Counters, histograms, sketches and the state of each CPU."""
_PERF_BYTES = (128 + 8 + 32 + 3) * 4096
"""Buffers for samples, events and bindings, for each CPU, while an agent reads them (datapath/perf.py)."""


FEW_PACKETS = 2
"""A burst has the time of so many at least, and another one comes with them: under a limit that lets through
a single packet at a time no session gets anywhere."""
_PACKET_BITS = 12_000
"""Of 1500 bytes."""


def burst_ms(wanted_ms: float, *, pps: float | None, mbit: float | None) -> float:
    """How much time's worth may come at once under these limits: what is wanted, or a few packets'."""
    each_ms = [1000 / pps] if pps else []
    each_ms += [_PACKET_BITS / mbit / 1000] if mbit else []
    return max(wanted_ms, FEW_PACKETS * max(each_ms, default=0.0))


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


def bindings(config: Config, family: int) -> int:
    """Translated flows of a family that the ports allow at once, over all endpoints that get any."""
    return len(config.edge.snat_of(family)) * translated(config, family) * ports(config)


def block_lines(config: Config) -> int:
    """Lines of cells for blocked single addresses, a power of two."""
    return 1 << max(1, (config.limits.block_entries // _BLOCKS_A_LINE - 1).bit_length())


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
        "datagrams' flows": datagrams(config) * FLOW_BYTES,
        "reverse slots": slots(config) * REVERSE_SLOT_BYTES,
        "QUIC connection ids": (limits.flows + limits.half_open) * QUIC_ID_BYTES,
        "block list": limits.block_entries * BLOCK_BYTES,
        "block lines": block_lines(config) * BLOCK_LINE_BYTES + _BLOCK_HITS_BYTES,
        "block filter": BLOCK_FILTER_BYTES,
        "pick tables": MAX_TABLES * PICK_TABLE_BYTES,
        "busy sources": _SOURCES_BYTES,
        "verified sources, SYNs, shares": _SHIELD_BYTES,
        "manners of sources": _MANNERS_BYTES,
        "prefixes of clients": _client_prefixes(config) * _PREFIX_BYTES,
        **_invited(config),
        "fragments, counters and the rest": _FRAGMENTS_BYTES
        + _CENSUS_BYTES
        + _PLAIN_BYTES
        + (os.cpu_count() or 1) * PER_CPU_BYTES,
        "samples and events": (os.cpu_count() or 1) * _PERF_BYTES,
    }


def _invited(config: Config) -> dict[str, int]:
    if config.edge.snat_from == "anyone":
        return {}
    return {"prefixes of providers": MAX_INVITED * _PREFIX_BYTES}


def _client_prefixes(config: Config) -> int:
    of_customers = sum(len(each.prefixes) for each in config.customers)
    return of_customers + sum(len(each.prefixes) for each in config.regions) + MAX_ALLOWED
