"""The collector of dead slots: a minute a round in calm, seconds in need, never more than its share."""

from __future__ import annotations

import pytest

from cdnctl.engine.collector import CALM_ROUND_S, CPU_SHARE, HASTY_ROUND_S, Collector

TICK_S = 0.5


class Slots:
    """A sweep whose rounds cost `round_cost_s`, on a clock of its own."""

    def __init__(self, round_cost_s: float, least_s: float = 0.0002) -> None:
        self.round_cost_s, self.least_s = round_cost_s, least_s
        self.clock_s, self.done_s, self.rounds = 0.0, 0.0, 0

    def step(self, budget_s: float) -> bool:
        spent_s = min(max(budget_s, self.least_s), self.round_cost_s - self.done_s)
        self.clock_s += spent_s
        self.done_s += spent_s
        if self.done_s < self.round_cost_s - 1e-12:
            return False
        self.done_s, self.rounds = 0.0, self.rounds + 1
        return True


def run(slots: Slots, seconds: float, tightest: float = 0.0) -> Collector:
    collector = Collector(slots, lambda: slots.clock_s)
    collector.tightest = tightest
    for tick in range(int(seconds / TICK_S) + 1):
        collector.tick(tick * TICK_S)
    return collector


@pytest.mark.parametrize("cost_s", [0.0001, 0.01, 0.2, 1.0])
def test_a_round_takes_a_minute_when_ports_are_plenty(cost_s: float) -> None:
    slots = Slots(cost_s)
    collector = run(slots, 20 * CALM_ROUND_S)
    assert collector.round_s == pytest.approx(CALM_ROUND_S, rel=0.1)
    assert slots.rounds == pytest.approx(20, abs=2)
    assert slots.clock_s == pytest.approx(20 * cost_s, rel=0.1)


def test_it_hurries_when_they_get_scarce() -> None:
    assert run(Slots(0.05), 300, tightest=0.95).round_s == pytest.approx(HASTY_ROUND_S, rel=0.1)
    between = run(Slots(0.05), 300, tightest=0.7)
    assert HASTY_ROUND_S < between.round_s < CALM_ROUND_S
    assert between.round_s == pytest.approx(between.wanted_round_s(), rel=0.1)


@pytest.mark.parametrize("tightest", [0.0, 1.0])
def test_it_never_takes_more_than_its_share(tightest: float) -> None:
    slots = Slots(10.0)
    seconds = 2000.0
    collector = run(slots, seconds, tightest)
    assert slots.clock_s <= CPU_SHARE * seconds * 1.01
    assert collector.cpu == pytest.approx(CPU_SHARE, rel=0.05)


def test_a_pause_is_not_made_up_for_at_once() -> None:
    """The agent was stopped for an hour: the next tick is as short as any."""
    slots = Slots(1000.0)
    collector = Collector(slots, lambda: slots.clock_s)
    collector.tick(0.0)
    collector.tick(3600.0)
    assert slots.clock_s <= CPU_SHARE * 2.0 * 1.01
