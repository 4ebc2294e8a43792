"""Bans: made, renewed, lifted, capped, spared; with a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network

import pytest

from cdnctl.config import AutobanConfig
from cdnctl.defence.autoban import AGAIN_S, LONGEST_S, NEW_AT_ONCE, PARDON_S, Act, Autoban
from cdnctl.defence.blocklist import Network
from cdnctl.defence.offences import Offence
from cdnctl.model.lines import nth

CONFIG = AutobanConfig(mode="on", ban_s=60, quiet_s=10, most=5, most_networks=2)
EVERY_S = 0.5


def offence(prefix: str, ratio: float = 2.0, pps: float = 1000.0) -> Offence:
    """Of a source or network."""
    return Offence(ip_network(prefix), "too much", ratio, pps)


class Edge:
    """What an engine does, without one: it keeps what is banned and counts what that drops."""

    def __init__(self, config: AutobanConfig = CONFIG) -> None:
        self.policy = Autoban(config)
        self.now_s = 1000.0
        self.ends: dict[Network, float] = {}
        self.hits: dict[Network, int] = {}
        self.protected: dict[Network, str] = {}
        self.told: list[tuple[float, Act]] = []

    def round(self, offences: Iterable[Offence] = (), *, acting: bool = True) -> list[Act]:
        """A frame's time."""
        self.now_s += EVERY_S
        self.ends = {each: end for each, end in self.ends.items() if end > self.now_s}
        acts = self.policy.judge(
            self.now_s,
            list(offences),
            {each: self.hits.get(each, 0) for each in self.ends},
            self.protected.get,
            acting=acting,
        )
        return self.do(acts)

    def do(self, acts: list[Act]) -> list[Act]:
        for act in acts:
            self.told.append((self.now_s, act))
            if act.kind == "lift":
                self.ends.pop(act.network, None)
            else:
                self.ends[act.network] = self.now_s + act.lifetime_s
        return acts

    def attacked(self, prefix: str, seconds: float, pps: float = 1000.0) -> None:
        """It goes on, and the kernel drops it while it is banned."""
        network = ip_network(prefix)
        for _ in range(round(seconds / EVERY_S)):
            held = network in self.ends
            self.round([] if held else [offence(prefix, pps=pps)])
            if held:
                self.hits[network] = self.hits.get(network, 0) + round(pps * EVERY_S)

    def quiet(self, seconds: float) -> None:
        for _ in range(round(seconds / EVERY_S)):
            self.round()

    def kinds(self) -> list[str]:
        return [act.kind for _, act in self.told]


def test_an_offence_is_banned_at_once_and_once() -> None:
    edge = Edge()
    (act,) = edge.round([offence("192.0.2.7")])
    assert act == Act("ban", ip_network("192.0.2.7"), "too much", 60.0, 1)
    assert edge.round([offence("192.0.2.7")]) == [], "samples from before the ban are no second offence"
    assert edge.policy.spared == []


def test_it_lasts_while_its_cause_does_and_goes_with_it() -> None:
    edge = Edge()
    edge.attacked("192.0.2.7", 600)
    assert set(edge.kinds()) == {"ban", "renew"}
    assert edge.kinds().count("ban") == 1, "there was never a gap"
    over_s = edge.now_s
    edge.quiet(60)
    (when_s, lifted) = edge.told[-1]
    assert lifted.kind == "lift"
    assert CONFIG.quiet_s <= when_s - over_s <= 1.5 * CONFIG.quiet_s
    assert not edge.ends


def test_renewals_are_ever_rarer_up_to_an_hour() -> None:
    edge = Edge()
    edge.attacked("192.0.2.7", 4 * 3600)
    lifetimes = [act.lifetime_s for _, act in edge.told]
    assert lifetimes == sorted(lifetimes)
    assert lifetimes[-1] == LONGEST_S
    assert len(lifetimes) < 16


def test_a_trickle_of_what_it_was_is_over() -> None:
    edge = Edge()
    edge.attacked("192.0.2.7", 20, pps=10_000)
    for _ in range(round(1.5 * CONFIG.quiet_s / EVERY_S)):
        edge.round()
        edge.hits[ip_network("192.0.2.7")] += 50
    assert edge.kinds()[-1] == "lift"


def test_who_comes_back_has_to_be_quiet_for_longer() -> None:
    edge = Edge()
    pauses = []
    for _ in range(4):
        edge.attacked("192.0.2.7", 20)
        over_s = edge.now_s
        while edge.ends:
            edge.quiet(EVERY_S)
        pauses.append(edge.now_s - over_s)
    assert pauses == pytest.approx([10, 20, 40, 80], abs=6)
    assert [act.times for _, act in edge.told if act.kind == "ban"] == [1, 2, 3, 4]
    edge.quiet(3601)
    edge.attacked("192.0.2.7", 5)
    assert edge.told[-1][1].times == 1, "after an hour it is forgotten"


def test_an_agent_that_is_gone_leaves_no_ban() -> None:
    edge = Edge()
    edge.attacked("192.0.2.7", 5)
    assert all(end - edge.now_s <= CONFIG.ban_s for end in edge.ends.values())


def test_a_ban_that_was_found_is_kept_up_while_it_drops_and_then_lifted() -> None:
    edge, network = Edge(), ip_network("192.0.2.7")
    edge.ends[network] = edge.now_s + 20
    edge.policy.adopt(network, "too much", 20, edge.now_s)
    edge.attacked("192.0.2.7", 120)
    assert network in edge.ends
    edge.quiet(30)
    assert edge.kinds()[-1] == "lift"


# -- caps --------------------------------------------------------------------------------------------


def test_there_is_a_most_of_bans_and_the_worst_come_first() -> None:
    edge = Edge()
    offences = [offence(f"10.0.{n}.1", ratio=20 - n) for n in range(8)]
    edge.round(offences)
    assert [str(network) for network in edge.ends] == [f"10.0.{n}.1/32" for n in range(5)]
    assert [each.why for each in edge.policy.spared] == [
        "there are 5 bans, and [autoban] most says no more"
    ] * 3


def test_and_of_networks() -> None:
    edge = Edge()
    edge.round([offence(f"10.0.{n}.0/24") for n in range(4)] + [offence("2001:db8:1::/48")])
    assert len(edge.ends) == 2
    assert all("most_networks" in each.why for each in edge.policy.spared)
    edge.round([offence("192.0.2.7"), offence("2001:db8:2:3::/64")])
    assert len(edge.ends) == 4, "single sources are no networks"


def test_so_many_at_once_are_made_one_reading_after_the_other() -> None:
    edge = Edge(AutobanConfig(mode="on", most=100))
    offences = [offence(f"10.0.{n}.1") for n in range(25)]
    assert [len(edge.round(offences)) for _ in range(4)] == [NEW_AT_ONCE, NEW_AT_ONCE, 5, 0]


# -- who is spared -----------------------------------------------------------------------------------


def test_what_is_protected_is_spared_and_it_is_said_why() -> None:
    edge = Edge()
    edge.protected[ip_network("192.0.2.0/24")] = "covers 192.0.2.1, a default gateway"
    edge.round([offence("192.0.2.0/24"), offence("192.0.2.9")])
    assert [str(network) for network in edge.ends] == ["192.0.2.9/32"]
    assert [each.why for each in edge.policy.spared] == ["it covers 192.0.2.1, a default gateway"]


def test_what_becomes_protected_is_let_go() -> None:
    edge = Edge()
    edge.round([offence("192.0.2.9")])
    edge.protected[ip_network("192.0.2.9")] = "is 192.0.2.9, a name server of this box"
    edge.do(edge.policy.recheck(edge.protected.get))
    assert not edge.ends


def test_whose_ban_an_operator_lifts_has_none_for_a_while() -> None:
    edge = Edge()
    edge.round([offence("192.0.2.9")])
    edge.ends.clear()
    edge.round([offence("192.0.2.9"), offence("192.0.2.10")])
    assert [str(network) for network in edge.ends] == ["192.0.2.10/32"]
    assert "an operator lifted its ban" in edge.policy.spared[0].why
    edge.quiet(PARDON_S)
    edge.round([offence("192.0.2.9")])
    assert ip_network("192.0.2.9") in edge.ends


def test_in_a_banned_network_nobody_is_banned_besides() -> None:
    edge = Edge()
    edge.round([offence("192.0.2.0/24")])
    assert edge.round([offence("192.0.2.9")]) == []


def test_who_only_looks_bans_nobody() -> None:
    edge = Edge()
    assert edge.round([offence("192.0.2.9")], acting=False) == []
    (spared,) = edge.policy.spared
    assert (spared.offence.network, spared.why) == (ip_network("192.0.2.9"), "")


def test_all_are_lifted_when_it_is_switched_off() -> None:
    edge = Edge()
    edge.round([offence("192.0.2.9"), offence("192.0.2.10")])
    edge.do(edge.policy.clear("autoban is off now", edge.now_s))
    assert not edge.ends
    assert edge.round([]) == []


def test_a_ban_that_could_not_be_made_is_tried_again() -> None:
    edge = Edge()
    (act,) = edge.policy.judge(edge.now_s, [offence("192.0.2.9")], {}, edge.protected.get, acting=True)
    edge.policy.failed(act, edge.now_s)
    assert edge.round([offence("192.0.2.9")]) == []
    assert edge.policy.spared[0].why == "the kernel refused it a moment ago"
    edge.quiet(AGAIN_S)
    assert [each.kind for each in edge.round([offence("192.0.2.9")])] == ["ban"]


def test_a_ban_that_could_not_be_lifted_is_held_and_lifted_later() -> None:
    edge = Edge()
    edge.round([offence("192.0.2.9")])
    (lift,) = edge.policy.clear("autoban is off now", edge.now_s)
    edge.policy.failed(lift, edge.now_s)
    assert edge.policy.clear("autoban is off now", edge.now_s) == [], "not in each frame"
    edge.round()
    assert list(edge.policy.held) == [ip_network("192.0.2.9")]
    edge.quiet(8)
    assert [act.kind for act in edge.policy.clear("autoban is off now", edge.now_s)] == ["lift"]


def test_a_ban_that_could_not_be_renewed_is_as_it_was_and_renewed_before_its_end() -> None:
    edge = Edge()
    edge.round([offence("192.0.2.9")])
    (held,) = edge.policy.held.values()
    held.loud_s = edge.now_s + 40
    until_s, edge.now_s = held.until_s, held.until_s - 25
    (renew,) = edge.policy.judge(edge.now_s, [], {held.network: 0}, edge.protected.get, acting=True)
    edge.policy.failed(renew, edge.now_s)
    assert edge.policy.held[held.network].until_s == until_s
    edge.quiet(10)
    assert edge.kinds() == ["ban", "renew"]


def test_how_often_is_said_as_people_say_it() -> None:
    said = [nth(number) for number in (2, 3, 4, 11, 13, 21, 22, 33, 112)]
    assert said == ["second", "third", "4th", "11th", "13th", "21st", "22nd", "33rd", "112th"]
