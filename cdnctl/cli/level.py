"""How hard it is for new flows: what `cdnctl shield` shows."""

from __future__ import annotations

import time

from cdnctl.cli import show
from cdnctl.model import Shield


def lines(shield: Shield) -> list[str]:
    """For people."""
    by = "following the load" if shield.wish == "auto" else "set by an operator: `cdnctl shield auto` ends it"
    said = [f"{shield.level} ({by})"]
    if shield.why:
        since = time.strftime("%H:%M:%S", time.localtime(shield.since_ns / 1e9))
        said.append(f"  why      {shield.why}, since {since}")
    said.append(f"  costs    {shield.cost or 'nothing'}")
    said.append(
        f"  offered  {shield.offered_flows_per_s:,.0f} new flows/s,"
        f" {100 * shield.unverified_share:.0f} % unverified;"
        f" half-open table {100 * shield.half_open_share:.0f} % full"
    )
    said.append(
        f"  done     {shield.shed_per_s:,.0f}/s shed, {shield.challenged_per_s:,.0f}/s challenged,"
        f" {shield.proved_per_s:,.0f}/s of them proved themselves"
    )
    return said


def shield(found: Shield, as_json: bool) -> None:
    """The whole of it."""
    if as_json:
        show.print_json(found)
    else:
        print("\n".join(lines(found)))
