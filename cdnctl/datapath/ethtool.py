"""What ethtool says of a device, by its own system call; asking needs no privileges."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_GDRVINFO, _GTXCSUM, _GFLAGS, _GGRO = 0x03, 0x16, 0x25, 0x2B
_FLAG_RXVLAN, _FLAG_LRO = 1 << 8, 1 << 15
_DRIVER_INFO = 196
"""Bytes of struct ethtool_drvinfo."""


def _ask(device: str, command: int, size: int) -> bytes | None:
    value = ctypes.create_string_buffer(struct.pack("I", command), size)
    request = struct.pack("16sP", device.encode(), ctypes.addressof(value)).ljust(40, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            fcntl.ioctl(control, _SIOCETHTOOL, request)
        except OSError:  # not a thing of this device
            return None
    return value.raw


def _number(device: str, command: int) -> int | None:
    answer = _ask(device, command, 8)
    return None if answer is None else int(struct.unpack_from("I", answer, 4)[0])


def driver(device: str) -> str:
    """Its driver's name; empty when it has none."""
    answer = _ask(device, _GDRVINFO, _DRIVER_INFO)
    return "" if answer is None else answer[4:36].split(b"\0")[0].decode(errors="replace")


def lro(device: str) -> bool | None:
    """Whether segments are merged in hardware, past all programs."""
    flags = _number(device, _GFLAGS)
    return None if flags is None else bool(flags & _FLAG_LRO)


def strips_tags(device: str) -> bool | None:
    """Whether VLAN tags are taken off in hardware."""
    flags = _number(device, _GFLAGS)
    return None if flags is None else bool(flags & _FLAG_RXVLAN)


def gro(device: str) -> bool | None:
    """Whether segments are merged by the kernel."""
    value = _number(device, _GGRO)
    return None if value is None else bool(value)


def leaves_checksums(device: str) -> bool | None:
    """Whether checksums are left to the hardware."""
    value = _number(device, _GTXCSUM)
    return None if value is None else bool(value)
