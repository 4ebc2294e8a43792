"""What all parts of cdnctl talk about: frames down, commands up.

Pure data. A `Frame` is one picture of an edge, taken every `FRAME_INTERVAL_S`; a `Command` is one
operator's wish; an `Outcome` is its answer; an `Event` is something that happened. The agent sends
them over its socket, recordings keep them in files, the console draws them.

Units are in the names: `_ms`, `_ns`, `_s`, `_pps` (packets a second), `_bps` (bits a second),
`_total` (a count since the program was loaded). Shares and ratios run from 0 to 1. `at_ns` is wall
time (nanoseconds since the epoch, UTC); `monotonic_ns` is the kernel's clock (`bpf_ktime_get_ns`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field

FRAME_INTERVAL_S = 0.5
RATE_WINDOW_S = 5.0
"""Rates and percentiles in a frame look back over this many seconds."""

Severity = Literal["info", "notice", "warning", "alarm"]
EndpointState = Literal["in", "out", "probing", "drained"]
CdnState = Literal["in", "partly", "out", "probing", "drained"]
OutReason = Literal["", "dark", "refusing", "slow", "operator"]
Transport = Literal["nat", "ipip", "gue", "pass"]
EdgeMode = Literal["active", "observe"]


class Base(Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Common settings of every message: immutable, built by keyword."""


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
    first_byte_p50_ms: float | None = None
    """From a request's last byte to its answer's first; None when the window holds no request."""
    first_byte_p95_ms: float | None = None
    first_byte_p99_ms: float | None = None
    requests: int = 0
    """Requests timed in the window."""
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
    endpoints: list[Endpoint] = field(default_factory=list)


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
    samples: int = 0
    error: float = 0.0
    """Relative standard error of `pps`."""


class Event(Base, frozen=True, kw_only=True):
    """Something that happened, in the kernel, the agent, or a scenario."""

    seq: int
    at_ns: int
    kind: str
    """`eject`, `reopen`, `probe`, `rescue`, `command`, `step`, `warning`, `lost`, `attach`, ..."""
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


class Watcher(Base, frozen=True, kw_only=True):
    """Who is connected to the agent."""

    user: str
    pid: int
    client: str
    """`console`, `cli`, `demo`, ..."""
    role: Literal["operate", "view"]
    since_ns: int


class Actor(Base, frozen=True, kw_only=True):
    """Who asks for a command, as the kernel tells it (`SO_PEERCRED`); goes into the journal."""

    user: str
    """The account; `alice as root` when the login account differs from the one in force."""
    uid: int
    pid: int
    client: str = "cli"
    role: Literal["operate", "view"] = "operate"


class Totals(Base, frozen=True, kw_only=True):
    """The whole edge over the window, and since load."""

    received_pps: float = 0.0
    received_bps: float = 0.0
    forwarded_pps: float = 0.0
    dropped_pps: float = 0.0
    passed_pps: float = 0.0
    new_flows_per_s: float = 0.0
    packets_total: int = 0
    half_open: int = 0
    """Half-open flows opened in the last half-open lifetime, at most the table's size (estimate)."""
    half_open_limit: int = 0
    rescued_total: int = 0
    promoted_total: int = 0


class Sampling(Base, frozen=True, kw_only=True):
    """How the perf-buffer samples are doing."""

    one_in: int = 1
    received_total: int = 0
    lost_total: int = 0
    received_per_s: float = 0.0
    lost_per_s: float = 0.0
    stale_s: float = 0.0
    """Seconds since the reader last finished a round; grows when it hangs."""


class Collector(Base, frozen=True, kw_only=True):
    """The round over all reverse slots that frees what no flow holds any more, and counts the rest."""

    rounds_total: int = 0
    freed_total: int = 0
    round_s: float = 0.0
    """How long a round takes at the present pace."""
    cpu: float = 0.0
    """Share of one processor that it takes."""
    tightest: float = 0.0
    """The largest share of ports that are held towards any endpoint."""


class Frame(Base, frozen=True, kw_only=True):
    """One picture of the edge."""

    seq: int
    at_ns: int
    monotonic_ns: int
    edge: str
    loaded: bool = True
    """False when the data path was removed from the kernel past the agent: nothing is done to packets."""
    armed: bool
    """False after `disarm`: nothing is dropped, shed or ejected."""
    bypassed: bool = False
    observing: bool = False
    """It decides and counts, but every packet passes."""
    generation: int = 0
    """Policy generation: cached verdicts older than this are checked once again."""
    interfaces: list[Interface] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    cdns: list[Cdn] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    talkers: list[Talker] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    """At most `FRAME_BLOCKS` of them, the newest first; `blocks_wanted` counts all."""
    blocks_wanted: int = 0
    blocks_enforced: int = 0
    customers: list[Customer] = field(default_factory=list)
    """At most `FRAME_CUSTOMERS` of them, the busiest first; `customers_total` counts all."""
    customers_total: int = 0
    allowed: int = 0
    """Prefixes that are neither blocked nor limited."""
    events: list[Event] = field(default_factory=list)
    """Those since the previous frame."""
    watchers: list[Watcher] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)
    sampling: Sampling = field(default_factory=Sampling)
    collector: Collector = field(default_factory=Collector)
    step: str = ""
    """The running step of a scenario, for the headline; empty on a real edge."""
    agent_pid: int = 0
    agent_started_ns: int = 0


FRAME_BLOCKS = 200
FRAME_CUSTOMERS = 50


# --- sampled packets ------------------------------------------------------------------------------

FilterField = Literal["src", "dst", "host", "sport", "dport", "port", "proto", "verdict", "cdn"]


class Term(Struct, frozen=True, array_like=True):
    """One condition on a packet: `src 10.0.0.0/8`, `not verdict blocked`."""

    field: FilterField
    value: str
    """`dropped` as a verdict is any drop."""
    negated: bool = False


PacketFilter = list[list[Term]]
"""Any of them, each of which is all of its terms; of none, every packet."""


class SampledPacket(Struct, frozen=True, array_like=True):
    """One packet of the edge, and what became of it."""

    source: str
    target: str
    source_port: int
    target_port: int
    protocol: str
    """`tcp`, `udp`, `icmp`, `icmp6`, or a number."""
    flags: str
    """Of TCP, as tcpdump has them: `S`, `S.`, `P.`."""
    length: int
    """Of the frame as it came in."""
    verdict: str
    drop: bool
    cdn: str


class Sampled(Base, frozen=True, kw_only=True):
    """The sampled packets of one frame's time that a watcher asked for."""

    at_ns: int
    """When they were collected: within `FRAME_INTERVAL_S` of when they came."""
    one_in: int
    """So many packets stand behind each of them, on average."""
    packets: list[SampledPacket] = field(default_factory=list)
    missed: int = 0
    """More that matched, but were too many or too quick for this watcher."""
    lost_total: int = 0
    """Samples that the agent itself could not take up, so far."""


# --- commands -------------------------------------------------------------------------------------


class Command(Struct, frozen=True, kw_only=True, tag_field="verb"):
    """An operator's wish. Those that change something take `dry_run` (say what would happen)."""


class Change(Command, frozen=True, kw_only=True):
    """A command that changes the edge; refused on the view socket."""

    reason: str = ""
    dry_run: bool = False


class BlockPrefix(Change, frozen=True, kw_only=True, tag="block"):
    """Drop everything from `prefix` (an address or CIDR) for `lifetime_s` seconds."""

    prefix: str
    lifetime_s: float | None = 4 * 3600.0
    """None: until unblocked."""


class Unblock(Change, frozen=True, kw_only=True, tag="unblock"):
    """Lift a manual block; other sources of the same prefix stay in force."""

    prefix: str


class SetWeights(Change, frozen=True, kw_only=True, tag="weight"):
    """New wanted weights by CDN name (0 to 1000); those not named stay."""

    weights: dict[str, int]


class Drain(Change, frozen=True, kw_only=True, tag="drain"):
    """No new flows to this CDN; live ones stay."""

    cdn: str


class Undrain(Change, frozen=True, kw_only=True, tag="undrain"):
    """New flows to this CDN again."""

    cdn: str


class Disarm(Change, frozen=True, kw_only=True, tag="disarm"):
    """Panic: nothing is dropped, shed or ejected; translation goes on by plain weights."""


class Arm(Change, frozen=True, kw_only=True, tag="arm"):
    """Back from `disarm` or `bypass`."""


class SetMode(Change, frozen=True, kw_only=True, tag="mode"):
    """`observe`: decide and count, but send nothing and let every packet pass, which cuts every
    translated flow. `active`: for real."""

    mode: EdgeMode


class SetLimit(Change, frozen=True, kw_only=True, tag="limit"):
    """New limits of a customer. What is None stays as it is; 0 is no limit."""

    customer: str
    pps: float | None = None
    mbit: float | None = None
    flows_per_s: float | None = None
    clear: bool = False
    """Back to the configuration's limits."""


class Allow(Change, frozen=True, kw_only=True, tag="allow"):
    """Neither block nor limit the clients of `prefix` (an address or CIDR)."""

    prefix: str


class Disallow(Change, frozen=True, kw_only=True, tag="disallow"):
    """Take back an `Allow` of exactly this prefix."""

    prefix: str


class Bypass(Change, frozen=True, kw_only=True, tag="bypass"):
    """The program passes every packet untouched: cuts every translated flow."""


class Attach(Change, frozen=True, kw_only=True, tag="attach"):
    """Attach the loaded program to the configured interfaces."""


class Detach(Change, frozen=True, kw_only=True, tag="detach"):
    """Take the program off its interfaces: cuts every translated flow."""


class Reload(Change, frozen=True, kw_only=True, tag="reload"):
    """Read the configuration again and put what is different into force, without losing a packet."""

    program: bool = False
    """Load and attach the program anew, also when it is the same."""


class Stop(Change, frozen=True, kw_only=True, tag="stop"):
    """End the agent; `detach` first when asked, else the data path stays."""

    detach: bool = False


class Note(Change, frozen=True, kw_only=True, tag="note"):
    """Put a line into the event ticker; `step` also becomes the headline (scenarios use it)."""

    text: str
    step: str | None = None
    severity: Severity = "info"


class ListBlocks(Command, frozen=True, kw_only=True, tag="blocks"):
    """All wanted blocks: `Outcome.blocks`."""


class ListCustomers(Command, frozen=True, kw_only=True, tag="customers"):
    """All customers with their limits, and the allowed prefixes: `Outcome.customers`, `.allowed`."""


class Who(Command, frozen=True, kw_only=True, tag="who"):
    """Who is connected: `Outcome.watchers`."""


class GetFrame(Command, frozen=True, kw_only=True, tag="status"):
    """The newest frame, or that with number `seq` if it is among the last `FRAMES_KEPT`."""

    seq: int | None = None


FRAMES_KEPT = 240

AnyChange = (
    BlockPrefix
    | Unblock
    | SetWeights
    | Drain
    | Undrain
    | Disarm
    | Arm
    | Bypass
    | Attach
    | Detach
    | SetMode
    | SetLimit
    | Allow
    | Disallow
    | Reload
    | Stop
    | Note
)
AnyCommand = AnyChange | ListBlocks | ListCustomers | Who | GetFrame


class Outcome(Base, frozen=True, kw_only=True):
    """The answer to one command."""

    ok: bool
    text: str
    """What was done, or what would be; on refusal the reason and, on lines of its own, the remedy."""
    remedy: str = ""
    """That remedy by itself, where it is known apart."""
    applied_monotonic_ns: int = 0
    """Kernel clock right after the last map write of the change; 0 when nothing was written."""
    warnings: list[str] = field(default_factory=list)
    shares: dict[str, float] | None = None
    """For weights and drains: the shares they lead to."""
    service_shares: dict[str, dict[str, float]] | None = None
    """The same by service, when services have different CDNs: `shares` is right for none of them then."""
    changed: list[str] | None = None
    """For a reload: what of the configuration is different, a sentence each."""
    blocks: list[Block] | None = None
    customers: list[Customer] | None = None
    allowed: list[Allowed] | None = None
    watchers: list[Watcher] | None = None
    frame: Frame | None = None


def share_words(shares: Mapping[str, float]) -> str:
    """`borealis 50.0 %, corona 50.0 % of new flows`: those that get any."""
    given = ", ".join(f"{cdn} {100 * share:.1f} %" for cdn, share in shares.items() if share)
    return f"{given or 'none'} of new flows"
