"""What happens to the breaker when several things happen at once: weights change, the rest slows down."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from connects import connect, is_out, learn, spread, take_out
from harness import AURORA, BOREALIS, CDNS, CORONA, MS, DataPath
from msgspec.structs import replace
from segments import Flag
from session import Session

from cdnctl.datapath.abi import Breaker, Pool, SlotState, Verdict
from cdnctl.engine import steering

EVEN = dict.fromkeys(CDNS, 100)
SHARED = ("www", "fast", "duo", "www6", "quic", "quic6")


def steer(path: DataPath, weights: dict[str, int] | None = None, drained: tuple[str, ...] = ()) -> None:
    """As the engine does it, but for services that have aurora alone and cannot be without her."""
    services = tuple(service for service in path.layout.services if service.name in SHARED)
    layout = replace(path.layout, services=services)
    steering.apply(path.config, layout, path.tables, steering.Steering({**EVEN, **(weights or {})}, drained))


@pytest.fixture
def steered(path: DataPath) -> Iterator[DataPath]:
    """Weights may be changed; afterwards all are 100 again."""
    yield path
    steer(path)


def kill(path: DataPath, cdn: str) -> None:
    """Make a CDN dark in the breaker's eyes, and let it look."""
    path.change_health(
        cdn,
        unanswered=10,
        connect_networks=2,
        dark_ns=time.monotonic_ns() - 3_000 * MS,
        last_answer_ns=1,
        samples=20,
        baseline_us=10_000,
    )
    for n in range(40):
        connect(path, 500 + n, "www")


class TestWeightsWhileOut:
    def test_draining_one_that_is_out_leaves_the_breaker_working(self, steered: DataPath) -> None:
        take_out(steered)
        steer(steered, drained=(AURORA,))
        assert steered.tables.weight_out(Pool.TCP4) == 0
        kill(steered, BOREALIS)
        assert steered.health(BOREALIS).state == Breaker.OUT

    def test_undrained_it_begins_afresh(self, steered: DataPath) -> None:
        take_out(steered)
        steer(steered, drained=(AURORA,))
        steer(steered)
        assert steered.health(AURORA).state == Breaker.IN
        assert spread(steered, 90)[AURORA] > 10

    def test_a_new_weight_is_what_it_holds(self, steered: DataPath) -> None:
        take_out(steered)
        steer(steered, {AURORA: 50})
        assert is_out(steered)
        assert steered.health(AURORA).reserved_weight == 50
        assert steered.tables.weight_out(Pool.TCP4) == 50

    def test_a_wrong_sum_is_mended(self, steered: DataPath) -> None:
        take_out(steered)
        steered.tables.put_weight_out(Pool.TCP4, 7000)
        steering.reconcile(steered.tables)
        assert steered.tables.weight_out(Pool.TCP4) == 100


class TestTheRestSlowsDown:
    def slow(self, path: DataPath) -> None:
        """Aurora is dead; the others answer, but late."""
        take_out(path)
        for cdn in (BOREALIS, CORONA):
            path.change_health(
                cdn,
                samples=20,
                baseline_us=1000,
                ewma_us=25_000,
                limit_us=21_000,
                ewma_at_ns=time.monotonic_ns(),
                probing=1,
                probe_ns=time.monotonic_ns(),
            )

    def test_suspects_are_better_than_the_dead(self, path: DataPath) -> None:
        self.slow(path)
        found = spread(path, 200, "fast")
        assert found[AURORA] == 0
        assert found[BOREALIS] > 40
        assert found[CORONA] > 40

    def test_a_stall_of_all_is_not_the_slow_ones_chance(self, path: DataPath) -> None:
        """Aurora has been slow for seconds, the others' last handshakes were late: they get the flows."""
        self.slow(path)
        path.change_health(AURORA, state=Breaker.IN, reason=0, out_until_ns=0)
        path.change_health(
            AURORA,
            samples=20,
            baseline_us=13_000,
            ewma_us=165_000,
            limit_us=59_000,
            ewma_at_ns=time.monotonic_ns() - 3_000 * MS,
            probes_bad=2,
            probe_ns=time.monotonic_ns() - 2_800 * MS,
        )
        found = spread(path, 200, "fast")
        assert found[AURORA] == 0
        assert found[BOREALIS] > 40
        assert found[CORONA] > 40

    def test_a_suspect_alone_gets_nothing_but_probes(self, path: DataPath) -> None:
        now = time.monotonic_ns()
        path.clock(now)
        path.change_health(
            AURORA, samples=20, baseline_us=13_000, ewma_us=165_000, limit_us=59_000, ewma_at_ns=now
        )
        found = spread(path, 1000, "fast")
        assert found[AURORA] == 1
        assert path.health(AURORA).probing
        assert path.health(AURORA).last_new_flow_ns == 0

    def test_with_another_one_out_a_suspect_gets_hardly_more(self, path: DataPath) -> None:
        """Two thirds of the weight are avoided: whoever is left is found all the same."""
        take_out(path)
        path.change_health(
            BOREALIS,
            samples=20,
            baseline_us=13_000,
            ewma_us=165_000,
            limit_us=59_000,
            ewma_at_ns=time.monotonic_ns(),
            probing=1,
            probe_ns=time.monotonic_ns(),
            probes_bad=3,
        )
        found = spread(path, 1500, "fast")
        assert found[AURORA] == 0
        assert found[BOREALIS] <= 1
        assert found[CORONA] >= 1499

    def test_a_rescue_takes_a_suspect(self, path: DataPath) -> None:
        sessions = [connect(path, n, "fast") for n in range(60)]
        stuck = next(session for session in sessions if session.cdn == AURORA)
        self.slow(path)
        stuck.age(3500)
        assert stuck.syn().verdict is Verdict.FORWARDED
        assert stuck.cdn != AURORA


def test_a_path_that_became_longer_for_good_becomes_the_usual(path: DataPath) -> None:
    learn(path)
    take_out(path)
    for _ in range(25):
        path.change_health(AURORA, out_until_ns=1, probe_ns=1)
        probe = next((s for s in (connect(path, 300 + n, "www") for n in range(60)) if s.cdn == AURORA), None)
        if not is_out(path):
            break
        assert probe is not None
        probe.age(200)
        probe.syn_ack()
    assert not is_out(path)
    assert 190_000 < path.health(AURORA).baseline_us < 260_000


def test_a_client_that_goes_on_after_its_reset_keeps_its_port(path: DataPath) -> None:
    session = Session(path).open()
    session.up(Flag.RST)
    assert session.slot.state == SlotState.CLOSING
    assert session.up(Flag.ACK).verdict is Verdict.FORWARDED
    assert session.slot.state == SlotState.ESTABLISHED
