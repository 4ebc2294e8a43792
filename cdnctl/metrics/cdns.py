"""Metrics of each CDN.

The kernel counts how long things took in buckets of an eighth of an octave, of microseconds. Every fourth
of their limits is a limit here (2^k and 1.5 x 2^k microseconds), so that the buckets are exact; only the sum,
which the kernel does not keep, is taken from the middles of its own, finer ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.metrics_core import HistogramMetricFamily, Metric

from cdnctl.metrics.family import Row, counters, gauges
from cdnctl.metrics.times import Histogram, Times
from cdnctl.model import Cdn, Frame

STATES = ("in", "partly", "out", "probing", "drained")
FIRST_OCTAVE, LAST_OCTAVE = 8, 23
"""From 256 us to 12.6 s."""
LIMITS_US = tuple(float(n << octave - 1) for octave in range(FIRST_OCTAVE, LAST_OCTAVE + 1) for n in (2, 3))


def families(frame: Frame, times: Mapping[str, Times]) -> Iterator[Metric]:
    """`times` are by name, and of the same moment as the frame."""
    cdns = frame.cdns
    yield from _state(cdns)
    yield from _counts(cdns)
    yield from _measured(cdns)
    shakes = {name: each.handshakes for name, each in times.items()}
    yield _histogram("cdn_handshake_seconds", "From a SYN to its SYN-ACK, at the box", shakes)
    first_bytes = {name: each.first_bytes for name, each in times.items()}
    yield _histogram("cdn_first_byte_seconds", "From a request to the first byte of its answer", first_bytes)


def _state(cdns: Sequence[Cdn]) -> Iterator[Metric]:
    rows: list[Row] = [((cdn.name,), cdn.state not in ("out", "probing")) for cdn in cdns]
    text = "0 while the kernel has it out of rotation; 1 also while an operator has it drained."
    yield gauges("cdn_up", text, ("cdn",), rows)
    rows = [((cdn.name,), cdn.wanted_weight > 0 and cdn.state != "drained") for cdn in cdns]
    text = "1 for those that new flows are to go to: with a weight, and not drained by an operator."
    yield gauges("cdn_wanted", text, ("cdn",), rows)
    states = [((cdn.name, state), cdn.state == state) for cdn in cdns for state in STATES]
    yield gauges("cdn_state", "1 for the state that it is in.", ("cdn", "state"), states)
    rows = [((cdn.name,), len(cdn.endpoints)) for cdn in cdns]
    yield gauges("cdn_endpoints", "Endpoints it has.", ("cdn",), rows)
    rows = [((cdn.name,), cdn.endpoints_in) for cdn in cdns]
    yield gauges("cdn_endpoints_in", "Those that are in rotation.", ("cdn",), rows)
    rows = [((cdn.name,), cdn.wanted_weight) for cdn in cdns]
    yield gauges(
        "cdn_weight", "What configuration or operators want, relative to the others.", ("cdn",), rows
    )
    rows = [((cdn.name,), cdn.effective_share) for cdn in cdns]
    yield gauges("cdn_weight_ratio", "Share of new flows that it is to get now.", ("cdn",), rows)
    rows = [((cdn.name,), cdn.video_kept) for cdn in cdns]
    yield gauges("cdn_video_kept_ratio", "Part of its weight that it keeps for video.", ("cdn",), rows)


def _counts(cdns: Sequence[Cdn]) -> Iterator[Metric]:
    rows = [((cdn.name,), cdn.new_flows_total) for cdn in cdns]
    yield counters("cdn_new_flows", "New flows steered to it.", ("cdn",), rows)
    rows = [((cdn.name,), cdn.probe_flows_total) for cdn in cdns]
    yield counters("cdn_probe_flows", "Those that were to see whether it is back.", ("cdn",), rows)
    rows = [((cdn.name,), cdn.ejections_total) for cdn in cdns]
    yield counters(
        "cdn_ejections", "How often one of its endpoints was taken out of rotation.", ("cdn",), rows
    )
    moved = {"unanswered": "rescued_from_total", "full": "spilled_total", "dark": "reset_dark_total"}
    failed = [
        ((cdn.name, "others", reason), getattr(cdn, field)) for cdn in cdns for reason, field in moved.items()
    ]
    text = "Flows that went elsewhere; where to is not counted by pairs, see cdnctl_cdn_rescued_to_total."
    yield counters("cdn_failovers", text, ("from", "to", "reason"), failed)
    rows = [((cdn.name,), cdn.rescued_to_total) for cdn in cdns]
    yield counters("cdn_rescued_to", "Unanswered connects of others that were moved to it.", ("cdn",), rows)
    for what, unit in (("packets", "Packets"), ("bytes", "Bytes")):
        both = [
            ((cdn.name, direction), getattr(cdn, f"{direction}_cdn_{what}_total"))
            for cdn in cdns
            for direction in ("to", "from")
        ]
        yield counters(f"cdn_{what}", f"{unit} to and from it.", ("cdn", "direction"), both)


def _measured(cdns: Sequence[Cdn]) -> Iterator[Metric]:
    rows = [((cdn.name,), cdn.open_flows) for cdn in cdns if cdn.open_flows is not None]
    yield gauges("cdn_open_flows", "Established flows; not known with a direct return.", ("cdn",), rows)
    full = [((cdn.name,), cdn.capacity_use) for cdn in cdns if cdn.capacity_use is not None]
    yield gauges("cdn_capacity_used_ratio", "Of its capacity, by the fuller of its limits.", ("cdn",), full)
    losses = [
        ((cdn.name, direction), loss)
        for cdn in cdns
        for direction, loss in (("to", cdn.loss_to_cdn), ("from", cdn.loss_from_cdn))
        if loss is not None
    ]
    text = "Share of the segments of the last seconds that were sent again."
    yield gauges("cdn_loss_ratio", text, ("cdn", "direction"), losses)
    held = [((cdn.name,), max(each.ports_held for each in cdn.endpoints)) for cdn in cdns if cdn.endpoints]
    yield gauges("cdn_ports_held_ratio", "Share of SNAT ports held, of its fullest endpoint.", ("cdn",), held)
    ends = {
        cdn.name: [each.ports_gone_in_s for each in cdn.endpoints if each.ports_gone_in_s is not None]
        for cdn in cdns
    }
    rows_s = [((name,), min(gone)) for name, gone in ends.items() if gone]
    text = "Until no SNAT port is free towards one of its endpoints, if it goes on; absent: not in sight."
    yield gauges("cdn_ports_exhausted_in_seconds", text, ("cdn",), rows_s)


def _histogram(name: str, text: str, found: Mapping[str, Histogram]) -> Metric:
    text += "; the buckets are exact, the sum is right within a sixteenth."
    family = HistogramMetricFamily(f"cdnctl_{name}", text, labels=("cdn",))
    for cdn, histogram in found.items():
        family.add_metric((cdn,), _buckets(histogram), sum_value=_sum_s(histogram))
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus wants them: each with its upper limit in seconds."""
    found: list[tuple[str, float]] = []
    below, number = 0, 0
    for limit_us in LIMITS_US:
        while number < len(histogram.counts) and histogram.limits_us[number][1] <= limit_us:
            below += histogram.counts[number]
            number += 1
        found.append((str(limit_us / 1e6), below))
    return [*found, ("+Inf", sum(histogram.counts))]


def _sum_s(histogram: Histogram) -> float:
    pairs = zip(histogram.limits_us, histogram.counts, strict=True)
    return sum(count * (low + high) / 2 for (low, high), count in pairs) / 1e6
