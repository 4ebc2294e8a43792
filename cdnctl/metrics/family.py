"""Short ways to make a metric family."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

Row = tuple[Sequence[str], float]
"""Values of the labels, and the sample."""


def gauge(name: str, text: str, value: float | None) -> Metric:
    """One number; None: not known just now, so no sample."""
    return gauges(name, text, (), [] if value is None else [((), value)])


def gauges(name: str, text: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """One number for each set of labels."""
    family = GaugeMetricFamily(f"cdnctl_{name}", text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def counter(name: str, text: str, value: float) -> Metric:
    """A count that only grows; `name` without `_total`."""
    return counters(name, text, (), [((), value)])


def counters(name: str, text: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """One count for each set of labels."""
    family = CounterMetricFamily(f"cdnctl_{name}", text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family
