"""A frame: one picture of an edge."""

from __future__ import annotations

from msgspec import field

from cdnctl.model.actors import Watcher
from cdnctl.model.bans import Autoban
from cdnctl.model.base import Base
from cdnctl.model.door import Door
from cdnctl.model.picture import Block, Cdn, Customer, Event, Interface, MapFill, Service, Talker, Verdict
from cdnctl.model.planning import PlannerPicture
from cdnctl.model.recordings import Recording
from cdnctl.model.shield import Shield
from cdnctl.model.suspicion import Manner, Suspicion
from cdnctl.model.transactions import HeldBack, Pending


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
    blocks_by_source: dict[str, int] = field(default_factory=dict)
    """How many each source wants; a prefix may be wanted by several."""
    block_prefixes: int = 0
    """Prefixes that anybody wants: what should be enforced."""
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
    maps: list[MapFill] = field(default_factory=list)
    """The tables that fill, as of the last count; none before the first."""
    recording: Recording | None = None
    """The one that the agent makes now."""
    state_version: int = 0
    """Counts operators' changes; a plan that is made on this picture says so (`Change.expect`)."""
    pending: Pending | None = None
    """The change that reverts unless it is confirmed."""
    planner: PlannerPicture | None = None
    """None in recordings of earlier versions."""
    held_back: HeldBack | None = None
    """The configuration's file says other than what is in force, and not for want of a reload alone."""
    shield: Shield = field(default_factory=Shield)
    autoban: Autoban = field(default_factory=Autoban)
    door: Door = field(default_factory=Door)
    suspicion: Suspicion = field(default_factory=Suspicion)
    manners: list[Manner] = field(default_factory=list)
    """Of sources that asked for a flow since the frame before, those that did so last; none with no model."""
    step: str = ""
    """The running step of a scenario, for the headline; empty on a real edge."""
    agent_pid: int = 0
    agent_started_ns: int = 0


FRAME_BLOCKS = 200
FRAME_CUSTOMERS = 50
