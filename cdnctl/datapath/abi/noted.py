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
    CONNECTION = 17
    TABLE = 18
    TRY = 19
    PICKED = 20
    AGAIN = 21
    RESCUE = 22
    GONE_DARK = 23
    PROMOTED = 24
    PORT = 25
    CLAMP = 26
    WAY_BACK = 27
    HOP = 28
    OUT = 29
    EVENT = 30
    SHIELD = 31
    STANDING = 32
    BUDGET = 33
    MODEL = 34
    FEATURES = 35
    DOOR = 36
    VERDICT = 37


class Exemption(enum.IntEnum):
    """enum exemption of trace.h."""

    ALLOWED = 1
    MANAGEMENT = 2
    NEIGHBOUR = 3


class Standing(enum.IntEnum):
    """enum standing of trace.h."""

    STRANGER = 0
    VERIFIED = 1
    AGAIN = 2
    PROVES = 3
    FAILS = 4


class Welcome(enum.IntEnum):
    """enum welcome of trace.h."""

    NOT = 0
    INVITED = 1
    ON_LINK = 2
    ASKED = 3


class Claim(enum.IntEnum):
    """enum claim of trace.h."""

    HELD = 0
    FREE = 1
    RECLAIMED = 2


class Fitness(enum.IntEnum):
    """enum fitness of fitness.h."""

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


class Begins(enum.IntEnum):
    """enum begins of packet.h: what the first packet of a flow says."""

    ANYTHING = 0
    CONNECTION = 1
    ANOTHER_WAY = 2
    IN_THE_MIDDLE = 3


class Onward(enum.IntEnum):
    """enum onward of packet.h: verdicts that are not the last word."""

    TO_CDN = VERDICTS
    TO_CLIENT = VERDICTS + 1
    TO_HANDSHAKE = VERDICTS + 2
    TO_OPENING = VERDICTS + 3
    TO_PICKING = VERDICTS + 4
    TO_BINDING = VERDICTS + 5
    TO_CLAMPING = VERDICTS + 6
    TO_ICMP = VERDICTS + 7
    TO_FRAGMENT = VERDICTS + 8
    TO_QUIC = VERDICTS + 9
    TO_CHALLENGE = VERDICTS + 10
    TO_WEIGHING = VERDICTS + 11
    TO_LETTING_IN = VERDICTS + 12
    TO_NOTING = VERDICTS + 13
    TO_DOOR = VERDICTS + 14
    RESET_TO_CLIENT = VERDICTS + 15
    RESET_TO_CDN = VERDICTS + 16
    ANSWER_ECHO = VERDICTS + 17
    ANSWER_TOO_BIG = VERDICTS + 18
    ANSWER_TOO_LATE = VERDICTS + 19
    ANSWER_CHALLENGE = VERDICTS + 20
