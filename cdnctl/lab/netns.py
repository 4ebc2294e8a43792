"""Network namespaces: make and remove them, and do things inside one.

A namespace belongs to a thread here, never to the whole process: `entered` moves the calling thread
in and back out. Sockets made meanwhile stay in the namespace they were made in.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2 import netns as _netns

RUN = Path("/run/netns")
CLONE_NEWNET = 0x40000000
SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17
ETHTOOL_SGRO = 0x2C

_libc = ctypes.CDLL(None, use_errno=True)


def path(name: str) -> Path:
    """The file that `ip netns` and `setns` know this namespace by."""
    return RUN / name


def create(name: str) -> None:
    """Make a named namespace with loopback up and IPv6 off; FileExistsError when there is one."""
    if path(name).exists():
        raise FileExistsError(f"network namespace {name} exists already")
    _netns.create(name)
    with entered(name):
        # Without this each new link sends router solicitations and address probes into the counters.
        sysctl("net.ipv6.conf.all.disable_ipv6", 1)
        sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    with netlink(name) as ip:
        ip.link("set", index=1, state="up")


def remove(name: str) -> None:
    """Remove a named namespace with all its links; quiet when there is none."""
    with contextlib.suppress(FileNotFoundError):
        _netns.remove(name)


@contextlib.contextmanager
def entered(name: str) -> Iterator[None]:
    """Move the calling thread into a namespace for the time of the block."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(here)
    finally:
        os.close(here)


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"setns: {os.strerror(error)}")


@contextlib.contextmanager
def netlink(name: str) -> Iterator[IPRoute]:
    """A netlink socket of that namespace."""
    with entered(name):
        ip = IPRoute()
    try:
        yield ip
    finally:
        ip.close()


def sysctl(key: str, value: int | str) -> None:
    """Write a sysctl of the namespace the thread is in; keys may hold interface names with '/'."""
    Path("/proc/sys", *key.split(".")).write_text(f"{value}\n")


def offloads_off(device: str, *, gro: bool) -> None:
    """Turn transmit checksum offload (and so segmentation) off, and GRO too when `gro`.

    Frames that cross veth with a checksum still to be filled in would leave an XDP redirect broken,
    and merged ones would not fit the wire.
    """
    commands = [ETHTOOL_STXCSUM, ETHTOOL_SGRO] if gro else [ETHTOOL_STXCSUM]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in commands:
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP", device.encode(), ctypes.addressof(value)).ljust(40, b"\0")
            fcntl.ioctl(control, SIOCETHTOOL, request)
