"""The busiest sources, estimated from samples of dropped and passed packets alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from ipaddress import ip_network

from cdnctl.console import keys
from cdnctl.console.format import clean, fit, mbit, percent, scaled
from cdnctl.console.widgets.bars import bar
from cdnctl.console.widgets.lines import Row
from cdnctl.console.widgets.table import Cell, Column, LiveTable, Record
from cdnctl.model import Talker

SORTS = ("pps", "mbit", "drop", "prefix")
"""What `s` goes through."""


class TalkerTable(LiveTable):
    """One row a source; `prefix` is its identity."""

    EMPTY = "no traffic sampled yet"
    SORTS = SORTS
    COLUMNS = (
        Column("prefix", "prefix", 14, right=False, flex=True, to_width=58),
        Column("prefix", "prefix", 18, right=False, from_width=58, grows=True, of_key=True),
        Column("pps", "pps", 6),
        Column("rate", "", 4, right=False, from_width=58, flex=True),
        Column("mbit", "Mbit/s", 7),
        Column("drop", "drop", 5),
        Column("cdn", " CDN", 9, right=False, to_width=72),
        Column("cdn", " CDN", 14, right=False, from_width=72),
        Column("error", "±", 4),
        Column("samples", "samples", 7, from_width=72),
    )

    def __init__(self, title: str, *, id: str) -> None:
        super().__init__(title, id=id)
        self._talkers: Sequence[Talker] = ()
        self._roles: dict[str, str] = {}

    def update(self, talkers: Sequence[Talker], cdn_names: Sequence[str]) -> None:
        """Show these talkers; CDNs wear the colours of their place in `cdn_names`."""
        self._talkers = talkers
        self._roles = {name: f"s{index}" for index, name in enumerate(cdn_names)}
        self._refill()

    def resort(self) -> None:
        self._refill()

    def find(self, prefix: object) -> Talker | None:
        """The talker with that identity, if it is still there."""
        return next((talker for talker in self._talkers if talker.prefix == prefix), None)

    def _refill(self) -> None:
        upward = (self.sort == "prefix") != self.reverse
        ordered = sorted(self._talkers, key=lambda talker: sort_key(talker, self.sort), reverse=not upward)
        most = max((talker.pps for talker in ordered), default=0.0) or 1.0
        self.fill(
            [Record(talker.prefix, partial(self._cells, talker, talker.pps / most)) for talker in ordered]
        )

    def _cells(self, talker: Talker, of_most: float) -> dict[str, Cell]:
        cdn = clean(talker.cdn, 32)
        role = self._roles.get(talker.cdn, "muted")
        dropped = "bad" if talker.drop_share >= 0.5 else "warn" if talker.drop_share > 0 else "muted"

        def steered(width: int) -> Row:
            return (("▌", role), (fit(cdn, width - 1), "text")) if cdn else ((fit("  –", width), "muted"),)

        return {
            "prefix": (clean(talker.prefix, 49), "text bold"),
            "pps": (scaled(talker.pps), "text"),
            "rate": lambda width: bar(of_most, width, "bad" if talker.drop_share >= 0.5 else "accent"),
            "mbit": (mbit(talker.bps), "text"),
            "drop": (percent(talker.drop_share), dropped),
            "cdn": steered,
            "error": (percent(talker.error), "muted"),
            "samples": (scaled(talker.samples), "muted"),
        }


def sort_key(talker: Talker, by: str) -> tuple[float, ...]:
    """What a column sorts by."""
    if by == "prefix":
        try:
            network = ip_network(talker.prefix)
        except ValueError:
            return (math.inf,)
        return (network.version, int(network.network_address), network.prefixlen)
    if by == "error":
        return (talker.error, talker.pps)
    if by == "mbit":
        return (talker.bps, talker.pps)
    if by == "drop":
        return (talker.drop_share, talker.pps)
    return (talker.pps, talker.bps)


def detail(talker: Talker) -> Row:
    """One line on what the estimate stands on."""
    return (
        (clean(talker.prefix, 49), "text bold"),
        (f"  {scaled(talker.pps)} pps ±{percent(talker.error)} from {talker.samples:,} samples, ", "muted"),
        (f"{percent(talker.drop_share)} of its packets dropped", "muted"),
        (f"  {keys.face('block')} blocks it", "accent"),
    )
