"""The tables of the operator's file, and the whole of it: `Config`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

from cdnctl.config.bans import AutobanConfig
from cdnctl.config.planning import (
    MAX_NAMES,
    DnsConfig,
    FeedConfig,
    NameConfig,
    PlannerConfig,
    Price,
    ProbeConfig,
)
from cdnctl.config.table import Table as Table
from cdnctl.config.values import (
    Address,
    Count,
    EndpointKey,
    Entries,
    Interface,
    Lifetime,
    Listen,
    Mbit,
    Milliseconds,
    Mss,
    Name,
    Pause,
    PerSecond,
    Port,
    Prefix,
    Seconds,
    Weight,
    family,
    parse_endpoint,
    parse_listen,
    some,
)

# What the data path has room for. bpf/abi.h says the same; a test holds them together, since nothing
# up here may import the data path.
MAX_CDNS = 16
MAX_ENDPOINTS = 128
MAX_SERVICES = 64
MAX_SNAT = 8
MAX_LINKS = 64
MAX_REGIONS = 8
MAX_TABLES = 256
MAX_CUSTOMERS = 1024
MAX_CLIENT_PREFIXES = 65536
MAX_ALLOWED = 1024  # of them, those that operators allow at run time
MAX_MANAGEMENT = 256
MAX_INVITED = 65536
MAX_ANNOUNCED = 4096

Protocol = Literal["tcp", "udp"]
PolicyName = Literal["weighted", "latency", "failover"]
ClassName = Literal["interactive", "video", "bulk"]
Transport = Literal["nat", "ipip", "gue", "pass"]

Policy = Annotated[PolicyName, Meta(description='"weighted", "latency" or "failover"')]
Prefixes = Annotated[tuple[Prefix, ...], Meta(min_length=1, description="a list of one or more prefixes")]


class Edge(Table, frozen=True, kw_only=True):
    """`[edge]`: this box."""

    name: Name
    interfaces: Annotated[
        tuple[Interface, ...],
        Meta(min_length=1, max_length=MAX_LINKS, description=f"a list of 1 to {MAX_LINKS} interfaces"),
    ]
    """Where the program is attached: those that clients come in by and those towards the CDNs."""
    attach: Annotated[
        Literal["auto", "native", "generic"], Meta(description='"auto", "native" or "generic"')
    ] = "auto"
    """`auto`: native, else generic with a warning."""
    snat: Annotated[
        tuple[Address, ...],
        Meta(
            max_length=2 * MAX_SNAT,
            description=f"a list of at most {MAX_SNAT} IPv4 and {MAX_SNAT} IPv6 addresses",
        ),
    ] = ()
    """The addresses that CDNs of mode `nat` see instead of the clients'."""
    snat_ports: Annotated[
        tuple[Port, Port], Meta(description="the first and the last port, as in [1024, 65535]")
    ] = (1024, 65535)
    snat_from: Annotated[Literal["anyone", "providers"], Meta(description='"anyone" or "providers"')] = (
        "anyone"
    )
    """Who may talk to `snat`, replies apart: with `providers` endpoints, the prefixes of feeds of ranges,
    whom no block may cover, and whom the box itself has asked."""
    snat_also_from: Annotated[
        tuple[Prefix, ...],
        Meta(max_length=MAX_MANAGEMENT, description=f"a list of at most {MAX_MANAGEMENT} prefixes"),
    ] = ()
    """And these."""
    management: Annotated[
        tuple[Prefix, ...],
        Meta(max_length=MAX_MANAGEMENT, description=f"a list of at most {MAX_MANAGEMENT} prefixes"),
    ] = ()
    """Sources whose packets to the host itself are never dropped."""
    announced: Annotated[
        tuple[Prefix, ...],
        Meta(max_length=MAX_MANAGEMENT, description=f"a list of at most {MAX_MANAGEMENT} prefixes"),
    ] = ()
    """Prefixes that are routed here: what is for addresses of theirs that neither the edge has nor its host
    is dropped."""
    fragments: Annotated[Literal["follow", "drop"], Meta(description='"follow" or "drop"')] = "follow"
    """`follow`: the first fragment of a datagram leads the rest."""

    def snat_of(self, wanted: int) -> tuple[str, ...]:
        """The SNAT addresses of a family (4 or 6), in the file's order."""
        return tuple(address for address in self.snat if family(address) == wanted)


class Limits(Table, frozen=True, kw_only=True):
    """`[limits]`: sizes of the kernel's tables; `memory` says what they cost."""

    flows: Entries = 1_000_000
    """Established flows: of TCP, and of QUIC whose client has proved where it is. Half as many of other UDP
    have a table of their own, so that spoofed datagrams cannot evict a session either."""
    half_open: Entries = 65_536
    """Flows whose handshake is not over; apart, so that a SYN flood cannot evict a session. Unless it is
    set, no more than edge.snat has ports."""
    block_entries: Entries = 1_000_000
    endpoints: Annotated[
        int, Meta(ge=1, le=MAX_ENDPOINTS, description=f"a whole number from 1 to {MAX_ENDPOINTS}")
    ] = 16
    """Room for so many endpoints of all CDNs together; an address and port takes one a protocol."""


class Reflex(Table, frozen=True, kw_only=True):
    """`[reflex]`: when the kernel takes an endpoint out by itself, for how long, and how flows age."""

    max_out_s: Seconds = 300.0
    """No pause is longer."""
    out_s: Seconds = 10.0
    """The first pause; each recent ejection adds as much to the next."""
    slow_start_s: Pause = 30.0
    """Who comes back gets its share step by step, over so long; 0: at once."""
    dark_connects: Count = 5
    """Dark: so many connects unanswered, none answered since."""
    refused_connects: Count = 3
    """Refusing: so many resets in answer to a SYN, in a row."""
    slow_connects: Count = 5
    """Slow: so many handshakes over the limit, in a row."""
    distinct_prefixes: Annotated[int, Meta(ge=1, le=3, description="a whole number from 1 to 3")] = 3
    """The clients that find it slow come from at least so many /24 (/48); the kernel counts to 3."""
    rescue_after_ms: Milliseconds = 200.0
    """A client that re-sends its SYN is moved to another CDN, after this long at the earliest."""
    established_s: Lifetime = 3600
    """A TCP flow that was idle for so long is over."""
    udp_s: Lifetime = 180
    """The same for UDP."""


class PerSource(Table, frozen=True, kw_only=True):
    """`quota.per_source`: limits of every single source that no customer's limit covers."""

    pps: PerSecond | None = None
    mbit: Mbit | None = None
    flows_per_s: PerSecond | None = None
    burst_ms: Milliseconds = 100.0


class Quota(Table, frozen=True, kw_only=True):
    """`[quota]`: what a single source (a /32, of IPv6 a /64) may take."""

    per_source: Annotated[
        PerSource | None, Meta(description="a table, as in { pps = 5000, flows_per_s = 100 }")
    ] = None
    """None: as much as it likes."""
    busy_pps: Annotated[int, Meta(ge=1, le=10**9, description="a whole number from 1 to 1000000000")] = 1000
    """Only sources that send about so many packets a second are metered."""


class Metrics(Table, frozen=True, kw_only=True):
    """`[metrics]`: where Prometheus finds the agent."""

    listen: Listen = "127.0.0.1:9469"
    """In the agent's network namespace; empty: nowhere."""

    @property
    def place(self) -> tuple[str, int] | None:
        """Address and port."""
        return parse_listen(self.listen) if self.listen else None


class Log(Table, frozen=True, kw_only=True):
    """`[log]`: what is written down beside the journal."""

    nat: bool = False
    """Whose each SNAT port was: a line for each flow that got under way, in nat.log beside the journal."""
    nat_mb: Count = 100
    """A file has so many megabytes; then another is begun ..."""
    nat_files: Count = 10
    """... and so many are kept, that one included."""


AMPLIFIERS = (
    17, 19, 53, 69, 111, 123, 137, 161, 389, 427, 520, 1434, 1900, 3283, 3702, 5353, 5683, 10001, 11211,
    27960, 33848, 37810,
)  # fmt: skip
"""UDP ports of services that answer much to little and ask nobody who he is (US-CERT, alert TA14-017A)."""


class ShieldConfig(Table, frozen=True, kw_only=True):
    """`[shield]`: under attack. Rates are those of level shedding; at busy five times, in siege a quarter."""

    flows_per_s: PerSecond = 10_000.0
    """New flows that the box and its CDNs take easily; levels are judged by it."""
    verified_flows_per_s: PerSecond = 500.0
    """New flows of each source that has proved where it is."""
    source_flows_per_s: PerSecond = 20.0
    """Of each that has not (/32, of IPv6 /64), ..."""
    network_flows_per_s: PerSecond = 200.0
    """... of all such of a /24 (/48), ..."""
    region_flows_per_s: PerSecond = 1_000.0
    """... and of a /16 (/32)."""
    burst_ms: Milliseconds = 500.0
    """So much time's worth of each may come at once."""
    trust_s: Seconds = 600.0
    """A source that has proved where it is counts as verified for so long."""
    syn_data: Annotated[Literal["allow", "drop"], Meta(description='"allow" or "drop"')] = "allow"
    """SYNs with data (TCP Fast Open)."""
    outside: Annotated[
        tuple[Interface, ...],
        Meta(max_length=MAX_LINKS, description="a list of interfaces of edge.interfaces"),
    ] = ()
    """Interfaces with only the internet behind them: nobody there has a private or reserved address."""
    amplifiers: Annotated[tuple[Port, ...], Meta(description="a list of ports, [] for none")] = AMPLIFIERS
    """UDP from these ports opens no flow: floods are reflected by them."""


class ModelConfig(Table, frozen=True, kw_only=True):
    """`[model]`: of sources' manners. It only tightens budgets of the shield, and bans nobody."""

    mode: Annotated[Literal["off", "observe", "on"], Meta(description='"off", "observe" or "on"')] = "off"
    """Until an operator says otherwise; on only when a model is loaded."""
    times: Annotated[int, Meta(ge=2, le=1000, description="a whole number from 2 to 1000")] = 200
    """Who is suspicious gets so many times fewer flows than his budget gives others."""


class RegionConfig(Table, frozen=True, kw_only=True):
    """`[[region]]`: clients that are near each other."""

    name: Name
    prefixes: Annotated[tuple[Prefix, ...], Meta(description="a list of prefixes")] = ()
    file: (
        Annotated[str, Meta(min_length=1, max_length=2000, description="a file of prefixes and labels")]
        | None
    ) = None
    """Prefixes from a file as well: `192.0.2.0/24,eu` a line, those with this region's name."""


class CustomerConfig(Table, frozen=True, kw_only=True):
    """`[[customer]]`: clients that are counted, and may be limited, together."""

    name: Name
    prefixes: Prefixes
    pps: PerSecond | None = None
    """Packets a second from all of them together; None: no limit."""
    mbit: Mbit | None = None
    flows_per_s: PerSecond | None = None
    """New flows a second."""
    burst_ms: Milliseconds = 100.0
    """So much time's worth may come at once, and a few packets in any case."""


class Capacity(Table, frozen=True, kw_only=True):
    """`cdn.capacity`: what a CDN takes; new flows beyond it go elsewhere, none is dropped for it."""

    flows_per_s: PerSecond | None = None
    mbit: Mbit | None = None
    burst_ms: Milliseconds = 20.0


class EndpointConfig(Table, frozen=True, kw_only=True):
    """A member of `cdn.endpoints`; an address and port alone will do."""

    shorthand: ClassVar[str] = "address"

    address: EndpointKey
    regions: Annotated[tuple[Name, ...], Meta(description="a list of names of regions")] = ()
    """It serves clients of these regions only; none named: all clients."""
    probe: Annotated[ProbeConfig | None, Meta(description='a table, or "tcp"')] = None
    """How it is asked whether it serves; None: as its CDN says."""

    @property
    def host(self) -> str:
        """The address without the port."""
        return parse_endpoint(self.address)[0]

    @property
    def port(self) -> int:
        """The port."""
        return parse_endpoint(self.address)[1]

    @property
    def family(self) -> int:
        """4 or 6."""
        return family(self.address)


class CdnConfig(Table, frozen=True, kw_only=True):
    """`[[cdn]]`: one provider."""

    name: Name
    endpoints: Annotated[tuple[EndpointConfig, ...], Meta(description="a list of addresses with ports")] = ()
    names: Annotated[
        tuple[NameConfig, ...],
        Meta(max_length=MAX_NAMES, description=f"a list of at most {MAX_NAMES} DNS names with ports"),
    ] = ()
    """Whose addresses are endpoints as well, asked for again at their TTL."""
    weight: Weight = 100
    latency_limit_ms: Milliseconds | None = None
    """A handshake over this is slow; without it: over 3 x the usual time + 20 ms."""
    mode: Annotated[Transport, Meta(description='"nat", "ipip", "gue" or "pass"')] = "nat"
    """How packets get there: translated, in a tunnel (replies go straight to the client), or not at all:
    `pass` leaves them to the host's own stack."""
    tunnel_port: Port = 6080
    """UDP port of GUE."""
    mss: Mss | None = None
    """What a SYN on its way there may promise at most; None: as the client says."""
    reset_on_eject: Annotated[bool, Meta(description="true or false")] = True
    """When it is dark, clients that re-send into it get a reset, and connect anew to another CDN."""
    capacity: Annotated[
        Capacity | None, Meta(description="a table, as in { flows_per_s = 5000, mbit = 2000 }")
    ] = None
    probe: Annotated[
        ProbeConfig | None, Meta(description='a table, as in { kind = "http", path = "/health" }, or "tcp"')
    ] = None
    """How its endpoints are asked whether they serve; None: they are not asked."""
    price: Price | None = None
    """For a gigabyte, in the same currency everywhere; the cheaper gets more."""
    commit_mbit: Mbit | None = None
    """Paid for in any case; a month's 95th percentile beyond it costs more."""


class PolicyByClass(Table, frozen=True, kw_only=True):
    """A policy for each class of traffic."""

    interactive: Policy = "latency"
    video: Policy = "latency"
    bulk: Policy = "latency"


class ServiceConfig(Table, frozen=True, kw_only=True):
    """`[[service]]`: a VIP and port that clients connect to."""

    name: Name
    vip: Address
    port: Port
    protocol: Annotated[
        tuple[Annotated[Protocol, Meta(description='"tcp" or "udp"')], ...],
        Meta(min_length=1, description='["tcp"], ["udp"] or ["tcp", "udp"]'),
    ] = ("tcp",)
    policy: Annotated[
        Policy | PolicyByClass,
        Meta(description='"weighted", "latency", "failover", or a table by class: { bulk = "weighted" }'),
    ] = "latency"
    traffic_class: Annotated[
        ClassName | Literal["dscp"], Meta(description='"interactive", "video", "bulk" or "dscp"')
    ] = field(name="class", default="interactive")
    """Of all its traffic; `dscp`: as the client's packets are marked."""
    cdns: Annotated[
        tuple[Name, ...],
        Meta(description="a list of one or more names of CDNs"),
        some,
    ] = ()
    """Those that serve it, and their order for `failover`; none named: all, in the file's order."""

    @property
    def family(self) -> int:
        """4 or 6: it uses endpoints of this family only."""
        return family(self.vip)

    def policy_of(self, traffic_class: ClassName) -> PolicyName:
        """How a new flow of a class picks its endpoint."""
        if isinstance(self.policy, PolicyByClass):
            chosen: PolicyName = getattr(self.policy, traffic_class)
            return chosen
        return self.policy


class Config(Struct, frozen=True, kw_only=True):
    """The whole file. Only `load` and `parse` make one, so it holds together."""

    edge: Edge
    limits: Limits = Limits()
    reflex: Reflex = Reflex()
    quota: Quota = Quota()
    metrics: Metrics = Metrics()
    log: Log = Log()
    shield: ShieldConfig = ShieldConfig()
    autoban: AutobanConfig = AutobanConfig()
    model: ModelConfig = ModelConfig()
    planner: PlannerConfig = PlannerConfig()
    dns: DnsConfig = DnsConfig()
    regions: tuple[RegionConfig, ...] = ()
    customers: tuple[CustomerConfig, ...] = ()
    cdns: tuple[CdnConfig, ...]
    services: tuple[ServiceConfig, ...]
    feeds: tuple[FeedConfig, ...] = ()
    path: Path

    def cdns_of(self, service: ServiceConfig) -> tuple[CdnConfig, ...]:
        """The CDNs that serve `service` and have an endpoint of its family: in the service's own order,
        else in the file's."""
        named = {cdn.name: cdn for cdn in self.cdns}
        chosen = [named[name] for name in service.cdns] if service.cdns else self.cdns
        return tuple(
            cdn for cdn in chosen if any(endpoint.family == service.family for endpoint in cdn.endpoints)
        )

    def protocols_of(self, cdn: CdnConfig, endpoint: EndpointConfig) -> tuple[Protocol, ...]:
        """The protocols that services want of an endpoint; none when no service uses it."""
        wanted = {
            protocol
            for service in self.services
            if service.family == endpoint.family and (not service.cdns or cdn.name in service.cdns)
            for protocol in service.protocol
        }
        return tuple(protocol for protocol in PROTOCOLS if protocol in wanted)

    def endpoint_count(self) -> int:
        """Endpoints in the kernel: each address and port, once a protocol."""
        return sum(
            max(1, len(self.protocols_of(cdn, endpoint))) for cdn in self.cdns for endpoint in cdn.endpoints
        )


PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp")
CLASSES: tuple[ClassName, ...] = ("interactive", "video", "bulk")
"""In the order of the kernel's numbers."""
