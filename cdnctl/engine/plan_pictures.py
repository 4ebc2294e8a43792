"""The planner's pictures for frames, and its reasons in an operator's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cdnctl.config import CdnConfig
from cdnctl.engine.traffic import EDGE, TrafficBook, of_cdn
from cdnctl.engine.wellness import Wellness
from cdnctl.model import CdnPlan, CellPlan, FeedPicture, NamePicture, PlannerPicture
from cdnctl.steering.forecast import Series
from cdnctl.steering.planner import Cell, Memory, Settings, Shift, words


class Pictures:
    """What the parts that plan, and those that look outside, put into the next frame."""

    def __init__(self) -> None:
        self.growth = 1.0
        self.shares: dict[str, float] = {}
        self.feeds: list[FeedPicture] = []
        self.names: list[NamePicture] = []

    def planner(self, traffic: TrafficBook, **said: Any) -> PlannerPicture:
        """Of the whole edge."""
        return PlannerPicture(
            growth=self.growth,
            mbit=sum(traffic.mbit.values()),
            feeds=self.feeds,
            names=self.names,
            **_expected(traffic.series(EDGE), traffic.at_s),
            **said,
        )

    def cdn(
        self,
        cdn: CdnConfig,
        memory: Memory | None,
        wellness: Wellness,
        traffic: TrafficBook,
        *,
        pinned: bool,
        ill: list[str],
        cells: list[CellPlan],
    ) -> CdnPlan:
        """Of one CDN."""
        usage = traffic.usage.get(cdn.name)
        moved = memory if memory is not None and memory.factor < 1 else None
        return CdnPlan(
            factor=moved.factor if moved else 1.0,
            code=("probes" if ill else moved.code if moved else ""),
            why=why_of(cdn.name, moved) if moved else "",
            cells=cells,
            pinned=pinned,
            probes=wellness.state_of(cdn.name),
            probe_text=wellness.text_of(cdn.name),
            ill=ill,
            certificate_days=wellness.certificate_days(cdn.name),
            price=cdn.price,
            commit_mbit=cdn.commit_mbit,
            p95_mbit=usage.p95_mbit if usage else 0.0,
            bursts_used=usage.bursts_used if usage else 0.0,
            mbit=traffic.mbit.get(cdn.name, 0.0),
            **_expected(traffic.series(of_cdn(cdn.name)), traffic.at_s),
        )


def _expected(series: Series | None, at_s: float) -> dict[str, Any]:
    if series is None:
        return {}
    known = series.errors.count > 0
    return {
        "expected_mbit": series.expected(at_s),
        "band_mbit": series.band(at_s),
        "error": series.errors.own if known else None,
        "naive_error": series.errors.naive if known else None,
    }


def why_of(cdn: str, memory: Memory) -> str:
    """Why it was moved last, with the numbers."""
    shift = Shift(cdn=cdn, code=memory.code, before=0.0, after=0.0, numbers=memory.numbers)
    return words(shift).partition(": ")[2]


def why_lines(
    cdn: str,
    plan: CdnPlan,
    memory: Memory | None,
    *,
    mode: str,
    acts: bool,
    drained: bool,
    asked: float,
    effective: float,
    settings: Settings,
    now_s: float,
) -> Iterator[str]:
    """Why it has what it has: operators' words first, then what was measured."""
    if drained:
        yield f"{cdn} gets no new flows: an operator drained it"
    elif not acts:
        why = f"the planner's mode is {mode}" if mode != "on" else "the edge is switched off, or detached"
        yield f"{cdn} has {100 * asked:.1f} % of new flows, by operators' weights alone: {why}"
    else:
        own = f"by operators' weights it would be {100 * asked:.1f} %"
        yield f"{cdn} has {100 * effective:.1f} % of new flows; {own}"
    if plan.pinned:
        yield "  it is pinned: it keeps exactly its weight, whatever is measured"
    if plan.ill:
        yield f"  left out for its probes: {', '.join(plan.ill)}"
    if plan.probe_text:
        yield f"  probes: {plan.probe_text}"
    elif plan.probes:
        yield f"  probes: {plan.probes}"
    if plan.why:
        would = "" if acts else "would have "
        yield f"  {would}{100 * plan.factor:.0f} % of its weight ({plan.code}): {plan.why}"
    elif not plan.ill and not plan.cells:
        yield "  nothing is held against it"
    for each in plan.cells:
        has, cell = "has" if acts else "would have", Cell(each.region, each.traffic_class)
        yield f"  of {cell} it {has} {100 * each.factor:.0f} % of that ({each.code}): {each.why}"
    if memory is not None:
        yield from _memory_lines(memory, settings, now_s)
    if plan.commit_mbit is not None:
        yield (
            f"  commit: {plan.commit_mbit:g} Mbit/s, its 95th percentile so far {plan.p95_mbit:.4g},"
            f" {100 * plan.bursts_used:.0f} % of its free bursts used"
        )
    if plan.price is not None:
        yield f"  price: {plan.price:g} a gigabyte"
    if plan.expected_mbit is not None:
        error = "not known yet" if plan.error is None else f"{100 * plan.error:.1f} %"
        naive = "" if plan.naive_error is None else f" (as a week ago: {100 * plan.naive_error:.1f} %)"
        yield (
            f"  traffic: {plan.mbit:.4g} Mbit/s, {plan.expected_mbit:.4g} expected;"
            f" forecasts are off by {error}{naive}"
        )


def _memory_lines(memory: Memory, settings: Settings, now_s: float) -> Iterator[str]:
    if memory.bad:
        yield f"  bad for {memory.bad} rounds in a row; moved away from after {settings.bad_rounds}"
    if memory.factor < 1 and memory.good:
        yield f"  good for {memory.good} rounds in a row; given back to after {settings.good_rounds}"
    penalty = memory.penalty_now(now_s, settings)
    if penalty >= 1:
        held = f": nothing comes back until it is under {settings.reuse:g}" if memory.is_suppressed else ""
        yield f"  it turned for the worse before: a penalty of {penalty:.0f}{held}"
    if memory.ceiling is not None:
        yield f"  it gets no more than {memory.ceiling:.1f} new flows/s back for now: it went bad at more"
