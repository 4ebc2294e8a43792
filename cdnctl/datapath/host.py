"""What the host itself uses and the data path must therefore keep out of. Needs no privileges."""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path
from typing import NamedTuple

from cdnctl.config import Config

_NET = Path("/proc/sys/net")


def is_own(address: str) -> bool:
    """Is this one of the host's own addresses, in this network namespace?"""
    family, directory = (socket.AF_INET6, "ipv6") if ":" in address else (socket.AF_INET, "ipv4")
    with contextlib.suppress(OSError):
        if (_NET / directory / "ip_nonlocal_bind").read_text().strip() != "0":
            return False  # every bind works, so nothing can be told
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


class PortClash(NamedTuple):
    """A SNAT address of the host's own whose ports the host uses itself."""

    address: str
    why: str
    remedy: str


def port_clashes(config: Config) -> list[PortClash]:
    """Where replies to the host's own connections would meet the data path, and be dropped."""
    first, last = config.edge.snat_ports
    low, high = ephemeral_ports()
    if first > high or last < low:
        return []
    free = (max(1024, first), low - 1) if low > 1024 else (high + 1, 65535)
    return [
        PortClash(
            address,
            f"the host's own address; snat_ports {first} to {last} overlap {low} to {high}, which its own"
            " connections use",
            f"snat_ports = [{free[0]}, {free[1]}], or an address that is routed to this box but not its own",
        )
        for address in config.edge.snat
        if is_own(address)
    ]
