"""Reads the perf buffers of the data path: samples of packets, events, and whose a port of ours is.

A thread polls, and a round hands over what it finds in one batch.
"""

from __future__ import annotations

import ctypes
import select
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from cdnctl.datapath import abi, toolchain
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.ring import RAW_AT, Ring, record_size

SAMPLE_PAGES = 128
EVENT_PAGES = 8
BINDING_PAGES = 32
"""Of each CPU, as all of them: 27,000 new flows/s while it looks ten times a second, if they are logged."""
BINDINGS_PER_WAKEUP = 1024
SAMPLES_PER_WAKEUP = 512
"""The reader is woken once for so many samples, a tenth of what there is room for: being woken costs more
than reading some, and it looks ten times a second at any rate."""
_POLL_MS = 100
THREAD = "perf-reader"
_PR_SET_NAME = 15

_SAMPLE = struct.Struct("=16s16sHHHBBIBBxx")
_EVENT = struct.Struct("=Q6I")
_BINDING = struct.Struct("=Q16sHHBBBB")


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


class Binding(NamedTuple):
    """A flow that got under way by a port of ours, see struct binding."""

    at_ns: int
    client: bytes
    client_port: int
    snat_port: int
    snat: int
    endpoint: int
    service: int
    protocol: int


_T = TypeVar("_T", bound=NamedTuple)


class _Buffer(Generic[_T]):
    """The perf buffers of all CPUs for one perf array."""

    def __init__(self, array: Map, pages: int, wakeup: int, layout: struct.Struct, kind: type[_T]) -> None:
        """Records are of `kind`, whose fields `layout` has."""
        self._array = array  # the kernel empties it of what came in by a descriptor when that is closed
        self._make: Callable[[Any], _T] = kind._make
        padding = record_size(layout.size) - RAW_AT - layout.size
        self._record = struct.Struct(f"={RAW_AT}x{layout.format.lstrip('=')}{padding}x")
        self.rings: list[Ring] = []
        try:
            for cpu in _online_cpus():
                self.rings.append(Ring(cpu, pages, layout.size, wakeup))
                array.put(abi.key(cpu), struct.pack("i", self.rings[-1].fd))
        except OSError:
            self.close()
            raise

    def take(self) -> tuple[list[_T], int]:
        """What came since the last call, and how many more for which there was no room."""
        taken, lost = list[_T](), 0
        for ring in self.rings:
            records = ring.take()
            taken.extend(map(self._make, self._record.iter_unpack(records.data)))
            lost += records.lost
        return taken, lost

    def close(self) -> None:
        """Give the buffers back; the kernel then has nobody to tell."""
        for ring in self.rings:
            ring.close()
        self.rings = []


def _online_cpus() -> list[int]:
    text = Path("/sys/devices/system/cpu/online").read_text().strip()
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


class _Buffers(NamedTuple):
    """Those of one program."""

    samples: _Buffer[Sample]
    events: _Buffer[Reflex]
    bindings: _Buffer[Binding]

    def fds(self) -> list[int]:
        """To wait for."""
        return [ring.fd for buffer in self for ring in buffer.rings]

    def close(self) -> None:
        """Give them back."""
        for buffer in self:
            buffer.close()


class PerfReader:
    """Collects until somebody takes. Thread-safe: `take_samples` and `take_events` swap lists."""

    def __init__(self, pins: Path) -> None:
        toolchain.import_bcc()
        self._samples: list[Sample] = []
        self._events: list[Reflex] = []
        self._bindings: list[Binding] = []
        self._lock = threading.Lock()
        self.received = 0
        self.lost = 0
        self.events_lost = 0
        self.bindings_lost = 0
        self.rounds_ns = time.monotonic_ns()
        """When the reader last finished a round: grows old when it hangs."""
        self._stopping = False

        def opened(pins: Path) -> _Buffers:
            samples = Map.pinned(pins / "samples"), SAMPLE_PAGES, SAMPLES_PER_WAKEUP
            events = Map.pinned(pins / "events"), EVENT_PAGES, 1
            bindings = Map.pinned(pins / "bindings"), BINDING_PAGES, BINDINGS_PER_WAKEUP
            return _Buffers(
                _Buffer(*samples, _SAMPLE, Sample),
                _Buffer(*events, _EVENT, Reflex),
                _Buffer(*bindings, _BINDING, Binding),
            )

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

    def take_bindings(self) -> list[Binding]:
        """The bindings since the last call; the kernel tells none unless it is asked to."""
        with self._lock:
            taken, self._bindings = self._bindings, []
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
        for generation in going:
            generation.close()

    def close(self) -> None:
        """End the thread and give the buffers back."""
        self._stopping = True
        self._thread.join(timeout=2)
        for generation in self._generations:
            generation.close()

    def _run(self) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_NAME, THREAD.encode())  # for `top -H` and friends
        generations: list[_Buffers] = []
        waiting = select.poll()
        while not self._stopping:
            if self._generations is not generations:
                generations, waiting = self._generations, select.poll()
                for fd in (fd for each in generations for fd in each.fds()):
                    waiting.register(fd, select.POLLIN)
            waiting.poll(_POLL_MS)  # what is below the wake-up mark is taken as well
            for each in generations:
                samples, lost = each.samples.take()
                events, events_lost = each.events.take()
                self.lost += lost
                bindings, bindings_lost = each.bindings.take()
                self.events_lost += events_lost
                self.bindings_lost += bindings_lost
                if samples or events or bindings:
                    with self._lock:
                        self._samples.extend(samples)
                        self._events.extend(events)
                        self._bindings.extend(bindings)
                        self.received += len(samples)
            with self._rounds:
                self.rounds_ns = time.monotonic_ns()
                self._rounds.notify_all()
