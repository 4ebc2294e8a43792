"""Frames for the shim to restore, and streams: the addresses and ports that it puts into them.

Every IPv6 address of the bench is an IPv4 address of it behind one prefix (`six`), so that a stream needs
the last words only.
"""

from __future__ import annotations

import ipaddress
import random
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

FRAME_BYTES = 80
"""As in shim.h: a segment without data over IPv6, and some padding."""
SYN, ACK, PSH_ACK, SYN_ACK = 0x02, 0x10, 0x18, 0x12
ISN, CDN_ISN = 1_000_000, 2_000_000
"""First sequence numbers of every client and every CDN."""
PREFIX6 = ipaddress.IPv6Address("2001:db8::")
TCP, UDP = int(socket.IPPROTO_TCP), int(socket.IPPROTO_UDP)

_ENDS = struct.Struct("!IIHHI")
_FAR, _EDGE = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")
_ENDS_AT = {4: (26, 30, 34), 6: (34, 50, 54)}
"""Where in a frame the last words of the addresses and the ports stand."""


class Ends(NamedTuple):
    """Both ends of one packet's flow; addresses as numbers, of IPv6 the last word."""

    source: int
    target: int
    source_port: int
    target_port: int


class Carrier(NamedTuple):
    """What a packet is."""

    family: int
    protocol: int


TCP4, TCP6, UDP4 = Carrier(4, TCP), Carrier(6, TCP), Carrier(4, UDP)


def number(address: str) -> int:
    """`192.0.2.1` as a number; of an IPv6 address the last word."""
    return int(ipaddress.ip_address(address)) & 0xFFFF_FFFF


def six(address: str) -> str:
    """The IPv6 address that stands for an IPv4 one."""
    return str(PREFIX6 + int(ipaddress.IPv4Address(address)))


def frame(carrier: Carrier, flags: int, *, sequence: int = ISN, acknowledged: int = 0) -> bytes:
    """A packet without its ends, and without data; of UDP the flags and numbers mean nothing.

    Checksums are none, or of UDP any: the data path adds deltas, whatever was there.
    """
    if carrier.protocol == TCP:
        payload = struct.pack("!HHIIBBHHH", 0, 0, sequence, acknowledged, 5 << 4, flags, 65535, 0, 0)
    else:
        payload = struct.pack("!HHHH", 0, 0, 8, 0x1234)
    if carrier.family == 4:
        ether = b"\x08\x00"
        length = 20 + len(payload)
        header = struct.pack("!BBHHHBBHII", 0x45, 0, length, 0, 0x4000, 64, carrier.protocol, 0, 0, 0)
    else:
        ether = b"\x86\xdd"
        header = struct.pack("!IHBB", 6 << 28, len(payload), carrier.protocol, 64) + 2 * PREFIX6.packed
    return (_EDGE + _FAR + ether + header + payload).ljust(FRAME_BYTES, b"\0")


def family_of(data: bytes) -> int:
    """4 or 6."""
    return 6 if data[12:14] == b"\x86\xdd" else 4


def ends_of(data: bytes) -> Ends:
    """Whom a frame is from and for."""
    source, target, ports = _ENDS_AT[family_of(data)]
    addresses = (int.from_bytes(data[at : at + 4], "big") for at in (source, target))
    return Ends(*addresses, *struct.unpack_from("!HH", data, ports))


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
