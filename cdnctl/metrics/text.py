"""All metrics of an edge as one text, in the format that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from cdnctl.metrics import cdns, clients, edge, planner
from cdnctl.metrics.times import Times
from cdnctl.model import Frame

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def families(frame: Frame, times: Mapping[str, Times]) -> Iterator[Metric]:
    """All of them, those without a sample too."""
    yield from edge.families(frame)
    yield from cdns.families(frame, times)
    yield from clients.families(frame)
    yield from planner.families(frame)


def text(frame: Frame, times: Mapping[str, Times]) -> bytes:
    """As UTF-8. `times` are the histograms of the frame's moment, by CDN."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(families(frame, times)))
    return generate_latest(registry)


class _Once(Collector):
    """What was collected already."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = list(found)

    def collect(self) -> Iterable[Metric]:
        return self._found

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked twice: registering must not collect."""
        return ()
