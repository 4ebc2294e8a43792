"""A flood of live frames at a steady rate, from one processor.

    python -m cdnctl.lab.attacks.live  <  {"device": "uplink", "mac": [ours, theirs], "frames": {...},
                                           "pins": "/sys/fs/bpf/...", "pps": 300000, "seconds": 10, "cpu": 1}

One BPF_PROG_TEST_RUN sends them all; generator.c keeps the pace. The edge at the cable's other end takes the
frames in on this very processor, at the end of each batch: a rate that it cannot keep up with slows the
generator down, and what was offered is less than what was ordered; so does whoever else needs the processor.
Orders and answers are otherwise those of `flood`.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path

from cdnctl.datapath import kernel
from cdnctl.lab.attacks.frames import Frames
from cdnctl.lab.flood import MAX_PACKETS, MAX_SECONDS, REPORT_NS

SOURCE = Path(__file__).with_name("generator.c")
PLANS, PACES = "plans", "paces"
FUNCTION, MAPS = "generate", (PLANS, PACES)
"""Pinned by these names where the order says."""
BATCH = 64
"""Frames that the kernel makes before it hands them over: a veth's ring takes 256."""
_ENDLESS = (1 << 31) - 1
"""Frames of one run, sent or not: minutes."""
_PARTS = 8
_PACE = struct.Struct("=3Q")


class Flood:
    """Frames at a pace. Raises OSError."""

    def __init__(self, pins: Path, frames: Frames, device: str, macs: tuple[bytes, bytes]) -> None:
        plan, self._frame = frames.pack(*macs)
        kernel.Map.pinned(pins / PLANS).put(bytes(4), plan)
        self._paces = kernel.Map.pinned(pins / PACES)
        self._program = kernel.obj_get(pins / FUNCTION)
        self._ifindex = socket.if_nametoindex(device)
        self._over = threading.Event()

    @property
    def sent(self) -> int:
        """So far."""
        found = self._paces.get(bytes(4))
        return int(_PACE.unpack(found)[2]) if found else 0

    def run(self, pps: float, seconds: float, cpu: int) -> None:
        """Send until the time is over or the order comes to stop; from the main thread, which signals end."""
        seconds = min(seconds, MAX_SECONDS, MAX_PACKETS / pps)
        self.begun = time.monotonic_ns()
        self._end = self.begun + int(seconds * 1e9)
        pace = _PACE.pack(self.begun << _PARTS, int((1 << _PARTS) * 1e9 / pps), 0)
        self._paces.put(bytes(4), pace)
        signal.signal(signal.SIGALRM, lambda *_: None)
        reporter = threading.Thread(target=self._report_until_over, args=(threading.get_ident(),))
        reporter.start()
        os.sched_setaffinity(0, {cpu})  # this thread; who reports may be anywhere
        try:
            while time.monotonic_ns() < self._end:
                self._send()
        finally:
            self._over.set()
            reporter.join()
        self._report(min(self._end, time.monotonic_ns()), done=True)

    def _send(self) -> None:
        """Until a signal comes."""
        try:
            kernel.test_run(
                self._program,
                self._frame,
                repeat=_ENDLESS,
                ifindex=self._ifindex,
                flags=kernel.LIVE_FRAMES,
                batch=BATCH,
            )
        except OSError as error:
            if error.errno != errno.EINTR:
                raise

    def _report_until_over(self, sender: int) -> None:
        """Tell how it is going, and wake the sender at the end."""
        self._report(self.begun, done=False)
        while (left := self._end - time.monotonic_ns()) > 0 and not self._over.is_set():
            if select.select([0], [], [], min(left, REPORT_NS) / 1e9)[0]:
                self._end = time.monotonic_ns()  # `stop`, or the lab is gone
                break
            self._report(time.monotonic_ns(), done=False)
        while not self._over.wait(0.01):  # one may come when it is not sending just then
            signal.pthread_kill(sender, signal.SIGALRM)

    def _report(self, now: int, *, done: bool) -> None:
        answer = {"at_ns": now, "begun_ns": self.begun, "sent": self.sent, "done": done}
        os.write(1, json.dumps(answer).encode() + b"\n")


def main() -> int:
    """Obey one order and report."""
    order = json.loads(sys.stdin.buffer.readline() or b"{}")
    if not order:
        return 0
    ours, theirs = (bytes.fromhex(mac.replace(":", "")) for mac in order["mac"])
    flood = Flood(Path(order["pins"]), Frames.of(order["frames"]), order["device"], (ours, theirs))
    flood.run(float(order["pps"]), float(order["seconds"]), int(order["cpu"]))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
