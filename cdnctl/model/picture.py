"""The parts of a frame: CDNs, verdicts, talkers, blocks, customers, events."""

from __future__ import annotations

from typing import Literal

from msgspec import field

from cdnctl.model.base import Base, CdnState, EndpointState, OutReason, Severity, Transport
from cdnctl.model.planning import CdnPlan


class Endpoint(Base, frozen=True, kw_only=True):
    """One address of a CDN, as the kernel's breaker sees it."""

    address: str
    port: int
    protocol: str = "tcp"
    regions: list[str] = field(default_factory=list)
    """It serves clients of these only; empty: all."""
    state: EndpointState
    reason: OutReason = ""
    back_in_s: float = 0.0
    """Seconds until probing starts; 0 when it is in."""
    ewma_ms: float = 0.0
    """Peak-EWMA of the handshake: rises at once, falls slowly."""
    baseline_ms: float = 0.0
    """Slow average of good handshakes, frozen while out."""
    limit_ms: float = 0.0
    """A handshake over this counts as slow."""
    unanswered: int = 0
    """Connects since the last answer."""
    ejections: int = 0
    """Recent ejections: each makes the next pause longer."""
    ports_held: float = 0.0
    """Share of the SNAT ports towards it that are held, resting ones included, as of the last census."""
    ports_gone_in_s: float | None = None
    """Seconds until none is free, if it goes on as in the last minutes; None: it does not look so."""


class CdnCell(Base, frozen=True, kw_only=True):
    """First bytes of a CDN for the clients of one region and one class of traffic, in the window."""

    region: str
    """Empty: clients of no region."""
    traffic_class: str
    p50_ms: float
    p95_ms: float
    requests: int
    requests_total: int


class Cdn(Base, frozen=True, kw_only=True):
    """One CDN over the last `RATE_WINDOW_S` seconds, and its exact totals."""

    name: str
    mode: Transport = "nat"
    """How packets get there."""
    state: CdnState
    """`in` when all endpoints are in, `partly` when only some are; `drained` by an operator; else what the
    best of its endpoints is."""
    reason: OutReason = ""
    missing: str = ""
    """What is out of one that is `partly` in, and why: `IPv6 out: dark`."""
    endpoints_in: int = 0
    """How many of `endpoints` are in."""
    wanted_weight: int
    """What configuration or operator ask for."""
    effective_share: float
    """Share of the pick table now, after drains and ejections."""
    share: float
    """Share of the new flows in the window."""
    handshake_p50_ms: float | None = None
    """None when the window holds no sample."""
    handshake_p95_ms: float | None = None
    handshake_p99_ms: float | None = None
    samples: int = 0
    """Handshakes measured in the window."""
    histogram: list[int] = field(default_factory=list)
    """Those by time, two steps an octave: see `histogram_limits_ms`. Empty when there are none."""
    first_byte_p50_ms: float | None = None
    """From a request's last byte to its answer's first; None when the window holds no request."""
    first_byte_p95_ms: float | None = None
    first_byte_p99_ms: float | None = None
    requests: int = 0
    """Requests timed in the window."""
    cells: list[CdnCell] = field(default_factory=list)
    """The same by region and class, of those with any; none where all traffic is of one."""
    loss_to_cdn: float | None = None
    """Share of the segments with data that were sent again, in the window; None: there were none."""
    loss_from_cdn: float | None = None
    open_flows: int | None = 0
    """None: of a direct return the end of a flow is seen only when its client says so."""
    capacity_use: float | None = None
    """How full it is by the fuller of its limits: 1 is its capacity; None: it has none."""
    spilled_per_s: float = 0.0
    """New flows that went elsewhere because it was full."""
    video_kept: float = 1.0
    """The part of its weight that it keeps for video; less than 1 while its latency or loss is bad."""
    new_flows_per_s: float = 0.0
    to_cdn_pps: float = 0.0
    from_cdn_pps: float = 0.0
    to_cdn_bps: float = 0.0
    from_cdn_bps: float = 0.0
    new_flows_total: int = 0
    """New flows steered here, probes and rescued ones included."""
    probe_flows_total: int = 0
    """Flows that were sent to an ejected CDN to see whether it is back."""
    rescued_from_total: int = 0
    """Connects that went unanswered here and were moved to another CDN."""
    rescued_to_total: int = 0
    spilled_total: int = 0
    reset_dark_total: int = 0
    """Clients that got a reset because it went dark under them."""
    to_cdn_packets_total: int = 0
    to_cdn_bytes_total: int = 0
    from_cdn_packets_total: int = 0
    from_cdn_bytes_total: int = 0
    handshakes_total: int = 0
    ejections_total: int = 0
    last_new_flow_ns: int = 0
    """Kernel clock of the last new flow that was not a probe."""
    plan: CdnPlan = field(default_factory=CdnPlan)
    endpoints: list[Endpoint] = field(default_factory=list)


HISTOGRAM_STEPS = 32
"""Entries of `Cdn.histogram` when there are any."""
_HISTOGRAM_FROM_MS = 0.125


def histogram_limits_ms(step: int) -> tuple[float, float]:
    """Lower and upper bound of an entry; the first takes what is quicker too, the last what is slower."""
    return _HISTOGRAM_FROM_MS * 2 ** (step / 2), _HISTOGRAM_FROM_MS * 2 ** ((step + 1) / 2)


class Verdict(Base, frozen=True, kw_only=True):
    """One line of the exact account: every packet ends in exactly one of these."""

    name: str
    """The name in bpf/abi.h in lower case: `forwarded`, `replied`, `passed`, `blocked`, ..."""
    drop: bool
    explanation: str
    """One sentence an operator understands."""
    packets_total: int
    bytes_total: int
    pps: float
    bps: float


class Talker(Base, frozen=True, kw_only=True):
    """A busy source, estimated from 1-in-N samples; never exact, see `error`."""

    prefix: str
    """`198.51.100.7`, or a /24 or /16 when no single source in it stands out."""
    pps: float
    bps: float
    drop_share: float
    """Share of its packets that were dropped."""
    cdn: str = ""
    """The CDN that got most of its packets; empty when none did."""
    service: str = ""
    """The service that most of its packets were for, dropped ones included; empty when none were."""
    samples: int = 0
    error: float = 0.0
    """Relative standard error of `pps`."""


class Event(Base, frozen=True, kw_only=True):
    """Something that happened, in the kernel, the agent, or a scenario."""

    seq: int
    at_ns: int
    kind: str
    """`eject`, `reopen`, `probe`, `rescue`, `command`, `shield`, `step`, `warning`, ..."""
    text: str
    severity: Severity = "info"
    cdn: str = ""
    monotonic_ns: int = 0


class Block(Base, frozen=True, kw_only=True):
    """One blocked prefix as wanted by the agent."""

    prefix: str
    reason: str = ""
    source: str = "manual"
    created_ns: int = 0
    expires_ns: int = 0
    """Wall time; 0 means never."""
    hits: int = 0
    """Packets dropped by it, estimated from sampled counts."""


class MapFill(Base, frozen=True, kw_only=True):
    """How full a table of the kernel is."""

    name: str
    entries: int
    room: int


class Interface(Base, frozen=True, kw_only=True):
    """An interface the program is (or should be) attached to."""

    name: str
    mode: Literal["native", "generic", "detached"]


class Service(Base, frozen=True, kw_only=True):
    """A VIP, port and protocol that clients connect to; one that has two protocols is there twice."""

    name: str
    vip: str
    port: int
    protocol: str
    family: Literal[4, 6] = 4
    policy: str
    """One for all classes, or as `interactive latency, video latency, bulk weighted`."""
    traffic_class: str = "interactive"
    cdns: list[str] = field(default_factory=list)
    """Those that serve it, in the order of `failover`."""
    new_flows_per_s: float = 0.0
    new_flows_total: int = 0


class Customer(Base, frozen=True, kw_only=True):
    """Clients that are counted, and may be limited, together; rates are over the window."""

    name: str
    prefixes: list[str] = field(default_factory=list)
    """At most `CUSTOMER_PREFIXES` of them; `prefix_count` counts all."""
    prefix_count: int = 0
    pps_limit: float | None = None
    mbit_limit: float | None = None
    flows_limit: float | None = None
    """New flows a second; None: no limit."""
    limited_by: Literal["config", "operator"] = "config"
    pps: float = 0.0
    """What was let through."""
    bps: float = 0.0
    flows_per_s: float = 0.0
    dropped_pps: float = 0.0
    dropped_bps: float = 0.0
    refused_per_s: float = 0.0
    """New flows over its limit."""
    packets_total: int = 0
    dropped_total: int = 0
    flows_total: int = 0
    refused_total: int = 0


class Allowed(Base, frozen=True, kw_only=True):
    """A prefix whose clients are neither blocked nor limited."""

    prefix: str
    reason: str = ""
    created_ns: int = 0


CUSTOMER_PREFIXES = 16
