"""Limits of customers: to the tick, both ways, for nobody else; and of whomever, by two CPUs at once."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from harness import AURORA, SERVICES, Action, DataPath, Runner, zero
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from metered import ACME, ACMES, FREE, GLOBEX, GLOBEXS, Model, Quotas, grown, quotas, sent
from netbox import CLIENTS
from segments import Flag, segment
from session import Datagrams, Session

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.clients import Client

ACK = Flag.ACK
FORWARDED, REPLIED = Verdict.FORWARDED, Verdict.REPLIED
OVER, OVER_FLOWS, OVER_SOURCE = Verdict.OVER_QUOTA, Verdict.OVER_FLOW_QUOTA, Verdict.OVER_SOURCE_QUOTA


@pytest.fixture
def q(path: DataPath) -> Quotas:
    """Two customers without limits."""
    return quotas(path)


# -- the arithmetic --

STEPS = st.lists(
    st.tuples(st.integers(0, 30_000), st.sampled_from(["up", "down", "syn"]), st.integers(0, 1400)),
    min_size=1,
    max_size=60,
)
RATES = {
    "pps": st.none() | st.integers(50, 2000),
    "mbit": st.none() | st.floats(0.05, 5),
    "flows_per_s": st.none() | st.integers(20, 500),
    "burst_ms": st.floats(0.01, 50),
}


class TestArithmetic:
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(rates=st.fixed_dictionaries(RATES), steps=STEPS)
    def test_is_exact(
        self, q: Quotas, rates: dict[str, float | None], steps: list[tuple[int, str, int]]
    ) -> None:
        zero(q.path.map("customer_limits"))
        zero(q.path.map("meters"))
        q.clock.sleep(1000)
        session = q.open()
        limit = abi.limit(**rates)
        q.path.tables.clients.set_limits({ACME: limit})
        if not (rates["pps"] or rates["mbit"] or rates["flows_per_s"]):
            limit = abi.Limit()
        model, before, expected = Model(limit), q.totals(), Counter[str]()
        for wait_us, kind, size in steps:
            q.clock.sleep(wait_us / 1000)
            if kind == "syn":
                seen = Session(q.path, client=ACMES).syn()
            else:
                seen = (session.up if kind == "up" else session.down)(ACK, payload=bytes(size))
            over = model.verdict(q.clock.ns, len(seen.sent), opens=kind == "syn")
            assert seen.verdict is (over or (REPLIED if kind == "down" else FORWARDED)), (kind, size)
            which = "dropped" if over else "passed"
            expected[f"{which}_packets"] += 1
            expected[f"{which}_bytes"] += len(seen.sent)
            expected["flows"] += kind == "syn" and not over
            expected["flows_refused"] += over is OVER_FLOWS
        assert grown(before, q.totals()) == {name: n for name, n in expected.items() if n}

    def test_a_burst_and_then_the_rate(self, q: Quotas) -> None:
        session = q.open()
        q.limit(pps=100, burst_ms=50)
        assert sent(session, 20) == {FORWARDED: 6, OVER: 14}, "five in 50 ms, and the one that is due"
        for _ in range(10):
            q.clock.sleep(10)
            assert sent(session, 3) == {FORWARDED: 1, OVER: 2}
        q.clock.sleep(60_000)
        assert sent(session, 20) == {FORWARDED: 6, OVER: 14}, "idling saves no more than the burst"

    def test_an_overload_leaves_no_debt(self, q: Quotas) -> None:
        session = q.open()
        q.limit(pps=100, burst_ms=50)
        assert sent(session, 500)[FORWARDED] == 6
        q.clock.sleep(10)
        assert session.up(ACK).verdict is FORWARDED

    def test_a_new_limit_holds_at_once(self, q: Quotas) -> None:
        session = q.open()
        q.limit(pps=1, burst_ms=60_000)
        assert sent(session, 70)[FORWARDED] == 61
        q.limit(pps=1000, burst_ms=10)
        assert session.up(ACK).verdict is FORWARDED, "the old burst is not paid for"
        q.path.tables.clients.set_limits({})
        assert sent(session, 50) == {FORWARDED: 50}

    def test_both_directions_use_up_the_same(self, q: Quotas) -> None:
        session = q.open()
        q.limit(mbit=1, burst_ms=100)
        got = 0
        for turn in range(40):
            seen = (
                session.down(ACK, payload=bytes(1000)) if turn % 2 else session.up(ACK, payload=bytes(1000))
            )
            got += len(seen.sent) * (seen.verdict in (FORWARDED, REPLIED))
        assert 12_500 <= got <= 12_500 + 1054


# -- what is charged, and whom --


class TestCustomers:
    def test_the_neighbours_lose_nothing(self, q: Quotas) -> None:
        mine, other, nobody = q.open(), q.open(GLOBEXS), q.open("10.1.2.3")
        q.limit(pps=10)
        assert sent(mine, 50)[OVER] == 48
        assert sent(other, 50) == {FORWARDED: 50}
        assert sent(nobody, 50) == {FORWARDED: 50}

    def test_all_clients_of_one_share_it(self, q: Quotas) -> None:
        sessions = [q.open(f"10.7.0.{n}") for n in range(1, 6)]
        six = q.open("2001:db8:7::1", "solo6")
        q.limit(pps=10, burst_ms=1000)
        seen = [session.up(ACK).verdict for session in [*sessions, six] * 3]
        assert Counter(seen) == {FORWARDED: 11, OVER: 7}

    def test_one_without_limits_is_counted(self, q: Quotas) -> None:
        before = q.totals(GLOBEX)
        session = q.open(GLOBEXS)
        session.down(ACK, payload=b"x" * 100)
        assert grown(before, q.totals(GLOBEX)) == {
            "passed_packets": 4,
            "passed_bytes": 4 * 54 + 100,
            "flows": 1,
        }

    def test_handshakes_are_charged_too(self, q: Quotas) -> None:
        q.limit(pps=1, burst_ms=3000)
        session = q.open()
        assert session.up(ACK).verdict is FORWARDED
        assert session.up(ACK).verdict is OVER

    def test_a_syn_that_is_sent_again_is_a_packet_and_no_flow(self, q: Quotas) -> None:
        q.limit(flows_per_s=1, pps=1, burst_ms=4000)
        session, before = Session(q.path, client=ACMES), q.totals()
        assert [session.syn().verdict for _ in range(6)] == [FORWARDED] * 5 + [OVER]
        assert grown(before, q.totals())["flows"] == 1

    def test_udp_is_no_other(self, q: Quotas) -> None:
        talk = Datagrams(q.path, client=ACMES).open()
        q.limit(pps=10, flows_per_s=1, burst_ms=400)
        assert Counter(talk.up().verdict for _ in range(8)) == {FORWARDED: 5, OVER: 3}
        q.clock.sleep(1000)
        assert Datagrams(q.path, client=ACMES).up().verdict is FORWARDED
        assert Datagrams(q.path, client=ACMES).up().verdict is OVER_FLOWS

    def test_what_is_dropped_costs_nothing(self, q: Quotas) -> None:
        session = q.open()
        q.limit(pps=100, mbit=0.5, burst_ms=100)
        assert sent(session, 200, bytes(1400)) == {FORWARDED: 5, OVER: 195}, "all the bytes of 116 ms"
        q.clock.sleep(30)
        assert sent(session, 20)[FORWARDED] == 9, "two packets of the five are still to be paid for"

    def test_a_rescued_flow_is_no_new_one(self, q: Quotas) -> None:
        q.limit(flows_per_s=1, burst_ms=1)
        session = Session(q.path, "www", client=ACMES)
        before = q.totals()
        assert session.syn().verdict is FORWARDED
        first = session.cdn
        session.age(1500)
        assert session.syn().verdict is FORWARDED
        assert session.cdn != first
        assert grown(before, q.totals())["flows"] == 1

    def test_refused_flows_reach_nobody(self, q: Quotas) -> None:
        q.limit(flows_per_s=10, burst_ms=1)
        before = q.totals()
        with q.path.counting(AURORA) as counted:
            seen = [Session(q.path, client=ACMES).syn() for _ in range(10)]
        assert Counter(each.verdict for each in seen) == {FORWARDED: 1, OVER_FLOWS: 9}
        assert counted["new_flows"] == 1
        assert grown(before, q.totals()) == {
            "passed_packets": 1,
            "passed_bytes": 54,
            "dropped_packets": 9,
            "dropped_bytes": 9 * 54,
            "flows": 1,
            "flows_refused": 9,
        }
        assert len(list(q.path.tables.half_open.keys())) == 1


class TestWhoIsNotLimited:
    def test_the_allowed(self, q: Quotas) -> None:
        q.limit(pps=1, flows_per_s=1, burst_ms=1)
        q.limit_sources(pps=1, flows_per_s=1, burst_ms=1)
        before = q.totals()
        sessions = [q.open(FREE) for _ in range(5)]
        assert all(sent(session, 40) == {FORWARDED: 40} for session in sessions)
        assert grown(before, q.totals())["passed_packets"] == 5 * 43, "they are counted"
        assert Session(q.path, client=ACMES).syn().verdict is FORWARDED, "and use up nothing of the others'"

    def test_a_live_flow_hears_of_it(self, q: Quotas) -> None:
        session = q.open()
        q.limit(pps=1, burst_ms=1)
        assert sent(session, 3) == {FORWARDED: 1, OVER: 2}
        q.path.tables.clients.load({ip_network(ACMES): Client(ACME, flags=abi.ClientFlag.ALLOWED)})
        q.path.tables.bump_generation()
        assert sent(session, 3) == {FORWARDED: 3}
        assert session.down(ACK).verdict is REPLIED
        assert session.slot.customer == ACME | abi.CUSTOMER_ALLOWED

    def test_a_live_flow_changes_hands(self, q: Quotas) -> None:
        session, before = q.open(), q.totals(GLOBEX)
        q.path.tables.clients.load({ip_network(ACMES): Client(GLOBEX)})
        q.path.tables.bump_generation()
        session.up(ACK)
        session.down(ACK)
        assert grown(before, q.totals(GLOBEX))["passed_packets"] == 2

    def test_disarmed_nobody(self, q: Quotas) -> None:
        session = q.open()
        q.limit(pps=1, flows_per_s=1, burst_ms=1)
        q.path.tables.mode = abi.Mode.DISARMED
        assert sent(session, 30) == {FORWARDED: 30}
        assert all(Session(q.path, client=ACMES).syn().verdict is FORWARDED for _ in range(10))

    def test_observed_nobody_though_it_is_said(self, q: Quotas) -> None:
        q.limit(flows_per_s=1, burst_ms=1)
        q.path.tables.mode = abi.Mode.OBSERVE
        syn = segment((ACMES, 1234), SERVICES["solo"], Flag.SYN, seq=1)
        seen = [q.path.run(syn) for _ in range(3)]
        assert [each.verdict for each in seen] == [FORWARDED, OVER_FLOWS, OVER_FLOWS]
        assert {each.action for each in seen} == {Action.PASS}


# -- two CPUs at once, on the real clock --


class Sender(threading.Thread):
    """Sends frames in turn, as fast as one CPU can; counts by frame what got through."""

    def __init__(self, path: DataPath, cpu: int, frames: list[bytes]) -> None:
        super().__init__(daemon=True)
        self._cpu, self._runners = (
            cpu,
            [Runner(path.fd, len(frame), path.indexes[CLIENTS]) for frame in frames],
        )
        for runner, frame in zip(self._runners, frames, strict=True):
            runner.frame.raw = frame
        self.sent = [0] * len(frames)
        self.passed = [0] * len(frames)
        self.over = threading.Event()

    def run(self) -> None:
        """Until `over`."""
        os.sched_setaffinity(0, {self._cpu})
        while not self.over.is_set():
            for number, runner in enumerate(self._runners):
                self.passed[number] += runner.run() == Action.REDIRECT
                self.sent[number] += 1


@contextlib.contextmanager
def two_cpus_send(q: Quotas, sessions: list[Session]) -> Iterator[list[Sender]]:
    """Data of these sessions, from two CPUs at once."""
    frames = [
        segment(each.client, each.service, ACK, seq=each.isn + 1, ack=each.cdn_isn + 1) for each in sessions
    ]
    senders = [Sender(q.path, cpu, frames) for cpu in sorted(os.sched_getaffinity(0))[:2]]
    for sender in senders:
        sender.start()
    yield senders
    for sender in senders:
        sender.over.set()
    for sender in senders:
        sender.join()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this needs two CPUs")
@pytest.mark.parametrize("whose", ["a customer's", "a customer's bytes", "a source's"])
def test_ten_times_too_much_by_two_cpus_is_held_to_the_limit(q: Quotas, whose: str) -> None:
    limit, length_s = 2000, 0.8
    q.path.clock(0)
    sessions = [q.open(ACMES), q.open(GLOBEXS), q.open("10.1.2.3")]
    rate = {"mbit": limit * 54 * 8 / 1e6} if "bytes" in whose else {"pps": limit}
    limits = {ACME: abi.limit(**rate, burst_ms=50), GLOBEX: abi.limit(pps=10**7)}
    if "source" in whose:
        del limits[ACME]
        q.limit_sources(busy_pps=1000, pps=limit, burst_ms=50)
        sessions.pop()  # it would be another source that is over it
    q.path.tables.clients.set_limits(limits)
    with two_cpus_send(q, sessions) as senders:
        time.sleep(0.3)
        began, before = time.monotonic(), q.totals()
        time.sleep(length_s)
        ended, after = time.monotonic(), q.totals()
    changed = grown(before, after)
    assert changed["passed_packets"] + changed["dropped_packets"] > 10 * limit * (ended - began)
    assert changed["passed_packets"] == pytest.approx(limit * (ended - began), rel=0.05)
    for sender in senders:
        assert sender.passed[0] > 0.1 * limit, "each CPU has a part in it"
        assert sender.passed[1:] == sender.sent[1:], "the neighbours lost something"
