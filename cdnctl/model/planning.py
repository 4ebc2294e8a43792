"""The planner in a frame: what it knows of each CDN, what it moved and why, and what comes from outside."""

from __future__ import annotations

from typing import Literal

from msgspec import field

from cdnctl.model.base import Base

PlannerMode = Literal["off", "observe", "on"]
ProbeState = Literal["", "unknown", "well", "ill"]


class CellPlan(Base, frozen=True, kw_only=True):
    """What the planner leaves a CDN of one class of traffic of the clients of one region."""

    region: str
    """Empty: clients of no region."""
    traffic_class: str
    factor: float
    """The part of the weight that it has as a whole."""
    code: str = ""
    why: str = ""


class CdnPlan(Base, frozen=True, kw_only=True):
    """What the planner says of one CDN."""

    factor: float = 1.0
    """The part of its weight that is in force, or would be in mode `observe`."""
    code: str = ""
    """Why it was moved last: `first_byte`, `loss`, `failures`, `capacity`, `recovered` ..."""
    why: str = ""
    """The same as a sentence, with its numbers; empty when operators' weights are in force."""
    cells: list[CellPlan] = field(default_factory=list)
    """Regions and classes in which it has less than as a whole."""
    pinned: bool = False
    """It keeps exactly its weight, whatever is measured."""
    probes: ProbeState = ""
    """What its endpoints' probes say together; empty: it is not probed."""
    probe_text: str = ""
    """What is wrong with an endpoint, or its certificate."""
    ill: list[str] = field(default_factory=list)
    """Endpoints that get no new flows for what probes say."""
    certificate_days: float | None = None
    """Until the first of its certificates ends."""
    price: float | None = None
    commit_mbit: float | None = None
    p95_mbit: float = 0.0
    """The month's 95th percentile so far."""
    bursts_used: float = 0.0
    """Of the month's free samples over the commit, what is gone."""
    mbit: float = 0.0
    """Traffic now, of the direction that has more."""
    expected_mbit: float | None = None
    """By time of day and week; None: not known yet."""
    band_mbit: tuple[float, float] | None = None
    """It is expected to lie in here."""
    error: float | None = None
    """How far forecasts an hour ahead were off, relative to what came; None: not compared for a day yet."""
    naive_error: float | None = None
    """The same of `as a week ago`."""


class PlanShift(Base, frozen=True, kw_only=True):
    """Shares that were moved."""

    at_ns: int
    cdn: str
    code: str
    before: float
    after: float
    text: str
    numbers: dict[str, float] = field(default_factory=dict)
    region: str = ""
    traffic_class: str = ""
    """Of this class from that region alone; empty: of all traffic."""


class FeedPicture(Base, frozen=True, kw_only=True):
    """A list from outside."""

    name: str
    kind: Literal["blocks", "ranges"]
    format: str = ""
    entries: int = 0
    """As they stand in the version in force."""
    prefixes: int = 0
    """What it wants blocked, or protected, after joining."""
    skipped: int = 0
    skipped_shown: list[str] = field(default_factory=list)
    """The first few, each with its line and why."""
    added: int = 0
    """By its last version."""
    removed: int = 0
    good_at_ns: int = 0
    """When it was last taken, or found to be unchanged; 0: never."""
    next_in_s: float = 0.0
    failures: int = 0
    """In a row."""
    trouble: str = ""


class NamePicture(Base, frozen=True, kw_only=True):
    """A name that endpoints come from."""

    name: str
    cdn: str
    addresses: list[str] = field(default_factory=list)
    ttl_s: float = 0.0
    next_in_s: float = 0.0
    failures: int = 0
    trouble: str = ""


class PlannerPicture(Base, frozen=True, kw_only=True):
    """The planner of an edge."""

    mode: PlannerMode
    acts: bool
    """False also while the edge is disarmed, bypassed or only observes."""
    rounds_total: int = 0
    shifts_total: int = 0
    shifts: list[PlanShift] = field(default_factory=list)
    """The last `SHIFTS_KEPT`, the newest first."""
    growth: float = 1.0
    """Traffic at the peak that is predicted within the horizon, over traffic now."""
    expected_mbit: float | None = None
    """Of the whole edge."""
    band_mbit: tuple[float, float] | None = None
    mbit: float = 0.0
    error: float | None = None
    naive_error: float | None = None
    trouble: str = ""
    """Why it does not plan, when it should."""
    feeds: list[FeedPicture] = field(default_factory=list)
    names: list[NamePicture] = field(default_factory=list)


SHIFTS_KEPT = 20
