"""What other shares of the new flows come to: for the dialogs that lead to some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from cdnctl.console.format import clean, percent
from cdnctl.console.widgets.lines import Row, Span
from cdnctl.model import Cdn

MOST_MOVED = 0.5
"""Of new flows: what moves more of them is risky, as the agent sees it, too."""

ROOM = 70
"""Cells of a row."""
_LOADS = "of capacity then: "


def consequences(cdns: Sequence[Cdn], then: Mapping[str, float]) -> list[Row]:
    """What other shares mean: how much of the pick table moves, and who gets near its capacity."""
    moved = sum(max(0.0, then.get(cdn.name, 0.0) - cdn.effective_share) for cdn in cdns)
    rows: list[Row] = [
        ((f"{percent(moved)} of the pick table moves; live flows stay where they are", "muted"),)
    ]
    loads: list[Span] = []
    for cdn in cdns:
        if cdn.capacity_use is not None and cdn.effective_share > 0:
            load = cdn.capacity_use * then.get(cdn.name, 0.0) / cdn.effective_share
            role = "bad bold" if load > 1 else "warn" if load >= 0.8 else "muted"
            loads.append((f"{clean(cdn.name, 32)} {100 * load:.0f}%  ", role))
    while loads:
        row, room = [(_LOADS if len(rows) == 1 else " " * len(_LOADS), "muted")], ROOM - len(_LOADS)
        while loads and (len(row) == 1 or cell_len(loads[0][0]) <= room):
            room -= cell_len(loads[0][0])
            row.append(loads.pop(0))
        rows.append(tuple(row))
    return rows


def moving_risk(now: Mapping[str, float], then: Mapping[str, float]) -> str:
    """Why to confirm it, as the agent words it; the agent does not know of CDNs that come back meanwhile."""
    moved = sum(max(0.0, share - now.get(name, 0.0)) for name, share in then.items()) if now else 0.0
    return f"it moves {percent(moved)} of new flows" if moved > MOST_MOVED else ""


def with_returning(
    shares: Mapping[str, float], weights: Mapping[str, float], returning: set[str]
) -> dict[str, float]:
    """Shares once drained CDNs come back too, from shares without them: all go by weight."""
    staying = sum(weight for name, weight in weights.items() if name not in returning and shares.get(name))
    everything = staying + sum(weights[name] for name in returning)
    if not everything:
        return dict(shares)
    return {
        name: weights[name] / everything
        if name in returning
        else shares.get(name, 0.0) * staying / everything
        for name in weights
    }
