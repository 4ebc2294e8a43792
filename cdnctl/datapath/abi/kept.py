"""Structs that the kernel writes and user space reads."""

from __future__ import annotations

from ctypes import Structure, c_int64, c_uint8, c_uint16, c_uint32, c_uint64

from cdnctl.datapath.abi.enums import CLASSES, FEATURES, VERDICTS
from cdnctl.datapath.abi.numbers import (
    HISTOGRAM_BUCKETS,
    MAX_CDNS,
    MAX_CUSTOMERS,
    MAX_REGIONS,
    MAX_SERVICES,
    QUIC_ID_MAX,
    RETRY_WAYS,
    SKETCH_COLUMNS,
    SKETCH_ROWS,
)
from cdnctl.datapath.abi.values import Address


class FlowKey(Structure):
    """struct flow_key."""

    _fields_ = (
        ("client", Address),
        ("client_port", c_uint16),
        ("vip_port", c_uint16),
        ("vip", c_uint8),
        ("protocol", c_uint8),
        ("pad", c_uint16),
    )


class Flow(Structure):
    """struct flow."""

    _fields_ = (
        ("syn_ns", c_uint64),
        ("slot", c_uint32),
        ("generation", c_uint32),
        ("isn", c_uint32),
        ("cdn_isn", c_uint32),
        ("snat_port", c_uint16),
        ("ip_delta", c_uint16),
        ("l4_delta", c_uint16),
        ("seen_s", c_uint16),
        ("customer", c_uint16),
        ("snat", c_uint8),
        ("endpoint", c_uint8),
        ("service", c_uint8),
        ("cdn", c_uint8),
        ("flags", c_uint8),
        ("traffic_class", c_uint8),
        ("region", c_uint8),
        ("spare", c_uint8),
        ("syn_data", c_uint16),
        ("pad", c_uint8 * 8),
    )


class Slot(Structure):
    """struct slot."""

    _fields_ = (
        ("owner", c_uint64),
        ("since_ns", c_uint64),
        ("client", Address),
        ("generation", c_uint32),
        ("isn", c_uint32),
        ("router", c_uint8 * 6),
        ("link", c_uint8),
        ("state", c_uint8),
        ("ip_delta", c_uint16),
        ("l4_delta", c_uint16),
        ("seen_s", c_uint16),
        ("customer", c_uint16),
        ("flags", c_uint8),
        ("traffic_class", c_uint8),
        ("region", c_uint8),
        ("pad", c_uint8 * 5),
    )


class Health(Structure):
    """struct health."""

    _fields_ = (
        ("state", c_uint64),
        ("unanswered", c_uint64),
        ("refused", c_uint64),
        ("slow_run", c_uint64),
        ("probes_good", c_uint64),
        ("probe_ns", c_uint64),
        ("probing", c_uint64),
        ("last_answer_ns", c_uint64),
        ("dark_ns", c_uint64),
        ("window_ns", c_uint64),
        ("ewma_at_ns", c_uint64),
        ("out_until_ns", c_uint64),
        ("ejected_ns", c_uint64),
        ("reopened_ns", c_uint64),
        ("kept_ns", c_uint64),
        ("told_ns", c_uint64),
        ("last_new_flow_ns", c_uint64),
        ("connect_network", c_uint32),
        ("connect_networks", c_uint32),
        ("slow_network", c_uint32 * 2),
        ("slow_networks", c_uint32),
        ("limit_us", c_uint32),
        ("window_samples", c_uint32),
        ("window_slow", c_uint32),
        ("samples", c_uint32),
        ("ewma_us", c_uint32),
        ("baseline_us", c_uint32),
        ("reason", c_uint32),
        ("probes_bad", c_uint32),
        ("probes_slow", c_uint32),
        ("id_lengths", c_uint32),
        ("ejections", c_uint32),
        ("ejections_total", c_uint32),
        ("reserved_weight", c_uint32),
    )


class Manner(Structure):
    """struct manner."""

    _fields_ = (
        ("source", c_uint32 * 2),
        ("first", c_uint32),
        ("seen", c_uint32),
        ("begun_at", c_uint32),
        ("flows", c_uint32),
        ("begun", c_uint32),
        ("proven", c_uint32),
        ("ended", c_uint32),
        ("fruitless", c_uint32),
        ("gap", c_uint32),
        ("bytes", c_uint32),
        ("score", c_int64),
        ("feature", c_uint8 * FEATURES),
    )


class Hop(Structure):
    """struct hop."""

    _fields_ = (
        ("checked_ns", c_uint64),
        ("link", c_uint32),
        ("source", c_uint8 * 6),
        ("target", c_uint8 * 6),
        ("verdict", c_uint32),
        ("mtu", c_uint32),
    )


class Sketch(Structure):
    """struct sketch."""

    _fields_ = (
        ("strangers", c_uint64),
        ("period", c_uint32),
        ("pad", c_uint32),
        ("count", (c_uint32 * SKETCH_COLUMNS) * SKETCH_ROWS),
    )


class Verified(Structure):
    """struct verified."""

    _fields_ = (
        ("until_ns", c_uint64),
        ("flows_at", c_uint64),
        ("pending_at", c_uint64),
    )


class RetrySet(Structure):
    """struct retry_set."""

    _fields_ = (("word", c_uint64 * RETRY_WAYS),)


class Surge(Structure):
    """struct surge."""

    _fields_ = (("flows_at", c_uint64), ("last_ns", c_uint64))


class QuicId(Structure):
    """struct quic_id."""

    _fields_ = (
        ("bytes", c_uint8 * QUIC_ID_MAX),
        ("length", c_uint8),
        ("service", c_uint8),
        ("pad", c_uint16),
    )


class Heard(Structure):
    """struct heard."""

    _fields_ = (
        ("answered", c_uint32),
        ("id_lengths", c_uint32),
    )


class FragmentKey(Structure):
    """struct fragment_key."""

    _fields_ = (
        ("source", Address),
        ("target", Address),
        ("id", c_uint32),
        ("protocol", c_uint32),
    )


class Fragment(Structure):
    """struct fragment."""

    _fields_ = (
        ("at_ns", c_uint64),
        ("source", Address),
        ("target", Address),
        ("slot", c_uint32),
        ("source_port", c_uint16),
        ("target_port", c_uint16),
        ("customer", c_uint16),
        ("endpoint", c_uint8),
        ("cdn", c_uint8),
        ("snat", c_uint8),
        ("pad", c_uint8 * 3),
    )


class Count(Structure):
    """struct count."""

    _fields_ = (
        ("packets", c_uint64),
        ("bytes", c_uint64),
    )


class CdnCount(Structure):
    """struct cdn_count."""

    _fields_ = (
        ("to_cdn", Count),
        ("from_cdn", Count),
        ("new_flows", c_uint64),
        ("probe_flows", c_uint64),
        ("rescued_from", c_uint64),
        ("rescued_to", c_uint64),
        ("handshakes", c_uint64),
        ("promoted", c_uint64),
        ("closed", c_uint64),
        ("spilled", c_uint64),
        ("reset_dark", c_uint64),
        ("segments_to", c_uint64),
        ("resent_to", c_uint64),
        ("segments_from", c_uint64),
        ("resent_from", c_uint64),
        ("requests", c_uint64),
        ("rebound", c_uint64),
        ("ids_learned", c_uint64),
        ("ids_hidden", c_uint64),
        ("ids_unknown", c_uint64),
    )


class CustomerCount(Structure):
    """struct customer_count."""

    _fields_ = (
        ("passed", Count),
        ("dropped", Count),
        ("flows", c_uint64),
        ("flows_refused", c_uint64),
    )


class Histogram(Structure):
    """struct histogram."""

    _fields_ = (("bucket", c_uint64 * HISTOGRAM_BUCKETS),)


class Counted(Structure):
    """struct counted: its fields are the names of tables."""

    _fields_ = (
        ("verdicts", Count * VERDICTS),
        ("cdn_counts", CdnCount * MAX_CDNS),
        ("customer_counts", CustomerCount * MAX_CUSTOMERS),
        ("service_flows", c_uint64 * MAX_SERVICES),
        ("handshakes", Histogram * MAX_CDNS),
        ("first_bytes", ((Histogram * CLASSES) * MAX_REGIONS) * MAX_CDNS),
    )


class Sample(Structure):
    """struct sample."""

    _fields_ = (
        ("source", Address),
        ("target", Address),
        ("source_port", c_uint16),
        ("target_port", c_uint16),
        ("length", c_uint16),
        ("verdict", c_uint8),
        ("cdn", c_uint8),
        ("one_in", c_uint32),
        ("protocol", c_uint8),
        ("tcp_flags", c_uint8),
        ("pad", c_uint16),
    )


class Event(Structure):
    """struct event."""

    _fields_ = (
        ("at_ns", c_uint64),
        ("kind", c_uint32),
        ("reason", c_uint32),
        ("endpoint", c_uint32),
        ("to_endpoint", c_uint32),
        ("value", c_uint32),
        ("ejections", c_uint32),
    )


class Binding(Structure):
    """struct binding."""

    _fields_ = (
        ("at_ns", c_uint64),
        ("client", Address),
        ("client_port", c_uint16),
        ("snat_port", c_uint16),
        ("snat", c_uint8),
        ("endpoint", c_uint8),
        ("service", c_uint8),
        ("protocol", c_uint8),
    )


class Sweep(Structure):
    """struct sweep."""

    _fields_ = (
        ("next", c_uint64),
        ("freed", c_uint64),
    )
