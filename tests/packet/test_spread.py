"""Where new flows go when nothing is wrong, and when a CDN leaves."""

from __future__ import annotations

import pytest
from roomy import FIVE, FOUR, Roomy

from cdnctl.datapath import abi

WEIGHTS = dict(zip(FIVE, (40, 25, 20, 10, 5), strict=True))
POINT = 0.01


def test_weights_are_kept_within_a_point_over_100_000_flows(edge: Roomy) -> None:
    edge.steer(WEIGHTS)
    found = edge.crowd("all", 100_000)
    for cdn, weight in WEIGHTS.items():
        assert found[cdn] / 100_000 == pytest.approx(weight / 100, abs=POINT)


def kernel_picks(edge: Roomy, service: str) -> list[int]:
    """The table in force for clients of no region."""
    place = next(place for place in edge.layout.services if place.name == service)
    table = edge.tables.choice.service(place.id).table[0][0]
    return list(edge.tables.choice.picks(table))[: abi.PICK_SLOTS]


@pytest.mark.parametrize("leaver", FIVE)
def test_a_leaver_takes_under_two_percent_of_the_others_along(edge: Roomy, leaver: str) -> None:
    edge.steer(WEIGHTS)
    before, gone = kernel_picks(edge, "all"), edge.id_of(leaver)
    edge.steer(WEIGHTS, drained=[leaver])
    after = kernel_picks(edge, "all")
    stayed = [old == new for old, new in zip(before, after, strict=True) if old != gone]
    assert stayed.count(False) < 0.02 * len(stayed)


def test_and_so_do_flows(edge: Roomy) -> None:
    edge.steer(WEIGHTS)
    before = list(edge.each("all", 10_000))
    edge.fresh()  # or the last of them would be known still
    edge.steer(WEIGHTS, drained=["corona"])
    after = list(edge.each("all", 10_000))
    stayed = [old == new for old, new in zip(before, after, strict=True) if old != "corona"]
    assert "corona" not in after
    assert stayed.count(False) < 0.02 * len(stayed)


@pytest.mark.parametrize("out", FOUR)
def test_one_of_four_is_out_and_each_other_is_within_two_points_of_its_share(edge: Roomy, out: str) -> None:
    edge.take_out(out)
    found = edge.crowd("four", 20_000)
    assert out not in found
    for cdn in set(FOUR) - {out}:
        assert found[cdn] / 20_000 == pytest.approx(1 / 3, abs=2 * POINT)


def test_shares_of_unequal_ones_too(edge: Roomy) -> None:
    edge.steer(WEIGHTS)
    edge.take_out("aurora")
    found = edge.crowd("all", 20_000)
    for cdn, weight in WEIGHTS.items():
        expected = 0 if cdn == "aurora" else weight / 60
        assert found[cdn] / 20_000 == pytest.approx(expected, abs=2 * POINT)
