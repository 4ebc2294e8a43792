"""Metrics of the planner: what it keeps of weights, what probes say, how feeds are doing."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from cdnctl.metrics.family import Row, counter, gauge, gauges
from cdnctl.model import Frame


def families(frame: Frame) -> Iterator[Metric]:
    """None of a frame that knows no planner."""
    planner = frame.planner
    if planner is None:
        return
    yield gauge("planner_acting", "1 while the planner moves weights by itself.", planner.acts)
    yield counter("planner_shifts", "Shares that it moved.", planner.shifts_total)
    rows: list[Row] = [((cdn.name,), cdn.plan.factor) for cdn in frame.cdns]
    yield gauges("cdn_planned_ratio", "Part of its weight that the planner leaves it.", ("cdn",), rows)
    text = (
        "Part of what it has as a whole that the planner leaves it of a class from a region (or from none)."
    )
    yield gauges("cdn_planned_cell_ratio", text, ("cdn", "region", "class"), _cells(frame))
    rows = [((cdn.name,), cdn.plan.probes != "ill") for cdn in frame.cdns if cdn.plan.probes]
    yield gauges("cdn_probe_up", "0 while probes of any of its endpoints are bad.", ("cdn",), rows)
    rows = [
        ((cdn.name,), 86400 * cdn.plan.certificate_days)
        for cdn in frame.cdns
        if cdn.plan.certificate_days is not None
    ]
    yield gauges("cdn_certificate_seconds", "Until the first of its certificates ends.", ("cdn",), rows)
    rows = [((cdn.name,), 125_000 * cdn.plan.mbit) for cdn in frame.cdns]
    yield gauges("cdn_traffic_bytes_per_second", "Of the direction that has more.", ("cdn",), rows)
    rows = [
        ((cdn.name,), 125_000 * cdn.plan.expected_mbit)
        for cdn in frame.cdns
        if cdn.plan.expected_mbit is not None
    ]
    yield gauges("cdn_traffic_expected_bytes_per_second", "By time of day and week.", ("cdn",), rows)
    rows = [((each.name,), each.good_at_ns / 1e9) for each in planner.feeds if each.good_at_ns]
    text = "When the feed was last taken, or found to be unchanged, as a Unix time."
    yield gauges("feed_last_success_timestamp_seconds", text, ("feed",), rows)
    rows = [((each.name,), each.failures) for each in planner.feeds]
    yield gauges("feed_failures", "Attempts in a row that failed.", ("feed",), rows)
    rows = [((each.name,), each.skipped) for each in planner.feeds]
    yield gauges("feed_skipped_entries", "Entries that are not taken, as they would hit us.", ("feed",), rows)


def _cells(frame: Frame) -> list[Row]:
    """Those with traffic, and those in which anything is held against somebody."""
    rows: list[Row] = []
    for cdn in frame.cdns:
        left = {(each.region, each.traffic_class): 1.0 for each in cdn.cells}
        left |= {(each.region, each.traffic_class): each.factor for each in cdn.plan.cells}
        rows += [((cdn.name, *cell), factor) for cell, factor in left.items()]
    return rows
