"""Limits of single sources, gated by the sketch: a flood of strangers gets no meters and evicts none."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest
from harness import SERVICES, Action, DataPath, Runner
from metered import ACME, ACMES, GLOBEX, GLOBEXS, Quotas, quotas, sent
from netbox import CLIENTS
from segments import Flag, segment
from session import Session

from cdnctl.datapath.abi import Verdict

ACK = Flag.ACK
FORWARDED, REPLIED, OVER_SOURCE = Verdict.FORWARDED, Verdict.REPLIED, Verdict.OVER_SOURCE_QUOTA


@pytest.fixture
def q(path: DataPath) -> Quotas:
    """Two customers without limits."""
    return quotas(path)


MANY = "10.3.0.1"
"""A source that is nobody's customer."""


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """Each CPU counts for itself; here it is one that counts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def from_strangers(q: Quotas, count: int) -> None:
    """So many SYNs, each from an address of its own."""
    frame = segment(("10.0.0.1", 1234), SERVICES["www"], Flag.SYN, seq=1)
    runner = Runner(q.path.fd, len(frame), q.path.indexes[CLIENTS])
    runner.frame.raw = frame
    for n in range(count):
        struct.pack_into("!I", runner.frame, 26, 0x0B00_0000 + 2654435761 * n % 0x0100_0000)
        runner.run()


@pytest.mark.usefixtures("one_cpu")
class TestSources:
    def test_only_a_busy_one_is_metered(self, q: Quotas) -> None:
        q.limit_sources(busy_pps=100, pps=1000, burst_ms=10)
        session = q.open(MANY)
        assert sent(session, 46) == {FORWARDED: 46}
        assert q.meters() == 0, "two of its handshake, and 46 are still less than half of a hundred"
        assert sent(session, 100) == {FORWARDED: 1 + 11, OVER_SOURCE: 88}
        assert q.meters() == 1

    def test_it_stays_metered_for_as_long_as_it_is(self, q: Quotas) -> None:
        q.limit_sources(busy_pps=100, pps=1000, burst_ms=10)
        session = q.open(MANY)
        frame = segment(session.client, session.service, ACK, seq=session.isn + 1, ack=session.cdn_isn + 1)
        runner = Runner(q.path.fd, len(frame), q.path.indexes[CLIENTS])
        runner.frame.raw = frame
        passed = 0
        for _ in range(2500):
            q.clock.sleep(1)
            passed += sum(runner.run() == Action.REDIRECT for _ in range(10))
        assert 2500 <= passed <= 2500 + 50 + 10

    def test_who_uses_up_another_limit_is_busy_however_few_its_packets(self, q: Quotas) -> None:
        q.limit_sources(busy_pps=1000, mbit=0.1, burst_ms=1)
        session = q.open(MANY)
        assert sent(session, 10, bytes(1400)) == {FORWARDED: 4 + 1, OVER_SOURCE: 5}, "half a second's worth"

    def test_its_neighbours_lose_nothing(self, q: Quotas) -> None:
        busy, other = q.open(MANY), q.open("10.3.0.2")
        q.limit_sources(busy_pps=10, pps=1, burst_ms=1)
        assert sent(busy, 100)[FORWARDED] < 20
        assert other.up(ACK).verdict is FORWARDED

    def test_of_ipv6_a_64_is_one(self, q: Quotas) -> None:
        sessions = [q.open(f"2001:db8:3::{n}", "solo6") for n in range(1, 8)]
        stranger = q.open("2001:db8:3:1::1", "solo6")
        q.limit_sources(busy_pps=10, pps=100, burst_ms=1)
        assert [session.up(ACK).verdict for session in sessions] == [FORWARDED] * 5 + [OVER_SOURCE] * 2
        assert q.meters() == 1
        assert stranger.up(ACK).verdict is FORWARDED

    @pytest.mark.parametrize(("limit", "verdict"), [({"pps": 10}, REPLIED), ({"mbit": 0.1}, OVER_SOURCE)])
    def test_replies_are_its_bytes_and_not_its_packets(
        self, q: Quotas, limit: dict[str, float], verdict: Verdict
    ) -> None:
        q.limit_sources(busy_pps=10, burst_ms=1, **limit)
        session = q.open(MANY)
        for _ in range(20):
            seen = session.down(ACK, payload=bytes(1000))
        assert seen.verdict is verdict

    def test_new_flows(self, q: Quotas) -> None:
        q.limit_sources(busy_pps=1000, flows_per_s=10, burst_ms=100)
        seen = [Session(q.path, client=MANY).syn().verdict for _ in range(20)]
        assert seen == [FORWARDED] * (5 + 2) + [OVER_SOURCE] * 13, "half a second's worth, and its burst"
        q.clock.sleep(100)
        assert Session(q.path, client=MANY).syn().verdict is FORWARDED

    def test_a_customers_limit_is_its_sources_limit(self, q: Quotas) -> None:
        q.limit_sources(busy_pps=2, pps=1, flows_per_s=1, burst_ms=1)
        q.limit(ACME, pps=1000)
        assert sent(q.open(ACMES), 50) == {FORWARDED: 50}
        assert sent(Session(q.path, client=GLOBEXS), 0) == {}
        assert [Session(q.path, client=GLOBEXS).syn().verdict for _ in range(3)][-1] is OVER_SOURCE
        assert q.totals(GLOBEX).dropped_packets

    def test_a_flood_of_strangers_gets_no_meters_and_evicts_none(self, q: Quotas) -> None:
        q.limit_sources(busy_pps=20, pps=1000, burst_ms=10)
        session = q.open(MANY)
        assert sent(session, 100)[OVER_SOURCE]
        from_strangers(q, 20_000)
        assert q.meters() == 1
        assert sent(session, 100) == {OVER_SOURCE: 100}, "and it is still known"

    def test_in_a_flood_a_busy_one_is_found(self, q: Quotas) -> None:
        q.limit_sources(busy_pps=100, pps=1000, burst_ms=10)
        from_strangers(q, 20_000)
        session = q.open(MANY)
        assert sent(session, 200)[OVER_SOURCE] > 80
        assert q.meters() == 1
