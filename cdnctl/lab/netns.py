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
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pyroute2 import IPRoute

RUN = Path("/run/netns")
CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_SHARED = 1 << 12, 1 << 14, 1 << 20
MNT_DETACH = 2
SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17
ETHTOOL_SGRO = 0x2C

_QUIET = {"accept_dad": 0, "accept_ra": 0, "router_solicitations": 0, "keep_addr_on_down": 1}
"""Addresses are usable at once, and nobody asks who else is there."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


def path(name: str) -> Path:
    """The file that `ip netns` and `setns` know this namespace by."""
    return RUN / name


def create(name: str, *, ipv6: bool = False) -> None:
    """Make a named namespace with loopback up; FileExistsError when there is one.

    With `ipv6` its links have that too, and say next to nothing of their own accord; else it is off.
    Made as `ip netns add` does it, so that `ip netns` sees it; but without a fork, whose hooks would
    swallow a signal's exception.
    """
    _share_directory()
    os.close(os.open(path(name), os.O_CREAT | os.O_EXCL, 0o444))
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.unshare(CLONE_NEWNET), "unshare")
        _mount("/proc/thread-self/ns/net", path(name), MS_BIND)
    finally:
        _setns(here)
        os.close(here)
    with entered(name):
        # Left alone, each new link sends router solicitations and address probes into the counters.
        settings = _QUIET if ipv6 else {"disable_ipv6": 1}
        for key, value in settings.items():
            for which in ("all", "default"):
                sysctl(f"net.ipv6.conf.{which}.{key}", value)
    with netlink(name) as ip:
        ip.link("set", index=1, state="up")


def remove(name: str) -> None:
    """Remove a named namespace with all its links; quiet when there is none."""
    _libc.umount2(os.fsencode(path(name)), MNT_DETACH)  # not mounted: a creation was cut short
    path(name).unlink(missing_ok=True)


def _share_directory() -> None:
    """Make mounts in `RUN` the same in every mount namespace, so that removing them works anywhere."""
    RUN.mkdir(parents=True, exist_ok=True)
    try:
        _mount("", RUN, MS_SHARED | MS_REC)
    except OSError:  # not a mount point yet
        _mount(RUN, RUN, MS_BIND | MS_REC)
        _mount("", RUN, MS_SHARED | MS_REC)


def _mount(source: str | Path, target: Path, flags: int) -> None:
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), b"none", flags, None), f"mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


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
    _check(_libc.setns(fd, CLONE_NEWNET), "setns")


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


def spread_queues(name: str, device: str, queues: int) -> None:
    """Have each processor send by the queue of its own number. A kernel without XPS spreads flows instead."""
    words = []
    for queue in range(queues):
        mask = ",".join([f"{1 << queue % 32:x}", *["00000000"] * (queue // 32)])  # in words of 32 bits
        words.append(f"echo {mask} > /sys/class/net/{device}/queues/tx-{queue}/xps_cpus")
    script = f"mount -t sysfs sysfs /sys && {' && '.join(words)}"
    # of /sys only who mounts it sees this namespace's
    command = ["nsenter", f"--net={path(name)}", "unshare", "--mount", "sh", "-c", script]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)


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
