"""`cdnctl planner`: what moves weights by itself, what it did, and why."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from cdnctl.agent.blocking import Client
from cdnctl.agent.edge import find_edge
from cdnctl.cli import show, taking_back
from cdnctl.cli.commands import change_of
from cdnctl.errors import UsageError
from cdnctl.model import AskPlanner, CdnPlan, CellPlan, PlannerPicture

_MODES = ("off", "observe", "on")
_OF_A_CDN = ("why", "pin", "unpin")
_SHIFTS_SHOWN = 8


def add_planner(change: Callable[..., argparse.ArgumentParser]) -> None:
    """The verb's options."""
    made = change("planner", "show what moves weights by itself, and why; or set it", run)
    made.add_argument(
        "action",
        nargs="?",
        choices=("status", *_MODES, *_OF_A_CDN),
        default="status",
        help="status, if not said; off: weights are the operators' alone; observe: say what it would do; on;"
        " why: the reasons for what a CDN has; pin: that one keeps exactly its weight; unpin",
    )
    made.add_argument("cdn", nargs="?", metavar="CDN", help="for why, pin and unpin")


def run(options: argparse.Namespace) -> int:
    """Ask it, or tell it."""
    if (options.action in _OF_A_CDN) != bool(options.cdn):
        wants = "name a CDN" if options.action in _OF_A_CDN else f"`planner {options.action}` takes no CDN"
        like = options.action if options.action in _OF_A_CDN else "why"
        raise UsageError(wants, f"as in: cdnctl planner {like} aurora")
    if options.action in (*_MODES, "pin", "unpin"):
        return taking_back.change(options, change_of(options))
    with Client(find_edge(options.edge)) as client:
        outcome = client.request(AskPlanner(cdn=options.cdn or ""))
    if not outcome.ok or outcome.planner is None:
        return show.outcome(outcome, options.json)
    if options.json:
        show.print_json({"planner": outcome.planner, "cdns": outcome.plans or {}, "text": outcome.text})
    elif options.cdn:
        sys.stdout.write(show.clean_text(outcome.text))
    else:
        sys.stdout.write(show.clean_text(outcome.text))
        _show(outcome.planner, outcome.plans or {})
    return 0


def _show(planner: PlannerPicture, plans: dict[str, CdnPlan]) -> None:
    from cdnctl.console import format as f

    if planner.trouble:
        sys.stdout.write(show.clean_text(f"trouble: {planner.trouble}"))
    show.rows(
        ("CDN", ">of its weight", "why", "probes", ">Mbit/s", ">expected", ">off by", ">commit"),
        [row for name, plan in plans.items() for row in (_row(name, plan), *map(_cell_row, plan.cells))],
    )
    for feed in planner.feeds:
        state = (
            feed.trouble
            or f"{feed.prefixes:,} prefixes of {feed.entries:,} entries, {feed.skipped:,} skipped"
        )
        sys.stdout.write(
            show.clean_text(f"feed {feed.name} ({feed.kind}): {state}; again in {feed.next_in_s:.0f} s")
        )
    for name in planner.names:
        state = name.trouble or ", ".join(name.addresses) or "no address yet"
        sys.stdout.write(
            show.clean_text(f"name {name.name} of {name.cdn}: {state}; again in {name.next_in_s:.0f} s")
        )
    verb = "" if planner.acts else "would have "
    for shift in planner.shifts[:_SHIFTS_SHOWN]:
        sys.stdout.write(show.clean_text(f"{f.clock(shift.at_ns)} {verb}moved: {shift.text}"))


def _cell_row(cell: CellPlan) -> tuple[str, ...]:
    """What a CDN has of a class of traffic from a region, beside what it has as a whole."""
    from cdnctl.console import format as f

    name = f"  {cell.traffic_class} from {cell.region or 'no region'}"
    return name, f.percent(cell.factor), cell.why, "", "", "", "", ""


def _row(name: str, plan: CdnPlan) -> tuple[str, ...]:
    from cdnctl.console import format as f

    return (
        name,
        f.percent(0.0 if plan.ill and not plan.why else plan.factor),
        plan.why or ("pinned" if plan.pinned else ""),
        plan.probe_text or plan.probes,
        f"{plan.mbit:.4g}",
        "" if plan.expected_mbit is None else f"{plan.expected_mbit:.4g}",
        "" if plan.error is None else f"{100 * plan.error:.1f} % ({100 * (plan.naive_error or 0):.1f} %)",
        "" if plan.commit_mbit is None else f"{plan.p95_mbit:.4g} of {plan.commit_mbit:g}",
    )
