"""Blocks that set themselves: what `cdnctl autoban` shows."""

from __future__ import annotations

import time

from cdnctl.cli import show
from cdnctl.model import Autoban
from cdnctl.model.lines import duration


def lines(found: Autoban, *, dry_run: bool) -> list[str]:
    """For people; of a dry run, whom it would ban alone."""
    would = [each for each in found.offenders if not each.spared]
    spared = [each for each in found.offenders if each.spared]
    said: list[str] = []
    if not dry_run:
        by = (
            "as configured"
            if found.wish == "config"
            else "set by an operator: `cdnctl autoban config` ends it"
        )
        said.append(f"autoban is {found.mode} ({by}); {found.bans_total} of at most {found.most} bans")
        now_ns = time.time_ns()
        for ban in found.bans:
            left_s = max(0.0, round((ban.ends_ns - now_ns) / 1e9))
            often = f", {ban.times} times within the hour" if ban.times > 1 else ""
            said.append(
                f"  {ban.prefix}  {ban.why}{often}; {ban.dropped_pps:,.0f} packets/s dropped;"
                f" {duration(left_s)} more, or until it is over"
            )
        if (more := found.bans_total - len(found.bans)) > 0:
            said.append(f"  and {more} more: `cdnctl blocks`")
    said += [f"would ban {each.prefix}: {each.why}" for each in would]
    said += [f"would not ban {each.prefix}, for {each.spared}: {each.why}" for each in spared]
    return said or ["would ban nobody: no source or network is over a threshold of [autoban]"]


def autoban(found: Autoban, as_json: bool, *, dry_run: bool) -> None:
    """The whole of it."""
    if as_json:
        show.print_json(found)
    else:
        print("\n".join(lines(found, dry_run=dry_run)))
