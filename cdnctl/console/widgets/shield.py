"""Under attack: the level and what it costs, what each rule does, bans that set themselves."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from cdnctl.console.format import clean, clock, duration, percent, scaled
from cdnctl.console.widgets.level import LEVEL_MARKS
from cdnctl.console.widgets.lines import Lines, Row
from cdnctl.console.widgets.table import Cell, Column, LiveTable, Record
from cdnctl.console.widgets.verdicts import VerdictTable
from cdnctl.model import Autoban, Ban, Offender, Shield, Verdict
from cdnctl.model.lines import nth

RULES = frozenset(
    {
        "challenged", "proved", "unverified", "shed_verified", "shed_source", "shed_network", "shed_region",
        "shed_service",
        "blocked", "malformed", "impossible", "land", "spoofed", "bogon", "syn_with_data", "short_initial",
        "reflected", "unknown_flow", "fragment", "over_quota", "over_flow_quota", "over_source_quota",
        "reset_client", "uninvited", "unused",
    }
)  # fmt: skip
"""The verdicts that an attack meets."""
NOT_RECORDED = "not in this recording"
_LABEL = 6
"""Columns of the words before a panel's lines."""


class ShieldPanel(Lines):
    """The level, why, what it costs, and what came."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, classes="panel")
        self.border_title = "shield"

    def update(self, shield: Shield, now_ns: int, *, is_known: bool = True) -> None:
        """Show it as it is at that time; not `is_known`: the frame is of a version that had none."""
        if not is_known:
            self.show([((NOT_RECORDED, "muted"),)])
            return
        mark, role = LEVEL_MARKS[shield.level]
        held = "follows the load" if shield.wish == "auto" else "held by an operator"
        since = f", for {duration((now_ns - shield.since_ns) / 1e9)}" if shield.since_ns else ""
        width = max(20, self.size.width)
        rows: list[Row] = [
            ((f"{mark} {shield.level}", f"{role} bold"), (f"  {held}{since}", "muted")),
        ]
        came = (
            f"{scaled(shield.offered_flows_per_s)} new flows/s,"
            f" {percent(shield.unverified_share)} unverified;"
            f" half-open table {percent(shield.half_open_share)} full"
        )
        done = (
            f"{scaled(shield.opened_per_s)}/s got under way, {scaled(shield.shed_per_s)} shed,"
            f" {scaled(shield.challenged_per_s)} challenged, {scaled(shield.proved_per_s)} proved themselves"
        )
        strained = shield.level != "calm" and max(shield.unverified_share, shield.half_open_share) >= 0.5
        rows += _labelled("why", shield.why or "nothing has asked for more", width, "text")
        rows += _labelled("costs", shield.cost or "nothing", width, "text")
        rows += _labelled("came", came, width, "bad" if strained else "text")
        rows += _labelled("done", done, width, "good" if shield.opened_per_s else "text")
        self.show(rows)


def _labelled(label: str, text: str, width: int, role: str) -> list[Row]:
    """Lines of text beside a label."""
    lines = textwrap.wrap(clean(text, 400), max(10, width - _LABEL)) or [""]
    return [
        ((f"{label if number == 0 else '':<{_LABEL}}", "muted"), (line, role))
        for number, line in enumerate(lines)
    ]


class RuleTable(VerdictTable):
    """What each rule makes of an attack: those of `RULES` that have ever had a packet come first."""

    EMPTY = "no rule is known"

    def shown(self, verdict: Verdict) -> bool:
        return verdict.name in RULES

    def title(self, active: int, known: int) -> str:
        return f"rules · {active} of {known} at work"


class BanTable(LiveTable):
    """One row a ban, then one for each who is over a threshold without one."""

    EMPTY = "nobody is over a threshold of [autoban]"
    COLUMNS = (
        Column("prefix", "prefix", 14, right=False, grows=True),
        Column("state", "ban", 10, right=False, grows=True),
        Column("pps", "drop/s", 6),
        Column("why", "why", 16, right=False, flex=True),
    )

    def __init__(self, title: str, *, id: str) -> None:
        super().__init__(title, id=id)
        self._autoban = Autoban()

    def update(self, autoban: Autoban, now_ns: int) -> None:
        """Show these."""
        self._autoban = autoban
        self.border_title = f"bans · autoban is {autoban.mode} · {autoban.bans_total} of {autoban.most}"
        self.fill(
            [
                *(Record(ban.prefix, _banned(ban, now_ns)) for ban in autoban.bans),
                *(Record(each.prefix, _spared(each)) for each in autoban.offenders),
            ]
        )

    def find(self, prefix: object) -> Ban | Offender | None:
        """The ban or offender of that prefix."""
        known: Sequence[Ban | Offender] = (*self._autoban.bans, *self._autoban.offenders)
        return next((each for each in known if each.prefix == prefix), None)


def _banned(ban: Ban, now_ns: int) -> dict[str, Cell]:
    left_s = max(0.0, (ban.ends_ns - now_ns) / 1e9)
    return {
        "prefix": (clean(ban.prefix, 49), "text bold"),
        "state": (f"✖ {duration(left_s)}", "bad"),
        "pps": (scaled(ban.dropped_pps), "text"),
        "why": (clean(ban.why, 120), "muted"),
    }


def _spared(offender: Offender) -> dict[str, Cell]:
    why = f"{offender.spared}: {offender.why}" if offender.spared else offender.why
    return {
        "prefix": (clean(offender.prefix, 49), "text bold"),
        "state": ("● spared", "warn") if offender.spared else ("○ would be", "accent"),
        "pps": ("", "muted"),
        "why": (clean(why, 200), "muted"),
    }


def ban_detail(found: Ban | Offender) -> Row:
    """One line with the whole of it."""
    if isinstance(found, Ban):
        often = f", the {nth(found.times)} time within the hour" if found.times > 1 else ""
        return (
            (clean(found.prefix, 49), "text bold"),
            (f"  {clean(found.why, 120)}; since {clock(found.since_ns)}{often}", "muted"),
            ("  u lifts it", "accent"),
        )
    said = (
        f"not banned, for {clean(found.spared, 160)}" if found.spared else "over a threshold, and not banned"
    )
    return ((clean(found.prefix, 49), "text bold"), (f"  {said}: {clean(found.why, 120)}", "muted"))
