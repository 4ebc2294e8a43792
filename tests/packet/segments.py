"""Frames: fast ones by struct, and what scapy says that a translated one should look like.

Scapy is the second opinion: every expected byte, checksums included, is its own.
"""

from __future__ import annotations

import ipaddress
import struct
from ctypes import Array, c_char
from enum import IntFlag

from netbox import CLIENT_SIDE_MAC, ROUTER_MAC
from scapy.compat import raw
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

ETH, IPV4, TCP_HEADER = struct.Struct("!6s6sH"), struct.Struct("!BBHHHBBH4s4s"), struct.Struct("!HHIIBBHHH")
IPV6, UDP_HEADER = struct.Struct("!IHBB16s16s"), struct.Struct("!HHHH")
HEADERS = ETH.size + IPV4.size + TCP_HEADER.size
TYPE_IPV4, TYPE_IPV6 = 0x0800, 0x86DD
IN_TCP, IN_UDP = 6, 17
End = tuple[str, int]
Macs = tuple[str, str]


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


def is_ipv6(address: str) -> bool:
    """Of which family an address is."""
    return ":" in address


def segment(
    source: End,
    target: End,
    flags: int,
    *,
    seq: int = 0,
    ack: int = 0,
    payload: bytes = b"",
    ttl: int = 64,
    macs: Macs = (ROUTER_MAC, CLIENT_SIDE_MAC),
) -> bytes:
    """A frame with one TCP segment, checksums right; `macs` are its sender's and receiver's."""
    numbers = source[1], target[1], seq & 0xFFFF_FFFF, ack & 0xFFFF_FFFF, 5 << 4, flags, 8192

    def body(check: int) -> bytes:
        return TCP_HEADER.pack(*numbers, check, 0) + payload

    check = checksum(_pseudo(source, target, IN_TCP, len(body(0))) + body(0))
    return _framed(source, target, IN_TCP, body(check), ttl, macs)


def seal(frame: Array[c_char]) -> None:
    """Checksums anew of a TCP segment over IPv4 that was written into."""
    header, body = ETH.size, ETH.size + IPV4.size
    for at in (header + 10, body + 16):
        struct.pack_into("!H", frame, at, 0)
    struct.pack_into("!H", frame, header + 10, checksum(frame[header:body]))
    pseudo = frame[header + 12 : body] + struct.pack("!II", len(frame) - body, IN_TCP)
    struct.pack_into("!H", frame, body + 16, checksum(pseudo + frame[body:]))


def datagram(
    source: End,
    target: End,
    payload: bytes = b"",
    *,
    ttl: int = 64,
    macs: Macs = (ROUTER_MAC, CLIENT_SIDE_MAC),
) -> bytes:
    """A frame with one UDP datagram, checksums right."""
    length = UDP_HEADER.size + len(payload)

    def body(check: int) -> bytes:
        return UDP_HEADER.pack(source[1], target[1], length, check) + payload

    check = checksum(_pseudo(source, target, IN_UDP, length) + body(0)) or 0xFFFF
    return _framed(source, target, IN_UDP, body(check), ttl, macs)


def _pseudo(source: End, target: End, protocol: int, length: int) -> bytes:
    ends = ipaddress.ip_address(source[0]).packed + ipaddress.ip_address(target[0]).packed
    return ends + struct.pack("!II", length, protocol)  # the sum is that of IPv4's shorter one, too


def _framed(source: End, target: End, protocol: int, body: bytes, ttl: int, macs: Macs) -> bytes:
    ends = ipaddress.ip_address(source[0]).packed, ipaddress.ip_address(target[0]).packed
    if is_ipv6(source[0]):
        kind, header = TYPE_IPV6, IPV6.pack(6 << 28, len(body), protocol, ttl, *ends)
    else:
        fields = 0x45, 0, IPV4.size + len(body), 1, 0x4000, ttl, protocol
        kind, header = TYPE_IPV4, IPV4.pack(*fields, checksum(IPV4.pack(*fields, 0, *ends)), *ends)
    return ETH.pack(mac(macs[1]), mac(macs[0]), kind) + header + body


def l4_offset(frame: bytes) -> int:
    """Where the transport header of a frame begins that has no options, extensions or tags."""
    return ETH.size + (IPV6.size if frame[12:14] == b"\x86\xdd" else IPV4.size)


class Ends:
    """Addresses and ports of a TCP or UDP frame (without IP options)."""

    __slots__ = ("source", "target")

    def __init__(self, frame: bytes) -> None:
        at = l4_offset(frame)
        ports, size = struct.unpack_from("!HH", frame, at), 16 if at == ETH.size + IPV6.size else 4
        source, target = frame[at - 2 * size : at - size], frame[at - size : at]
        self.source = str(ipaddress.ip_address(source)), ports[0]
        self.target = str(ipaddress.ip_address(target)), ports[1]


def flags_of(frame: bytes) -> Flag:
    """TCP flags of a frame without IP options."""
    return Flag(frame[l4_offset(frame) + 13])


def numbers_of(frame: bytes) -> tuple[int, int]:
    """Sequence and acknowledgement number of a frame without IP options."""
    seq, ack = struct.unpack_from("!II", frame, l4_offset(frame) + 4)
    return seq, ack


def payload_of(frame: bytes) -> bytes:
    """What a UDP frame carries."""
    at = l4_offset(frame)
    (length,) = struct.unpack_from("!H", frame, at + 4)
    return frame[at + UDP_HEADER.size : at + length]


def network(source: str, target: str, ttl: int = 64, **fields: object) -> Packet:
    """The network header of either family, by scapy."""
    if is_ipv6(source):
        fields.pop("id", None)
        return IPv6(src=source, dst=target, hlim=ttl, **fields)
    return IP(src=source, dst=target, ttl=ttl, **fields)


def translated(packet: Packet, source: End, target: End, macs: Macs) -> bytes:
    """`packet` after NAT and one hop, in scapy's own words."""
    out = packet.copy()
    out[Ether].src, out[Ether].dst = macs
    layer = out[IPv6] if IPv6 in out else out[IP]
    layer.src, layer.dst = source[0], target[0]
    if IPv6 in out:
        layer.hlim -= 1
    else:
        layer.ttl -= 1
        del layer.chksum
    transport = out[UDP] if UDP in out else out[TCP]
    transport.sport, transport.dport = source[1], target[1]
    del transport.chksum
    return raw(out)


def reset_to(packet: Packet, **fields: int | str) -> bytes:
    """The reset that answers `packet` (RFC 9293, 3.10.7.1), in scapy's own words."""
    layer = packet[IPv6] if IPv6 in packet else packet[IP]
    more: dict[str, object] = {} if IPv6 in packet else {"id": 0, "flags": "DF"}
    return raw(
        Ether(src=packet[Ether].dst, dst=packet[Ether].src)
        / network(layer.dst, layer.src, **more)
        / TCP(sport=packet[TCP].dport, dport=packet[TCP].sport, window=0, **fields)
    )


def told(frame: bytes) -> str:
    """The scapy line that makes this frame."""
    return str(Ether(frame).command())
