"""Mirrors of bpf/abi.h, field by field. tests/packet holds them against the compiled layouts.

Addresses and ports are bytes in network order inside ctypes integers, as in the kernel: make them
with `address()` and `port()`, read them with `show_address()` and `show_port()`.
"""

from __future__ import annotations

import ctypes
import enum
import socket
import struct
from ctypes import Structure, c_uint8, c_uint16, c_uint32, c_uint64

MAX_CDNS = 16
MAX_ENDPOINTS = 64
MAX_SERVICES = 32
MAX_SNAT = 8
PICK_SLOTS = 16381
PICK_ROOM = 16384
HANDSHAKE_BUCKETS = 256
NO_CDN_ID = 0xFF
BLOCK_WORDS = 1 << 19
BLOCK_EXACT = 1
BLOCK_PREFIX = 2
PROTOCOL_TCP = 6


class Verdict(enum.IntEnum):
    """enum verdict: every packet ends in exactly one (but GO_ON, which is none)."""

    GO_ON = 0
    FORWARDED = 1
    REPLIED = 2
    PASSED = 3
    BYPASSED = 4
    RESET_CLIENT = 5
    RESET_CDN = 6
    BLOCKED = 7
    MALFORMED = 8
    FRAGMENT = 9
    UNSUPPORTED = 10
    EXPIRED_TTL = 11
    NO_SERVICE = 12
    UNKNOWN_FLOW = 13
    BAD_ACK = 14
    NO_OWNER = 15
    STALE_REPLY = 16
    ABSORBED = 17
    NO_CDN = 18
    NO_PORT = 19
    NO_ROOM = 20
    NO_ROUTE = 21
    NO_NEIGHBOUR = 22


VERDICTS = 23
FIRST_DROP = Verdict.BLOCKED


class Mode(enum.IntFlag):
    """enum mode_flag."""

    DISARMED = 1
    BYPASS = 2


class LocalKind(enum.IntEnum):
    """enum local_kind."""

    VIP = 1
    SNAT = 2


class Policy(enum.IntEnum):
    """enum policy."""

    WEIGHTED = 0
    LATENCY = 1


class SlotState(enum.IntEnum):
    """enum slot_state."""

    FREE = 0
    SYN_SENT = 1
    SYN_RECV = 2
    ESTABLISHED = 3
    CLOSING = 4
    TOMBSTONE = 5


class FlowFlag(enum.IntFlag):
    """enum flow_flag."""

    SYNACK = 1
    RESENT = 2
    PROBE = 4
    FIN_CLIENT = 8
    FIN_CDN = 16
    RESET = 32


class Breaker(enum.IntEnum):
    """enum breaker."""

    IN = 0
    OUT = 1


class OutReason(enum.IntEnum):
    """enum out_reason."""

    NONE = 0
    DARK = 1
    REFUSING = 2
    SLOW = 3


class EventKind(enum.IntEnum):
    """enum event_kind."""

    EJECT = 1
    REOPEN = 2
    PROBE = 3
    PROBE_FAILED = 4
    RESCUE = 5
    KEPT = 6


class Settings(Structure):
    """struct settings."""

    _fields_ = (
        ("generation", c_uint32),
        ("sample_one_in", c_uint32),
        ("seed", c_uint32),
        ("port_min_host", c_uint16),
        ("ports", c_uint16),
        ("snat_count", c_uint16),
        ("endpoint_stride", c_uint16),
        ("snat", c_uint32 * MAX_SNAT),
        ("weight_total", c_uint32),
        ("dark_connects", c_uint32),
        ("refused_connects", c_uint32),
        ("slow_connects", c_uint32),
        ("distinct_prefixes", c_uint32),
        ("pad", c_uint32),
        ("out_ns", c_uint64),
        ("max_out_ns", c_uint64),
        ("rescue_after_ns", c_uint64),
    )


class Identity(Structure):
    """struct identity."""

    _fields_ = (("digest", c_uint8 * 32),)


class Local(Structure):
    """struct local."""

    _fields_ = (("kind", c_uint8), ("index", c_uint8), ("pad", c_uint16))


class ServiceKey(Structure):
    """struct service_key."""

    _fields_ = (("vip", c_uint32), ("port", c_uint16), ("protocol", c_uint8), ("pad", c_uint8))


class Service(Structure):
    """struct service."""

    _fields_ = (
        ("vip", c_uint32),
        ("port", c_uint16),
        ("policy", c_uint8),
        ("bank", c_uint8),
    )


class EndpointKey(Structure):
    """struct endpoint_key."""

    _fields_ = (("address", c_uint32), ("port", c_uint16), ("protocol", c_uint8), ("pad", c_uint8))


class Endpoint(Structure):
    """struct endpoint."""

    _fields_ = (
        ("address", c_uint32),
        ("port", c_uint16),
        ("cdn", c_uint8),
        ("pad", c_uint8),
        ("weight", c_uint32),
        ("limit_us", c_uint32),
    )


class FlowKey(Structure):
    """struct flow_key."""

    _fields_ = (
        ("client", c_uint32),
        ("vip", c_uint32),
        ("client_port", c_uint16),
        ("vip_port", c_uint16),
        ("protocol", c_uint8),
        ("pad", c_uint8 * 3),
    )


class Flow(Structure):
    """struct flow."""

    _fields_ = (
        ("syn_ns", c_uint64),
        ("slot", c_uint32),
        ("generation", c_uint32),
        ("snat", c_uint32),
        ("snat_port", c_uint16),
        ("ip_delta", c_uint16),
        ("tcp_delta", c_uint16),
        ("endpoint", c_uint8),
        ("service", c_uint8),
        ("cdn", c_uint8),
        ("flags", c_uint8),
        ("seen_s", c_uint16),
        ("isn", c_uint32),
        ("cdn_isn", c_uint32),
    )


class Slot(Structure):
    """struct slot."""

    _fields_ = (
        ("owner", c_uint64),
        ("since_ns", c_uint64),
        ("generation", c_uint32),
        ("isn", c_uint32),
        ("ifindex", c_uint32),
        ("router", c_uint8 * 6),
        ("self", c_uint8 * 6),
        ("ip_delta", c_uint16),
        ("tcp_delta", c_uint16),
        ("state", c_uint8),
        ("flags", c_uint8),
        ("pad", c_uint16),
        ("seen_s", c_uint32),
        ("pad2", c_uint32),
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
        ("kept_ns", c_uint64),
        ("last_new_flow_ns", c_uint64),
        ("connect_prefix", c_uint32),
        ("connect_networks", c_uint32),
        ("slow_prefix", c_uint32 * 2),
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
        ("pad", c_uint32),
        ("ejections", c_uint32),
        ("ejections_total", c_uint32),
        ("reserved_weight", c_uint32),
    )


class Hop(Structure):
    """struct hop."""

    _fields_ = (
        ("checked_ns", c_uint64),
        ("ifindex", c_uint32),
        ("source", c_uint8 * 6),
        ("target", c_uint8 * 6),
        ("verdict", c_uint32),
        ("pad", c_uint32),
    )


class PrefixKey(Structure):
    """struct prefix_key."""

    _fields_ = (("length", c_uint32), ("address", c_uint32))


class Block(Structure):
    """struct block."""

    _fields_ = (("expires_ns", c_uint64), ("hits", c_uint64), ("length", c_uint32), ("pad", c_uint32))


class Count(Structure):
    """struct count."""

    _fields_ = (("packets", c_uint64), ("bytes", c_uint64))


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
    )


class HandshakeHistogram(Structure):
    """struct handshake_histogram."""

    _fields_ = (("bucket", c_uint64 * HANDSHAKE_BUCKETS),)


class Pick(Structure):
    """struct pick."""

    _fields_ = (
        ("hash", c_uint32),
        ("except", c_uint32),
        ("first", c_uint32),
        ("first_cost_us", c_uint32),
        ("endpoint", c_uint32),
        ("probe", c_uint32),
        ("darkened", c_uint32),
        ("suspected", c_uint32),
    )


class CpuState(Structure):
    """struct cpu_state."""

    _fields_ = (
        ("until_sample", c_uint32),
        ("resets_left", c_uint32),
        ("resets_ns", c_uint64),
        ("sample_one_in", c_uint32),
        ("pad", c_uint32),
        ("pick", Pick),
    )


class Sample(Structure):
    """struct sample."""

    _fields_ = (
        ("source", c_uint32),
        ("target", c_uint32),
        ("source_port", c_uint16),
        ("target_port", c_uint16),
        ("length", c_uint16),
        ("verdict", c_uint8),
        ("cdn", c_uint8),
        ("one_in", c_uint32),
        ("pad", c_uint32),
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


def key(number: int) -> bytes:
    """An array's key."""
    return struct.pack("I", number)


def address(text: str) -> int:
    """`198.51.100.10` as it stands in a packet."""
    return int(struct.unpack("=I", socket.inet_aton(text))[0])


def show_address(number: int) -> str:
    """The inverse of `address`."""
    return socket.inet_ntoa(struct.pack("=I", number))


def port(number: int) -> int:
    """A port as it stands in a packet."""
    return socket.htons(number)


def show_port(number: int) -> int:
    """The inverse of `port`."""
    return socket.ntohs(number)


def size(kind: type[Structure]) -> int:
    """Bytes of a mirror."""
    return ctypes.sizeof(kind)


def bucket_limits_us(bucket: int) -> tuple[float, float]:
    """Lower and upper bound of a handshake bucket: eight steps an octave, as health.h fills them."""
    octave, step = divmod(bucket, 8)
    if octave < 3:
        return float(1 << octave), float(2 << octave)
    width = 1 << (octave - 3)
    low = (1 << octave) + step * width
    return float(low), float(low + width)
