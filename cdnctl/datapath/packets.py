"""One packet from its description, for a trace, and back.

Ethernet, VLAN tags, IPv4 or IPv6, and TCP, UDP or an echo request.
"""

from __future__ import annotations

import enum
import ipaddress
import socket
import struct
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

Protocol = Literal["tcp", "udp", "icmp"]
TTL = 64
WINDOW = 0xFFFF
ETHER_IPV4, ETHER_IPV6, ETHER_VLAN = 0x0800, 0x86DD, 0x8100
_DO_NOT_FRAGMENT = 0x4000
_ECHO_REQUEST = {4: 8, 6: 128}


class Flag(enum.IntFlag):
    """Of TCP."""

    FIN = 1
    SYN = 2
    RST = 4
    PSH = 8
    ACK = 16
    URG = 32
    ECE = 64
    CWR = 128


class Packet(Struct, frozen=True, kw_only=True):
    """What is in it; ports and numbers mean nothing where the protocol has none."""

    source: str
    target: str
    protocol: Protocol = "tcp"
    source_port: int = 0
    target_port: int = 0
    flags: Flag = Flag(0)
    sequence: int = 0
    acknowledged: int = 0
    payload: bytes = b""

    @property
    def family(self) -> int:
        """4 or 6."""
        return ipaddress.ip_address(self.source).version

    @property
    def number(self) -> int:
        """Of its protocol."""
        if self.protocol == "icmp":
            return int(socket.IPPROTO_ICMP if self.family == 4 else socket.IPPROTO_ICMPV6)
        return int(socket.IPPROTO_TCP if self.protocol == "tcp" else socket.IPPROTO_UDP)


class Header(Struct, frozen=True, kw_only=True):
    """The link layer's part of a frame."""

    source: bytes
    target: bytes
    tags: tuple[tuple[int, int], ...] = ()
    """Ethernet type and VLAN id of each tag, the outer one first."""


def frame(packet: Packet, header: Header) -> bytes:
    """All of its bytes, checksums right."""
    family = packet.family
    source, target = (ipaddress.ip_address(text).packed for text in (packet.source, packet.target))
    body = _transport(packet, source + target)
    if family == 4:
        words = (0x45, 0, 20 + len(body), 1, _DO_NOT_FRAGMENT, TTL, packet.number)
        bare = struct.pack("!BBHHHBBH", *words, 0) + source + target
        network = bare[:10] + struct.pack("!H", checksum(bare)) + bare[12:]
    else:
        network = struct.pack("!IHBB", 6 << 28, len(body), packet.number, TTL) + source + target
    types = [kind for kind, _ in header.tags] + [ETHER_IPV4 if family == 4 else ETHER_IPV6]
    tags = b"".join(
        struct.pack("!HH", identity, behind)
        for (_, identity), behind in zip(header.tags, types[1:], strict=True)
    )
    return header.target + header.source + struct.pack("!H", types[0]) + tags + network + body


def _transport(packet: Packet, ends: bytes) -> bytes:
    if packet.protocol == "icmp":
        echo = struct.pack("!BBHHH", _ECHO_REQUEST[packet.family], 0, 0, 1, 1) + packet.payload
        pseudo = b"" if packet.family == 4 else _pseudo(ends, len(echo), packet.number)
        return _filled(echo, 2, checksum(pseudo + echo))
    ports = (packet.source_port, packet.target_port)
    if packet.protocol == "udp":
        body = struct.pack("!HHHH", *ports, 8 + len(packet.payload), 0) + packet.payload
        # one that comes out as 0 is sent as its other zero, for 0 says that there is none (RFC 768)
        return _filled(body, 6, checksum(_pseudo(ends, len(body), packet.number) + body) or 0xFFFF)
    numbers = (packet.sequence & 0xFFFF_FFFF, packet.acknowledged & 0xFFFF_FFFF)
    body = struct.pack("!HHIIBBHHH", *ports, *numbers, 5 << 4, packet.flags, WINDOW, 0, 0) + packet.payload
    return _filled(body, 16, checksum(_pseudo(ends, len(body), packet.number) + body))


def _filled(body: bytes, at: int, check: int) -> bytes:
    return body[:at] + struct.pack("!H", check) + body[at + 2 :]


def _pseudo(ends: bytes, length: int, protocol: int) -> bytes:
    return ends + struct.pack("!II", length, protocol)


def checksum(data: bytes) -> int:
    """Of RFC 1071."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


# --- reading ------------------------------------------------------------------------------------------


class Seen(Struct, frozen=True, kw_only=True):
    """What a frame says, as far as a trace shows it."""

    source_mac: str
    target_mac: str
    vlans: tuple[int, ...]
    family: int
    source: str
    target: str
    protocol: int
    ttl: int
    source_port: int = 0
    target_port: int = 0
    flags: Flag = Flag(0)


def read(data: bytes) -> Seen | None:
    """The inverse of `frame`; None for what is no IP. A packet in a tunnel is the outer one."""
    vlans: list[int] = []
    at, kind = 14, int.from_bytes(data[12:14], "big")
    while kind in (ETHER_VLAN, 0x88A8) and len(data) >= at + 4:
        vlans.append(int.from_bytes(data[at : at + 2], "big") & 0x0FFF)
        kind, at = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
    if kind == ETHER_IPV4 and len(data) >= at + 20:
        family, protocol, ttl, behind = 4, data[at + 9], data[at + 8], at + (data[at] & 15) * 4
        ends = data[at + 12 : at + 16], data[at + 16 : at + 20]
    elif kind == ETHER_IPV6 and len(data) >= at + 40:
        family, protocol, ttl, behind = 6, data[at + 6], data[at + 7], at + 40
        ends = data[at + 8 : at + 24], data[at + 24 : at + 40]
    else:
        return None
    ports: Sequence[int] = (0, 0)
    if protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP) and len(data) >= behind + 4:
        ports = struct.unpack_from("!HH", data, behind)
    tcp = protocol == socket.IPPROTO_TCP and len(data) > behind + 13
    return Seen(
        source_mac=data[6:12].hex(":"),
        target_mac=data[0:6].hex(":"),
        vlans=tuple(vlans),
        family=family,
        source=str(ipaddress.ip_address(ends[0])),
        target=str(ipaddress.ip_address(ends[1])),
        protocol=protocol,
        ttl=ttl,
        source_port=ports[0],
        target_port=ports[1],
        flags=Flag(data[behind + 13]) if tcp else Flag(0),
    )
