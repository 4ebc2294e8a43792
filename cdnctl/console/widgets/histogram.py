"""How long handshakes took in the last seconds, as bars; and what else is known of one CDN."""

from __future__ import annotations

from collections.abc import Sequence

from cdnctl.console.format import NONE, axis, clean, fit, mbit, ms, percent, scaled
from cdnctl.console.widgets.bars import bar
from cdnctl.console.widgets.lines import Lines, Row
from cdnctl.model import Cdn, histogram_limits_ms

LABEL = 12


class Histogram(Lines):
    """One bar a step, the quickest on top; steps are joined where there are too few lines."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, classes="panel")
        self._cdn: Cdn | None = None
        self._role = "accent"
        self._named = ""

    def update(self, cdn: Cdn, role: str) -> None:
        """Show this CDN's, in its colour."""
        self._cdn, self._role = cdn, role
        p50, p95, p99 = (
            ms(value) for value in (cdn.handshake_p50_ms, cdn.handshake_p95_ms, cdn.handshake_p99_ms)
        )
        self._named = f"p50 {p50}  p95 {p95}  p99 {p99}"
        self.border_subtitle = f"{scaled(cdn.samples)} handshakes in 5 s"
        self._redraw()

    def on_resize(self) -> None:
        self._redraw()

    def _redraw(self) -> None:
        cdn, room, width = self._cdn, self.size.height, self.size.width
        if cdn is None or room < 1:
            return
        title = f"{self._named} ms"
        if len(title) > width - 2:  # of a panel that narrow the figures alone
            title = f"{self._named.replace('  ', ' ')} ms"
        self.border_title = title
        bars = joined(cdn.histogram, room)
        whole = sum(count for _, _, count in bars)
        if not whole:
            self.show([(("no handshake in the last 5 s", "muted"),)])
            return
        rows: list[Row] = []
        labels = [f"{axis(_round(low))}–{axis(_round(high))}" for low, high, _ in bars]
        beside = max(map(len, labels))
        for label, (_low, _high, count) in zip(labels, bars, strict=True):
            rows.append(
                (
                    (fit(label, beside, right=True), "muted"),
                    (" ", ""),
                    *bar(count / whole, max(4, width - beside - 7), self._role),
                    (fit(percent(count / whole), 5, right=True), "text" if count else "muted"),
                )
            )
        self.show(rows)


def joined(histogram: Sequence[int], most: int) -> list[tuple[float, float, int]]:
    """The part of a histogram that has something, as at most `most` bars: from ms, to ms, count."""
    known = [step for step, count in enumerate(histogram) if count]
    if not known:
        return []
    first, last = known[0], known[-1]
    wide = 1
    while (last - first) // wide + 1 > max(1, most):
        wide += 1
    return [
        (
            histogram_limits_ms(step)[0],
            histogram_limits_ms(min(step + wide, len(histogram)) - 1)[1],
            sum(histogram[step : step + wide]),
        )
        for step in range(first, last + 1, wide)
    ]


def _round(value_ms: float) -> float:
    return round(value_ms, 1 if value_ms < 10 else 0)


def facts(cdn: Cdn) -> list[Row]:
    """What else is known of a CDN, a line each."""
    percentiles = (cdn.first_byte_p50_ms, cdn.first_byte_p95_ms, cdn.first_byte_p99_ms)
    first = "/".join(map(ms, percentiles))
    rows = [
        ("first byte", f"{first} ms", "text"),
        ("loss", f"to {_loss(cdn.loss_to_cdn)}, from {_loss(cdn.loss_from_cdn)}",
         "warn" if max(cdn.loss_to_cdn or 0, cdn.loss_from_cdn or 0) >= 0.01 else "text"),
        ("open flows", NONE if cdn.open_flows is None else f"{cdn.open_flows:,}", "text"),
        ("capacity", "no limit" if cdn.capacity_use is None else f"{percent(cdn.capacity_use)}, "
         f"spills {scaled(cdn.spilled_per_s)}/s", "warn" if (cdn.capacity_use or 0) >= 0.9 else "text"),
        ("traffic", f"{mbit(cdn.to_cdn_bps)} ↑ {mbit(cdn.from_cdn_bps)} ↓ Mbit/s", "text"),
        ("path", clean(cdn.mode, 8), "text"),
        ("rescued", f"{cdn.rescued_from_total:,} from, {cdn.rescued_to_total:,} to it",
         "warn" if cdn.rescued_from_total else "text"),
        ("ejected", f"{cdn.ejections_total:,}, {cdn.reset_dark_total:,} clients reset",
         "warn" if cdn.ejections_total else "text"),
        ("video keeps", percent(cdn.video_kept), "warn" if cdn.video_kept < 1 else "text"),
        ("new flows", f"{scaled(cdn.new_flows_total)}, {scaled(cdn.probe_flows_total)} probes", "text"),
    ]  # fmt: skip
    return [((fit(name, LABEL), "muted"), (text, role)) for name, text, role in rows]


def _loss(share: float | None) -> str:
    if share is None:
        return NONE
    return f"{100 * share:.2f}%" if share < 0.1 else percent(share)
