"""Traffic as frames show it, over weeks and restarts: expected, billed, and a surprise when it is one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from test_config_planning import good, read

from cdnctl.engine.plan_store import Kept, PlanStore
from cdnctl.engine.traffic import EDGE, TrafficBook, of_cdn
from cdnctl.model import Cdn, Frame
from cdnctl.steering.forecast import DAY, SLOT_S, WEEK

STEP_S = 30.0
MONDAY_S = 1_735_516_800.0
"""2024-12-30, a Monday, at midnight."""


def config() -> object:
    raw = good()
    raw["cdn"][0]["commit_mbit"] = 80
    return read(raw)


def mbit(at_s: float) -> float:
    """A day's and a week's course; some days have more than others, and there is a ripple."""
    mood = 1 + 0.3 * (int((at_s - MONDAY_S) // 86400) * 7919 % 13 / 13 - 0.5)
    day = 1 - math.cos(2 * math.pi * (at_s % 86400) / 86400)
    weekend = 0.6 if (at_s - MONDAY_S) % (7 * 86400) >= 5 * 86400 else 1.0
    return mood * weekend * (20 + 40 * day) * (1 + 0.04 * math.sin(at_s / 1234.5))


def frame(at_s: float, value: float) -> Frame:
    cdns = [
        Cdn(
            name=name, state="in", wanted_weight=100, effective_share=0.5, share=0.5, from_cdn_bps=value * 1e6
        )
        for name in ("aurora", "borealis")
    ]
    return Frame(seq=1, at_ns=int(at_s * 1e9), monotonic_ns=int(at_s * 1e9), edge="x", armed=True, cdns=cdns)


def play(book: TrafficBook, from_s: float, slots: int, factor: float = 1.0) -> list[str]:
    """A few frames of each slot; the others are as those."""
    told, made = [], config()
    for step in range(int(slots * SLOT_S / STEP_S)):
        at_s = from_s + step * STEP_S
        told += [each.text for each in book.add(frame(at_s, factor * mbit(at_s)), made)]  # type: ignore[arg-type]
    return told


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three weeks, kept on disk half way and at the end, as an agent does that is started anew."""
    directory = tmp_path_factory.mktemp("state")
    book = TrafficBook()
    for part in range(2):
        play(book, MONDAY_S + part * 3 * WEEK * SLOT_S / 2, 3 * WEEK // 2)
        store = PlanStore(directory)
        store.save(Kept(usage=book.usage), book.foresight, at_once=True)
        store.save_foresight(book.foresight)
        kept, foresight = PlanStore(directory).load()
        book = TrafficBook()
        book.foresight, book.usage = foresight, kept.usage
    return directory


def restored(directory: Path) -> TrafficBook:
    kept, foresight = PlanStore(directory).load()
    book = TrafficBook()
    book.foresight, book.usage = foresight, kept.usage
    return book


def test_forecasts_go_on_over_restarts_and_are_better_than_as_a_week_ago(weeks: Path) -> None:
    series = restored(weeks).series(of_cdn("aurora"))
    assert series is not None
    assert series.errors.count > WEEK
    assert 0 < series.errors.own < series.errors.naive
    at_s = MONDAY_S + 3 * WEEK * SLOT_S + 20 * 3600
    expected = series.expected(at_s)
    assert expected == pytest.approx(mbit(at_s), rel=0.3)
    low, high = series.band(at_s) or (0.0, 0.0)
    assert low < expected < high


def test_a_peak_is_seen_coming(weeks: Path) -> None:
    book, at_s = restored(weeks), MONDAY_S + 3 * WEEK * SLOT_S + 6 * 3600
    play(book, at_s - 4 * SLOT_S, 4)
    growth = book.growth(frame(at_s, mbit(at_s)), 6 * 3600.0)
    assert growth == pytest.approx(mbit(at_s + 6 * 3600) / mbit(at_s), rel=0.3)


def test_traffic_that_nobody_expected_is_an_event(weeks: Path) -> None:
    book, at_s = restored(weeks), MONDAY_S + 3 * WEEK * SLOT_S
    play(book, at_s, DAY // 4)
    assert play(book, at_s + DAY // 4 * SLOT_S, DAY // 4) == [], "an ordinary morning"
    told = play(book, at_s + DAY // 2 * SLOT_S, 4, factor=3.0)
    assert any(text.startswith(f"{EDGE} has more traffic") for text in told)


def test_a_commit_is_billed_by_its_95th_percentile(weeks: Path) -> None:
    book = restored(weeks)
    usage = book.usage["aurora"]
    assert usage.samples > 1000
    assert 60 < usage.p95_mbit < 105
    costs = book.costs(config())["aurora"]  # type: ignore[arg-type]
    assert costs.tariff.commit_mbit == 80
    assert costs.bursts_used == usage.bursts_used > 0


def test_what_cannot_be_read_is_begun_afresh_and_said(tmp_path: Path) -> None:
    (tmp_path / "planner.json").write_text("{")
    (tmp_path / "forecast.json").write_text('{"series": 3}')
    store = PlanStore(tmp_path)
    kept, foresight = store.load()
    assert (kept.memory, foresight.series) == ({}, {})
    assert len(store.warnings) == 2
