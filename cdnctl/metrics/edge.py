"""Metrics of the whole edge: its state, its packets, its tables, and how the agent is doing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import InfoMetricFamily, Metric

from cdnctl import __version__
from cdnctl.metrics.family import Row, counter, counters, gauge, gauges
from cdnctl.model import LEVELS, MODEL_MODES, Frame


def families(frame: Frame) -> Iterator[Metric]:
    """In the order in which they are shown."""
    yield from _agent(frame)
    yield from _state(frame)
    yield from _packets(frame)
    yield from _samples(frame)
    yield from _blocks(frame)
    yield from _tables(frame)


def _agent(frame: Frame) -> Iterator[Metric]:
    build = InfoMetricFamily("cdnctl_build", "The version of the agent, and the edge it serves.")
    build.add_metric((), {"version": __version__, "edge": frame.edge})
    yield build
    started_s = frame.agent_started_ns / 1e9
    yield gauge("agent_start_time_seconds", "When the agent started, as a Unix time.", started_s)
    yield gauge("frame_seq", "Number of the frame that these metrics are of.", frame.seq)
    taken_s = frame.at_ns / 1e9
    yield gauge(
        "frame_timestamp_seconds", "When it was taken, as a Unix time; it ages if frames fail.", taken_s
    )
    roles = Counter(watcher.role for watcher in frame.watchers)
    rows = [((role,), roles[role]) for role in ("operate", "view")]
    yield gauges("clients", "Clients of the agent's sockets.", ("role",), rows)


def _state(frame: Frame) -> Iterator[Metric]:
    yield gauge("edge_loaded", "1 while the data path is in the kernel.", frame.loaded)
    yield gauge("edge_armed", "0 after disarm: nothing is dropped or ejected.", frame.armed)
    yield gauge("edge_bypassed", "1 while every packet passes untouched.", frame.bypassed)
    yield gauge(
        "edge_observing", "1 while it decides and counts, but lets every packet pass.", frame.observing
    )
    levels: list[Row] = [((level,), frame.shield.level == level) for level in LEVELS]
    yield gauges("shield_level", "1 for the level that new flows are judged under.", ("level",), levels)
    modes: list[Row] = [((mode,), frame.suspicion.mode == mode) for mode in MODEL_MODES]
    yield gauges("model_mode", "1 for what the model of sources' manners does.", ("mode",), modes)
    yield gauge(
        "suspicious_sources",
        "Sources that the model suspects, of the last half minute.",
        frame.suspicion.suspicious,
    )
    rows = [((each.name,), each.mode != "detached") for each in frame.interfaces]
    yield gauges("interface_attached", "1 while the program is on the interface.", ("interface",), rows)
    rows = [((each.name,), each.mode == "native") for each in frame.interfaces]
    yield gauges("interface_native", "1 where its driver runs the program.", ("interface",), rows)
    yield gauge("policy_generation", "Cached verdicts older than this are checked again.", frame.generation)
    if frame.door.wanted != "anyone":
        text = "1 while SNAT addresses take packets of those on the list alone."
        yield gauge("snat_closed", text, frame.door.closed)
        yield gauge("snat_invited_prefixes", "Prefixes that may talk to SNAT addresses.", frame.door.prefixes)
    # a frame of an agent that knows no confirmations has none pending
    pending = getattr(frame, "pending", None) is not None
    yield gauge("commit_pending", "1 while a change waits to be confirmed, and else reverts.", pending)


def _packets(frame: Frame) -> Iterator[Metric]:
    packets = [((each.name,), each.packets_total) for each in frame.verdicts]
    octets = [((each.name,), each.bytes_total) for each in frame.verdicts]
    yield counters("verdict_packets", "Packets by what became of them: all of them.", ("verdict",), packets)
    yield counters("verdict_bytes", "The same in bytes.", ("verdict",), octets)
    drops = [each for each in frame.verdicts if each.drop]
    packets = [((each.name,), each.packets_total) for each in drops]
    octets = [((each.name,), each.bytes_total) for each in drops]
    yield counters("drop_packets", "Packets that were dropped, and why.", ("reason",), packets)
    yield counters("drop_bytes", "The same in bytes.", ("reason",), octets)
    totals = frame.totals
    yield counter("flows_established", "Flows whose handshake was completed.", totals.promoted_total)
    yield counter("flows_rescued", "Connects moved from a silent CDN to another.", totals.rescued_total)
    yield gauge("half_open_flows", "Handshakes under way, estimated over the last seconds.", totals.half_open)


def _samples(frame: Frame) -> Iterator[Metric]:
    sampling = frame.sampling
    yield counter("perf_samples", "Sampled packets and events that the agent read.", sampling.received_total)
    yield counter("perf_lost_samples", "Those that came too quickly to be read.", sampling.lost_total)
    yield gauge("sampling_interval_packets", "One packet in so many is sampled.", sampling.one_in)
    text = "Time since the reader of samples finished a round."
    yield gauge("perf_reader_age_seconds", text, sampling.stale_s)


def _blocks(frame: Frame) -> Iterator[Metric]:
    rows = [((source,), count) for source, count in sorted(frame.blocks_by_source.items())]
    text = "Blocks that are wanted, by who wants them; a prefix may be wanted by several."
    yield gauges("blocklist_desired_entries", text, ("source",), rows)
    text = "Prefixes that are wanted by anybody: what the kernel should enforce."
    yield gauge("blocklist_desired_prefixes", text, frame.block_prefixes)
    yield gauge("blocklist_enforced_entries", "Prefixes that the kernel enforces.", frame.blocks_enforced)
    yield gauge("allowed_prefixes", "Prefixes that are neither blocked nor limited.", frame.allowed)


def _tables(frame: Frame) -> Iterator[Metric]:
    text = "Entries of a table of the kernel, counted every few seconds; one that is full evicts or refuses."
    yield gauges("map_entries", text, ("map",), [((each.name,), each.entries) for each in frame.maps])
    rows: list[Row] = [((each.name,), each.room) for each in frame.maps]
    yield gauges("map_max_entries", "Room for so many.", ("map",), rows)
    rows = [((each.name,), each.entries / each.room if each.room else 0.0) for each in frame.maps]
    yield gauges("map_pressure_ratio", "How full it is.", ("map",), rows)
    collector = frame.collector
    text = "SNAT ports that no flow held any more, and were freed."
    yield counter("ports_freed", text, collector.freed_total)
    text = "The largest share of SNAT ports held towards any endpoint, as of the last census."
    yield gauge("ports_held_ratio", text, collector.tightest)
    yield gauge("collector_cpu_ratio", "Share of one processor that freeing takes.", collector.cpu)
