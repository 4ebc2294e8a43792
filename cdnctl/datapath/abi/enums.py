"""The enums of bpf/abi.h. Use them by way of `abi`."""

from __future__ import annotations

import enum


class Verdict(enum.IntEnum):
    """enum verdict: every packet ends in exactly one (but GO_ON, which is none)."""

    GO_ON = 0
    FORWARDED = 1
    REPLIED = 2
    PASSED = 3
    BYPASSED = 4
    HANDED = 5
    RESET_CLIENT = 6
    RESET_CDN = 7
    ECHOED = 8
    SAID_TOO_BIG = 9
    SAID_TOO_LATE = 10
    BLOCKED = 11
    MALFORMED = 12
    FRAGMENT = 13
    UNSUPPORTED = 14
    NO_CHECKSUM = 15
    EXPIRED_TTL = 16
    TOO_BIG = 17
    NO_SERVICE = 18
    UNKNOWN_FLOW = 19
    UNRELATED = 20
    BAD_ACK = 21
    NO_OWNER = 22
    STALE_REPLY = 23
    ABSORBED = 24
    OVER_QUOTA = 25
    OVER_FLOW_QUOTA = 26
    OVER_SOURCE_QUOTA = 27
    NO_CDN = 28
    NO_PORT = 29
    NO_ROOM = 30
    NO_LINK = 31
    NO_ROUTE = 32
    NO_NEIGHBOUR = 33
    HELD = 34
    NO_STAGE = 35


VERDICTS = 36
FIRST_DROP = Verdict.BLOCKED


class Mode(enum.IntFlag):
    """enum mode_flag."""

    DISARMED = 1
    BYPASS = 2
    OBSERVE = 4


class Stage(enum.IntEnum):
    """enum stage: places in the program array `stages`."""

    HANDSHAKE = 0
    OPENING = 1
    PICKING = 2
    BINDING = 3
    CLAMPING = 4
    ICMP = 5
    FRAGMENT = 6
    QUIC = 7
    SENDING = 8
    ANSWER = 9


STAGES = 10


class LocalKind(enum.IntEnum):
    """enum local_kind."""

    VIP = 1
    SNAT = 2
    CROWDED = 3


class Policy(enum.IntEnum):
    """enum policy."""

    WEIGHTED = 0
    LATENCY = 1
    FAILOVER = 2


class TrafficClass(enum.IntEnum):
    """enum traffic_class, without CLASS_BY_DSCP, which is none of the classes."""

    INTERACTIVE = 0
    VIDEO = 1
    BULK = 2


CLASSES = 3
CLASS_BY_DSCP = 0xFF


class Pool(enum.IntEnum):
    """enum pool: a family and a protocol."""

    TCP4 = 0
    UDP4 = 1
    TCP6 = 2
    UDP6 = 3


POOLS = 4


class Transport(enum.IntEnum):
    """enum transport: how packets get to an endpoint."""

    NAT = 0
    IPIP = 1
    GUE = 2
    PASS = 3


class EndpointFlag(enum.IntFlag):
    """enum endpoint_flag."""

    RESETS = 1


class SlotState(enum.IntEnum):
    """enum slot_state."""

    FREE = 0
    SYN_SENT = 1
    SYN_RECV = 2
    ESTABLISHED = 3
    CLOSING = 4
    TOMBSTONE = 5


SLOT_STATES = 8
"""Room for so many in a row of the census."""


class FlowFlag(enum.IntFlag):
    """enum flow_flag."""

    SYNACK = 1
    RESENT = 2
    PROBE = 4
    FIN_CLIENT = 8
    FIN_CDN = 16
    RESET = 32
    ASKED = 64
    REBOUND = 128


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
    NO_HOP = 7
    PORTS_GONE = 8
    SPILL = 9


class FragmentPolicy(enum.IntEnum):
    """enum fragment_policy."""

    FOLLOW = 0
    DROP = 1


class ClientFlag(enum.IntFlag):
    """enum client_flag."""

    ALLOWED = 1
