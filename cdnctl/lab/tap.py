"""Counters at the far ends of the edge's cables, kept by an XDP program (tap.c).

Pinned by a child (`pinning`), and read through libbpf.
"""

from __future__ import annotations

import ctypes
import os
import struct
from ipaddress import IPv4Network
from pathlib import Path
from typing import IO, NamedTuple

from cdnctl.lab import netns
from cdnctl.lab.flood import WINDOW
from cdnctl.lab.pinning import Pinning, libbpf
from cdnctl.lab.processes import LabError
from cdnctl.lab.topology import FLOOD_PREFIX, SPOOFED_PREFIX

XDP_FLAGS_DRV_MODE = 1 << 2
SOURCE = Path(__file__).with_name("tap.c")
_SEEN = struct.Struct("=6Q")


def _numbers() -> list[str]:
    """What tap.c has to know."""
    numbers = {"FLOOD_WINDOW": WINDOW}
    for name, prefix in (("NOBODY", FLOOD_PREFIX), ("SPOOFED", SPOOFED_PREFIX)):
        network = IPv4Network(prefix)
        numbers |= {name: int(network.network_address), f"{name}_MASK": int(network.netmask)}
    return [f"-D{name}={number:#x}u" for name, number in numbers.items()]


class Tap(NamedTuple):
    """What has left the edge through one interface since the lab was built."""

    packets: int
    bytes: int
    syns: int
    """Opening segments: SYN without ACK."""
    last_syn_ns: int
    """Kernel clock (CLOCK_MONOTONIC) of the last of them; 0 when there was none."""
    flood_packets: int
    """TCP packets with the flood generator's window."""
    last_flood_ns: int


class Taps:
    """The pinned program and its map. It compiles while others go on; `wait` for it before the rest."""

    def __init__(self, directory: Path, log: IO[bytes]) -> None:
        self._directory = directory
        self._pinning = Pinning(SOURCE, "tap", ["seen"], directory, _numbers(), log)
        self._program = self._map = -1
        self.pid = self._pinning.pid

    def wait(self) -> None:
        """Until it is pinned; LabError with the compiler's words when it fails."""
        self._pinning.wait()
        directory = self._directory
        self._libbpf = libbpf()
        self._program = self._open(directory / "tap")
        self._map = self._open(directory / "seen")
        cpus = Path("/sys/devices/system/cpu/possible").read_text().strip().rpartition("-")[2]
        self._values = ctypes.create_string_buffer(_SEEN.size * (int(cpus) + 1))

    def _open(self, path: Path) -> int:
        fd = int(self._libbpf.bpf_obj_get(os.fsencode(path)))
        if fd < 0:
            raise LabError(f"cannot open {path}: {os.strerror(ctypes.get_errno())}")
        return fd

    def attach(self, namespace: str, index: int) -> None:
        """Attach to an interface, natively."""
        with netns.netlink(namespace) as ip:
            ip.link("set", index=index, xdp_fd=self._program, xdp_flags=XDP_FLAGS_DRV_MODE)

    def read(self, index: int) -> Tap:
        """The counters of the interface with this index, over all CPUs."""
        key = ctypes.c_uint32(index)
        if self._libbpf.bpf_map_lookup_elem(self._map, ctypes.byref(key), self._values):
            raise LabError(f"cannot read the lab's tap: {os.strerror(ctypes.get_errno())}")
        per_cpu = list(_SEEN.iter_unpack(self._values.raw))
        packets, size, syns, last_syn, flood, last_flood = zip(*per_cpu, strict=True)
        return Tap(sum(packets), sum(size), sum(syns), max(last_syn), sum(flood), max(last_flood))

    def close(self) -> None:
        """End the compiler, close the descriptors; interfaces and pins keep the program."""
        self._pinning.close()
        for fd in (self._program, self._map):
            if fd >= 0:
                os.close(fd)
