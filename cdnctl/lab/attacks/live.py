"""A flood of live frames at a steady rate, from one processor.

    python -m cdnctl.lab.attacks.live  <  {"device": "uplink", "mac": [ours, theirs], "frames": {...},
                                           "pins": "/sys/fs/bpf/...", "pps": 300000, "seconds": 10, "cpu": 1}

A BPF_PROG_TEST_RUN sends the frames of a slice of time. It sends them at once, but returns some 25 ms later,
when the kernel is sure that nobody looks at what it has put away: so threads take turns, and all but one of
them sleep. The edge at the cable's other end takes the frames in on this very processor, at the end of each
batch: a rate that it cannot keep up with slows the generator down, and what was offered is less than what was
ordered. Orders and answers are otherwise those of `flood`.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import threading
import time
from pathlib import Path

from cdnctl.datapath import kernel
from cdnctl.lab.attacks.frames import Frames
from cdnctl.lab.flood import MAX_PACKETS, MAX_SECONDS, REPORT_NS

SOURCE = Path(__file__).with_name("generator.c")
FUNCTION, MAP = "generate", "plans"
"""Pinned by these names where the order says."""
BATCH = 64
"""Frames that the kernel makes before it hands them over: a veth's ring takes 256."""
SLICE_NS = 4_000_000
THREADS = 96
"""So many that one is free for each slice also on a busy box, where the kernel takes ten times as long."""
LATE_NS = 100_000_000
"""A slice that is as late is left out: to make up for it would be another flood than the one ordered."""


class Flood:
    """Slices of frames, and the threads that send them. Raises OSError."""

    def __init__(self, pins: Path, frames: Frames, device: str, macs: tuple[bytes, bytes]) -> None:
        plan, self._frame = frames.pack(*macs)
        kernel.Map.pinned(pins / MAP).put(bytes(4), plan)
        self._program = kernel.obj_get(pins / FUNCTION)
        self._ifindex = socket.if_nametoindex(device)
        self._lock = threading.Lock()
        self._taken = 0
        self._over = threading.Event()
        self.sent = 0

    def run(self, pps: float, seconds: float) -> None:
        """Send until the time is over, the count is reached or the order comes to stop."""
        self._pps = pps
        self._slices = int(min(seconds, MAX_SECONDS, MAX_PACKETS / pps) * 1e9) // SLICE_NS
        self.begun = time.monotonic_ns()
        end = self.begun + self._slices * SLICE_NS
        self._report(self.begun, done=False)
        threads = [threading.Thread(target=self._send, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        while (left := end - time.monotonic_ns()) > 0:
            if select.select([0], [], [], min(left, REPORT_NS) / 1e9)[0]:
                end = time.monotonic_ns()  # `stop`, or the lab is gone
                break
            self._report(time.monotonic_ns(), done=False)
        self._over.set()
        for thread in threads:
            thread.join()
        self._report(end, done=True)

    def _send(self) -> None:
        """Take slice after slice, as the others do."""
        while not self._over.is_set():
            with self._lock:
                number, self._taken = self._taken, self._taken + 1
            due = self.begun + number * SLICE_NS
            if number >= self._slices or self._over.wait(max(0, due - time.monotonic_ns()) / 1e9):
                return
            if time.monotonic_ns() - due < LATE_NS:
                self._send_slice(number)

    def _send_slice(self, number: int) -> None:
        first, last = (int((number + n) * self._pps * SLICE_NS / 1e9) for n in (0, 1))
        if last == first:
            return
        kernel.test_run(
            self._program,
            self._frame,
            repeat=last - first,
            ifindex=self._ifindex,
            flags=kernel.LIVE_FRAMES,
            batch=BATCH,
        )
        with self._lock:
            self.sent += last - first

    def _report(self, now: int, *, done: bool) -> None:
        answer = {"at_ns": now, "begun_ns": self.begun, "sent": self.sent, "done": done}
        os.write(1, json.dumps(answer).encode() + b"\n")


def main() -> int:
    """Obey one order and report."""
    order = json.loads(sys.stdin.buffer.readline() or b"{}")
    if not order:
        return 0
    os.sched_setaffinity(0, {int(order["cpu"])})
    ours, theirs = (bytes.fromhex(mac.replace(":", "")) for mac in order["mac"])
    flood = Flood(Path(order["pins"]), Frames.of(order["frames"]), order["device"], (ours, theirs))
    flood.run(float(order["pps"]), float(order["seconds"]))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
