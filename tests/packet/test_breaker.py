"""The breaker: what takes a CDN out of rotation, and what does not."""

from __future__ import annotations

import time

import pytest
from connects import (
    PATIENCE_MS,
    USUAL_US,
    client,
    connect,
    is_out,
    learn,
    new_window,
    refuse,
    slow_handshake,
    spread,
    take_out,
    wait,
)
from harness import AURORA, BOREALIS, CORONA, MS, DataPath
from segments import Flag
from session import Session

from cdnctl.datapath import abi
from cdnctl.datapath.abi import EventKind, OutReason, Pool, Verdict

# -- dark --


class TestDark:
    def test_five_unanswered_from_two_networks_and_older_than_patience(self, path: DataPath) -> None:
        learn(path)
        path.events(0, 0)
        for n in range(5):
            connect(path, n % 2)
        connect(path, 2)
        assert not is_out(path), "they may still be answered"
        time.sleep((PATIENCE_MS + 10) / 1000)
        assert not is_out(path), "only a packet makes the kernel look"
        connect(path, 3)
        assert is_out(path)
        assert path.health(AURORA).reason == OutReason.DARK
        assert AURORA not in spread(path, 30)
        (event, *_) = path.events(1)
        assert (event.kind, event.reason, event.endpoint) == (
            EventKind.EJECT,
            OutReason.DARK,
            path.endpoint_id(AURORA),
        )

    def test_four_are_not_enough_however_old(self, path: DataPath) -> None:
        learn(path)
        for n in range(4):
            connect(path, n)
        wait(path, PATIENCE_MS + 10)
        connect(path, 5)
        assert not is_out(path), "the fifth is young"
        connect(path, 6)
        assert not is_out(path)

    def test_one_client_that_sends_junk_makes_nobody_dark(self, path: DataPath) -> None:
        learn(path)
        for _ in range(40):
            Session(path, client="10.1.2.3").syn()
        wait(path, PATIENCE_MS + 10)
        honest = connect(path, 1)
        Session(path, client="10.1.2.3").syn()
        assert not is_out(path), "another network's connect must grow old too"
        honest.syn_ack()
        for _ in range(10):
            Session(path, client="10.1.2.3").syn()
        wait(path, PATIENCE_MS + 10)
        Session(path, client="10.1.2.3").syn()
        assert not is_out(path)

    def test_two_networks_are_evidence_when_the_second_has_waited_too(self, path: DataPath) -> None:
        learn(path)
        for _ in range(8):
            Session(path, client="10.1.2.3").syn()
        connect(path, 1)
        connect(path, 2)
        assert not is_out(path)
        wait(path, PATIENCE_MS + 10)
        connect(path, 1)
        assert is_out(path)

    def test_one_client_that_sends_its_syn_over_and_over_does_not(self, path: DataPath) -> None:
        learn(path)
        session = connect(path, 1)
        for _ in range(20):
            session.age(300)
            session.syn()
        wait(path, PATIENCE_MS + 10)
        session.syn()
        assert not is_out(path)

    def test_an_answer_since_then_clears_it(self, path: DataPath) -> None:
        learn(path)
        sessions = [connect(path, n) for n in range(8)]
        wait(path, PATIENCE_MS + 10)
        sessions[0].syn_ack()
        connect(path, 9)
        assert not is_out(path)
        assert path.health(AURORA).unanswered == 1

    def test_patience_grows_with_the_usual_handshake(self, path: DataPath) -> None:
        learn(path)
        path.change_health(AURORA, baseline_us=200_000)
        for n in range(6):
            connect(path, n)
        wait(path, 400)
        connect(path, 7)
        assert not is_out(path), "three usual handshakes are 600 ms"
        wait(path, 210)
        connect(path, 8)
        assert is_out(path)

    def test_an_unknown_cdn_gets_a_second(self, path: DataPath) -> None:
        for n in range(6):
            connect(path, n)
        for age_ms, out in ((800, False), (300, True)):
            wait(path, age_ms)
            connect(path, 7)
            assert is_out(path) is out

    def test_what_never_left_is_no_connect(self, path: DataPath) -> None:
        learn(path)
        for n in range(9):
            session = Session(path, client=client(n))
            assert session.syn(ttl=1).verdict is Verdict.SAID_TOO_LATE
        assert path.health(AURORA).unanswered == 0


# -- refusing --


class TestRefusing:
    def test_three_in_a_row(self, path: DataPath) -> None:
        for n in range(2):
            refuse(path, n)
            assert not is_out(path)
        refuse(path, 2)
        assert is_out(path)
        assert path.health(AURORA).reason == OutReason.REFUSING

    def test_not_when_one_in_between_was_answered(self, path: DataPath) -> None:
        for n in (0, 1, 3, 4):
            refuse(path, n)
            if n == 1:
                Session(path, client=client(2)).open()
        assert not is_out(path)

    def test_a_reset_later_in_the_session_is_no_evidence(self, path: DataPath) -> None:
        for n in range(6):
            session = Session(path, client=client(n)).open()
            session.up(Flag.PSH | Flag.ACK, payload=b"rubbish")
            session.down(Flag.RST | Flag.ACK)
        assert not is_out(path)
        assert path.health(AURORA).refused == 0

    def test_nor_is_one_that_answers_no_syn_of_ours(self, path: DataPath) -> None:
        for n in range(6):
            session = connect(path, n)
            assert session.down(Flag.RST | Flag.ACK, seq=0, ack=1234567).verdict is Verdict.STALE_REPLY
        assert not is_out(path)


# -- slow --


class TestSlow:
    def test_five_in_a_row_from_three_networks(self, path: DataPath) -> None:
        learn(path)
        for n in range(4):
            slow_handshake(path, n)
            assert not is_out(path)
        slow_handshake(path, 4)
        assert is_out(path)
        assert path.health(AURORA).reason == OutReason.SLOW

    @pytest.mark.parametrize("networks", [1, 2])
    def test_fewer_networks_may_be_slow_themselves(self, path: DataPath, networks: int) -> None:
        learn(path)
        for n in range(30):
            slow_handshake(path, n % networks)
        assert not is_out(path)

    def test_a_quick_one_in_between_begins_the_count_anew(self, path: DataPath) -> None:
        learn(path)
        for n in (0, 1, 2, 3):
            slow_handshake(path, n)
        Session(path, client=client(9)).open()
        for n in (0, 1, 2, 3):
            slow_handshake(path, n)
        assert not is_out(path)

    def test_not_while_most_of_the_last_tenth_of_a_second_were_quick(self, path: DataPath) -> None:
        learn(path)
        now = time.monotonic_ns()
        path.change_health(AURORA, window_ns=now + 60_000 * MS, window_samples=20, window_slow=0)
        for n in range(8):
            slow_handshake(path, n)
        assert not is_out(path)

    def test_over_three_times_the_usual_and_20_ms_is_slow(self, path: DataPath) -> None:
        learn(path)
        path.change_health(AURORA, baseline_us=100_000)
        for n in range(8):
            slow_handshake(path, n, ms=240)
        assert not is_out(path)
        path.change_health(AURORA, baseline_us=100_000)
        new_window(path)
        for n in range(5):
            slow_handshake(path, n, ms=321)
        assert is_out(path)

    def test_the_operators_own_limit_holds_instead(self, path: DataPath) -> None:
        learn(path)
        path.change_endpoint(AURORA, limit_us=300_000)
        for n in range(8):
            slow_handshake(path, n, ms=200)
        assert not is_out(path)
        new_window(path)
        for n in range(5):
            slow_handshake(path, n, ms=301)
        assert is_out(path)

    def test_a_cdn_that_was_never_quick_is_not_slow(self, path: DataPath) -> None:
        for n in range(20):
            slow_handshake(path, n, ms=150)
        assert not is_out(path)

    def test_a_syn_sent_twice_measures_nothing(self, path: DataPath) -> None:
        learn(path)
        for n in range(20):
            session = connect(path, n)
            session.syn()
            session.age(150)
            session.syn_ack()
        assert not is_out(path)
        assert path.health(AURORA).ewma_us < 100_000

    def test_slow_ones_do_not_become_the_norm(self, path: DataPath) -> None:
        learn(path)
        for n in range(4):
            slow_handshake(path, n)
        assert path.health(AURORA).baseline_us == USUAL_US
        assert path.health(AURORA).ewma_us >= 200_000


# -- how much may be out --


class TestHalf:
    def test_a_second_of_three_is_kept_and_said(self, path: DataPath) -> None:
        take_out(path)
        path.events(0, 0)
        for n in range(200, 204):
            refuse(path, n, "duo")  # all to borealis now
        assert not is_out(path, BOREALIS)
        assert path.tables.weight_out(Pool.TCP4) == 100
        kept = [event for event in path.events(1) if event.kind == EventKind.KEPT]
        assert [(event.endpoint, event.reason) for event in kept] == [
            (path.endpoint_id(BOREALIS), OutReason.REFUSING)
        ], "said once a second"
        assert set(spread(path, 60)) == {BOREALIS, CORONA}

    def test_the_last_one_stays(self, path: DataPath) -> None:
        path.change(weight_total=100)
        for n in range(9):
            refuse(path, n)
        assert not is_out(path)
        connect(path, 10)

    def test_one_that_weighs_more_than_half_goes_when_dead(self, path: DataPath) -> None:
        path.change_endpoint(AURORA, weight=600)
        path.change(weight_total=800)
        for n in range(3):
            refuse(path, n)
        assert is_out(path)

    def test_but_not_when_only_slow(self, path: DataPath) -> None:
        path.change_endpoint(AURORA, weight=600)
        path.change(weight_total=800)
        learn(path)
        for n in range(9):
            slow_handshake(path, n)
        assert not is_out(path)
        assert path.tables.weight_out(Pool.TCP4) == 0

    def test_a_service_whose_cdns_are_all_out_still_gets_one(self, path: DataPath) -> None:
        take_out(path)
        session = Session(path).open()  # `solo` has aurora alone
        assert session.cdn == AURORA

    def test_its_load_spreads_over_all_the_others(self, path: DataPath) -> None:
        take_out(path)
        found = spread(path, 300)
        assert found[AURORA] == 0
        assert 100 <= found[BOREALIS] <= 200

    def test_disarmed_nobody_is_taken_out_and_who_is_gets_flows(self, path: DataPath) -> None:
        take_out(path)
        path.tables.mode = abi.Mode.DISARMED
        assert spread(path, 60)[AURORA] > 5
        for n in range(10):
            refuse(path, 210 + n, "duo")
        assert not is_out(path, BOREALIS)
