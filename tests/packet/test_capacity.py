"""A CDN at its capacity: what is too much for it goes elsewhere, flow by flow, and nothing is dropped."""

from __future__ import annotations

from collections import Counter

import pytest
from harness import AURORA, BOREALIS, MS, Action, DataPath, Runner
from netbox import CLIENTS
from roomy import CORONA, DRACO, FOUR, THREE, Roomy
from segments import Flag, segment
from session import Session

from cdnctl.datapath import abi
from cdnctl.datapath.abi import EventKind, Verdict

RATE, BURST_MS = 1000, 20
"""Flows a second; in 20 ms as many as may come at once."""


def over_20_ms(edge: Roomy, service: str, count: int) -> Counter[str]:
    """So many flows, evenly over so long; none is dropped, or `each` would say so."""
    found: Counter[str] = Counter()
    for n in range(count):
        edge.sleep(20 / count)
        found += edge.crowd(service, 1, first=n)
    return found


@pytest.fixture
def edge(edge: Roomy) -> Roomy:
    """Aurora has a capacity."""
    edge.limit_capacity(AURORA, flows_per_s=RATE, burst_ms=BURST_MS)
    return edge


class TestMicroBurst:
    def test_of_five_times_the_capacity(self, edge: Roomy) -> None:
        with edge.counting(AURORA) as counted:
            found = over_20_ms(edge, "order", 5 * 20)
        assert found == {AURORA: 20 + 20, BOREALIS: 60}, "its capacity and its burst"
        assert counted["spilled"] == 60

    def test_the_excess_spreads_over_all_the_others(self, edge: Roomy) -> None:
        found = over_20_ms(edge, "four", 4 * 5 * 20)
        assert 30 < found[AURORA] <= 41
        rest = sum(found.values()) - found[AURORA]
        for cdn in FOUR[1:]:
            assert found[cdn] == pytest.approx(rest / 3, rel=0.25)

    def test_afterwards_it_takes_flows_again(self, edge: Roomy) -> None:
        over_20_ms(edge, "order", 100)
        assert edge.crowd("order", 1, first=1000) == {BOREALIS: 1}
        edge.sleep(1)
        assert edge.crowd("order", 2, first=2000) == {AURORA: 1, BOREALIS: 1}
        edge.sleep(10_000)
        assert edge.crowd("order", 50, first=3000) == {AURORA: 21, BOREALIS: 29}

    def test_is_said_once(self, edge: Roomy) -> None:
        edge.events(0, 0)
        over_20_ms(edge, "order", 100)
        said = [event for event in edge.events(1) if event.kind == EventKind.SPILL]
        assert [event.endpoint for event in said] == [edge.id_of(AURORA)]

    def test_below_its_capacity_nothing_spills(self, edge: Roomy) -> None:
        with edge.counting(AURORA) as counted:
            assert over_20_ms(edge, "order", 20) == {AURORA: 20}
        assert "spilled" not in counted


class TestWhereElse:
    def test_nowhere_the_first_pick_gets_it(self, edge: Roomy) -> None:
        for cdn in FOUR:
            edge.limit_capacity(cdn, flows_per_s=1, burst_ms=1)
        edge.crowd("four", 100)
        before = {cdn: edge.totals(cdn).spilled for cdn in FOUR}
        found = edge.crowd("four", 4000, first=100)
        assert all(found[cdn] == pytest.approx(1000, rel=0.1) for cdn in FOUR), found
        assert before == {cdn: edge.totals(cdn).spilled for cdn in FOUR}, "none went elsewhere"

    def test_what_was_too_much_for_all_leaves_no_debt(self, edge: Roomy) -> None:
        for cdn in THREE:
            edge.limit_capacity(cdn, flows_per_s=RATE, burst_ms=BURST_MS)
        edge.crowd("order", 5000)
        edge.sleep(20)
        assert edge.crowd("order", 3 * 20, first=5000) == {AURORA: 20, BOREALIS: 20, CORONA: 20}

    def test_the_next_may_be_full_as_well(self, edge: Roomy) -> None:
        edge.limit_capacity(BOREALIS, flows_per_s=RATE, burst_ms=BURST_MS)
        assert edge.crowd("order", 100) == {AURORA: 21, BOREALIS: 21, CORONA: 58}

    def test_full_is_better_than_out(self, edge: Roomy) -> None:
        edge.take_out(BOREALIS, CORONA)
        assert edge.crowd("order", 100) == {AURORA: 100}

    def test_probes_are_not_for_the_full_to_decide(self, edge: Roomy) -> None:
        edge.take_out(AURORA)
        edge.know(AURORA, out_until_ns=edge.now - 1)
        assert edge.crowd("order", 30) == {AURORA: 1, BOREALIS: 29}

    def test_a_latency_policy_spills_too(self, edge: Roomy) -> None:
        edge.limit_capacity(DRACO, flows_per_s=RATE, burst_ms=BURST_MS)
        found = edge.crowd("near", 200, "east")
        assert found[DRACO] == 21
        assert sum(found.values()) == 200

    def test_disarmed_nothing_spills(self, edge: Roomy) -> None:
        edge.tables.mode = abi.Mode.DISARMED
        assert edge.crowd("order", 100) == {AURORA: 100}


class TestBytes:
    """Mbit/s, of both directions; known flows go on."""

    @pytest.fixture
    def busy(self, path: DataPath) -> Session:
        """An established session to aurora, which takes 10 Mbit/s."""
        path.clock(10**15)
        path.change(dark_connects=1_000_000)
        limit = abi.limit(mbit=10, burst_ms=BURST_MS)
        session = Session(path, "solo").open()
        path.tables.choice.put_capacity(path.layout.cdns[AURORA], limit)
        return session

    def send(self, session: Session, count: int, size: int = 1400) -> None:
        """Data of the client's; all of it gets there."""
        frame = segment(session.client, session.service, Flag.ACK, seq=session.isn + 1, payload=bytes(size))
        runner = Runner(session.path.fd, len(frame), session.path.indexes[CLIENTS])
        runner.frame.raw = frame
        assert all(runner.run() == Action.REDIRECT for _ in range(count))

    def goes_to_aurora(self, session: Session) -> bool:
        """Of some new flows, any."""
        new = [Session(session.path, "www", client=f"10.9.{n}.1") for n in range(20)]
        assert all(each.syn().verdict is Verdict.FORWARDED for each in new)
        return AURORA in {each.cdn for each in new}

    def test_within_the_burst_there_is_room(self, busy: Session) -> None:
        self.send(busy, 15)  # 17 ms of its capacity
        assert self.goes_to_aurora(busy)

    def test_beyond_it_new_flows_go_elsewhere_until_it_is_over(self, busy: Session) -> None:
        self.send(busy, 200)
        assert not self.goes_to_aurora(busy)
        busy.path.clock(10**15 + 30 * MS)
        assert self.goes_to_aurora(busy), "not after all of the 233 ms that were too much"

    def test_replies_fill_it_too(self, busy: Session) -> None:
        for _ in range(30):
            assert busy.down(Flag.ACK, payload=bytes(1400)).verdict is Verdict.REPLIED
        assert not self.goes_to_aurora(busy)

    def test_small_packets_add_up(self, busy: Session) -> None:
        self.send(busy, 600, size=0)
        assert not self.goes_to_aurora(busy)
