"""Python's collector: not while keys come, and not never."""

from __future__ import annotations

import pytest

from cdnctl.console import garbage
from cdnctl.console.garbage import EVERY_S, LATEST_S, PAUSE_S, REST_S, Garbage


class Collector:
    """Stands for `gc`, which is the whole process's."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def collect(self) -> None:
        self.said.append("collect")

    def freeze(self) -> None:
        self.said.append("freeze")

    def unfreeze(self) -> None:
        self.said.append("unfreeze")

    def set_threshold(self, *_: int) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(garbage.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    made = Collector()
    monkeypatch.setattr(garbage, "gc", made)
    return made


def rounds(
    clock: list[float], collector: Collector, each: Garbage, seconds: float, key_every_s: float
) -> int:
    """How many there are in so many seconds with keys, the last of which at the end."""
    before, key_s = collector.said.count("collect"), clock[0]
    looks = int(seconds / EVERY_S)
    for _ in range(looks):
        clock[0] += EVERY_S
        while key_every_s and key_s + key_every_s <= clock[0]:
            key_s += key_every_s
        each.look(key_s if key_every_s else 0.0)
    return collector.said.count("collect") - before


def test_a_round_in_a_pause_looks_at_all_and_what_outlives_it_is_not_looked_at_before_the_next(
    clock: list[float], collector: Collector
) -> None:
    each = Garbage()
    each.begin()
    assert collector.said == ["freeze", "collect", "freeze"]
    found = rounds(clock, collector, each, 60, 0)
    assert collector.said[3:] == ["unfreeze", "collect", "freeze"] * found
    rounds(clock, collector, each, 2 * LATEST_S, PAUSE_S / 4)
    assert set(collector.said[3 + 3 * found :]) == {"collect"}, "while keys come, what is alive may die soon"


def test_while_keys_come_rounds_are_few(clock: list[float], collector: Collector) -> None:
    each = Garbage()
    assert 1 <= rounds(clock, collector, each, 20 * LATEST_S, PAUSE_S / 4) <= 20


def test_a_pause_after_keys_is_used_once(clock: list[float], collector: Collector) -> None:
    each = Garbage()
    clock[0] += EVERY_S
    key_s = clock[0]
    for _ in range(5):
        clock[0] += EVERY_S
        each.look(key_s)
    assert collector.said.count("collect") == 1


def test_nobody_there_is_no_reason_to_keep_all(clock: list[float], collector: Collector) -> None:
    each = Garbage()
    found = rounds(clock, collector, each, 10 * REST_S, 0)
    assert 8 <= found <= 10
