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
    CHALLENGED = 11
    PROVED = 12
    BLOCKED = 13
    MALFORMED = 14
    IMPOSSIBLE = 15
    LAND = 16
    SPOOFED = 17
    BOGON = 18
    SYN_WITH_DATA = 19
    SHORT_INITIAL = 20
    REFLECTED = 21
    FRAGMENT = 22
    UNSUPPORTED = 23
    NO_CHECKSUM = 24
    EXPIRED_TTL = 25
    TOO_BIG = 26
    NO_SERVICE = 27
    UNKNOWN_FLOW = 28
    UNRELATED = 29
    BAD_ACK = 30
    NO_OWNER = 31
    UNINVITED = 32
    UNUSED = 33
    STALE_REPLY = 34
    ABSORBED = 35
    OVER_QUOTA = 36
    OVER_FLOW_QUOTA = 37
    OVER_SOURCE_QUOTA = 38
    SHED_VERIFIED = 39
    SHED_SOURCE = 40
    SHED_SUSPECT = 41
    SHED_NETWORK = 42
    SHED_REGION = 43
    SHED_SERVICE = 44
    UNVERIFIED = 45
    NO_CDN = 46
    NO_PORT = 47
    NO_ROOM = 48
    NO_LINK = 49
    NO_ROUTE = 50
    NO_NEIGHBOUR = 51
    HELD = 52
    NO_STAGE = 53


VERDICTS = 54
FIRST_DROP = Verdict.BLOCKED


class Level(enum.IntEnum):
    """enum level: how hard it is for new flows."""

    CALM = 0
    BUSY = 1
    SHEDDING = 2
    SIEGE = 3


class Budget(enum.IntEnum):
    """enum budget: whose new flows it is for."""

    VERIFIED = 0
    SOURCE = 1
    NETWORK = 2
    REGION = 3
    SERVICE = 4


BUDGETS = 5


class SurgeKind(enum.IntEnum):
    """enum surge_kind: whose allowance it is."""

    TCP = 0
    UDP = 1


SURGES = 2


class ModelMode(enum.IntEnum):
    """enum model_mode: what is done with the manner of sources."""

    OFF = 0
    OBSERVE = 1
    ON = 2


MODEL_MODES = 3


class Feature(enum.IntEnum):
    """enum feature: what is weighed of a source."""

    RATE = 0
    UNFINISHED = 1
    OPEN = 2
    HELD = 3
    FRUITLESS = 4
    GAP = 5
    BYTES = 6
    KNOWN = 7


FEATURES = 8


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
    CHALLENGE = 8
    WEIGHING = 9
    SENDING = 10
    DOOR = 11
    ANSWER = 12


STAGES = 13


class AddressUse(enum.IntEnum):
    """enum address_use: of an address of an announced prefix that is none of the edge's."""

    USED = 0
    UNUSED = 1


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
