"""A flood of live frames at a steady rate, from one processor.

    python -m cdnctl.lab.attacks.live  <  {"device": "uplink", "mac": [ours, theirs], "frames": {...},
                                           "pins": "/sys/fs/bpf/...", "pps": 300000, "seconds": 10, "cpu": 1}

Each slice of time one BPF_PROG_TEST_RUN sends what is due. The edge at the cable's other end takes them in on
this very processor, at the end of each batch: so a rate that it cannot keep up with slows the generator down,
and what was offered is less than what was ordered. Orders and answers are otherwise those of `flood`.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

from cdnctl.datapath import kernel
from cdnctl.lab import flood
from cdnctl.lab.attacks.frames import Frames

BATCH = 64
"""Frames that the kernel makes before it hands them over: a veth's ring takes 256."""
SLICE_FRAMES = 8192
"""Of one system call, so that an order to stop is heard."""


class LiveFrames:
    """A source of packets, as `flood.run` takes them. Raises OSError."""

    def __init__(self, pins: Path, frames: Frames, device: str, ours: bytes, theirs: bytes) -> None:
        plan, self._frame = frames.pack(ours, theirs)
        kernel.Map.pinned(pins / "plans").put(bytes(4), plan)
        self._program = kernel.obj_get(pins / "generate")
        self._ifindex = socket.if_nametoindex(device)

    def send(self, _fd: int, count: int) -> int:
        """Send up to so many; how many left."""
        count = min(count, SLICE_FRAMES)
        kernel.test_run(
            self._program,
            self._frame,
            repeat=count,
            ifindex=self._ifindex,
            flags=kernel.LIVE_FRAMES,
            batch=BATCH,
        )
        return count


def main() -> int:
    """Obey one order and report."""
    order = json.loads(sys.stdin.buffer.readline() or b"{}")
    if not order:
        return 0
    os.sched_setaffinity(0, {int(order["cpu"])})
    ours, theirs = (bytes.fromhex(mac.replace(":", "")) for mac in order["mac"])
    source = LiveFrames(Path(order["pins"]), Frames.of(order["frames"]), order["device"], ours, theirs)
    flood.run(-1, source, float(order["pps"]), min(float(order["seconds"]), flood.MAX_SECONDS))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
