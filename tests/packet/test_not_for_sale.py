"""Ejection is not for sale: nothing that one client does takes a CDN out, and no race takes out too many.

More of what one client may try is in test_breaker.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from connects import is_out, learn, take_out
from harness import AURORA, CDNS, MS, DataPath, Runner
from roomy import Roomy
from segments import Flag, segment
from session import Session, link_of, macs_from

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.choice import EndpointKey

ACK, PSH, RST = Flag.ACK, Flag.PSH, Flag.RST
ONE = "10.1.2.3"


class TestOneClient:
    """All to `www`, whose CDNs are well and answer everybody."""

    @pytest.fixture
    def path(self, path: DataPath) -> DataPath:
        """Time passes when told."""
        self.now = 10**15
        path.clock(self.now)
        learn(path)
        return path

    def sleep(self, path: DataPath, ms: int) -> None:
        self.now += ms * MS
        path.clock(self.now)

    def opened(self, path: DataPath) -> Session:
        """One more session of this client's."""
        return Session(path, "www", client=ONE).open()

    @pytest.fixture(autouse=True)
    def nobody_goes(self, path: DataPath) -> Iterator[None]:
        """Afterwards all are in rotation, and nothing is held against any."""
        yield
        for cdn in CDNS:
            assert not is_out(path, cdn)
            assert path.health(cdn).refused == 0

    def test_sends_junk(self, path: DataPath) -> None:
        for _ in range(60):
            session = self.opened(path)
            session.up(PSH | ACK, payload=os.urandom(40))
            session.down(RST | ACK)

    def test_asks_for_slow_pages(self, path: DataPath) -> None:
        for _ in range(30):
            session = self.opened(path)
            session.up(PSH | ACK, payload=b"GET /slow HTTP/1.1\r\n\r\n")
            self.sleep(path, 5000)
            assert session.down(ACK, payload=b"HTTP/1.1 200 OK").verdict is Verdict.REPLIED
        assert all(path.health(cdn).ewma_us <= 30_000 for cdn in CDNS)

    def test_sends_every_syn_twice(self, path: DataPath) -> None:
        for _ in range(30):
            session = Session(path, "www", client=ONE)
            session.syn()
            self.sleep(path, 150)
            session.syn()
            session.syn_ack()

    def test_sends_every_syn_twice_the_second_with_another_isn(self, path: DataPath) -> None:
        """Linux resets a connection that has begun when a second SYN lies in its window."""
        for _ in range(30):
            session = Session(path, "www", client=ONE)
            session.syn()
            session.isn += 7
            session.syn()
            assert session.refuse().verdict is Verdict.REPLIED

    def test_begins_and_never_ends(self, path: DataPath) -> None:
        for _ in range(30):
            session = Session(path, "www", client=ONE)
            session.syn()
            session.syn_ack()
            self.sleep(path, 10)

    def test_takes_everything_back(self, path: DataPath) -> None:
        for _ in range(30):
            session = Session(path, "www", client=ONE)
            session.syn()
            session.up(RST)
            session.syn_ack()
            session.down(RST | ACK)

    def test_acknowledges_what_nobody_sent(self, path: DataPath) -> None:
        for _ in range(30):
            session = Session(path, "www", client=ONE)
            session.syn()
            session.syn_ack()
            assert session.up(ACK, ack=12345).verdict is Verdict.BAD_ACK

    def test_is_far_away(self, path: DataPath) -> None:
        """What it takes a client to answer is not the CDN's time."""
        for _ in range(30):
            session = Session(path, "www", client=ONE)
            session.syn()
            session.syn_ack()
            self.sleep(path, 900)
            session.ack()


# -- two CPUs at once --

ENDPOINTS = range(8, 32)
"""Ids of 24 endpoints that weigh the same, beside the configured ones."""
ADDRESS = "198.51.100.10"


class Refusers:
    """Endpoints that refuse one connect after the other: each reset more takes one out, if it may go."""

    def __init__(self, edge: Roomy) -> None:
        self._edge = edge
        begun = edge.connect("all", 0x0A43_0001, AURORA)
        pattern = edge.tables.reverse.get(abi.key(self._slot(edge.id_of(AURORA), begun.source[1]))) or b""
        assert abi.Slot.from_buffer_copy(pattern).state == abi.SlotState.SYN_SENT
        self.frames, slots = [], {}
        for number in ENDPOINTS:
            end = ADDRESS, 4000 + number
            edge.tables.choice.put_endpoint(number, EndpointKey(*end, abi.TCP), cdn=number % 16, weight=1)
            macs = macs_from(AURORA)
            self.frames.append(segment(end, begun.source, RST | ACK, seq=0, ack=2, macs=macs))
            slots[abi.key(self._slot(number, begun.source[1]))] = pattern
        refused = bytes(abi.Health(refused=2))
        self._before = {
            "reverse": slots,
            "health": {abi.key(number): refused for number in ENDPOINTS},
            "weight_out": {abi.key(pool): bytes(8) for pool in abi.Pool},
        }
        edge.change(weight_total=len(ENDPOINTS))

    def _slot(self, endpoint: int, port: int) -> int:
        settings = self._edge.tables.settings
        return int(endpoint * settings.snat_rows * settings.ports + port - settings.port_min_host)

    def all_in(self) -> None:
        """As it was before the resets."""
        for table, entries in self._before.items():
            self._edge.map(table).put_all(entries)

    def out(self) -> int:
        """How many are out. What the sum of their weights says must be the same."""
        healths = self._edge.tables.healths()
        found = [healths[number] for number in ENDPOINTS if healths[number].state == abi.Breaker.OUT]
        assert self._edge.tables.weight_out(abi.Pool.TCP4) == len(found)
        assert all(health.reserved_weight == health.ejections_total == 1 for health in found)
        return len(found)

    def close(self) -> None:
        """They were never there."""
        for number in ENDPOINTS:
            self._edge.map("endpoints").put(abi.key(number), bytes(abi.size(abi.Endpoint)))
            key = abi.EndpointKey(
                address=abi.address(ADDRESS), port=abi.port(4000 + number), protocol=abi.TCP
            )
            self._edge.map("endpoint_ids").delete(bytes(key))


@pytest.fixture
def refusers(edge: Roomy) -> Iterator[Refusers]:
    """24 of them."""
    made = Refusers(edge)
    yield made
    made.close()


class Resets:
    """Resets from all of them, as fast as one CPU can."""

    def __init__(self, edge: Roomy, refusers: Refusers) -> None:
        self._frames, self._size = refusers.frames, len(refusers.frames[0])
        self._runner = Runner(edge.fd, self._size, edge.indexes[link_of(AURORA)])

    def arrive(self, number: int, *, backwards: bool = False) -> None:
        """In an order that each round, by its `number`, has of its own."""
        order = random.Random(number).sample(self._frames, len(self._frames))
        if backwards:
            order.reverse()
        for frame in order:
            ctypes.memmove(self._runner.frame, frame, self._size)
            self._runner.run()


@contextlib.contextmanager
def another_cpu(resets: Resets, cpu: int, rounds: int) -> Iterator[Callable[[int], Callable[[], None]]]:
    """A process on another CPU: call it with a round's number to have it begin, and the answer to wait.

    A process, since two threads of Python would mostly wait for each other.
    """
    with mmap.mmap(-1, 16) as shared:
        words = memoryview(shared).cast("Q")
        child = os.fork()
        if not child:
            os.sched_setaffinity(0, {cpu})
            deadline = time.monotonic() + 300
            for number in range(1, rounds + 1):
                while words[0] != number:
                    if time.monotonic() > deadline:
                        os._exit(1)
                resets.arrive(number, backwards=number % 2 == 0)
                words[1] = number
            os._exit(0)

        def begin(number: int) -> Callable[[], None]:
            words[0] = number

            def wait() -> None:
                deadline = time.monotonic() + 30
                while words[1] != number:
                    assert time.monotonic() < deadline

            return wait

        try:
            yield begin
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            words.release()


@pytest.mark.race
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this needs two CPUs")
@pytest.mark.parametrize("rounds", [300, pytest.param(10_000, marks=pytest.mark.soak)])
def test_two_cpus_that_eject_at_once_never_take_out_more_than_half(
    edge: Roomy, refusers: Refusers, rounds: int
) -> None:
    """Both get a reset from every endpoint: in the same order, then in the opposite one, and so on."""
    cpus = sorted(os.sched_getaffinity(0))
    resets, out = Resets(edge, refusers), Counter[int]()
    try:
        os.sched_setaffinity(0, {cpus[0]})
        with another_cpu(resets, cpus[1], rounds) as begin:
            for number in range(1, rounds + 1):
                refusers.all_in()
                wait = begin(number)
                resets.arrive(number)
                wait()
                out[refusers.out()] += 1
    finally:
        os.sched_setaffinity(0, cpus)
    assert max(out) <= len(ENDPOINTS) // 2
    assert out[len(ENDPOINTS) // 2] > 0.9 * rounds, "only who asks while another gives way stays in vain"


def test_each_family_has_a_half_of_its_own(path: DataPath) -> None:
    take_out(path)
    for n in range(3):
        session = Session(path, "solo6", client=f"2001:db8:{n}::7")
        session.syn()
        session.refuse()
    assert is_out(path), "over IPv4, by itself a third"
    assert path.health(AURORA, abi.Pool.TCP6).state == abi.Breaker.OUT
    assert [path.tables.weight_out(pool) for pool in abi.Pool] == [100, 0, 100, 0]
