"""Frames for the shim to restore, and streams: the addresses and ports that it puts into them."""

from __future__ import annotations

import ipaddress
import random
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

FRAME_BYTES = 64
"""As in shim.h: the smallest Ethernet frame, without its check sequence."""
SYN, ACK, PSH_ACK, SYN_ACK = 0x02, 0x10, 0x18, 0x12
ISN, CDN_ISN = 1_000_000, 2_000_000
"""First sequence numbers of every client and every CDN."""

_ENDS = struct.Struct("!IIHHI")
_FAR, _EDGE = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


class Ends(NamedTuple):
    """Both ends of one packet's flow; addresses as numbers."""

    source: int
    target: int
    source_port: int
    target_port: int


def number(address: str) -> int:
    """`192.0.2.1` as a number."""
    return int(ipaddress.IPv4Address(address))


def frame(flags: int, *, sequence: int = ISN, acknowledged: int = 0) -> bytes:
    """A TCP segment without its ends. Checksums are zero: the data path adds deltas, whatever was there."""
    ip = struct.pack("!BBHHHBBHII", 0x45, 0, 40, 0, 0x4000, 64, 6, 0, 0, 0)
    tcp = struct.pack("!HHIIBBHHH", 0, 0, sequence, acknowledged, 5 << 4, flags, 65535, 0, 0)
    return (_EDGE + _FAR + b"\x08\x00" + ip + tcp).ljust(FRAME_BYTES, b"\0")


def ends_of(data: bytes) -> Ends:
    """Whom a frame is from and for."""
    return Ends(*struct.unpack_from("!IIHH", data, 26))


def pack(stream: Iterable[Ends]) -> bytes:
    """As the shim's table has it."""
    return b"".join(_ENDS.pack(*ends, 0) for ends in stream)


def clients(count: int, network: str, target: Ends, *, seed: int) -> list[Ends]:
    """`count` different clients of a network, in random order, each with an address and a port of its own.

    `target` gives the far end. Neighbours in the list are strangers in every table, which is what real
    packets do to the caches.
    """
    prefix = ipaddress.IPv4Network(network)
    chance = random.Random(seed)
    addresses = chance.sample(range(1, prefix.num_addresses - 1), count)
    base = int(prefix.network_address)
    return [
        Ends(base + address, target.target, chance.randint(1024, 65535), target.target_port)
        for address in addresses
    ]


def shuffled(stream: Sequence[Ends], seed: int) -> list[Ends]:
    """The same in another order."""
    return random.Random(seed).sample(stream, len(stream))
