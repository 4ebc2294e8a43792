"""Drops by reason: exact counts."""

from __future__ import annotations

from collections.abc import Sequence

from cdnctl.console.format import clean, scaled
from cdnctl.console.widgets.bars import bar
from cdnctl.console.widgets.lines import Row
from cdnctl.console.widgets.table import Cell, Column, LiveTable, Record
from cdnctl.model import Verdict


class DropTable(LiveTable):
    """One row a reason, those that drop now first, then by total."""

    EMPTY = "nothing was dropped yet"
    COLUMNS = (
        Column("reason", "reason", 11, right=False, flex=True),
        Column("pps", "pps", 5),
        Column("bar", "", 8, right=False, from_width=42),
        Column("total", "total", 6),
    )

    def __init__(self, title: str, *, id: str) -> None:
        super().__init__(title, id=id)
        self._verdicts: dict[str, Verdict] = {}

    def update(self, verdicts: Sequence[Verdict]) -> None:
        """Show the drops among these verdicts."""
        drops = [verdict for verdict in verdicts if verdict.drop and verdict.packets_total]
        drops.sort(key=lambda verdict: (-(verdict.pps >= 0.05), -verdict.packets_total, verdict.name))
        most = max((verdict.pps for verdict in drops), default=0.0) or 1.0
        self._verdicts = {verdict.name: verdict for verdict in drops}
        self.fill([Record(verdict.name, _cells(verdict, verdict.pps / most)) for verdict in drops])

    def find(self, name: object) -> Verdict | None:
        """The verdict of that name, if it is shown."""
        return self._verdicts.get(name) if isinstance(name, str) else None


def _cells(verdict: Verdict, of_most: float) -> dict[str, Cell]:
    now = verdict.pps >= 0.05
    return {
        "reason": (clean(verdict.name.replace("_", " "), 32), "text" if now else "muted"),
        "pps": (scaled(verdict.pps) if now else "0", "bad" if now else "muted"),
        "bar": lambda width: bar(of_most if now else 0.0, width, "bad"),
        "total": (scaled(verdict.packets_total), "text" if now else "muted"),
    }


def detail(verdict: Verdict) -> Row:
    """One line that explains the reason."""
    return (
        (clean(verdict.name.replace("_", " "), 32), "text bold"),
        (f"  {clean(verdict.explanation, 200)}", "muted"),
        (f"  {verdict.packets_total:,} packets since load", "muted"),
    )
