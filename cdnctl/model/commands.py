"""Commands, an operator's wishes, and the outcome that answers each."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from cdnctl.model.actors import Watcher
from cdnctl.model.bans import BanWish
from cdnctl.model.base import Base, EdgeMode, Severity
from cdnctl.model.frame import Frame
from cdnctl.model.pages import JournalEntry, Page
from cdnctl.model.picture import Allowed, Block, Customer, Talker
from cdnctl.model.planning import CdnPlan, PlannerMode, PlannerPicture
from cdnctl.model.recordings import HistoryPart, Recording
from cdnctl.model.shield import ShieldWish
from cdnctl.model.suspicion import Fit, ModelWish
from cdnctl.model.transactions import Difference, Revision


class Command(Struct, frozen=True, kw_only=True, tag_field="verb"):
    """An operator's wish. Those that change something take `dry_run` (say what would happen)."""


class Change(Command, frozen=True, kw_only=True):
    """A command that changes the edge; refused on the view socket."""

    reason: str = ""
    dry_run: bool = False
    confirm_s: float = 0.0
    """Revert it after so many seconds, unless a `Confirm` comes before; 0: it stays."""
    expect: int | None = None
    """The state's version that it was planned on: if what it touches has changed since, it is refused."""


class BlockPrefix(Change, frozen=True, kw_only=True, tag="block"):
    """Drop everything from `prefix` (an address or CIDR) for `lifetime_s` seconds."""

    prefix: str
    lifetime_s: float | None = 4 * 3600.0
    """None: until unblocked."""


class Unblock(Change, frozen=True, kw_only=True, tag="unblock"):
    """Lift one block of a prefix; those of other sources stay in force."""

    prefix: str
    source: str = ""
    """Whose: `manual` or `auto`; empty: the manual one if there is one, else the automatic one."""


class ListPart(Change, frozen=True, kw_only=True, tag="list-part"):
    """A part of a list of prefixes, sent before the `BlockList` of it; by itself it changes nothing."""

    list: str
    """A token of the client's own making, the same for all parts."""
    four: bytes = b""
    """Of IPv4: five bytes each, the address and the length."""
    six: bytes = b""
    """Of IPv6: seventeen bytes each."""


class BlockList(Change, frozen=True, kw_only=True, tag="block-list"):
    """Drop everything from all prefixes of a list, whose parts were sent before, as one change."""

    list: str
    count: int
    """How many they are together: a part that is missing is noticed."""
    name: str
    """What the list is called, as a file's name; for the journal."""
    lifetime_s: float | None = 4 * 3600.0
    """None: until it is undone."""


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


class SetShield(Change, frozen=True, kw_only=True, tag="shield"):
    """The level that new flows are judged under; `auto`: what the load asks for."""

    level: ShieldWish


class SetAutoban(Change, frozen=True, kw_only=True, tag="autoban"):
    """Whether blocks set themselves; off lifts those that did. `config`: what the configuration says."""

    mode: BanWish


class SetModel(Change, frozen=True, kw_only=True, tag="model"):
    """What the model of sources' manners does; `config`: what the configuration says."""

    mode: ModelWish


class LoadModel(Change, frozen=True, kw_only=True, tag="load-model"):
    """The model to weigh sources by from now on; one without a name: none."""

    fit: Fit
    file: str = ""
    """Where it was read, for the journal."""


class SetPlanner(Change, frozen=True, kw_only=True, tag="planner"):
    """The planner's mode, in place of the configuration's; or a CDN that keeps exactly its weight, or no
    longer does."""

    mode: PlannerMode | None = None
    pin: str = ""
    unpin: str = ""


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


class Mark(Change, frozen=True, kw_only=True, tag="mark"):
    """Put a mark into the events: a chapter of whatever is recorded, and of the history."""

    text: str


class Record(Change, frozen=True, kw_only=True, tag="record"):
    """Have the agent write every frame from now on to a file that is not there yet.

    `path` is a bare name, of a file among the edge's recordings; root's may be absolute. Empty: a name
    made of the time.
    """

    path: str = ""
    for_s: float | None = None
    """None: until stopped."""
    redact: bool = False


class StopRecording(Change, frozen=True, kw_only=True, tag="stop-recording"):
    """End the recording that the agent makes."""


class Confirm(Change, frozen=True, kw_only=True, tag="confirm"):
    """Keep the change that waits for it."""


class Revert(Change, frozen=True, kw_only=True, tag="revert"):
    """Take that change back at once."""


class Undo(Change, frozen=True, kw_only=True, tag="undo"):
    """Take back the last change, or another one, if what it touched is still as it left it."""

    seq: int | None = None
    """Its number in the journal; None: the last that can be undone."""
    to: int | None = None
    """Instead: back to the state of this revision, all at once; blocks stay as they are."""


class Repair(Change, frozen=True, kw_only=True, tag="repair"):
    """Have the kernel hold what configuration and operators want."""


class Diff(Command, frozen=True, kw_only=True, tag="diff"):
    """What the kernel holds otherwise than it is wanted: `Outcome.differences`."""


class GetState(Command, frozen=True, kw_only=True, tag="state"):
    """The kept revisions of the state: `Outcome.revisions`, or with `revision` its text: `Outcome.state`."""

    revision: int | None = None


class ListBlocks(Command, frozen=True, kw_only=True, tag="blocks"):
    """The newest of the wanted blocks: `Outcome.blocks`, at most `PAGE_LIMIT`; `FindBlocks` gives all."""


class FindBlocks(Command, frozen=True, kw_only=True, tag="find-blocks"):
    """A page of the wanted blocks, those blocked first at the end: `Outcome.blocks` and `.page`."""

    text: str = ""
    """Words that prefix, reason or source must have; after a `!`, must not. An address or prefix finds what
    covers it, too."""
    cursor: int | None = None
    """`Page.next` of the page before; None: the first."""
    limit: int = 100


class ReadJournal(Command, frozen=True, kw_only=True, tag="journal"):
    """A page of the journal, the newest first: `Outcome.journal` and `.page`."""

    cursor: int | None = None
    limit: int = 100


class ListTalkers(Command, frozen=True, kw_only=True, tag="talkers"):
    """More of the busiest sources than a frame has: `Outcome.talkers`."""

    limit: int = 200


PAGE_LIMIT = 500
"""Rows of a page at most."""


class ListCustomers(Command, frozen=True, kw_only=True, tag="customers"):
    """All customers with their limits, and the allowed prefixes: `Outcome.customers`, `.allowed`."""


class AskPlanner(Command, frozen=True, kw_only=True, tag="plan"):
    """What the planner does: `Outcome.planner`; with `cdn`, why that one has what it has, as text."""

    cdn: str = ""


class Who(Command, frozen=True, kw_only=True, tag="who"):
    """Who is connected: `Outcome.watchers`."""


class GetFrame(Command, frozen=True, kw_only=True, tag="status"):
    """The newest frame, or that with number `seq` if it is among those of the last 15 minutes."""

    seq: int | None = None


class GetMetrics(Command, frozen=True, kw_only=True, tag="metrics"):
    """What Prometheus is told, as text: `Outcome.metrics`."""


class GetHistory(Command, frozen=True, kw_only=True, tag="history"):
    """The next part of the kept frames after number `after_seq`: `Outcome.history`, None at their end."""

    after_seq: int = -1


FRAMES_KEPT = 240
"""What a console's plots reach back over, and a client's queue holds."""

AnyChange = (
    BlockPrefix
    | ListPart
    | BlockList
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
    | SetShield
    | SetAutoban
    | SetModel
    | LoadModel
    | SetLimit
    | SetPlanner
    | Allow
    | Disallow
    | Reload
    | Confirm
    | Revert
    | Undo
    | Repair
    | Stop
    | Note
    | Mark
    | Record
    | StopRecording
)
Lasting = Reload | Revert | Undo | Repair
"""Changes that may take their time: frames and others' commands go on meanwhile."""
AnyQuery = (
    ListBlocks
    | FindBlocks
    | ReadJournal
    | ListTalkers
    | ListCustomers
    | AskPlanner
    | Who
    | GetFrame
    | GetHistory
    | GetMetrics
    | GetState
    | Diff
)
"""What only looks, and so is no command on the wire: whoever may watch may ask it."""
AnyCommand = AnyChange | AnyQuery


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
    risk: str = ""
    """Why a change should be made with `confirm_s`; empty: it need not."""
    state_version: int = 0
    """Of the state that this was planned on, or that it led to."""
    reverts_at_ns: int = 0
    """Wall time at which it reverts unless a `Confirm` comes before; 0: it stays."""
    revisions: list[Revision] | None = None
    state: str | None = None
    differences: list[Difference] | None = None
    blocks: list[Block] | None = None
    customers: list[Customer] | None = None
    allowed: list[Allowed] | None = None
    talkers: list[Talker] | None = None
    journal: list[JournalEntry] | None = None
    page: Page | None = None
    watchers: list[Watcher] | None = None
    planner: PlannerPicture | None = None
    plans: dict[str, CdnPlan] | None = None
    """By CDN, of the planner."""
    frame: Frame | None = None
    metrics: str | None = None
    history: HistoryPart | None = None
    recording: Recording | None = None


def share_words(shares: Mapping[str, float]) -> str:
    """`borealis 50.0 %, corona 50.0 % of new flows`: those that get any."""
    given = ", ".join(f"{cdn} {100 * share:.1f} %" for cdn, share in shares.items() if share)
    return f"{given or 'none'} of new flows"
