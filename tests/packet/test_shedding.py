"""Shedding: the order of mercy, and that who is noisy starves only himself."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_network

import pytest
from harness import DataPath
from segments import Flag
from session import Datagrams, Session
from shielded import SECOND_MS, Shielded, shielded

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Budget, Level, Mode, Verdict
from cdnctl.datapath.abi.values import ticks
from cdnctl.datapath.clients import Client

FORWARDED = Verdict.FORWARDED
SHED = {
    Budget.VERIFIED: Verdict.SHED_VERIFIED,
    Budget.SOURCE: Verdict.SHED_SOURCE,
    Budget.NETWORK: Verdict.SHED_NETWORK,
    Budget.REGION: Verdict.SHED_REGION,
    Budget.SERVICE: Verdict.SHED_SERVICE,
}
NEIGHBOURS = {
    Budget.SOURCE: ("10.1.2.{}", "10.1.2.200"),
    Budget.NETWORK: ("10.1.2.{}", "10.1.3.1"),
    Budget.REGION: ("10.1.{}.1", "10.2.0.1"),
}
NEIGHBOURS6 = {
    Budget.SOURCE: ("2001:db8:c1:1::{}", "2001:db8:c1:2::1"),
    Budget.NETWORK: ("2001:db8:c1:{}::1", "2001:db8:c2::1"),
    Budget.REGION: ("2001:db8:{}::1", "2001:db9::1"),
}
"""Sources that share a budget, and one beside them that does not."""


@pytest.fixture
def shield(path: DataPath) -> Shielded:
    """At calm."""
    return shielded(path)


def opened(shield: Shielded, clients: list[str], service: str = "solo") -> Counter[Verdict]:
    """What became of a new flow of each."""
    return Counter(shield.opens(client, service) for client in clients)


@pytest.mark.parametrize("level", [Level.BUSY, Level.SHEDDING])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("budget", [Budget.SOURCE, Budget.NETWORK, Budget.REGION])
def test_what_is_over_a_budget_is_shed_and_starves_only_itself(
    shield: Shielded, budget: Budget, family: int, level: Level
) -> None:
    many, beside = (NEIGHBOURS if family == 4 else NEIGHBOURS6)[budget]
    service = "solo" if family == 4 else "solo6"
    crowd = [many.format(1 if budget is Budget.SOURCE and family == 4 else n + 1) for n in range(20)]
    shield.level(level, {budget: 10}, burst_ms=500)
    assert opened(shield, crowd, service) == {FORWARDED: 5 + 1, SHED[budget]: 14}
    assert shield.opens(beside, service) is FORWARDED
    shield.clock.sleep(SECOND_MS)
    assert opened(shield, crowd, service) == {FORWARDED: 6, SHED[budget]: 14}, "a second's worth again"


def test_who_comes_from_everywhere_starves_only_the_service_that_he_wants(shield: Shielded) -> None:
    shield.level(Level.SHEDDING, {Budget.SERVICE: 10}, burst_ms=500)
    crowd = [f"10.{n}.{n}.{n}" for n in range(20)]
    assert opened(shield, crowd) == {FORWARDED: 5 + 1, Verdict.SHED_SERVICE: 14}
    assert shield.opens("10.1.2.3", "www") is FORWARDED
    shield.verify("10.30.30.30")
    assert shield.opens("10.30.30.30") is FORWARDED


def test_its_rate_is_the_budgets(shield: Shielded) -> None:
    shield.level(Level.SHEDDING, {Budget.SOURCE: 20}, burst_ms=50)
    passed = 0
    for _ in range(500):
        shield.clock.sleep(10)
        passed += shield.opens("10.1.2.3") is FORWARDED
    assert 100 <= passed <= 100 + 2, "in five seconds"


def test_the_narrowest_is_asked_first_and_takes_nothing_of_the_wider(shield: Shielded) -> None:
    shield.level(Level.SHEDDING, {Budget.SOURCE: 10, Budget.NETWORK: 20, Budget.REGION: 30}, burst_ms=1000)
    assert opened(shield, ["10.1.2.1"] * 100) == {FORWARDED: 11, Verdict.SHED_SOURCE: 89}
    assert opened(shield, ["10.1.2.2"] * 100) == {
        FORWARDED: 10, Verdict.SHED_NETWORK: 90,
    }  # fmt: skip
    assert opened(shield, ["10.1.3.1"] * 100) == {FORWARDED: 10, Verdict.SHED_REGION: 90}
    assert shield.opens("10.2.0.1") is FORWARDED


def test_at_calm_nothing_is_shed(shield: Shielded) -> None:
    shield.level(Level.CALM, {Budget.SOURCE: 1, Budget.NETWORK: 1, Budget.REGION: 1}, burst_ms=1)
    assert opened(shield, ["10.1.2.3"] * 50) == {FORWARDED: 50}


@pytest.mark.parametrize("mode", [Mode.DISARMED, Mode.OBSERVE])
def test_nor_when_it_is_disarmed_or_observes(shield: Shielded, mode: Mode) -> None:
    shield.level(Level.SHEDDING, {Budget.SOURCE: 1}, burst_ms=1)
    shield.path.tables.mode = mode
    seen = [shield.syn("10.1.2.3")[1] for _ in range(10)]
    assert all(each.action.name != "DROP" for each in seen)
    assert (Verdict.SHED_SOURCE in {each.verdict for each in seen}) == (mode is Mode.OBSERVE), "it decides"


class TestMercy:
    """Budgets that let one flow of the unverified in."""

    @pytest.fixture(autouse=True)
    def tight(self, shield: Shielded) -> None:
        """One source of the /24 has used all of it up."""
        Session(shield.path, client="10.1.2.9").open()
        shield.level(Level.SHEDDING, {Budget.NETWORK: 1, Budget.VERIFIED: 10}, burst_ms=200)
        shield.opens("10.1.2.1")
        assert shield.opens("10.1.2.2") is Verdict.SHED_NETWORK

    def test_who_is_allowed_has_no_budget(self, shield: Shielded) -> None:
        shield.path.tables.clients.load({ip_network("10.1.2.2"): Client(flags=abi.ClientFlag.ALLOWED)})
        assert opened(shield, ["10.1.2.2"] * 50) == {FORWARDED: 50}

    def test_flows_under_way_go_on(self, shield: Shielded) -> None:
        session = Session(shield.path, client="10.5.0.1").open()
        assert opened(shield, ["10.5.0.1"] * 20)[Verdict.SHED_VERIFIED]
        assert session.up(Flag.ACK, payload=b"GET").verdict is FORWARDED

    def test_who_is_verified_has_his_own(self, shield: Shielded) -> None:
        shield.verify("10.1.2.2")
        assert opened(shield, ["10.1.2.2"] * 20) == {FORWARDED: 3, Verdict.SHED_VERIFIED: 17}
        shield.clock.sleep(SECOND_MS)
        assert shield.opens("10.1.2.2") is FORWARDED

    def test_who_finished_a_handshake_of_late_is(self, shield: Shielded) -> None:
        assert shield.opens("10.1.2.9") is FORWARDED

    def test_a_rescued_flow_is_none_that_is_new(self, shield: Shielded) -> None:
        session = Session(shield.path, "duo", client="10.6.0.1")
        assert session.syn().verdict is FORWARDED
        assert shield.opens("10.6.0.2") is Verdict.SHED_NETWORK
        session.age(3000)
        first = session.cdn
        assert session.syn().verdict is FORWARDED
        assert session.cdn != first

    def test_udp_has_the_same(self, shield: Shielded) -> None:
        assert Datagrams(shield.path, client="10.1.2.3").up().verdict is Verdict.SHED_NETWORK
        assert Datagrams(shield.path, client="10.7.0.1").up().verdict is FORWARDED


def test_a_verified_source_has_few_connections_that_never_come_about(shield: Shielded) -> None:
    """A host that floods from its own address answers challenges, but no CDN."""
    cost = ticks(10)
    shield.level(
        Level.SIEGE,
        {Budget.VERIFIED: 1000},
        burst_ms=1000,
        pending_ticks=cost,
        pending_burst_ticks=5 * cost,
    )
    shield.verify("10.1.2.3")
    assert opened(shield, ["10.1.2.3"] * 20) == {FORWARDED: 5 + 1, Verdict.SHED_VERIFIED: 14}
    shield.clock.sleep(SECOND_MS)
    for _ in range(40):
        Session(shield.path, client="10.1.2.3").open()
    assert opened(shield, ["10.1.2.3"] * 20) == {FORWARDED: 5 + 1, Verdict.SHED_VERIFIED: 14}


def test_nobody_gets_an_entry_who_has_proved_nothing(shield: Shielded) -> None:
    shield.level(Level.SHEDDING, {Budget.SOURCE: 1})
    for n in range(200):
        shield.opens(f"10.{n}.0.1")
    assert not shield.verified()


def test_places_are_dealt_anew(shield: Shielded) -> None:
    """Who shares both of his places with a flood does not do so for long: here with one of all others."""
    shield.level(Level.SHEDDING, {Budget.NETWORK: 0.001}, burst_ms=1)
    budgets = shield.path.map("budgets")
    shield.opens("10.1.2.3")
    before = {number for number, word in enumerate(budgets.values()) if any(word)}
    shield.clock.sleep((1 << 34) / 1e6)
    assert shield.opens("10.1.2.3") is FORWARDED, "another place, where nothing is used up"
    after = {number for number, word in enumerate(budgets.values()) if any(word)}
    assert len(before) == 8, "four budgets, two rows"
    assert len(after - before) == 8


def test_few_share_both_places_with_a_noisy_one(shield: Shielded) -> None:
    """Of a thousand networks, beside a hundred that are over: 5 % share a place, hardly any share both."""
    shield.level(Level.SHEDDING, {Budget.NETWORK: 1}, burst_ms=1)
    for n in range(100):
        for _ in range(3):
            shield.opens(f"10.100.{n}.1")
    seen = Counter(shield.opens(f"10.{101 + n // 250}.{n % 250}.1") for n in range(1000))
    assert seen[FORWARDED] >= 930
