"""What a traced packet's notes are made of: enums of bpf/trace.h, and those of the pipeline they carry.

Not by way of `abi`: no map that outlives a trace holds any of it.
"""

from __future__ import annotations

import enum

from cdnctl.datapath.abi.enums import VERDICTS


class NoteKind(enum.IntEnum):
    """enum note_kind of trace.h; what a note's two numbers are stands there."""

    MODE = 1
    LOCAL = 2
    HOST_PORT = 3
    ENDPOINT = 4
    SLOT = 5
    FLOW = 6
    FORWARD = 7
    ADMITTED = 8
    HINT = 9
    EXPIRED = 10
    BLOCK = 11
    EXEMPT = 12
    QUOTA = 13
    STAGE = 14
    SERVICE = 15
    CLIENT = 16
    TABLE = 17
    TRY = 18
    PICKED = 19
    AGAIN = 20
    RESCUE = 21
    GONE_DARK = 22
    PROMOTED = 23
    PORT = 24
    WAY_BACK = 25
    HOP = 26
    OUT = 27
    EVENT = 28
    VERDICT = 29


class Exemption(enum.IntEnum):
    """enum exemption of trace.h."""

    ALLOWED = 1
    MANAGEMENT = 2
    NEIGHBOUR = 3


class Claim(enum.IntEnum):
    """enum claim of trace.h."""

    HELD = 0
    FREE = 1
    RECLAIMED = 2


class Fitness(enum.IntEnum):
    """enum fitness of health.h."""

    UNFIT_EXCEPTED = 0
    UNFIT_OUT = 1
    UNFIT_DARK = 2
    UNFIT_SUSPECT = 3
    UNFIT_FULL = 4
    UNFIT_STARTING = 5
    FIT = 6
    FIT_FOR_PROBE = 7


class Belongs(enum.IntEnum):
    """enum belongs of packet.h."""

    TO_NOBODY_OF_OURS = 0
    TO_SOMETHING = 1
    TO_NEW_FLOW = 2
    TO_HALF_OPEN = 3
    TO_ESTABLISHED = 4
    TO_REPLY = 5


class Onward(enum.IntEnum):
    """enum onward of packet.h: verdicts that are not the last word."""

    TO_CDN = VERDICTS
    TO_CLIENT = VERDICTS + 1
    TO_HANDSHAKE = VERDICTS + 2
    TO_OPENING = VERDICTS + 3
    TO_PICKING = VERDICTS + 4
    TO_BINDING = VERDICTS + 5
    TO_ICMP = VERDICTS + 6
    TO_FRAGMENT = VERDICTS + 7
    TO_QUIC = VERDICTS + 8
    RESET_TO_CLIENT = VERDICTS + 9
    RESET_TO_CDN = VERDICTS + 10
    ANSWER_ECHO = VERDICTS + 11
    ANSWER_TOO_BIG = VERDICTS + 12
    ANSWER_TOO_LATE = VERDICTS + 13
