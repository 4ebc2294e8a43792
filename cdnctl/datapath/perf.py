"""Reads the two perf buffers of the data path: samples of packets, and events.

A thread polls; a round hands its samples over in one batch. The callbacks do as little as they can,
because they run under the interpreter's lock once a record.
"""

from __future__ import annotations

import ctypes
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cdnctl.datapath import abi, toolchain
from cdnctl.datapath.kernel import Map

SAMPLE_PAGES = 128
EVENT_PAGES = 8
SAMPLES_PER_WAKEUP = 512
"""The reader is woken once for so many samples, a tenth of what there is room for: being woken costs more
than reading some, and it looks ten times a second at any rate."""
_POLL_MS = 100
THREAD = "perf-reader"
_PR_SET_NAME = 15

_SAMPLE = struct.Struct("=16s16sHHHBBIBB")
_EVENT = struct.Struct("=Q6I")


class Sample(NamedTuple):
    """One sampled packet; addresses and ports as the kernel has them: `abi.show_address` reads them."""

    source: bytes
    target: bytes
    source_port: int
    target_port: int
    length: int
    verdict: int
    cdn: int
    one_in: int
    protocol: int
    tcp_flags: int


class Reflex(NamedTuple):
    """One event of the kernel's reflex, see enum event_kind."""

    at_ns: int
    kind: int
    reason: int
    endpoint: int
    to_endpoint: int
    value: int
    ejections: int


class _Buffer:
    """The perf buffers of all CPUs for one perf array."""

    def __init__(
        self, array: Map, pages: int, wakeup: int, record: Callable[[int, int], None], lost: Any
    ) -> None:
        from bcc import libbcc

        def raw(_cookie: Any, data: int, size: int) -> None:
            record(data, size)

        def missed(_cookie: Any, count: int) -> None:
            lost(count)

        self._array = array  # the kernel empties it of what came in by a descriptor when that is closed
        self._library = libbcc.lib
        self._callbacks = (libbcc._RAW_CB_TYPE(raw), libbcc._LOST_CB_TYPE(missed))
        self.readers: list[int] = []
        for cpu in _online_cpus():
            options = libbcc.bcc_perf_buffer_opts()
            options.pid = -1
            options.cpu = cpu
            options.wakeup_events = wakeup
            reader = self._library.bpf_open_perf_buffer_opts(
                *self._callbacks, None, pages, ctypes.byref(options)
            )
            if not reader:
                raise OSError(f"cannot open a perf buffer of {pages} pages on CPU {cpu}")
            self.readers.append(reader)
            array.put(abi.key(cpu), struct.pack("i", self._library.perf_reader_fd(reader)))

    def close(self) -> None:
        """Give the buffers back; the kernel then has nobody to tell."""
        for reader in self.readers:
            self._library.perf_reader_free(ctypes.c_void_p(reader))
        self.readers = []


def _online_cpus() -> list[int]:
    text = Path("/sys/devices/system/cpu/online").read_text().strip()
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


class PerfReader:
    """Collects until somebody takes. Thread-safe: `take_samples` and `take_events` swap lists."""

    def __init__(self, pins: Path) -> None:
        toolchain.import_bcc()
        self._samples: list[Sample] = []
        self._events: list[Reflex] = []
        self._lock = threading.Lock()
        self.received = 0
        self.lost = 0
        self.events_lost = 0
        self.rounds_ns = time.monotonic_ns()
        """When the reader last finished a round: grows old when it hangs."""
        self._stopping = False
        string_at, make_sample, make_event = ctypes.string_at, Sample._make, Reflex._make
        unpack_sample, unpack_event = _SAMPLE.unpack, _EVENT.unpack
        batch: list[Sample] = []
        self._batch = batch

        def on_sample(data: int, _size: int) -> None:
            batch.append(make_sample(unpack_sample(string_at(data, _SAMPLE.size))))

        def on_event(data: int, _size: int) -> None:
            with self._lock:
                self._events.append(make_event(unpack_event(string_at(data, _EVENT.size))))

        def on_lost(count: int) -> None:
            self.lost += count

        def on_events_lost(count: int) -> None:
            self.events_lost += count

        def opened(pins: Path) -> list[_Buffer]:
            return [
                _Buffer(Map.pinned(pins / "samples"), SAMPLE_PAGES, SAMPLES_PER_WAKEUP, on_sample, on_lost),
                _Buffer(Map.pinned(pins / "events"), EVENT_PAGES, 1, on_event, on_events_lost),
            ]

        self._open = opened
        self._generations = [opened(pins)]
        """Buffers of each program that is read; another thread puts a new list in place of this one."""
        self._rounds = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="perf", daemon=True)
        self._thread.start()

    def take_samples(self) -> list[Sample]:
        """The samples since the last call."""
        with self._lock:
            taken, self._samples = self._samples, []
        return taken

    def take_events(self) -> list[Reflex]:
        """The events since the last call."""
        with self._lock:
            taken, self._events = self._events, []
        return taken

    def follow(self, pins: Path) -> None:
        """Read another program's buffers as well. Raises OSError."""
        self._generations = [*self._generations, self._open(pins)]

    def leave(self, *, newest: bool = False) -> None:
        """Read no longer what only programs before the newest have told; or, `newest`, what that one has."""
        kept = self._generations[0 if newest else -1]
        going = [each for each in self._generations if each is not kept]
        self._generations = [kept]
        with self._rounds:  # the round under way may still read them
            round_ns = self.rounds_ns
            self._rounds.wait_for(lambda: self.rounds_ns != round_ns, timeout=2)
        for buffer in (buffer for generation in going for buffer in generation):
            buffer.close()

    def close(self) -> None:
        """End the thread and give the buffers back."""
        self._stopping = True
        self._thread.join(timeout=2)
        for buffer in (buffer for generation in self._generations for buffer in generation):
            buffer.close()

    def _run(self) -> None:
        from bcc import libbcc

        ctypes.CDLL(None).prctl(_PR_SET_NAME, THREAD.encode())  # for `top -H` and friends
        while not self._stopping:
            generations = self._generations
            readers = [reader for each in generations for buffer in each for reader in buffer.readers]
            handles = (ctypes.c_void_p * len(readers))(*readers)
            libbcc.lib.perf_reader_poll(len(readers), handles, _POLL_MS)
            # what is below the wake-up mark waits for no poll
            libbcc.lib.perf_reader_consume(len(readers), handles)
            if self._batch:
                with self._lock:
                    self._samples.extend(self._batch)
                    self.received += len(self._batch)
                self._batch.clear()
            with self._rounds:
                self.rounds_ns = time.monotonic_ns()
                self._rounds.notify_all()
