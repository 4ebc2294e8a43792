"""Prefixes as single numbers: what a list of a million is kept by, compared by, and shown from.

An `ip_network` takes half a kilobyte, and microseconds to be made, hashed and compared. A code has the
first address, then the length; those of IPv6 have a bit above all of that, so that codes of both families
go into one table.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network

LENGTH4, _LENGTH6 = 6, 8
"""Bits of a code that are its length."""
MASK4, _MASK6 = (1 << LENGTH4) - 1, (1 << _LENGTH6) - 1
LENGTH_BITS, LENGTH_MASK = {4: LENGTH4, 6: _LENGTH6}, {4: MASK4, 6: _MASK6}
"""The same by version."""
SIX = 1 << (128 + _LENGTH6)
"""Codes from here on are of IPv6."""
MARK = {4: 0, 6: SIX}
"""What tells a code's version, by that."""
BITS = 128 + _LENGTH6 + 1
"""Of the largest code."""
WIDTH4 = 32
_ROW4, _ROW6 = 5, 17
"""Bytes of a prefix that is sent."""


def of_network(network: Network) -> int:
    """The code of a network."""
    first = int(network.network_address)
    if network.version == 4:
        return first << LENGTH4 | network.prefixlen
    return SIX | first << _LENGTH6 | network.prefixlen


def of_plain(text: str) -> int | None:
    """The code of a bare IPv4 address, which nearly all of a long list are; None for all else."""
    try:
        return int.from_bytes(socket.inet_pton(socket.AF_INET, text)) << LENGTH4 | WIDTH4
    except (OSError, ValueError):
        return None


def address(code: int) -> int | None:
    """Which single IPv4 address it is; None if it is none."""
    return code >> LENGTH4 if code < SIX and code & MASK4 == WIDTH4 else None


def network(code: int) -> Network:
    """The inverse of `of_network`."""
    if code < SIX:
        return IPv4Network((code >> LENGTH4, code & MASK4))
    return IPv6Network(((code ^ SIX) >> _LENGTH6, code & _MASK6))


def around(code: int) -> Iterator[int]:
    """Every code that covers it, itself left out, the widest first."""
    if code < SIX:
        first, length, bits, width, mark = code >> LENGTH4, code & MASK4, LENGTH4, WIDTH4, 0
    else:
        first, length, bits, width, mark = (code ^ SIX) >> _LENGTH6, code & _MASK6, _LENGTH6, 128, SIX
    for shorter in range(length):
        rest = width - shorter
        yield mark | first >> rest << rest + bits | shorter


def span(code: int) -> tuple[int, int]:
    """The codes of all that lies in it are from the one on and below the other."""
    mark, bits, width = (0, LENGTH4, WIDTH4) if code < SIX else (SIX, _LENGTH6, 128)
    first, length = (code ^ mark) >> bits, code & ((1 << bits) - 1)
    return code, mark + ((first + (1 << width - length)) << bits)


def show(code: int) -> str:
    """As operators write it: a /32, or a /128 of IPv6, is an address."""
    if code < SIX:
        text, length, width = _text(socket.AF_INET, code >> LENGTH4, 4), code & MASK4, WIDTH4
    else:
        text, length, width = _text(socket.AF_INET6, (code ^ SIX) >> _LENGTH6, 16), code & _MASK6, 128
    return text if length == width else f"{text}/{length}"


def _text(family: socket.AddressFamily, first: int, size: int) -> str:
    return socket.inet_ntop(family, first.to_bytes(size))


# --- as bytes, to be sent: the address and a byte of length ------------------------------------------------


def pack(codes: Iterable[int]) -> tuple[bytes, bytes]:
    """Those of IPv4, and those of IPv6, each one behind the other."""
    four, six = bytearray(), bytearray()
    for code in codes:
        if code < SIX:
            four += (code >> LENGTH4 << 8 | code & MASK4).to_bytes(_ROW4)
        else:
            six += (code ^ SIX).to_bytes(_ROW6)
    return bytes(four), bytes(six)


def unpack(four: bytes, six: bytes) -> list[int]:
    """The inverse, of whatever anybody sent: what is no code of a prefix may be among them.

    Raises ValueError for bytes that are left over.
    """
    if len(four) % _ROW4 or len(six) % _ROW6:
        raise ValueError("a part of a list that ends within a prefix")
    rows4 = (int.from_bytes(four[at : at + _ROW4]) for at in range(0, len(four), _ROW4))
    found = [row >> 8 << LENGTH4 | row & 255 for row in rows4 if row & 255 <= WIDTH4]
    found += [SIX | int.from_bytes(six[at : at + _ROW6]) for at in range(0, len(six), _ROW6)]
    return found
