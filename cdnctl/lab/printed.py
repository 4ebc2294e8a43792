"""A scenario's report: the table on the terminal, and the document that scripts read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cdnctl.lab import report

if TYPE_CHECKING:
    from rich.console import Console

    from cdnctl.lab.scenarios import Play


def table(
    out: Console,
    title: str,
    lines: list[report.Claim],
    details: Mapping[str, Any],
    *,
    left_early: bool = False,
) -> None:
    """Each claim with its value and bound, and what does not hold; `left_early` by who watched."""
    from rich.table import Table

    shown = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for header, justify in (("claim", "left"), ("value", "right"), ("unit", "left"), ("bound", "right")):
        shown.add_column(header, justify=justify)  # type: ignore[arg-type]
    shown.add_column("holds")
    for line in lines:
        value = "not measured" if line.value is None else f"{line.value:,.10g}"
        verdict = "" if not line.bound else "[green]yes[/]" if line.holds else "[bold red]no[/]"
        if line.load and not line.holds:
            verdict = "[yellow]less load than wanted[/]"
        shown.add_row(line.name, value, line.unit, line.bound, verdict)
    out.print(shown)
    if levels := details.get("levels"):
        said = ", ".join(f"{level} at {after_s:g} s" for after_s, level in levels)
        out.print(f"level of the shield, from the attack's begin on: {said}")
    failed = [line for line in lines if line.gate and not line.holds]
    gated = sum(line.gate for line in lines)
    out.print(
        f"[yellow]ended early, for the console was left: {len(failed)} of {gated} gated claims are not shown"
        if failed and left_early
        else f"[bold red]{len(failed)} of {gated} gated claims do not hold"
        if failed
        else f"[bold green]all {gated} gated claims hold"
    )
    for line in failed:
        out.print(f"  {line.name}: {line.value if line.value is not None else 'not measured'}, {line.bound}")
    if short := report.shortfalls(lines):
        out.print(
            "[yellow]less load than wanted:[/] the generators could offer no more on this machine; the"
            " claims are about what they did offer"
        )
        for text in short:
            out.print(f"  {text}")


def document(edge: str, play: Play, lines: list[report.Claim], details: Mapping[str, Any]) -> str:
    """The same in JSON. Times are CLOCK_MONOTONIC, in ns."""
    steps = [
        {"name": step.name, "start_ns": step.start_ns, "end_ns": step.end_ns, "fault_ns": step.fault_ns}
        for step in play.steps
    ]
    claims = [{key: getattr(line, key) for key in line.__struct_fields__} for line in lines]
    whole = {"edge": edge, "finished": play.finished, **details, "claims": claims, "steps": steps}
    return json.dumps(whole, indent=2)
