"""Metrics of services and customers."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from cdnctl.metrics.family import counters, gauge
from cdnctl.model import Frame


def families(frame: Frame) -> Iterator[Metric]:
    """Of customers a frame has the busiest, `FRAME_CUSTOMERS` of them: one that gets idle may go, and
    come back with its count grown."""
    rows = [((each.name, each.protocol), each.new_flows_total) for each in frame.services]
    yield counters("service_new_flows", "New flows of a service.", ("service", "protocol"), rows)
    yield gauge(
        "customers", "Customers in the configuration; metrics are of the 50 busiest.", frame.customers_total
    )
    named = {
        "packets": ("Packets of a customer that were let through.", "packets_total"),
        "dropped_packets": ("Packets of a customer that were over its limits.", "dropped_total"),
        "new_flows": ("New flows of a customer.", "flows_total"),
        "refused_flows": ("New flows of a customer that were over its limit.", "refused_total"),
    }
    for name, (text, field) in named.items():
        counts = [((each.name,), getattr(each, field)) for each in frame.customers]
        yield counters(f"customer_{name}", text, ("customer",), counts)
