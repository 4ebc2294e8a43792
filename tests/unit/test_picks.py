"""Pick tables by region and class: who is in them, in which order, with which share."""

from __future__ import annotations

from collections import Counter

import pytest

from cdnctl.engine.steering import Steering
from cdnctl.steering import picks
from cdnctl.steering.maglev import SLOTS
from cdnctl.steering.picks import Server, near, ordered, spread

AURORA = [Server(1, "198.51.100.10:443", "aurora", ("eu",)), Server(2, "198.51.100.11:443", "aurora")]
BOREALIS = [Server(3, "198.51.100.20:443", "borealis")]
US = [Server(4, "198.51.100.30:443", "cirrus", ("us", "ca"))]
ALL = [*BOREALIS, *AURORA, *US]


def ids(servers: list[Server]) -> list[int]:
    return [server.id for server in servers]


def test_bound_endpoints_serve_their_regions_only() -> None:
    assert ids(near(ALL, "")) == [3, 2]
    assert ids(near(ALL, "eu")) == [3, 1, 2]
    assert ids(near(ALL, "ca")) == [3, 2, 4]


def test_where_nobody_is_near_all_serve() -> None:
    assert ids(near(US, "eu")) == [4]
    assert ids(near([], "eu")) == []


def test_the_order_of_failover() -> None:
    weights = {"aurora": 60, "borealis": 40, "cirrus": 0}
    assert list(ordered(ALL, weights)) == [3, 1, 2]
    with pytest.raises(ValueError, match="no endpoint"):
        ordered(US, weights)


def test_a_cdns_share_is_its_weight_however_many_endpoints_serve() -> None:
    weights = {"aurora": 60, "borealis": 40}
    got = Counter(spread([*AURORA, *BOREALIS], weights))
    assert (got[1] + got[2]) / SLOTS == pytest.approx(0.6, abs=0.001)
    assert got[1] == pytest.approx(got[2], abs=2)
    got = Counter(spread([AURORA[1], *BOREALIS], weights))
    assert got[2] / SLOTS == pytest.approx(0.6, abs=0.001)
    with pytest.raises(ValueError, match="no endpoint"):
        spread(AURORA, {"aurora": 0})


def test_equal_tables_are_one() -> None:
    weights = {"aurora": 60, "borealis": 40}
    assert spread([*AURORA, *BOREALIS], weights) is spread([*BOREALIS, *AURORA], weights)
    assert ordered(BOREALIS, weights) is ordered(BOREALIS, weights)
    assert picks._table.cache_info().maxsize == 256


def test_video_alone_leaves_and_only_under_latency() -> None:
    wanted = Steering({"a": 60, "b": 40, "c": 50}, ["c"], {"a": 0.25})
    cdns = ("a", "b", "c")
    assert wanted.in_force(cdns, "video", "latency") == {"a": 1500, "b": 4000, "c": 0}
    for traffic_class, policy in (("bulk", "latency"), ("video", "weighted"), ("video", "failover")):
        plain = wanted.in_force(cdns, traffic_class, policy)  # type: ignore[arg-type]
        assert plain == {"a": 60, "b": 40, "c": 0}


def test_a_service_of_few_cdns_keeps_half_of_its_own_weight() -> None:
    wanted = Steering({"a": 60, "b": 40, "d": 1}, (), {"a": 0.1})
    assert wanted.in_force(("a", "d"), "video", "latency") == {"a": 2950, "d": 100}
    assert wanted.in_force(("a",), "video", "latency") == {"a": 3000}


def test_a_small_weight_is_never_nothing() -> None:
    wanted = Steering({"a": 1, "b": 1000}, (), {"a": 0.001})
    assert wanted.in_force(("a", "b"), "video", "latency")["a"] == 1
