"""Regions by CDN: what each CDN has for the clients of a region, and how quick that is.

The client's way to the box is the same whichever CDN answers, so that what a region makes different is which
endpoints its clients get: those bound to it, and those bound to none.
"""

from __future__ import annotations

from collections.abc import Sequence

from cdnctl.console.format import clean, ms
from cdnctl.console.widgets.lines import Span
from cdnctl.console.widgets.table import Column, LiveTable, Record
from cdnctl.model import Cdn, Endpoint

ELSEWHERE = "elsewhere"
"""Clients of no region that an endpoint is bound to."""
_MARKS = {"out": ("✖ out", "bad"), "probing": ("◐ probes", "warn"), "drained": ("◌ drained", "warn")}


class RegionTable(LiveTable):
    """One row a region, one column a CDN: the handshake of the quickest endpoint, now, in ms."""

    EMPTY = "no endpoint is bound to a region"

    def update(self, cdns: Sequence[Cdn]) -> None:
        """Show these CDNs."""
        self.border_title = "handshake by region, ms"
        names = [cdn.name for cdn in cdns]
        self.COLUMNS = (
            Column("region", "region", 9, right=False, grows=True),
            *(Column(f"cdn {name}", clean(name, 32), 9, grows=True) for name in names),
        )
        regions = dict.fromkeys(name for cdn in cdns for each in cdn.endpoints for name in each.regions)
        wanted = [*sorted(regions), ELSEWHERE] if regions else []
        self.fill(
            [
                Record(
                    name,
                    {"region": (clean(name, 32), "text bold")}
                    | {f"cdn {cdn.name}": _cell(cdn, "" if name == ELSEWHERE else name) for cdn in cdns},
                )
                for name in wanted
            ]
        )


def serving(cdn: Cdn, region: str) -> list[Endpoint]:
    """The CDN's endpoints that clients of that region get: those bound to it, and those bound to none."""
    return [each for each in cdn.endpoints if not each.regions or region in each.regions]


def _cell(cdn: Cdn, region: str) -> Span:
    found = serving(cdn, region)
    if not found:
        return ("–", "faint")
    live = [each.ewma_ms for each in found if each.state == "in" and each.ewma_ms]
    if live:
        some = any(each.state == "out" for each in found)
        return (ms(min(live)), "warn" if some else "text")
    return next((_MARKS[each.state] for each in found if each.state in _MARKS), ("–", "muted"))
