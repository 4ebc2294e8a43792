"""How long SNAT ports will last: foretold from censuses, told rarely, and only when it matters."""

from __future__ import annotations

import pytest

from cdnctl.engine.ports import Ports

ROOM = {1: 1000, 2: 1000, 3: 0}


def grown(*held: int, every_s: float = 60.0, endpoint: int = 1) -> Ports:
    ports = Ports(ROOM)
    for number, count in enumerate(held):
        ports.note({endpoint: count}, number * every_s)
    return ports


def test_nothing_is_known_before_a_census() -> None:
    assert Ports(ROOM).outlook(1) == (0.0, None)
    assert Ports(ROOM).tightest == 0.0
    assert Ports({}).tightest == 0.0


def test_growth_says_when_none_is_left() -> None:
    ports = grown(300, 360, 420)
    assert ports.outlook(1).held == pytest.approx(0.42)
    assert ports.outlook(1).gone_in_s == pytest.approx(580)
    assert ports.outlook(2) == (0.0, None)
    assert ports.tightest == pytest.approx(0.42)
    assert grown(500, 500, 500).outlook(1).gone_in_s is None
    assert grown(500, 400).outlook(1).gone_in_s is None
    assert grown(100, 101).outlook(1).gone_in_s is None, "hours away"
    assert grown(100, 900, every_s=5).outlook(1).gone_in_s is None, "too short a look"


def test_only_the_last_minutes_count() -> None:
    """It grew, and has long stopped."""
    assert grown(100, 600, *[600] * 8).outlook(1).gone_in_s is None


def test_full_is_full() -> None:
    assert grown(900, 1000).outlook(1) == (1.0, 0.0)
    assert grown(900, 1100).outlook(1).held == 1.0


def test_what_needs_no_ports_has_none() -> None:
    assert grown(5, 50, endpoint=3).outlook(3) == (0.0, None)


def test_it_is_told_when_it_matters_and_again_only_after_minutes() -> None:
    assert grown(100, 180).foretold(0.0) == [], "few are held"
    ports = grown(300, 420)
    ((endpoint, outlook),) = ports.foretold(120.0)
    assert (endpoint, round(outlook.gone_in_s or 0)) == (1, 290)
    assert ports.foretold(200.0) == []
    assert len(ports.foretold(500.0)) == 1
