"""VLAN tags, put into frames that scapy made without."""

from __future__ import annotations

import struct

TPID_8021Q, TPID_8021AD = 0x8100, 0x88A8
Tags = tuple[tuple[int, int], ...]
"""From the outside in: type, and VLAN id."""
UNTAGGED: Tags = ()
SINGLE: Tags = ((TPID_8021Q, 100),)
QINQ: Tags = ((TPID_8021AD, 200), (TPID_8021Q, 300))


def tagged(frame: bytes, tags: Tags, priority: int = 0) -> bytes:
    """The same frame with tags."""
    words = b"".join(struct.pack("!HH", kind, priority << 13 | vlan) for kind, vlan in tags)
    return frame[:12] + words + frame[12:]
