"""The breaker: what takes a CDN out of rotation, what does not, and how it comes back.

Times pass by sleeping a little, or by making what the edge remembers older.
"""

from __future__ import annotations

import time
from collections import Counter

import harness
import pytest
from harness import AURORA, BOREALIS, CDNS, CORONA, MS, Action, DataPath
from packets import Flag
from session import Session

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Breaker, EventKind, FlowFlag, OutReason, Verdict

USUAL_US = 30_000
"""A CDN that `learn` made known: over 110 ms is slow, unanswered for 90 ms says something."""
PATIENCE_MS = 90


def client(n: int) -> str:
    """A client of the n-th /24."""
    return f"10.{n // 250}.{n % 250}.7"


def learn(path: DataPath) -> None:
    """Aurora's usual time is known."""
    path.change_health(
        AURORA, samples=20, baseline_us=USUAL_US, ewma_us=USUAL_US, ewma_at_ns=time.monotonic_ns()
    )
    new_window(path)


def wait(path: DataPath, ms: float) -> None:
    """Let aurora's unanswered connects grow older by so much."""
    health = path.health(AURORA)
    shift = int(ms * MS)
    path.change_health(
        AURORA,
        dark_ns=health.dark_ns - shift,
        last_answer_ns=health.last_answer_ns - shift if health.last_answer_ns else 0,
    )


def new_window(path: DataPath) -> None:
    """Let the tenth of a second pass over which slow handshakes must be the most."""
    path.change_health(AURORA, window_ns=1)


def is_out(path: DataPath, cdn: str = AURORA) -> bool:
    """Whether the CDN is out; the weight that is out must say the same."""
    health = path.health(cdn)
    others = sum(path.health(other).reserved_weight for other in CDNS if other != cdn)
    assert path.tables.weight_out() == health.reserved_weight + others
    return health.state == Breaker.OUT


def connect(path: DataPath, n: int, service: str = "solo") -> Session:
    """A SYN of the n-th network."""
    session = Session(path, service, client=client(n))
    assert session.syn().verdict is Verdict.FORWARDED
    return session


def refuse(path: DataPath, n: int, service: str = "solo") -> None:
    """A connect that is answered by a reset."""
    assert connect(path, n, service).refuse().verdict is Verdict.REPLIED


def take_out(path: DataPath) -> None:
    """Aurora refuses three connects."""
    for n in range(3):
        refuse(path, n)
    assert is_out(path)


def slow_handshake(path: DataPath, n: int, ms: float = 200) -> None:
    """One that takes so long."""
    session = connect(path, n)
    session.age(ms)
    session.syn_ack()


def spread(path: DataPath, count: int = 120, service: str = "www") -> Counter[str]:
    """Where new flows go; nobody answers them, and nobody is blamed for it."""
    path.change(dark_connects=1_000_000)
    found: Counter[str] = Counter()
    for n in range(count):
        found[connect(path, 100 + n, service).cdn] += 1
    return found


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
            assert session.syn(ttl=1).verdict is Verdict.EXPIRED_TTL
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
            assert session.down(Flag.RST | Flag.ACK, seq=0, ack=12345).verdict is Verdict.STALE_REPLY
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
        assert path.tables.weight_out() == 100
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
        assert path.tables.weight_out() == 0

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


# -- the way back --


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
        learn(path)
        take_out(path)
        assert AURORA not in spread(path, 20), "its pause is not over"
        path.change_health(AURORA, out_until_ns=time.monotonic_ns() - 20 * MS)
        path.events(0, 0)
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

    def test_three_good_ones_bring_it_back(self, over: DataPath) -> None:
        for good in range(3):
            assert over.health(AURORA).probes_good == good
            assert is_out(over)
            session = probed(over)
            assert session.syn_ack().verdict is Verdict.REPLIED
            assert session.ack().verdict is Verdict.FORWARDED
        assert not is_out(over)
        assert over.tables.weight_out() == 0
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


# -- what it measures --


class TestMeasures:
    @pytest.mark.parametrize("ms", [1, 3, 10, 47, 250, 2000])
    def test_a_handshake_lands_in_its_bucket(self, path: DataPath, ms: int) -> None:
        before = path.tables.handshakes(path.layout.cdns[AURORA])
        start = time.monotonic()
        slow_handshake(path, 1, ms)
        took_us = (time.monotonic() - start) * 1e6
        after = path.tables.handshakes(path.layout.cdns[AURORA])
        (bucket,) = [n for n, (new, old) in enumerate(zip(after, before, strict=True)) if new != old]
        low, high = abi.bucket_limits_us(bucket)
        assert high > ms * 1000
        assert low <= ms * 1000 + took_us
        assert high <= low * 1.126

    def test_handshakes_teach_what_is_usual(self, path: DataPath) -> None:
        for n in range(60):
            new_window(path)
            slow_handshake(path, n, ms=100)
        health = path.health(AURORA)
        assert health.samples == 60
        assert 100_000 <= health.baseline_us < 150_000
        assert not is_out(path)

    def test_a_peak_counts_at_once_and_fades_with_time(self, path: DataPath) -> None:
        learn(path)
        slow_handshake(path, 1, ms=160)
        peak = path.health(AURORA).ewma_us
        assert peak >= 160_000
        Session(path, client=client(2)).open()
        soon = path.health(AURORA).ewma_us
        assert 0.7 * peak < soon < peak
        path.change_health(AURORA, ewma_at_ns=path.health(AURORA).ewma_at_ns - 1100 * MS)
        Session(path, client=client(2)).open()
        assert path.health(AURORA).ewma_us < 20_000


class TestLatencyPolicy:
    def known(self, path: DataPath, **ewma_ms: int) -> None:
        for cdn in CDNS:
            path.change_health(
                cdn,
                ewma_us=ewma_ms.get(cdn, 10) * 1000,
                ewma_at_ns=time.monotonic_ns(),
                samples=20,
                baseline_us=9000,
            )

    def test_the_slower_one_gets_nothing_while_others_are_better(self, path: DataPath) -> None:
        self.known(path, aurora=160)
        found = Counter[str]()
        for n in range(300):
            session = connect(path, n, "fast")
            found[session.cdn] += 1
            session.syn_ack()
            self.known(path, aurora=160)
        assert found[AURORA] <= 3
        assert 100 <= found[BOREALIS] <= 200

    def test_within_the_band_weights_decide(self, path: DataPath) -> None:
        found = Counter[str]()
        for n in range(300):
            self.known(path, aurora=12, borealis=11, corona=10)
            session = connect(path, n, "fast")
            found[session.cdn] += 1
            session.syn_ack()
        assert all(60 <= found[cdn] <= 140 for cdn in CDNS), found

    def test_an_old_peak_is_tried_again(self, path: DataPath) -> None:
        self.known(path, aurora=160)
        path.change_health(AURORA, ewma_at_ns=time.monotonic_ns() - 13_000 * MS)
        assert spread(path, 90, "fast")[AURORA] > 10

    def test_disarmed_plain_weights_decide(self, path: DataPath) -> None:
        self.known(path, aurora=160)
        path.tables.mode = abi.Mode.DISARMED
        assert spread(path, 150, "fast")[AURORA] > 25

    def test_weights_are_kept_by_the_table(self, path: DataPath) -> None:
        found = spread(path, 600)
        assert all(150 <= found[cdn] <= 250 for cdn in CDNS), found
