"""The tables of the operator's file, and the whole of it: `Config`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from cdnctl.config.values import (
    Address,
    Count,
    EndpointKey,
    Entries,
    Interface,
    Milliseconds,
    Name,
    Port,
    Prefix,
    Seconds,
    Weight,
)

# What the data path has room for. bpf/abi.h says the same; a test holds them together, since nothing
# up here may import the data path.
MAX_CDNS = 16
MAX_ENDPOINTS = 64
MAX_SERVICES = 32
MAX_SNAT = 8


class Table(Struct, frozen=True, kw_only=True):
    """A table of the file."""


class Edge(Table, frozen=True, kw_only=True):
    """`[edge]`: this box."""

    name: Name
    interfaces: Annotated[
        tuple[Interface, ...], Meta(min_length=1, description="a list of one or more interfaces")
    ]
    """Where the program is attached: those that clients come in by and those towards the CDNs."""
    attach: Annotated[
        Literal["auto", "native", "generic"], Meta(description='"auto", "native" or "generic"')
    ] = "auto"
    """`auto`: native, else generic with a warning."""
    snat: Annotated[
        tuple[Address, ...],
        Meta(min_length=1, max_length=MAX_SNAT, description=f"a list of 1 to {MAX_SNAT} IPv4 addresses"),
    ]
    """The addresses that CDNs see instead of the clients'."""
    snat_ports: Annotated[
        tuple[Port, Port], Meta(description="the first and the last port, as in [1024, 65535]")
    ] = (1024, 65535)
    management: Annotated[tuple[Prefix, ...], Meta(description="a list of IPv4 prefixes")] = ()
    """Sources whose packets to the host itself are never dropped."""


class Limits(Table, frozen=True, kw_only=True):
    """`[limits]`: sizes of the kernel's tables; `memory` says what they cost."""

    flows: Entries = 1_000_000
    """Established flows."""
    half_open: Entries = 65_536
    """Flows whose handshake is not over; apart, so that a SYN flood cannot evict a session. Unless it is
    set, no more than edge.snat has ports."""
    block_entries: Entries = 1_000_000
    endpoints: Annotated[
        int, Meta(ge=1, le=MAX_ENDPOINTS, description=f"a whole number from 1 to {MAX_ENDPOINTS}")
    ] = 16
    """Room for so many endpoints, those of all CDNs together."""


class Reflex(Table, frozen=True, kw_only=True):
    """`[reflex]`: when the kernel takes an endpoint out by itself, and for how long."""

    max_out_s: Seconds = 300.0
    """No pause is longer."""
    out_s: Seconds = 10.0
    """The first pause; each recent ejection adds as much to the next."""
    dark_connects: Count = 5
    """Dark: so many connects unanswered, none answered since."""
    refused_connects: Count = 3
    """Refusing: so many resets in answer to a SYN, in a row."""
    slow_connects: Count = 5
    """Slow: so many handshakes over the limit, in a row."""
    distinct_prefixes: Annotated[int, Meta(ge=1, le=3, description="a whole number from 1 to 3")] = 3
    """The clients that find it slow come from at least so many /24; the kernel counts to 3."""
    rescue_after_ms: Milliseconds = 200.0
    """A client that re-sends its SYN is moved to another CDN, after this long at the earliest."""


class CdnConfig(Table, frozen=True, kw_only=True):
    """`[[cdn]]`: one provider."""

    name: Name
    endpoints: Annotated[
        tuple[EndpointKey, ...], Meta(min_length=1, description="a list of addresses with ports")
    ]
    weight: Weight = 100
    latency_limit_ms: Milliseconds | None = None
    """A handshake over this is slow; without it: over 3 x the usual time + 20 ms."""


class ServiceConfig(Table, frozen=True, kw_only=True):
    """`[[service]]`: a VIP and port that clients connect to."""

    name: Name
    vip: Address
    port: Port
    protocol: Annotated[
        tuple[Annotated[Literal["tcp"], Meta(description='"tcp"')], ...],
        Meta(min_length=1, max_length=1, description='["tcp"]'),
    ] = ("tcp",)
    policy: Annotated[Literal["weighted", "latency"], Meta(description='"weighted" or "latency"')] = "latency"
    cdns: Annotated[tuple[Name, ...], Meta(description="a list of names of CDNs")] = ()
    """Those that serve it; none named: all."""


class Config(Struct, frozen=True, kw_only=True):
    """The whole file. Only `load` and `parse` make one, so it holds together."""

    edge: Edge
    limits: Limits
    reflex: Reflex
    cdns: tuple[CdnConfig, ...]
    services: tuple[ServiceConfig, ...]
    path: Path

    def cdns_of(self, service: ServiceConfig) -> tuple[CdnConfig, ...]:
        """The CDNs that serve `service`, in the file's order."""
        return tuple(cdn for cdn in self.cdns if not service.cdns or cdn.name in service.cdns)
