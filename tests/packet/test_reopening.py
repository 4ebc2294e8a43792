"""The breaker: how a CDN that is out comes back."""

from __future__ import annotations

import time

import harness
import pytest
from connects import (
    connect,
    is_out,
    learn,
    spread,
    take_out,
)
from harness import AURORA, MS, Action, DataPath
from session import Session

from cdnctl.datapath.abi import Breaker, EventKind, FlowFlag, Mode, OutReason, Pool, Verdict


def probed(path: DataPath, tries: int = 40) -> Session:
    """The session that is sent to the CDN that is out; others go elsewhere."""
    for n in range(tries):
        session = connect(path, 300 + n, "www")
        if session.cdn == AURORA:
            assert session.half_open is not None
            assert FlowFlag.PROBE in FlowFlag(session.half_open.flags)
            return session
    raise AssertionError(f"no probe among {tries} new flows")


class TestReopening:
    @pytest.fixture
    def over(self, path: DataPath) -> DataPath:
        """Aurora is out, and its pause is over."""
        path.events(0, 0)
        learn(path)
        take_out(path)
        assert [event.kind for event in path.events(1)] == [EventKind.EJECT]
        assert AURORA not in spread(path, 20), "its pause is not over"
        path.change_health(AURORA, out_until_ns=time.monotonic_ns() - 20 * MS)
        return path

    def test_its_pause_ends_by_itself(self, path: DataPath) -> None:
        path.change(out_ns=150 * MS)
        take_out(path)
        assert connect(path, 1, "www").cdn != AURORA
        time.sleep(0.17)
        probed(path)

    def test_one_probe_at_a_time(self, over: DataPath) -> None:
        with over.counting(AURORA) as counted:
            probed(over)
            assert AURORA not in spread(over, 60)
        assert (counted["new_flows"], counted["probe_flows"]) == (1, 1)
        assert over.health(AURORA).last_new_flow_ns < over.health(AURORA).probe_ns

    def test_none_where_the_edge_only_observes(self, over: DataPath) -> None:
        over.tables.mode = Mode.OBSERVE
        for n in range(40):
            Session(over, "www", client=f"10.1.9.{n}").syn()
        assert over.health(AURORA).probe_ns == 0
        assert over.events(0) == []

    def test_three_good_ones_bring_it_back(self, over: DataPath) -> None:
        for good in range(3):
            assert over.health(AURORA).probes_good == good
            assert is_out(over)
            session = probed(over)
            assert session.syn_ack().verdict is Verdict.REPLIED
            assert session.ack().verdict is Verdict.FORWARDED
        assert not is_out(over)
        assert over.tables.weight_out(Pool.TCP4) == 0
        assert spread(over, 60)[AURORA] > 5
        kinds = [event.kind for event in over.events(4)]
        assert kinds == [EventKind.PROBE] * 3 + [EventKind.REOPEN]

    def test_a_refused_probe_is_kept_from_its_client_who_lands_elsewhere(self, over: DataPath) -> None:
        session = probed(over)
        seen = session.refuse()
        assert (seen.verdict, seen.action) == (Verdict.ABSORBED, Action.DROP), seen
        assert is_out(over)
        assert over.health(AURORA).probes_bad == 1
        session.age(250)
        assert session.syn().verdict is Verdict.FORWARDED
        assert session.cdn != AURORA
        assert session.syn_ack().verdict is Verdict.REPLIED
        assert session.ack().verdict is Verdict.FORWARDED

    def test_after_a_bad_one_the_next_waits_longer(self, over: DataPath) -> None:
        probed(over).refuse()
        for bad, wait_ms in ((1, 2000), (2, 4000), (3, 8000), (4, 8000)):
            assert over.health(AURORA).probes_bad == bad
            sent = over.health(AURORA).probe_ns
            over.change_health(AURORA, probe_ns=sent - (wait_ms - 500) * MS)
            assert AURORA not in spread(over, 20)
            over.change_health(AURORA, probe_ns=sent - (wait_ms + 20) * MS)
            probed(over).refuse()

    def test_an_unanswered_probe_is_a_bad_one(self, over: DataPath) -> None:
        probed(over)
        sent = over.health(AURORA).probe_ns
        over.change_health(AURORA, probe_ns=sent - 1020 * MS)
        probed(over)
        assert over.health(AURORA).probes_bad == 1
        assert is_out(over)
        events = over.events(3)
        assert [event.kind for event in events] == [EventKind.PROBE, EventKind.PROBE_FAILED, EventKind.PROBE]
        assert events[1].reason == OutReason.DARK

    def test_a_slow_answer_is_a_bad_one(self, over: DataPath) -> None:
        session = probed(over)
        session.age(150)
        assert session.syn_ack().verdict is Verdict.REPLIED
        assert is_out(over)
        assert over.health(AURORA).probes_bad == 1

    def test_a_bad_one_takes_the_good_ones_back(self, over: DataPath) -> None:
        for _ in range(2):
            probed(over).syn_ack()
        probed(over).refuse()
        assert over.health(AURORA).probes_good == 0

    def test_answers_to_connects_of_before_decide_nothing(self, path: DataPath) -> None:
        learn(path)
        before = [connect(path, n) for n in range(10, 20)]
        take_out(path)
        for session in before:
            assert session.syn_ack().verdict is Verdict.REPLIED
        assert is_out(path)
        assert path.health(AURORA).probes_good == 0

    def test_each_ejection_makes_the_pause_longer_up_to_the_longest(self, path: DataPath) -> None:
        learn(path)
        pauses = []
        for _ in range(10):
            take_out(path)
            health = path.health(AURORA)
            pauses.append((health.out_until_ns - health.ejected_ns) // MS)
            path.change_health(AURORA, out_until_ns=1)
            for _ in range(3):
                probed(path).syn_ack()
            assert not is_out(path)
        assert pauses == [10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 70_000, 80_000, 80_000, 80_000]

    def test_old_ejections_are_forgiven(self, path: DataPath) -> None:
        for age_s, ejections in ((299, 8), (301, 1)):
            # a box that booted just now has no such past: its clock may go below 0, as ages do
            ejected_ns = (time.monotonic_ns() - age_s * 1000 * MS) % 2**64
            path.change_health(
                AURORA, state=Breaker.IN, ejections=7, ejected_ns=ejected_ns, reserved_weight=0
            )
            harness.zero(path.map("weight_out"))
            take_out(path)
            assert path.health(AURORA).ejections == ejections
