"""The planner on the screen of steering: what it keeps of each CDN's weight and why, and what is expected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from cdnctl.console.format import NONE, clean, percent, scaled
from cdnctl.console.widgets.lines import Row, heading
from cdnctl.console.widgets.plot import Series
from cdnctl.console.widgets.table import Cell, Column, LiveTable, Record
from cdnctl.model import Cdn, CellPlan, Frame, PlannerPicture

_MODES = {"on": "on", "observe": "observes: it moves nothing", "off": "off"}


class PlanTable(LiveTable):
    """One row a CDN: what the planner makes of its weight, what probes say, what it carries and costs; and
    below it one for each region and class that it has less of."""

    EMPTY = "no CDN is configured"
    _of: Mapping[str, tuple[Cdn, CellPlan | None]] = {}
    """What each row is of, by its key."""
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
        self._of = {key: (cdn, cell) for cdn in cdns for key, cell in _rows(cdn)}
        self.fill(
            [Record(key, _in_cell(cell) if cell else _planned(cdn)) for key, (cdn, cell) in self._of.items()]
        )

    @property
    def cdn(self) -> str | None:
        """The CDN under the cursor."""
        found = self._of.get(str(self.current))
        return found[0].name if found else None

    def detail(self) -> Row:
        """A line about what is under the cursor."""
        found = self._of.get(str(self.current))
        if found is None:
            return ()
        cdn, cell = found
        said = reason(cdn) or "nothing is held against it"
        if cell is not None:
            said = f"{_name(cell)}: {percent(cell.factor)} of what it has as a whole: {clean(cell.why, 200)}"
        return ((clean(cdn.name, 32), "text bold"), (f"  {said}", "muted"))


def _rows(cdn: Cdn) -> Iterator[tuple[str, CellPlan | None]]:
    yield cdn.name, None
    for cell in cdn.plan.cells:
        yield f"{cdn.name} {cell.traffic_class} {cell.region}", cell


def _name(cell: CellPlan) -> str:
    return f"{clean(cell.traffic_class, 16)} from {clean(cell.region, 32) or 'no region'}"


def _in_cell(cell: CellPlan) -> dict[str, Cell]:
    """What a CDN has of a cell beside what it has as a whole."""
    return {
        "name": (f"  {_name(cell)}", "text"),
        "keeps": (percent(cell.factor), "warn"),
        "why": (clean(cell.why, 200), "warn"),
        **dict.fromkeys(("mbit", "expected", "off", "naive", "commit", "price"), ("", "muted")),
    }


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
