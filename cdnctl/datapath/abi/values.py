"""What the kernel's fields hold, in words: addresses, prefixes, ports, pools. Use them by way of `abi`.

There is one type of address, IPv6; an IPv4 address is mapped (::ffff:a.b.c.d, RFC 4291, 2.5.5.2), and
nobody but the kernel sees it so. Addresses and ports are bytes in network order.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from ctypes import Structure, c_uint32
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from cdnctl.datapath.abi.enums import Pool
from cdnctl.datapath.abi.numbers import TICKS_PER_NS

AnyAddress = IPv4Address | IPv6Address
AnyNetwork = IPv4Network | IPv6Network
TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
PROTOCOLS = {"tcp": int(TCP), "udp": int(UDP)}
"""Numbers of protocols by the names that the configuration has for them."""
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
_MAPPED = bytes(10) + b"\xff\xff"
_MAPPED_BITS = 96


class Address(Structure):
    """struct address."""

    _fields_ = (("word", c_uint32 * 4),)

    def __str__(self) -> str:
        return show_address(self)

    def __bool__(self) -> bool:
        return any(self.word)


# --- addresses ------------------------------------------------------------------------------------


def packed(text: str | AnyAddress) -> bytes:
    """`198.51.100.10` or `2001:db8::1` as the 16 bytes that keys are made of. Raises ValueError."""
    return _packed(ipaddress.ip_address(text))


def address(text: str | AnyAddress) -> Address:
    """The same for a field of a struct."""
    return Address.from_buffer_copy(packed(text))


def host(raw: bytes | Address) -> AnyAddress:
    """The inverse of both: the IPv4 address of one that is mapped."""
    raw = bytes(raw)
    return IPv4Address(raw[12:]) if raw.startswith(_MAPPED) else IPv6Address(raw)


@lru_cache(4096)
def _shown(raw: bytes) -> str:
    return str(host(raw))


NOBODY = bytes(16)
"""The source of what is no IP packet."""


def show_address(raw: bytes | Address) -> str:
    """As people write it."""
    return _shown(bytes(raw))


def canonical(text: str) -> str:
    """An address as `show_address` gives it back: `2001:DB8:0::1` is `2001:db8::1`."""
    return str(ipaddress.ip_address(text))


def is_ipv4(raw: bytes | Address) -> bool:
    """Whether an address of the kernel is a mapped one."""
    return bytes(raw).startswith(_MAPPED)


def _packed(parsed: AnyAddress) -> bytes:
    return _MAPPED + parsed.packed if isinstance(parsed, IPv4Address) else parsed.packed


# --- prefixes -------------------------------------------------------------------------------------


def prefix_key(network: AnyNetwork) -> bytes:
    """A prefix as the key of a trie (struct prefix_key)."""
    length = network.prefixlen + (_MAPPED_BITS if isinstance(network, IPv4Network) else 0)
    return struct.pack("=I", length) + _packed(network.network_address)


def prefix_key4(first: int, length: int) -> bytes:
    """The same of an IPv4 prefix, by the number of its first address and its length."""
    return struct.pack("=I", length + _MAPPED_BITS) + _MAPPED + first.to_bytes(4, "big")


def network(key: bytes) -> AnyNetwork:
    """The inverse. A mapped prefix shorter than 96 bits covers more than IPv4 and is IPv6."""
    (length,), raw = struct.unpack_from("=I", key), key[4:20]
    if length >= _MAPPED_BITS and raw.startswith(_MAPPED):
        return IPv4Network((raw[12:], length - _MAPPED_BITS))
    return IPv6Network((raw, length))


# --- ports, pools, limits -------------------------------------------------------------------------


def port(number: int) -> int:
    """A port as it stands in a packet."""
    return socket.htons(number)


def show_port(number: int) -> int:
    """The inverse of `port`."""
    return socket.ntohs(number)


def ends(text: str, number: int) -> str:
    """`198.51.100.10:443`, `[2001:db8::1]:443`."""
    return f"[{text}]:{number}" if ":" in text else f"{text}:{number}"


def pool_of(text: str | AnyAddress, protocol: int) -> Pool:
    """Which endpoints can stand in for one with this address and protocol."""
    six = isinstance(ipaddress.ip_address(text), IPv6Address)
    if protocol == UDP:
        return Pool.UDP6 if six else Pool.UDP4
    return Pool.TCP6 if six else Pool.TCP4


def ticks(units_per_second: float | None) -> int:
    """What one unit costs of a limit of so many a second, in ticks of 1/16 ns; 0 for no limit."""
    return max(1, round(TICKS_PER_NS * 1e9 / units_per_second)) if units_per_second else 0
