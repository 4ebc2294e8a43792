"""Prefixes as single numbers: what a list of a million is kept by, compared by, and shown from.

An `ip_network` takes half a kilobyte, and microseconds to be made, hashed and compared. A code has the
first address, then the length; those of IPv6 have a bit above all of that, so that codes of both families
go into one table.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network

_LENGTH4, _LENGTH6 = 6, 8
"""Bits of a code that are its length."""
_MASK4, _MASK6 = (1 << _LENGTH4) - 1, (1 << _LENGTH6) - 1
SIX = 1 << (128 + _LENGTH6)
"""Codes from here on are of IPv6."""
WIDTH4 = 32


def of_network(network: Network) -> int:
    """The code of a network."""
    first = int(network.network_address)
    if network.version == 4:
        return first << _LENGTH4 | network.prefixlen
    return SIX | first << _LENGTH6 | network.prefixlen


def of_plain(text: str) -> int | None:
    """The code of a bare IPv4 address, which nearly all of a long list are; None for all else."""
    try:
        return int.from_bytes(socket.inet_pton(socket.AF_INET, text)) << _LENGTH4 | WIDTH4
    except (OSError, ValueError):
        return None


def address(code: int) -> int | None:
    """Which single IPv4 address it is; None if it is none."""
    return code >> _LENGTH4 if code < SIX and code & _MASK4 == WIDTH4 else None


def network(code: int) -> Network:
    """The inverse of `of_network`."""
    if code < SIX:
        return IPv4Network((code >> _LENGTH4, code & _MASK4))
    return IPv6Network(((code ^ SIX) >> _LENGTH6, code & _MASK6))


def around(code: int) -> Iterator[int]:
    """Every code that covers it, itself left out, the widest first."""
    if code < SIX:
        first, length, bits, width, mark = code >> _LENGTH4, code & _MASK4, _LENGTH4, WIDTH4, 0
    else:
        first, length, bits, width, mark = (code ^ SIX) >> _LENGTH6, code & _MASK6, _LENGTH6, 128, SIX
    for shorter in range(length):
        rest = width - shorter
        yield mark | first >> rest << rest + bits | shorter


def show(code: int) -> str:
    """As operators write it: a /32, or a /128 of IPv6, is an address."""
    if code < SIX:
        text, length, width = _text(socket.AF_INET, code >> _LENGTH4, 4), code & _MASK4, WIDTH4
    else:
        text, length, width = _text(socket.AF_INET6, (code ^ SIX) >> _LENGTH6, 16), code & _MASK6, 128
    return text if length == width else f"{text}/{length}"


def _text(family: socket.AddressFamily, first: int, size: int) -> str:
    return socket.inet_ntop(family, first.to_bytes(size))
