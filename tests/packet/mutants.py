"""Frames, more or less as they were: fields at their edges, bits flipped, cut, joined, tagged."""

from __future__ import annotations

import functools
import random
import struct
from ipaddress import ip_address
from typing import NamedTuple

from harness import ENDPOINTS, ENDPOINTS6, SERVICES, SNAT, SNAT6

from cdnctl.datapath import loading

# -- what a field may be --


def _words(size: int, *values: int) -> list[bytes]:
    return [(value % 256**size).to_bytes(size, "big") for value in values]


def _addresses(*addresses: str) -> list[bytes]:
    return [ip_address(address).packed for address in dict.fromkeys(addresses)]


VIPS = [vip for vip, _ in SERVICES.values()]
EDGES4 = ("10.1.3.7", "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.9")
EDGES6 = ("2001:db8:c1:3::7", "::", "::1", "ff02::1", "fe80::1", "::ffff:203.0.113.80", "::203.0.113.80")
ADDRESSES = {
    4: _addresses(*(v for v in VIPS if ":" not in v), *SNAT, *(a for a, _ in ENDPOINTS.values()), *EDGES4),
    6: _addresses(*(v for v in VIPS if ":" in v), *SNAT6, *(a for a, _ in ENDPOINTS6.values()), *EDGES6),
}
OURS = {*_addresses(*VIPS, *SNAT, *SNAT6)}
TYPES = _words(2, 0x0800, 0x86DD, 0x8100, 0x88A8, 0x0806, 0, 0x0600)
PROTOCOLS = _words(1, 6, 17, 1, 58, 0, 43, 44, 60, 50, 51, 59, 4, 41, 47, 132, 135, 255)
HOPS = _words(1, 0, 1, 2, 255)
PORTS = _words(2, 0, 53, 80, 443, 8080, 19999, 20000, 20003, 20999, 21000, 65535)
NUMBERS = _words(4, 0, 1, 999, 1000, 1001, 0x70000000, 0x70000001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
FLAGS = _words(1, 0, 1, 2, 4, 0x10, 0x11, 0x12, 0x14, 0x18, 0xC2, 0x29, 0xFF)
ICMP_TYPES = _words(1, 0, 1, 2, 3, 4, 5, 8, 11, 12, 13, 128, 129, 133, 135, 137, 143, 255)
TCP, UDP = 6, 17


class Place(NamedTuple):
    """A field of a frame, and what it may be that makes a difference."""

    at: int
    values: list[bytes]


def _of_ipv4(frame: bytes, at: int) -> tuple[list[Place], int, int]:
    (length,) = struct.unpack_from("!H", frame, at + 2)
    fields = [
        Place(at, _words(1, 0x45, 0x46, 0x4F, 0x44, 0x40, 0x65, 0x05)),
        Place(at + 1, _words(1, 0, 0xB8, 0x20, 0x60, 0xFF)),
        Place(at + 2, _words(2, 0, 19, 20, 28, 39, 40, length - 1, length + 1, 0xFFFF)),
        Place(at + 6, _words(2, 0, 0x4000, 0x2000, 0x2001, 1, 100, 0x1FFF, 0xFFFF)),
        Place(at + 8, HOPS),
        Place(at + 9, PROTOCOLS),
        Place(at + 12, ADDRESSES[4]),
        Place(at + 16, ADDRESSES[4]),
    ]
    return fields, at + (frame[at] & 15) * 4, frame[at + 9]


def _of_ipv6(frame: bytes, at: int) -> tuple[list[Place], int, int]:
    (length,) = struct.unpack_from("!H", frame, at + 4)
    fields = [
        Place(at, _words(1, 0x60, 0x40, 0, 0x6F, 0xF0)),
        Place(at + 4, _words(2, 0, 1, 8, 19, 20, length - 1, length + 1, 0xFFFF)),
        Place(at + 6, PROTOCOLS),
        Place(at + 7, HOPS),
        Place(at + 8, ADDRESSES[6]),
        Place(at + 24, ADDRESSES[6]),
        Place(at + 40, PROTOCOLS),
        Place(at + 41, _words(1, 0, 1, 2, 31, 255)),
        Place(at + 42, _words(2, 0, 1, 8, 0xFFF8, 0xFFFF)),
    ]
    return fields, at + 40, frame[at + 6]


@functools.cache
def places(frame: bytes) -> list[Place]:
    """The fields of a frame."""
    at = 14
    while frame[at - 2 : at] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    fields = [Place(12, TYPES), Place(0, [b"\xff" * 6, b"\x01\0\x5e\0\0\1"])]
    kind, room = frame[at - 2 : at], len(frame) - at
    if kind == b"\x08\x00" and room >= 20:
        more, upper, protocol = _of_ipv4(frame, at)
    elif kind == b"\x86\xdd" and room >= 44:
        more, upper, protocol = _of_ipv6(frame, at)
    else:
        return fields
    fields += more
    if protocol in (TCP, UDP):
        fields += [Place(upper, PORTS), Place(upper + 2, PORTS)]
    if protocol == TCP:
        fields += [Place(upper + 4, NUMBERS), Place(upper + 8, NUMBERS), Place(upper + 13, FLAGS)]
        fields += [Place(upper + 12, _words(1, 0, 0x40, 0x50, 0x60, 0xF0)), Place(upper + 13, FLAGS)]
    elif protocol == UDP:
        fields += [
            Place(upper + 4, _words(2, 0, 7, 8, 9, room, 0xFFFF)),
            Place(upper + 6, _words(2, 0, 0xFFFF)),
        ]
    else:
        fields += [Place(upper, ICMP_TYPES), Place(upper + 1, _words(1, 0, 1, 3, 4, 255))]
    return [place for place in fields if place.at + len(place.values[0]) <= len(frame)]


def _changed(chance: random.Random, data: bytearray, frame: bytes) -> None:
    roll = chance.random()
    if roll < 0.6:
        at, values = chance.choice(places(frame))
        value = chance.choice(values)
        data[at : at + len(value)] = value
    else:
        at = chance.randrange(min(len(data), 100) if roll < 0.9 else len(data))
        data[at] = data[at] ^ 1 << chance.randrange(8) if roll < 0.8 else chance.randrange(256)


@functools.cache
def _largest() -> int:
    """Bytes of a frame; in one buffer there is room for some more than 3,000."""
    return 7000 if loading.takes_multi_buffer() else 3000


def mutated(chance: random.Random, frame: bytes, others: list[bytes]) -> bytes:
    """The frame, more or less."""
    data = bytearray(frame)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3, 8))):
        _changed(chance, data, frame)
    match chance.randrange(16):
        case 0:
            del data[chance.randrange(14, len(data) + 1) :]
        case 1:
            data += chance.randbytes(chance.choice((1, 6, 40, 1000, _largest())))
        case 2:
            cut = chance.randrange(14, 80)
            data[cut:] = chance.choice(others)[cut:]
        case 3:
            cut = chance.randrange(12, len(data) + 1)
            data[cut:cut] = chance.choice(others)[12 : chance.randrange(12, 80)]
        case 4:
            data[12:12] = struct.pack("!HH", chance.choice((0x8100, 0x88A8)), chance.choice((0, 7, 0xFFFF)))
    return bytes(data[: _largest()]).ljust(14, b"\0")
