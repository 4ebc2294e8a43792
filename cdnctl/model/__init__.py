"""What all parts of cdnctl talk about: frames down, commands up.

Pure data. A `Frame` is one picture of an edge, taken every `FRAME_INTERVAL_S`; a `Command` is one
operator's wish; an `Outcome` is its answer; an `Event` is something that happened. The agent sends
them over its socket, recordings keep them in files, the console draws them.

Units are in the names: `_ms`, `_ns`, `_s`, `_pps` (packets a second), `_bps` (bits a second),
`_total` (a count since the program was loaded). Shares and ratios run from 0 to 1. `at_ns` is wall
time (nanoseconds since the epoch, UTC); `monotonic_ns` is the kernel's clock (`bpf_ktime_get_ns`).

    base      what all have in common     commands   commands and outcomes
    frame     a frame                     packets    sampled packets, and filters
    picture   its parts                   actors     who watches, who asks
    recordings  what is recorded, and the frames that are kept
    lines     commands as command lines   pages      long lists, a page at a time
    transactions  what can be taken back
    shield    its level under attack      bans       blocks that set themselves
    transactions  what can be taken back         planning   the planner in a frame
"""

from cdnctl.model.actors import Actor as Actor
from cdnctl.model.actors import Watcher as Watcher
from cdnctl.model.bans import FRAME_BANS as FRAME_BANS
from cdnctl.model.bans import Autoban as Autoban
from cdnctl.model.bans import Ban as Ban
from cdnctl.model.bans import BanMode as BanMode
from cdnctl.model.bans import BanWish as BanWish
from cdnctl.model.bans import Offender as Offender
from cdnctl.model.base import FRAME_INTERVAL_S as FRAME_INTERVAL_S
from cdnctl.model.base import RATE_WINDOW_S as RATE_WINDOW_S
from cdnctl.model.base import Base as Base
from cdnctl.model.base import CdnState as CdnState
from cdnctl.model.base import EdgeMode as EdgeMode
from cdnctl.model.base import EndpointState as EndpointState
from cdnctl.model.base import OutReason as OutReason
from cdnctl.model.base import Severity as Severity
from cdnctl.model.base import Transport as Transport
from cdnctl.model.commands import FRAMES_KEPT as FRAMES_KEPT
from cdnctl.model.commands import PAGE_LIMIT as PAGE_LIMIT
from cdnctl.model.commands import Allow as Allow
from cdnctl.model.commands import AnyChange as AnyChange
from cdnctl.model.commands import AnyCommand as AnyCommand
from cdnctl.model.commands import AnyQuery as AnyQuery
from cdnctl.model.commands import Arm as Arm
from cdnctl.model.commands import AskPlanner as AskPlanner
from cdnctl.model.commands import Attach as Attach
from cdnctl.model.commands import BlockList as BlockList
from cdnctl.model.commands import BlockPrefix as BlockPrefix
from cdnctl.model.commands import Bypass as Bypass
from cdnctl.model.commands import Change as Change
from cdnctl.model.commands import Command as Command
from cdnctl.model.commands import Confirm as Confirm
from cdnctl.model.commands import Detach as Detach
from cdnctl.model.commands import Diff as Diff
from cdnctl.model.commands import Disallow as Disallow
from cdnctl.model.commands import Disarm as Disarm
from cdnctl.model.commands import Drain as Drain
from cdnctl.model.commands import FindBlocks as FindBlocks
from cdnctl.model.commands import GetFrame as GetFrame
from cdnctl.model.commands import GetHistory as GetHistory
from cdnctl.model.commands import GetMetrics as GetMetrics
from cdnctl.model.commands import GetState as GetState
from cdnctl.model.commands import Lasting as Lasting
from cdnctl.model.commands import ListBlocks as ListBlocks
from cdnctl.model.commands import ListCustomers as ListCustomers
from cdnctl.model.commands import ListPart as ListPart
from cdnctl.model.commands import ListTalkers as ListTalkers
from cdnctl.model.commands import LoadModel as LoadModel
from cdnctl.model.commands import Mark as Mark
from cdnctl.model.commands import Note as Note
from cdnctl.model.commands import Outcome as Outcome
from cdnctl.model.commands import ReadJournal as ReadJournal
from cdnctl.model.commands import Record as Record
from cdnctl.model.commands import Reload as Reload
from cdnctl.model.commands import Repair as Repair
from cdnctl.model.commands import Revert as Revert
from cdnctl.model.commands import SetAutoban as SetAutoban
from cdnctl.model.commands import SetLimit as SetLimit
from cdnctl.model.commands import SetMode as SetMode
from cdnctl.model.commands import SetModel as SetModel
from cdnctl.model.commands import SetPlanner as SetPlanner
from cdnctl.model.commands import SetShield as SetShield
from cdnctl.model.commands import SetWeights as SetWeights
from cdnctl.model.commands import Stop as Stop
from cdnctl.model.commands import StopRecording as StopRecording
from cdnctl.model.commands import Unblock as Unblock
from cdnctl.model.commands import Undo as Undo
from cdnctl.model.commands import Undrain as Undrain
from cdnctl.model.commands import Who as Who
from cdnctl.model.commands import share_words as share_words
from cdnctl.model.door import Door as Door
from cdnctl.model.frame import FRAME_BLOCKS as FRAME_BLOCKS
from cdnctl.model.frame import FRAME_CUSTOMERS as FRAME_CUSTOMERS
from cdnctl.model.frame import Collector as Collector
from cdnctl.model.frame import Frame as Frame
from cdnctl.model.frame import Sampling as Sampling
from cdnctl.model.frame import Totals as Totals
from cdnctl.model.packets import FilterField as FilterField
from cdnctl.model.packets import PacketFilter as PacketFilter
from cdnctl.model.packets import Sampled as Sampled
from cdnctl.model.packets import SampledPacket as SampledPacket
from cdnctl.model.packets import Term as Term
from cdnctl.model.pages import JournalEntry as JournalEntry
from cdnctl.model.pages import Page as Page
from cdnctl.model.picture import CUSTOMER_PREFIXES as CUSTOMER_PREFIXES
from cdnctl.model.picture import HISTOGRAM_STEPS as HISTOGRAM_STEPS
from cdnctl.model.picture import Allowed as Allowed
from cdnctl.model.picture import Block as Block
from cdnctl.model.picture import Cdn as Cdn
from cdnctl.model.picture import CdnCell as CdnCell
from cdnctl.model.picture import Customer as Customer
from cdnctl.model.picture import Endpoint as Endpoint
from cdnctl.model.picture import Event as Event
from cdnctl.model.picture import Interface as Interface
from cdnctl.model.picture import MapFill as MapFill
from cdnctl.model.picture import Service as Service
from cdnctl.model.picture import Talker as Talker
from cdnctl.model.picture import Verdict as Verdict
from cdnctl.model.picture import histogram_limits_ms as histogram_limits_ms
from cdnctl.model.planning import SHIFTS_KEPT as SHIFTS_KEPT
from cdnctl.model.planning import CdnPlan as CdnPlan
from cdnctl.model.planning import CellPlan as CellPlan
from cdnctl.model.planning import FeedPicture as FeedPicture
from cdnctl.model.planning import NamePicture as NamePicture
from cdnctl.model.planning import PlannerMode as PlannerMode
from cdnctl.model.planning import PlannerPicture as PlannerPicture
from cdnctl.model.planning import PlanShift as PlanShift
from cdnctl.model.recordings import HistoryPart as HistoryPart
from cdnctl.model.recordings import Recording as Recording
from cdnctl.model.shield import LEVELS as LEVELS
from cdnctl.model.shield import Shield as Shield
from cdnctl.model.shield import ShieldLevel as ShieldLevel
from cdnctl.model.shield import ShieldWish as ShieldWish
from cdnctl.model.suspicion import FEATURE_WORDS as FEATURE_WORDS
from cdnctl.model.suspicion import FEATURES as FEATURES
from cdnctl.model.suspicion import MODEL_MODES as MODEL_MODES
from cdnctl.model.suspicion import Fit as Fit
from cdnctl.model.suspicion import Manner as Manner
from cdnctl.model.suspicion import ModelMode as ModelMode
from cdnctl.model.suspicion import ModelWish as ModelWish
from cdnctl.model.suspicion import Suspicion as Suspicion
from cdnctl.model.suspicion import attack_mark as attack_mark
from cdnctl.model.suspicion import over_mark as over_mark
from cdnctl.model.transactions import Difference as Difference
from cdnctl.model.transactions import HeldBack as HeldBack
from cdnctl.model.transactions import Pending as Pending
from cdnctl.model.transactions import Revision as Revision
