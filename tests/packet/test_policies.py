"""How a service picks: in order, by latency, by region, by what the traffic is for."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import pytest
from harness import AURORA, BOREALIS, MS
from roomy import CORONA, DRACO, EAST, REGIONS, THREE, WEST, Roomy

from cdnctl.datapath import abi
from cdnctl.datapath.choice import EndpointKey

EF, CS3, AF11, UNMARKED = 46 << 2, 24 << 2, 10 << 2, 0


def usual(edge: Roomy, **ms: float) -> None:
    """What handshakes with these endpoints take; names with a low line for the hyphen."""
    for name, each in ms.items():
        us = int(each * 1000)
        known = {"samples": 20, "baseline_us": us, "ewma_us": us, "ewma_at_ns": edge.now, "limit_us": 0}
        edge.know(name.replace("_", "-"), **known)


class TestFailover:
    def test_the_first_in_order_gets_everything(self, edge: Roomy) -> None:
        assert edge.crowd("order", 300) == {AURORA: 300}

    def test_the_next_while_it_is_out(self, edge: Roomy) -> None:
        edge.take_out(AURORA)
        assert edge.crowd("order", 300) == {BOREALIS: 300}
        edge.take_out(BOREALIS)
        assert edge.crowd("order", 300, first=300) == {CORONA: 300}

    def test_the_next_from_the_moment_that_it_is_seen_to_be_dark(self, edge: Roomy) -> None:
        edge.change(dark_connects=5)
        edge.know(AURORA, unanswered=9, connect_networks=2, last_answer_ns=1, samples=20, baseline_us=1000)
        edge.know(AURORA, dark_ns=edge.now - 100 * MS)
        assert edge.crowd("order", 100) == {BOREALIS: 100}
        assert edge.tables.health(edge.id_of(AURORA)).state == abi.Breaker.OUT

    def test_none_is_left_the_first_gets_it(self, edge: Roomy) -> None:
        edge.take_out(*THREE)
        assert edge.crowd("order", 100) == {AURORA: 100}

    def test_back_when_it_is_reopened_step_by_step(self, edge: Roomy) -> None:
        edge.change(slow_start_ns=30_000 * MS)
        edge.know(AURORA, reopened_ns=edge.now)
        assert edge.crowd("order", 2000)[AURORA] == pytest.approx(200, abs=60)
        edge.sleep(30_000)
        assert edge.crowd("order", 100, first=2000) == {AURORA: 100}

    def test_probes_bring_it_back(self, edge: Roomy) -> None:
        edge.take_out(AURORA)
        edge.sleep(10_001)
        found = list(edge.each("order", 50))
        assert found == [AURORA] + [BOREALIS] * 49, "one flow at a time"

    def test_disarmed_the_first(self, edge: Roomy) -> None:
        edge.take_out(AURORA)
        edge.tables.mode = abi.Mode.DISARMED
        assert edge.crowd("order", 100) == {AURORA: 100}

    def test_a_drained_one_is_in_no_order(self, edge: Roomy) -> None:
        edge.steer(drained=[AURORA])
        edge.take_out(BOREALIS, CORONA)
        assert edge.crowd("order", 100) == {BOREALIS: 100}

    @pytest.fixture
    def long(self, edge: Roomy) -> Iterator[Roomy]:
        """An order of 24, the first 20 of which are out; all lead to aurora's address."""
        place = next(place for place in edge.layout.services if place.name == "order")
        before = bytes(edge.tables.choice.service(place.id))
        policies = [abi.Policy.FAILOVER] * abi.CLASSES
        order = array("H", range(8, 32))
        for number in order:
            key = EndpointKey("198.51.100.10", 4000 + number, abi.TCP)
            edge.tables.choice.put_endpoint(number, key, cdn=number % 8, weight=1)
        edge.tables.choice.put_service(
            place.id,
            place.kernel_key,
            place.vip_index,
            policies=policies,
            picks=[[order] * abi.CLASSES],
            members=order,
        )
        for number in order[:20]:
            edge.tables.put_health(number, abi.Health(state=abi.Breaker.OUT, out_until_ns=2**62))
        yield edge
        edge.map("services").put(abi.key(place.id), before)
        for number in order:
            edge.map("endpoints").put(abi.key(number), bytes(abi.size(abi.Endpoint)))
            key = abi.EndpointKey(
                address=abi.address("198.51.100.10"), port=abi.port(4000 + number), protocol=abi.TCP
            )
            edge.map("endpoint_ids").delete(bytes(key))

    def test_a_long_order_is_walked_to_its_end(self, long: Roomy) -> None:
        port_of = {abi.show_port(long.tables.choice.endpoint(n).port): n for n in range(8, 32)}
        assert {port_of[port] for port in long.ports("order", 50)} == {28}
        for number in range(28, 32):
            long.tables.put_health(number, abi.Health(state=abi.Breaker.OUT, out_until_ns=2**62))
        assert {port_of[port] for port in long.ports("order", 50, first=50)} == {8}, "none: the first"


class TestClasses:
    """`marked`: interactive by weight, video by latency, bulk in order."""

    @pytest.fixture
    def edge(self, edge: Roomy) -> Roomy:
        """Aurora is slow, as things are."""
        usual(edge, aurora=150, borealis=10, corona=10)
        return edge

    @pytest.mark.parametrize("tos", [EF, UNMARKED])
    def test_interactive_by_weight(self, edge: Roomy, tos: int) -> None:
        found = edge.crowd("marked", 1500, tos=tos)
        assert all(found[cdn] == pytest.approx(500, abs=80) for cdn in THREE), found

    def test_video_leaves_the_slow_one(self, edge: Roomy) -> None:
        found = edge.crowd("marked", 1500, tos=CS3)
        assert found[AURORA] == 0
        assert found[BOREALIS] == pytest.approx(750, abs=120)

    def test_bulk_in_order(self, edge: Roomy) -> None:
        assert edge.crowd("marked", 300, tos=AF11) == {AURORA: 300}

    def test_explicit_congestion_is_no_class(self, edge: Roomy) -> None:
        assert edge.crowd("marked", 300, tos=AF11 | 3) == {AURORA: 300}

    def test_a_class_may_have_a_table_of_its_own(self, edge: Roomy) -> None:
        place = next(place for place in edge.layout.services if place.name == "marked")
        entry = edge.tables.choice.service(place.id)
        assert entry.table[0][abi.TrafficClass.VIDEO] == entry.table[0][abi.TrafficClass.INTERACTIVE]
        only = array("H", [edge.id_of(CORONA)]) * abi.PICK_SLOTS
        row = [edge.tables.choice.picks(entry.table[0][number]) for number in range(abi.CLASSES)]
        row[abi.TrafficClass.VIDEO] = only
        edge.tables.choice.put_service(
            place.id,
            place.kernel_key,
            place.vip_index,
            policies=[abi.Policy.WEIGHTED] * abi.CLASSES,
            picks=[row],
            members=[edge.id_of(cdn) for cdn in THREE],
            traffic_class=abi.CLASS_BY_DSCP,
        )
        assert edge.crowd("marked", 300, tos=CS3) == {CORONA: 300}
        assert set(edge.crowd("marked", 300, tos=EF, first=300)) == set(THREE)


class TestRegions:
    """`near`: draco for all, fornax-east for the east's clients, fornax-west for the west's; by latency."""

    @pytest.fixture
    def edge(self, edge: Roomy) -> Roomy:
        """All is well."""
        usual(edge, draco=10, fornax_east=10, fornax_west=10)
        return edge

    def test_each_has_its_own(self, edge: Roomy) -> None:
        assert set(edge.crowd("near", 300, "east")) == {DRACO, EAST}
        assert set(edge.crowd("near", 300, "west")) == {DRACO, WEST}
        assert set(edge.crowd("near", 300)) == {DRACO}, "of no region: what is bound to one is not for them"

    @pytest.mark.parametrize(("slow", "well"), [("east", "west"), ("west", "east")])
    def test_each_leaves_its_own_slow_one_alone(self, edge: Roomy, slow: str, well: str) -> None:
        usual(edge, **{f"fornax_{slow}": 200})
        assert edge.crowd("near", 1000, slow) == {DRACO: 1000}
        assert edge.crowd("near", 1000, well)[f"fornax-{well}"] == pytest.approx(500, abs=80)

    def test_nor_does_an_ejected_one_drag_the_other_along(self, edge: Roomy) -> None:
        edge.take_out(EAST, reason=abi.OutReason.SLOW)
        assert edge.crowd("near", 1000, "east") == {DRACO: 1000}
        assert edge.crowd("near", 1000, "west")[WEST] == pytest.approx(500, abs=80)

    def test_slow_handshakes_of_one_region_take_out_its_endpoint_alone(self, edge: Roomy) -> None:
        """By the packets themselves: the east's SYN-ACKs come late."""
        connects = {
            name: [edge.connect("near", REGIONS[region] + 256 * n, name) for n in range(8)]
            for region, name in (("east", EAST), ("west", WEST))
        }
        for name, ms in ((WEST, 10), (EAST, 190)):
            edge.sleep(ms)
            for each in connects[name]:
                edge.answer(each)
        assert edge.tables.health(edge.id_of(EAST)).state == abi.Breaker.OUT
        assert edge.tables.health(edge.id_of(EAST)).reason == abi.OutReason.SLOW
        assert edge.tables.health(edge.id_of(WEST)).state == abi.Breaker.IN
        assert edge.crowd("near", 300, "east", first=5000) == {DRACO: 300}
        assert edge.crowd("near", 300, "west", first=5000)[WEST] > 90
