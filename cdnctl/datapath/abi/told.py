"""Structs that user space writes and the kernel reads, and the keys of their tables."""

from __future__ import annotations

from ctypes import Structure, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64

from cdnctl.datapath.abi.enums import BUDGETS, CLASSES, FEATURES, POOLS
from cdnctl.datapath.abi.numbers import BLOCK_CELLS, MAX_REGIONS, MAX_SNAT, MEMBER_WORDS, TICKS_PER_NS
from cdnctl.datapath.abi.values import Address, ticks


class Limit(Structure):
    """struct limit."""

    _fields_ = (
        ("packet_ticks", c_uint64),
        ("kib_ticks", c_uint64),
        ("flow_ticks", c_uint64),
        ("burst_ticks", c_uint64),
    )


class Meter(Structure):
    """struct meter."""

    _fields_ = (
        ("packets_at", c_uint64),
        ("bytes_at", c_uint64),
        ("flows_at", c_uint64),
        ("pad", c_uint64),
    )


class Settings(Structure):
    """struct settings."""

    _fields_ = (
        ("generation", c_uint32),
        ("sample_one_in", c_uint32),
        ("seed", c_uint32),
        ("port_min_host", c_uint16),
        ("ports", c_uint16),
        ("snat_rows", c_uint8),
        ("snat_count", c_uint8 * 2),
        ("fragments", c_uint8),
        ("source_busy", c_uint32),
        ("busy_share", c_uint32),
        ("weight_total", c_uint32 * POOLS),
        ("snat", (Address * MAX_SNAT) * 2),
        ("block_line_shift", c_uint32),
        ("dark_connects", c_uint32),
        ("refused_connects", c_uint32),
        ("slow_connects", c_uint32),
        ("distinct_prefixes", c_uint32),
        ("established_s", c_uint32),
        ("udp_s", c_uint32),
        ("out_ns", c_uint64),
        ("max_out_ns", c_uint64),
        ("rescue_after_ns", c_uint64),
        ("slow_start_ns", c_uint64),
        ("source_limit", Limit),
        ("log_bindings", c_uint64),
        ("model", c_uint32),
        ("invited_only", c_uint32),
        ("announced", c_uint64),
    )


class Shield(Structure):
    """struct shield."""

    _fields_ = (
        ("level", c_uint32),
        ("key_now", c_uint32),
        ("syn_data", c_uint32),
        ("pad", c_uint32),
        ("outside", c_uint64),
        ("key", (c_uint64 * 2) * 2),
        ("patience_ns", c_uint64),
        ("trust_ns", c_uint64),
        ("ticks", c_uint64 * BUDGETS),
        ("burst_ticks", c_uint64),
        ("surge_ticks", c_uint64),
        ("pending_ticks", c_uint64),
        ("pending_burst_ticks", c_uint64),
    )


class Model(Structure):
    """struct model."""

    _fields_ = (
        ("weight", c_int32 * FEATURES),
        ("bias", c_int64),
        ("times", c_uint32),
        ("pad", c_uint32),
    )


class Identity(Structure):
    """struct identity."""

    _fields_ = (("digest", c_uint8 * 32),)


class Local(Structure):
    """struct local."""

    _fields_ = (
        ("kind", c_uint8),
        ("index", c_uint8),
        ("pad", c_uint16),
    )


class LocalCell(Structure):
    """struct local_cell."""

    _fields_ = (
        ("address", Address),
        ("kind", c_uint8),
        ("index", c_uint8),
        ("pad", c_uint16),
    )


class LinkKey(Structure):
    """struct link_key."""

    _fields_ = (
        ("ifindex", c_uint32),
        ("outer", c_uint16),
        ("inner", c_uint16),
    )


class Link(Structure):
    """struct link."""

    _fields_ = (
        ("ifindex", c_uint32),
        ("outer", c_uint16),
        ("inner", c_uint16),
        ("mtu", c_uint16),
        ("mac", c_uint8 * 6),
        ("tpid", c_uint16),
        ("pad", c_uint16),
    )


class ServiceKey(Structure):
    """struct service_key."""

    _fields_ = (
        ("port", c_uint16),
        ("vip", c_uint8),
        ("protocol", c_uint8),
    )


class Service(Structure):
    """struct service."""

    _fields_ = (
        ("vip", Address),
        ("port", c_uint16),
        ("vip_index", c_uint8),
        ("protocol", c_uint8),
        ("traffic_class", c_uint8),
        ("policy", c_uint8 * CLASSES),
        ("table", (c_uint16 * CLASSES) * MAX_REGIONS),
        ("members", c_uint64 * MEMBER_WORDS),
    )


class EndpointKey(Structure):
    """struct endpoint_key."""

    _fields_ = (
        ("address", Address),
        ("port", c_uint16),
        ("protocol", c_uint8),
        ("pad", c_uint8),
    )


class Endpoint(Structure):
    """struct endpoint."""

    _fields_ = (
        ("address", Address),
        ("port", c_uint16),
        ("protocol", c_uint8),
        ("cdn", c_uint8),
        ("pool", c_uint8),
        ("transport", c_uint8),
        ("flags", c_uint8),
        ("pad", c_uint8),
        ("mss", c_uint16),
        ("tunnel_port", c_uint16),
        ("weight", c_uint32),
        ("limit_us", c_uint32),
    )


class PrefixKey(Structure):
    """struct prefix_key."""

    _fields_ = (
        ("length", c_uint32),
        ("address", Address),
    )


class Block(Structure):
    """struct block."""

    _fields_ = (
        ("expires_ns", c_uint64),
        ("hits", c_uint64),
        ("length", c_uint32),
        ("pad", c_uint32),
    )


class BlockLine(Structure):
    """struct block_line."""

    _fields_ = (
        ("cells", c_uint64 * BLOCK_CELLS),
        ("elsewhere", c_uint64),
    )


class Client(Structure):
    """struct client."""

    _fields_ = (
        ("customer", c_uint16),
        ("region", c_uint8),
        ("flags", c_uint8),
    )


def limit(
    *,
    pps: float | None = None,
    mbit: float | None = None,
    flows_per_s: float | None = None,
    burst_ms: float = 100,
) -> Limit:
    """A limit in ticks; what is None or 0 is not limited."""
    return Limit(
        packet_ticks=ticks(pps),
        kib_ticks=ticks(mbit * 1e6 / 8 / 1024 if mbit else None),
        flow_ticks=ticks(flows_per_s),
        burst_ticks=round(TICKS_PER_NS * 1e6 * burst_ms),
    )
