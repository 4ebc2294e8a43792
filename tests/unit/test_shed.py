"""The policy of the shield: which level a load asks for, and that it does not flutter."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from cdnctl.defence.shed import (
    CLEARLY_LESS,
    CLEARLY_MORE,
    DWELL_S,
    SUDDEN,
    Load,
    Policy,
    pressure,
)
from cdnctl.model import LEVELS, ShieldLevel

FLOWS = 10_000.0
EVERY_S = 0.5
CALM = Load(0, 0, 0)
ATTACK = Load(8 * FLOWS, 0.99, 0.9)
THRESHOLDS = {
    "busy by flows": Load(FLOWS / 2, 0, 0),
    "shedding by flows": Load(FLOWS, 0, 0),
    "siege by flows": Load(FLOWS / 2 / 0.9, 0.9, 0),
    "busy by the table": Load(0, 0, 0.25),
    "shedding by the table": Load(0, 0, 0.5),
    "siege by the table": Load(100, 0.9, 0.8),
}
"""Loads that are just at one."""


def times(load: Load, factor: float) -> Load:
    """So much of it."""
    return Load(load.flows_per_s * factor, load.unverified_share, load.half_open_share * factor)


def changes(policy: Policy, loads: list[Load], at_s: float = 0.0) -> list[tuple[float, ShieldLevel]]:
    """When the level changed, and to what, with a reading each half second."""
    found = []
    for load in loads:
        at_s += EVERY_S
        if turn := policy.read(load, at_s):
            found.append((at_s, turn.level))
    return found


def lasting(load: Load, seconds: float) -> list[Load]:
    """As many readings."""
    return [load] * round(seconds / EVERY_S)


@pytest.mark.parametrize("what", THRESHOLDS)
def test_a_level_is_reached_at_its_threshold_and_not_below(what: str) -> None:
    level = what.split()[0]
    assert [got for _, got in changes(Policy(FLOWS), lasting(times(THRESHOLDS[what], 1.001), 5))] == [level]
    below = [got for _, got in changes(Policy(FLOWS), lasting(times(THRESHOLDS[what], 0.999), 5))]
    assert level not in below


@pytest.mark.parametrize("what", THRESHOLDS)
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("seed", range(2))
def test_a_load_held_at_a_threshold_changes_the_level_at_most_once_in_a_minute(
    what: str, noise: float, seed: int
) -> None:
    chance = random.Random(seed)
    loads = [
        times(load, 1 + chance.uniform(-noise, noise)) for load in lasting(THRESHOLDS[what], 600)
    ]  # fmt: skip
    found = [at_s for at_s, _ in changes(Policy(FLOWS), loads)]
    assert all(later - at_s >= DWELL_S for at_s, later in itertools.pairwise(found))
    assert len(found) <= 3, "and in ten minutes it settles"


@pytest.mark.parametrize("period_s", [2, 30, 59, 90])
def test_nor_does_one_that_swings_around_it(period_s: float) -> None:
    loads = [
        times(THRESHOLDS["shedding by flows"], 1 + 0.28 * math.sin(2 * math.pi * n * EVERY_S / period_s))
        for n in range(1200)
    ]
    found = [at_s for at_s, _ in changes(Policy(FLOWS), loads)]
    assert all(later - at_s >= DWELL_S for at_s, later in itertools.pairwise(found))


def test_it_would_flutter_without() -> None:
    """That the tests above can fail: a policy that does what each reading asks for."""
    chance, last, count = random.Random(1), "calm", 0
    for load in lasting(THRESHOLDS["shedding by flows"], 60):
        noisy = times(load, 1 + chance.uniform(-0.2, 0.2))
        level = max((each for each in LEVELS if pressure(each, noisy, FLOWS).ratio >= 1), key=LEVELS.index)
        count += level != last
        last = level
    assert count > 10


def test_an_attack_is_met_within_a_second() -> None:
    assert changes(Policy(FLOWS), lasting(ATTACK, 10)) == [(1.0, "siege")]


def test_one_reading_is_none() -> None:
    assert not changes(Policy(FLOWS), [CALM, ATTACK, CALM, ATTACK, CALM])


def glances(policy: Policy, loads: list[Load], at_s: float = 0.0) -> list[tuple[float, ShieldLevel]]:
    """The same with a glance each tenth of a second, and no reading."""
    turns = [(at_s + 0.1 * n, policy.glance(load, at_s + 0.1 * n)) for n, load in enumerate(loads, 1)]
    return [(at_s, turn.level) for at_s, turn in turns if turn]


def test_a_flood_is_seen_at_a_glance() -> None:
    assert glances(Policy(FLOWS), [CALM, ATTACK, ATTACK, ATTACK]) == [(pytest.approx(0.3), "siege")]


def test_one_glance_is_none_and_nothing_moderate_is_seen_at_any() -> None:
    assert not glances(Policy(FLOWS), [CALM, ATTACK, CALM, ATTACK, CALM])
    assert not glances(Policy(FLOWS), [times(THRESHOLDS["busy by flows"], SUDDEN - 0.1)] * 50)


def test_glances_bring_nothing_down() -> None:
    policy = Policy(FLOWS, "siege")
    assert not glances(policy, [CALM] * 2000)


@pytest.mark.parametrize("what", THRESHOLDS)
def test_with_glances_too_a_load_held_at_a_threshold_changes_the_level_once_a_minute(what: str) -> None:
    chance, policy, found = random.Random(3), Policy(FLOWS), []
    for n in range(6000):
        load = times(THRESHOLDS[what], 1 + chance.uniform(-0.28, 0.28))
        turn = policy.glance(load, n / 10) if n % 5 else policy.read(load, n / 10)
        if turn:
            found.append(n / 10)
    assert all(later - at_s >= DWELL_S for at_s, later in itertools.pairwise(found))
    assert len(found) <= 3


def test_it_may_get_much_worse_at_once() -> None:
    worse = lasting(times(THRESHOLDS["busy by flows"], 1.1), 5) + lasting(ATTACK, 5)
    assert [level for _, level in changes(Policy(FLOWS), worse)] == ["busy", "siege"]


def test_but_not_a_little_worse() -> None:
    slightly = lasting(times(THRESHOLDS["busy by flows"], 1.1), 5)
    slightly += lasting(times(THRESHOLDS["shedding by flows"], CLEARLY_MORE - 0.1), 30)
    assert [level for _, level in changes(Policy(FLOWS), slightly)] == ["busy"]


def test_it_is_left_a_minute_after_it_is_over() -> None:
    policy = Policy(FLOWS)
    found = changes(policy, lasting(ATTACK, 20) + lasting(CALM, 100))
    assert [level for _, level in found] == ["siege", "calm"]
    assert found[1][0] == pytest.approx(20 + DWELL_S, abs=1.0)


def test_and_not_while_it_comes_again() -> None:
    bursts = [load for _ in range(5) for load in (*lasting(CALM, 50), *lasting(ATTACK, 2))]
    assert [level for _, level in changes(Policy(FLOWS), bursts)] == ["siege"]


def test_it_goes_as_far_down_as_the_load_does() -> None:
    load = lasting(ATTACK, 5) + lasting(times(THRESHOLDS["shedding by flows"], CLEARLY_LESS + 0.05), 100)
    assert [level for _, level in changes(Policy(FLOWS), load)] == ["siege", "shedding"]


def test_a_crowd_of_real_clients_is_never_besieged() -> None:
    crowd = Load(50 * FLOWS, 0.005, 1.0)
    assert [level for _, level in changes(Policy(FLOWS), lasting(crowd, 30))] == ["shedding"]


def test_a_level_that_was_found_is_where_it_goes_on_from() -> None:
    assert [at_s for at_s, _ in changes(Policy(FLOWS, "siege"), lasting(CALM, 100))] == [
        pytest.approx(DWELL_S + 0.5, abs=0.6)
    ]


def test_it_says_why() -> None:
    policy = Policy(FLOWS)
    policy.read(ATTACK, 0.5)
    turn = policy.read(ATTACK, 1.0)
    assert turn is not None
    assert (turn.before, turn.level, turn.why) == (
        "calm",
        "siege",
        "80,000 new flows/s, 99 % of them unverified",
    )
    policy = Policy(FLOWS)
    policy.read(THRESHOLDS["shedding by the table"], 0.5)
    turn = policy.read(THRESHOLDS["shedding by the table"], 1.0)
    assert turn is not None
    assert turn.why == "50 % of the half-open flows' table in use"
