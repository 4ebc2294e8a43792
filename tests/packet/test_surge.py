"""A flood is met by its first packets, before anybody has looked."""

from __future__ import annotations

from collections import Counter

import pytest
from harness import DataPath
from session import CLIENT, Datagrams
from shielded import SECOND_MS, Shielded, challenge_in, proof, shielded

from cdnctl.datapath.abi import Level, Mode, Verdict
from cdnctl.datapath.abi.values import ticks

FORWARDED, CHALLENGED = Verdict.FORWARDED, Verdict.CHALLENGED
ALLOWANCE = 200
"""New flows a second; in 50 ms, which may come at once, ten and one."""
AT_ONCE = 11


@pytest.fixture
def shield(path: DataPath) -> Shielded:
    """At calm, following the load."""
    made = shielded(path)
    made.level(Level.CALM, surge_ticks=ticks(ALLOWANCE))
    return made


def crowd(shield: Shielded, count: int, first: int = 0) -> Counter[Verdict]:
    """What became of one SYN of each."""
    return Counter(shield.opens(f"10.{n >> 8}.{n & 255}.7") for n in range(first, first + count))


def datagrams(shield: Shielded, count: int, first: int = 0) -> Counter[Verdict]:
    return Counter(
        Datagrams(shield.path, client=f"10.{n >> 8}.{n & 255}.7").up().verdict
        for n in range(first, first + count)
    )


@pytest.mark.parametrize("level", [Level.CALM, Level.BUSY, Level.SHEDDING])
def test_beyond_the_allowance_who_begins_a_connection_proves_himself_first(
    shield: Shielded, level: Level
) -> None:
    shield.level(level, surge_ticks=ticks(ALLOWANCE))
    assert crowd(shield, 40) == {FORWARDED: AT_ONCE, CHALLENGED: 40 - AT_ONCE}
    session, challenged = shield.syn(CLIENT)
    assert proof(session, challenge_in(challenged)).verdict is Verdict.PROVED
    assert session.syn().verdict is FORWARDED
    shield.clock.sleep(SECOND_MS / 10)
    assert crowd(shield, 40, 100) == {FORWARDED: AT_ONCE, CHALLENGED: 40 - AT_ONCE}, "and then as ever"


def test_a_burst_is_no_surge(shield: Shielded) -> None:
    for n in range(20):
        assert crowd(shield, 10, 20 * n) == {FORWARDED: 10}
        shield.clock.sleep(10 * SECOND_MS / ALLOWANCE)


def test_of_udp_verified_sources_alone_are_let_in(shield: Shielded) -> None:
    assert datagrams(shield, 40) == {FORWARDED: AT_ONCE, Verdict.SHED_SERVICE: 40 - AT_ONCE}
    shield.verify("10.9.9.7")
    assert Datagrams(shield.path, client="10.9.9.7").up().verdict is FORWARDED
    assert crowd(shield, AT_ONCE) == {FORWARDED: AT_ONCE}, "TCP has an allowance of its own"


def test_a_level_that_an_operator_holds_has_none(shield: Shielded) -> None:
    shield.level(Level.CALM, surge_ticks=0)
    assert crowd(shield, 40) == {FORWARDED: 40}
    assert datagrams(shield, 40) == {FORWARDED: 40}


def test_nor_has_one_that_is_disarmed(shield: Shielded) -> None:
    shield.path.tables.mode = Mode.DISARMED
    assert crowd(shield, 40) == {FORWARDED: 40}


def test_without_a_surge_a_reset_costs_nothing_more(shield: Shielded) -> None:
    """Nobody was challenged: whatever number it has proves nothing."""
    session, _ = shield.syn(CLIENT)
    assert proof(session, 12345).verdict is not Verdict.PROVED
    assert not shield.verified()
