"""The planner on the screen of steering: what it keeps of each CDN's weight and why, and what is expected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cdnctl.console.format import NONE, clean, percent, scaled
from cdnctl.console.widgets.lines import Row, heading
from cdnctl.console.widgets.plot import Series
from cdnctl.console.widgets.table import Cell, Column, LiveTable, Record
from cdnctl.model import Cdn, Frame, PlannerPicture

_MODES = {"on": "on", "observe": "observes: it moves nothing", "off": "off"}


class PlanTable(LiveTable):
    """One row a CDN: what the planner makes of its weight, what probes say, what it carries and costs."""

    EMPTY = "no CDN is configured"
    COLUMNS = (
        Column("name", "CDN", 10, right=False, grows=True),
        Column("keeps", "keeps", 5),
        Column("why", "why", 14, right=False, flex=True),
        Column("mbit", "Mbit/s", 6),
        Column("expected", "expected", 8),
        Column("off", "off by", 6, from_width=72),
        Column("naive", "a week ago's", 12, from_width=86),
        Column("commit", "commit", 6, from_width=78),
        Column("price", "price", 6, from_width=92),
    )

    def update(self, cdns: Sequence[Cdn], planner: PlannerPicture | None) -> None:
        """Show these."""
        said = "not in this recording" if planner is None else _MODES[planner.mode]
        if planner is not None and planner.mode == "on" and not planner.acts:
            said = "waits: the edge is switched off"
        trouble = f" · {clean(planner.trouble, 60)}" if planner is not None and planner.trouble else ""
        self.border_title = heading(f"planner · {said}{trouble}")
        self.fill([Record(cdn.name, _planned(cdn)) for cdn in cdns])


def _planned(cdn: Cdn) -> dict[str, Cell]:
    plan = cdn.plan
    keeps = 0.0 if plan.ill and cdn.state in ("out", "drained") else plan.factor
    role = "bad" if plan.ill else "warn" if plan.factor < 1 or plan.probe_text else "muted"
    near = plan.commit_mbit is not None and plan.mbit > 0.8 * plan.commit_mbit
    used = NONE if plan.commit_mbit is None else percent(plan.p95_mbit / plan.commit_mbit)
    return {
        "name": (clean(cdn.name, 32), "text bold"),
        "keeps": (percent(keeps), role),
        "why": (reason(cdn), role),
        "mbit": (scaled(plan.mbit), "text"),
        "expected": (NONE if plan.expected_mbit is None else scaled(plan.expected_mbit), "muted"),
        "off": (NONE if plan.error is None else percent(plan.error), "muted"),
        "naive": (NONE if plan.naive_error is None else percent(plan.naive_error), "muted"),
        "commit": (used, "warn" if near else "muted"),
        "price": (NONE if plan.price is None else f"{plan.price:g}", "muted"),
    }


def reason(cdn: Cdn) -> str:
    """In one line: what probes say, what was measured, or the operators' word."""
    plan = cdn.plan
    said = [plan.probe_text, plan.why] if plan.ill or plan.probe_text else [plan.why]
    if plan.pinned:
        said.insert(0, "pinned")
    return clean("; ".join(filter(None, said)) or ("probes: well" if plan.probes == "well" else ""), 200)


def detail(cdn: Cdn) -> Row:
    """A line about the CDN under the cursor."""
    return ((clean(cdn.name, 32), "text bold"), (f"  {reason(cdn) or 'nothing is held against it'}", "muted"))


def expectations(frames: Iterable[Frame]) -> list[Series]:
    """Traffic as it came, as it was expected, and the band that it was expected in."""
    points: dict[str, list[tuple[float, float | None]]] = {
        name: [] for name in ("now", "expected", "low", "high")
    }
    for frame in frames:
        planner, at_s = frame.planner, frame.monotonic_ns / 1e9
        if planner is None:
            continue
        low, high = planner.band_mbit or (None, None)
        points["now"].append((at_s, planner.mbit))
        points["expected"].append((at_s, planner.expected_mbit))
        points["low"].append((at_s, low))
        points["high"].append((at_s, high))
    roles = {"now": "accent", "expected": "good", "low": "muted", "high": "muted"}
    return [
        Series(name, roles[name], each, NONE if each[-1][1] is None else scaled(each[-1][1]))
        for name, each in points.items()
        if each and any(value is not None for _, value in each)
    ]
