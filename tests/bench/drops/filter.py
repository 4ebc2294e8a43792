"""xdp-filter on a link of its own, set to drop by source.

Its command line keeps its tables in the box's BPF file system. Here it finds one of its own there, in a mount
namespace that is gone when the command is: the program stays on the link, and the tables with it.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Sequence

from cdnctl.datapath import abi, kernel
from cdnctl.errors import CdnctlError
from cdnctl.lab import netns

ROOM = 10_000
"""IPv4 addresses that its table holds."""
_ADDRESSES, _COUNTS = "filter_ipv4", "xdp_stats_map"
_XDP_DROP = 1
_SCRIPT = (
    "mount -t bpf bpf /sys/fs/bpf && xdp-filter load --features ipv4 --mode native"
    ' "$0" && xdp-filter ip --mode src "$1"'
)


class Filter:
    """On `link` of a namespace; goes with the link."""

    def __init__(self, namespace: str, link: str, ifindex: int, sources: Sequence[int]) -> None:
        """The first source is blocked by its command line, the others by entries like that one."""
        enter = ["nsenter", f"--net={netns.path(namespace)}", "unshare", "--mount"]
        first, *others = sources
        done = subprocess.run(
            [*enter, "sh", "-c", _SCRIPT, link, _shown(first)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            words = (done.stderr or done.stdout).strip()
            raise CdnctlError(f"xdp-filter cannot be put on a link: {words}", "apt-get install xdp-tools")
        with netns.entered(namespace):
            program = kernel.program_fd(kernel.xdp_program_id(ifindex))
        self._tables = kernel.named_maps(program)
        os.close(program)
        addresses = self._tables[_ADDRESSES]
        value = addresses.get(_key(first))
        if value is None:
            raise CdnctlError("xdp-filter has not the address that it was given")
        addresses.put_all({_key(source): value for source in others})

    def dropped(self) -> int:
        """Packets so far."""
        raw = self._tables[_COUNTS].get(abi.key(_XDP_DROP)) or b""
        return sum(packets for packets, _octets in struct.iter_unpack("=2Q", raw))

    def close(self) -> None:
        """Let go of its tables."""
        for table in self._tables.values():
            table.close()


def _key(source: int) -> bytes:
    return source.to_bytes(4, "big")


def _shown(source: int) -> str:
    return ".".join(map(str, _key(source)))
