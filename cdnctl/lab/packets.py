"""Packets made by hand, by the lab's own programs: the standard library is all they have."""

from __future__ import annotations

import struct

ETHERNET = 14
IPV4, IPV6 = b"\x08\x00", b"\x86\xdd"
ICMP, ICMP6, TCP = 1, 58, 6
QUOTE, QUOTE6 = 548, 1232
"""Of a packet that an error is about: with headers, 576 bytes (RFC 1812) and 1,280 (RFC 4443)."""


def fold(total: int) -> int:
    """The internet checksum of words that sum up to `total`."""
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def words(data: bytes) -> int:
    """The sum of the 16-bit words of `data`."""
    if len(data) % 2:
        data += b"\0"
    return sum(struct.unpack(f">{len(data) // 2}H", data))


def ipv4(source: bytes, target: bytes, protocol: int, payload: bytes) -> bytes:
    """An IPv4 packet without options."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0) + source + target
    return head[:10] + struct.pack(">H", fold(words(head))) + head[12:] + payload


def ipv6(source: bytes, target: bytes, protocol: int, payload: bytes) -> bytes:
    """An IPv6 packet without extension headers."""
    return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + source + target + payload


def tcp(
    source: bytes, target: bytes, ports: tuple[int, int], numbers: tuple[int, int], flags: int, window: int,
    payload: bytes = b"",
) -> bytes:  # fmt: skip
    """An IPv4 packet with a TCP segment."""
    segment = struct.pack(">HHIIBBHHH", *ports, *numbers, 0x50, flags, window, 0, 0) + payload
    pseudo = source + target + struct.pack(">HH", TCP, len(segment))
    checksum = struct.pack(">H", fold(words(pseudo) + words(segment)))
    return ipv4(source, target, TCP, segment[:16] + checksum + segment[18:])


def udp(source: bytes, target: bytes, ports: tuple[int, int], payload: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram (no checksum: IPv4 allows that)."""
    return ipv4(source, target, 17, struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload)


def is_next_hop_talk(frame: bytes) -> bool:
    """Is it about who has which address on this link: ARP, or neighbour and router discovery?"""
    kind = frame[12:14]
    if kind == IPV6:
        return len(frame) > 54 and frame[20] == ICMP6 and 133 <= frame[54] <= 137
    return kind == b"\x08\x06"


def too_big(frame: bytes, mtu: int, routers: tuple[bytes, bytes]) -> bytes | None:
    """What a router (its IPv4 and IPv6 address) says of a frame that does not fit its next link.

    None when it says nothing: of an ICMP error, or of what it would have to cut in pieces and loses.
    """
    kind, packet = frame[12:14], frame[ETHERNET:]
    if kind == IPV4 and packet[6] & 0x40 and packet[9] != ICMP:
        error = struct.pack(">BBHHH", 3, 4, 0, 0, mtu) + packet[:QUOTE]
        error = error[:2] + struct.pack(">H", fold(words(error))) + error[4:]
        answer = ipv4(routers[0], packet[12:16], ICMP, error)
    elif kind == IPV6 and packet[6] != ICMP6:
        error = struct.pack(">BBHI", 2, 0, 0, mtu) + packet[:QUOTE6]
        pseudo = routers[1] + packet[8:24] + struct.pack(">II", len(error), ICMP6)
        error = error[:2] + struct.pack(">H", fold(words(pseudo) + words(error))) + error[4:]
        answer = ipv6(routers[1], packet[8:24], ICMP6, error)
    else:
        return None
    return frame[6:12] + frame[:6] + kind + answer
