"""The CDNs: what each is asked to do, what it does, and how fast it answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.cells import cell_len

from cdnctl.console.format import clean, duration, fit, mbit, ms, percent, scaled
from cdnctl.console.widgets.bars import bar
from cdnctl.console.widgets.lines import Row, Span
from cdnctl.console.widgets.table import Cell, Column, LiveTable, Record
from cdnctl.model import Cdn

STATES = {
    "in": ("● in", "good"),
    "partly": ("◑ partly", "warn"),
    "out": ("✖ out", "bad"),
    "probing": ("◐ probing", "warn"),
    "drained": ("◌ drained", "warn"),
}
"""Each state has a shape, a word and a colour."""


class CdnTable(LiveTable):
    """One row a CDN, in the order of the configuration; the colour of its mark is its colour in the plot."""

    EMPTY = "no CDN is configured"
    COLUMNS = (
        Column("name", " CDN", 9, right=False, flex=True, to_width=110),
        Column("name", " CDN", 18, right=False, from_width=110, to_width=165),
        Column("name", " CDN", 26, right=False, from_width=165),
        Column("state", "state", 14, right=False, to_width=110),
        Column("state", "state", 26, right=False, from_width=110),
        Column("wanted", "weight", 6),
        Column("effective", "table", 5),
        Column("p50", "p50", 5),
        Column("p95", "p95", 5),
        Column("p99", "p99", 5),
        Column("samples", "samples", 7, from_width=130),
        Column("new", "new/s", 5),
        Column("to", "↑ Mbit/s", 8, from_width=150),
        Column("from", "↓ Mbit/s", 8, from_width=150),
        Column("mbit", "Mbit/s", 6, to_width=150),
        Column("flows", "flows", 8, from_width=165),
        Column("rescued", "rescued", 7, from_width=130),
        Column("ejections", "ejected", 7, from_width=165),
        Column("share", "share", 5),
        Column("bar", "", 4, right=False, flex=True),
    )

    def update(self, cdns: Sequence[Cdn]) -> None:
        """Show these CDNs."""
        taking = sum(cdn.state == "in" for cdn in cdns)
        partly = sum(cdn.state == "partly" for cdn in cdns)
        more = f", {partly} partly" if partly else ""
        self.border_title = f"CDNs · {taking} of {len(cdns)} in{more} · handshakes in ms"
        self.fill([Record(cdn.name, _cells(cdn, index)) for index, cdn in enumerate(cdns)])


def state_words(cdn: Cdn, width: int) -> tuple[str, str]:
    """State, reason and, where there is room, when it comes back; with its role."""
    text, role = STATES.get(cdn.state, (clean(cdn.state, 12), "warn"))
    if cdn.state == "partly" and cell_len(whole := f"{text} · {clean(cdn.missing, 60)}") <= width:
        return whole, role
    if cdn.reason and not (cdn.state == "drained" and cdn.reason == "operator"):
        text += f" {clean(cdn.reason, 12)}"
    if cdn.state == "out":
        back_s = min(
            (endpoint.back_in_s for endpoint in cdn.endpoints if endpoint.back_in_s > 0), default=0.0
        )
        wait = f"{math.ceil(back_s)}s" if back_s < 60 else duration(back_s)
        for words in (f" · probes in {wait}", f" {wait}"):
            if back_s and cell_len(text + words) <= width:
                return text + words, role
    return text, role


def _cells(cdn: Cdn, index: int) -> dict[str, Cell]:
    series = f"s{index}"
    live = "text" if cdn.state in ("in", "partly") else "muted"
    name = clean(cdn.name, 32)

    def named(width: int) -> Row:
        return (("▌", series), (fit(name, width - 1), "text bold"))

    def stated(width: int) -> Row:
        text, role = state_words(cdn, width)
        return ((fit(text, width), role),)

    return {
        "name": named,
        "state": stated,
        "wanted": (str(cdn.wanted_weight), "text"),
        "effective": (percent(cdn.effective_share), "text" if cdn.effective_share else "muted"),
        "p50": (ms(cdn.handshake_p50_ms), live),
        "p95": (ms(cdn.handshake_p95_ms), live),
        "p99": (ms(cdn.handshake_p99_ms), live),
        "samples": (scaled(cdn.samples), "muted"),
        "new": (scaled(cdn.new_flows_per_s), live),
        "to": (mbit(cdn.to_cdn_bps), live),
        "from": (mbit(cdn.from_cdn_bps), live),
        "mbit": (mbit(cdn.to_cdn_bps + cdn.from_cdn_bps), live),
        "flows": (scaled(cdn.new_flows_total), "muted"),
        "rescued": (scaled(cdn.rescued_from_total), "warn" if cdn.rescued_from_total else "muted"),
        "ejections": (scaled(cdn.ejections_total), "warn" if cdn.ejections_total else "muted"),
        "share": (percent(cdn.share), "text bold" if cdn.share else "muted"),
        "bar": lambda width: bar(cdn.share, width, series),
    }


def detail(cdn: Cdn) -> Row:
    """One line on its endpoints."""
    spans: list[Span] = [(clean(cdn.name, 32), "text bold")]
    for endpoint in cdn.endpoints[:4]:
        state, role = STATES.get(endpoint.state, ("?", "warn"))
        spans += (
            (f"  {clean(endpoint.address, 45)}:{endpoint.port} ", "text"),
            (state, role),
            (f", {endpoint.unanswered} unanswered" if endpoint.unanswered else "", "warn"),
            (f", now {ms(endpoint.ewma_ms)} ms, usual {ms(endpoint.baseline_ms)}", "muted"),
            (f", slow over {ms(endpoint.limit_ms)}", "muted"),
        )
    return tuple(spans)
