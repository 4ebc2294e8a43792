"""What the edge costs: nanoseconds a decision, processor time. Reported by the demo, never gated."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cdnctl.lab import netns

BPF_STATS_RUN_TIME = 0


class Runs(NamedTuple):
    """How often a program ran, and for how long altogether."""

    times: int
    ns: int

    def mean_ns(self, later: Runs) -> float | None:
        """Nanoseconds a run between this reading and a later one; None when it did not run."""
        runs = later.times - self.times
        return (later.ns - self.ns) / runs if runs > 0 else None


@contextlib.contextmanager
def timing() -> Iterator[None]:
    """The kernel times every BPF program within this block, which costs each run about 100 ns."""
    fd = ctypes.CDLL("libbpf.so.1", use_errno=True).bpf_enable_stats(BPF_STATS_RUN_TIME)
    try:
        yield
    finally:
        if fd >= 0:
            os.close(fd)


def runs(namespace: str, device: str) -> Runs | None:
    """The XDP program of an interface, by the kernel's own account; None when there is none."""
    with netns.netlink(namespace) as ip:
        xdp = ip.get_links(ifname=device)[0].get_attr("IFLA_XDP")
    number = xdp.get_attr("IFLA_XDP_PROG_ID") if xdp else None
    if not number:
        return None
    fd = ctypes.CDLL("libbpf.so.1", use_errno=True).bpf_prog_get_fd_by_id(number)
    if fd < 0:
        return None
    try:
        text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    finally:
        os.close(fd)
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return Runs(int(fields.get("run_cnt", 0)), int(fields.get("run_time_ns", 0)))


class Machine(NamedTuple):
    """Time the processors have spent, in ticks, all together."""

    busy: int
    total: int

    @classmethod
    def read(cls) -> Machine:
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        idle = fields[3] + fields[4]
        return cls(sum(fields) - idle, sum(fields))

    def busy_since(self, earlier: Machine) -> float:
        """The busy share of all processors since an earlier reading, 0 to 1."""
        return (self.busy - earlier.busy) / max(1, self.total - earlier.total)
