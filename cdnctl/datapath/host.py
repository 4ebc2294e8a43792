"""What the host itself uses and the data path must therefore keep out of. Needs no privileges."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from cdnctl.config import Config

_NET = Path("/proc/sys/net")
_IFNAMSIZ, _ARPHRD_ETHER = 16, 1
_SIOCGIFMTU, _SIOCGIFHWADDR = 0x8921, 0x8927
_FIRST_FREE = 1024
"""Ports below are those of well-known services."""


def is_own(address: str, *, unsure: bool = False) -> bool:
    """Is this one of the host's own addresses, in this network namespace? `unsure` if nothing tells."""
    family, directory = (socket.AF_INET6, "ipv6") if ":" in address else (socket.AF_INET, "ipv4")
    with contextlib.suppress(OSError):
        if (_NET / directory / "ip_nonlocal_bind").read_text().strip() != "0":
            return unsure  # every bind works
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


def ephemeral_ports() -> tuple[int, int]:
    """The ports that the host's own connections go out from, of either family."""
    low, high = (_NET / "ipv4" / "ip_local_port_range").read_text().split()
    return int(low), int(high)


def mtu(name: str) -> int:
    """Of an interface here; 0 when it cannot be told."""
    answer = _ask(name, _SIOCGIFMTU)
    return int(struct.unpack_from("I", answer, _IFNAMSIZ)[0]) if answer else 0


def is_ethernet(name: str) -> bool:
    """Whether an interface here has frames with link addresses, as the data path reads and writes them."""
    answer = _ask(name, _SIOCGIFHWADDR)
    return bool(answer) and struct.unpack_from("H", answer, _IFNAMSIZ)[0] == _ARPHRD_ETHER


def _ask(name: str, what: int) -> bytes:
    """The answer of an interface ioctl; nothing when there is none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return fcntl.ioctl(control, what, struct.pack(f"{_IFNAMSIZ}s24x", name.encode()))
    return b""


class PortClash(NamedTuple):
    """A SNAT address of the host's own whose ports the host uses itself."""

    address: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"edge.snat_ports: {self.address} is {self.why}"


def port_clashes(config: Config) -> list[PortClash]:
    """Where replies to the host's own connections would meet the data path, and be dropped."""
    first, last = config.edge.snat_ports
    low, high = ephemeral_ports()
    if first > high or last < low:
        return []
    free = free_ports((first, last), (low, high))
    ports = f"snat_ports = [{free[0]}, {free[1]}], or " if free else ""
    return [
        PortClash(
            address,
            f"the host's own address; snat_ports {first} to {last} overlap {low} to {high}, which its own"
            " connections use",
            f"{ports}an address in edge.snat that is routed to this box but not its own",
        )
        for address in config.edge.snat
        if is_own(address)
    ]


def free_ports(wanted: tuple[int, int], held: tuple[int, int]) -> tuple[int, int] | None:
    """The largest range without those that are held: of the wanted ports, or else of all from 1024."""
    for first, last in (wanted, (_FIRST_FREE, 65535)):
        parts = (max(first, _FIRST_FREE), min(last, held[0] - 1)), (max(first, held[1] + 1), last)
        low, high = max(parts, key=lambda part: part[1] - part[0])
        if low < high:
            return low, high
    return None
