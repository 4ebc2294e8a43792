"""What is timed: nanoseconds a packet, the shim subtracted, every run checked by the counters."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from cdnctl.datapath.abi import Mode, Verdict
from cdnctl.datapath.kernel import Ran
from tests.bench.decisions.flows import Handshakes, Kind
from tests.bench.decisions.packets import Ends
from tests.bench.decisions.rig import Rig
from tests.bench.decisions.shim import NOTHING, Shim, Stream
from tests.bench.results import Unsound

_OTHERWISE = 0.001
"""Of a run's packets so many may end otherwise: a SYN that met held ports only, an ARP that came between."""
_TRIED = 50
_LEAST_NS = 0.5
"""The kernel states whole nanoseconds, so a difference may come out as nothing or less."""
_BUMPS_KEPT = 0.8
"""Of the bumps of a storm so many must have come: a busy box wakes nobody in time."""


class Subject(ABC):
    """Something that takes a time for each packet."""

    def prove(self, rig: Rig) -> None:  # noqa: B027 (what its samples prove needs no other proof)
        """That it does what its row is about. Raises Unsound."""

    @abstractmethod
    def sample(self, rig: Rig) -> float:
        """One more measurement. Raises Unsound."""


@dataclass(frozen=True, eq=False)
class Packets(Subject):
    """One program on one stream of packets."""

    program: str
    stream: Stream
    frame: bytes
    ifindex: int
    action: int
    """What XDP is to do with each packet."""
    verdict: Verdict | None
    """What the data path is to count for each; a reference program counts nothing."""
    repeat: int
    warm_up: int
    grows: bool = False
    """Its frames leave longer than they came."""
    before: Callable[[], None] | None = None
    """Sets the scene for each sample."""

    def run(self, shim: Shim, repeat: int) -> Ran:
        """The next `repeat` packets."""
        return shim.run(self.program, self.stream, self.frame, repeat, self.ifindex, grows=self.grows)

    def rerun(self, shim: Shim, back: int, repeat: int, program: str = "") -> Ran:
        """So many packets from `back` ones ago, by this or another program; the stream stays where it is."""
        stream = replace(self.stream, next=(self.stream.next - back) % self.stream.count)
        return replace(self, program=program or self.program, stream=stream).run(shim, repeat)

    def prove(self, rig: Rig) -> None:
        """That each packet gets what the row is about, and that the shim restores the frame between repeats.

        The latter cannot be seen where each packet changes the tables: there the counters alone tell.
        """
        self._set_the_scene()
        for _ in range(_TRIED):
            ran = self.run(rig.shim, 1)
            if ran.action != self.action:
                raise Unsound(f"{self.program} answered {ran.action} where {self.action} was expected")
        if self.before is None and self.rerun(rig.shim, _TRIED, _TRIED).frame != ran.frame:
            raise Unsound(
                f"{self.program}: the last of {_TRIED} repeats came out unlike the same packet alone"
            )

    def sample(self, rig: Rig) -> float:
        """A warm run, and the shim alone on the same packets just before."""
        alone = self.begin(rig)
        return max(self.timed(rig).duration_ns - alone, _LEAST_NS)

    def begin(self, rig: Rig) -> float:
        """Set the scene and warm up; returns what the shim alone takes."""
        self._set_the_scene()
        self.run(rig.shim, self.warm_up)
        return self.rerun(rig.shim, 0, self.repeat, NOTHING).duration_ns

    def timed(self, rig: Rig) -> Ran:
        """A run whose every packet ends as it should."""
        before = self._counted(rig)
        ran = self.run(rig.shim, self.repeat)
        counted = self._counted(rig) - before
        if self.verdict is None:
            if ran.action != self.action:
                raise Unsound(f"{self.program} answered {ran.action} where {self.action} was expected")
        elif abs(counted - self.repeat) > _OTHERWISE * self.repeat:
            raise Unsound(f"of {self.repeat} packets {counted} were {self.verdict.name}")
        if rig.ejected():
            raise Unsound(f"out of rotation: {', '.join(rig.ejected())}")
        return ran

    def _set_the_scene(self) -> None:
        if self.before is not None:
            self.before()

    def _counted(self, rig: Rig) -> int:
        return 0 if self.verdict is None else rig.counted(self.verdict)


@dataclass(frozen=True, eq=False)
class InMode(Subject):
    """The same in a mode of the edge that is not its usual one."""

    packets: Packets
    mode: Mode

    def prove(self, rig: Rig) -> None:
        """In that mode."""
        with self._changed(rig):
            self.packets.prove(rig)

    def sample(self, rig: Rig) -> float:
        """In that mode, and only while it lasts."""
        with self._changed(rig):
            return self.packets.sample(rig)

    @contextlib.contextmanager
    def _changed(self, rig: Rig) -> Iterator[None]:
        rig.tables.mode = self.mode
        try:
            yield
        finally:
            rig.tables.mode = Mode(0)


@dataclass(frozen=True, eq=False)
class NewFlows(Subject):
    """All packets that a new flow begins with, each flow's times summed up."""

    kind: Kind
    clients: list[Ends]
    before: Callable[[], None]

    def sample(self, rig: Rig) -> float:
        """Opens the flows, and forgets them afterwards."""
        self.before()
        handshakes = Handshakes(rig, self.kind)
        first = handshakes.first(self.clients)
        opened = dict(handshakes.opened())
        clients = [client for client in self.clients if client in opened]
        if len(self.clients) - len(clients) > _OTHERWISE * len(self.clients):
            raise Unsound(f"of {len(self.clients)} flows {len(clients)} were opened")
        second = handshakes.second([opened[client] for client in clients])
        third = handshakes.third(clients)
        handshakes.forget(clients)
        return first.ns + second.ns + third.ns


@dataclass(frozen=True, eq=False)
class Storm(Subject):
    """Steady packets while the policy generation is bumped again and again from another CPU."""

    steady: Packets
    per_s: int
    cpus: frozenset[int]
    """Where the bumps come from."""

    def prove(self, rig: Rig) -> None:
        """As for the steady ones."""
        self.steady.prove(rig)

    def sample(self, rig: Rig) -> float:
        """A run that is long enough for a dozen bumps or so."""
        alone = self.steady.begin(rig)
        before, began = rig.tables.settings.generation, time.monotonic()
        with self._bumping(rig):
            ran = self.steady.timed(rig)
        bumps, took_s = rig.tables.settings.generation - before, time.monotonic() - began
        if bumps < _BUMPS_KEPT * self.per_s * took_s:
            raise Unsound(f"{bumps} bumps in {took_s:.2f} s where {self.per_s}/s were wanted")
        return max(ran.duration_ns - alone, _LEAST_NS)

    @contextlib.contextmanager
    def _bumping(self, rig: Rig) -> Iterator[None]:
        over = threading.Event()

        def bump() -> None:
            os.sched_setaffinity(0, self.cpus)  # of this thread alone
            due = time.monotonic()
            while True:
                rig.tables.bump_generation()
                due += 1 / self.per_s
                if over.wait(max(0.0, due - time.monotonic())):
                    return

        thread = threading.Thread(target=bump)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
