"""Frames: fast ones by struct, and what scapy says that a translated one should look like.

Scapy is the second opinion: every expected byte, checksums included, is its own.
"""

from __future__ import annotations

import socket
import struct
from enum import IntFlag

from netbox import CLIENT_SIDE_MAC, ROUTER_MAC
from scapy.compat import raw
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

ETH, IPV4, TCP_HEADER = struct.Struct("!6s6sH"), struct.Struct("!BBHHHBBH4s4s"), struct.Struct("!HHIIBBHHH")
HEADERS = ETH.size + IPV4.size + TCP_HEADER.size


class Flag(IntFlag):
    """TCP flags."""

    FIN = 1
    SYN = 2
    RST = 4
    PSH = 8
    ACK = 16
    URG = 32
    ECE = 64
    CWR = 128


def checksum(data: bytes) -> int:
    """Of RFC 1071."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def mac(text: str) -> bytes:
    """`02:00:00:00:00:01` as bytes."""
    return bytes.fromhex(text.replace(":", ""))


def segment(
    source: tuple[str, int],
    target: tuple[str, int],
    flags: int,
    *,
    seq: int = 0,
    ack: int = 0,
    payload: bytes = b"",
    ttl: int = 64,
    macs: tuple[str, str] = (ROUTER_MAC, CLIENT_SIDE_MAC),
) -> bytes:
    """A frame with one TCP segment, checksums right; `macs` are its sender's and receiver's."""
    ends = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    numbers = source[1], target[1], seq & 0xFFFF_FFFF, ack & 0xFFFF_FFFF, 5 << 4, flags, 8192
    body = TCP_HEADER.pack(*numbers, 0, 0) + payload
    check = checksum(ends + struct.pack("!HH", 6, len(body)) + body)
    body = TCP_HEADER.pack(*numbers, check, 0) + payload
    fields = 0x45, 0, IPV4.size + len(body), 1, 0x4000, ttl, 6
    header = IPV4.pack(*fields, 0, ends[:4], ends[4:])
    header = IPV4.pack(*fields, checksum(header), ends[:4], ends[4:])
    return ETH.pack(mac(macs[1]), mac(macs[0]), 0x0800) + header + body


class Ends:
    """Addresses and ports of a TCP frame (without IP options)."""

    __slots__ = ("source", "target")

    def __init__(self, frame: bytes) -> None:
        ports = struct.unpack_from("!HH", frame, ETH.size + IPV4.size)
        self.source = socket.inet_ntoa(frame[26:30]), ports[0]
        self.target = socket.inet_ntoa(frame[30:34]), ports[1]


def flags_of(frame: bytes) -> Flag:
    """TCP flags of a frame without IP options."""
    return Flag(frame[HEADERS - 7])


def numbers_of(frame: bytes) -> tuple[int, int]:
    """Sequence and acknowledgement number of a frame without IP options."""
    seq, ack = struct.unpack_from("!II", frame, ETH.size + IPV4.size + 4)
    return seq, ack


def translated(
    packet: Packet,
    source: tuple[str, int],
    target: tuple[str, int],
    macs: tuple[str, str],
) -> bytes:
    """`packet` after NAT and one hop, in scapy's own words."""
    out = packet.copy()
    out[Ether].src, out[Ether].dst = macs
    out[IP].src, out[IP].dst, out[IP].ttl = source[0], target[0], out[IP].ttl - 1
    out[TCP].sport, out[TCP].dport = source[1], target[1]
    del out[IP].chksum, out[TCP].chksum
    return raw(out)


def reset_to(packet: Packet, **fields: int | str) -> bytes:
    """The reset that answers `packet` (RFC 9293, 3.10.7.1), in scapy's own words."""
    return raw(
        Ether(src=packet[Ether].dst, dst=packet[Ether].src)
        / IP(src=packet[IP].dst, dst=packet[IP].src, ttl=64, id=0, flags="DF")
        / TCP(sport=packet[TCP].dport, dport=packet[TCP].sport, window=0, **fields)
    )


def told(frame: bytes) -> str:
    """The scapy line that makes this frame."""
    return str(Ether(frame).command())
