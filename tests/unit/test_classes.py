"""Video leaves a CDN that has become bad, in steps and never with more than half of all weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdnctl.steering.classes import (
    BAD_ROUNDS,
    FLOOR,
    GOOD_ROUNDS,
    MIN_SAMPLES,
    MIN_SEGMENTS,
    STEP,
    Latency,
    Measured,
    Memory,
    Plan,
    Shift,
    bounded,
    plan,
)

WEIGHTS = {"a": 25, "b": 25, "c": 25, "d": 25}
FINE = Latency(30.0, 60.0, 100)


class Rounds:
    """Plays rounds, each with enough new samples."""

    def __init__(self, weights: Mapping[str, int] = WEIGHTS) -> None:
        self.weights = weights
        self.memory: dict[str, Memory] = {}
        self.total = 0

    def play(self, count: int = 1, *, fresh: int = MIN_SAMPLES, **odd: Measured) -> list[Shift]:
        """All CDNs are fine, but for those given."""
        shifts = []
        for _ in range(count):
            self.total += fresh
            measured = {cdn: odd.get(cdn, Measured(FINE, FINE)) for cdn in self.weights}
            measured = {cdn: each._replace(total=self.total) for cdn, each in measured.items()}
            done = plan(self.memory, measured, self.weights)
            self.memory = done.memory
            shifts += done.shifts
        return shifts

    @property
    def kept(self) -> dict[str, float]:
        return Plan(self.memory, []).kept


def latency(p50: float, p95: float) -> Measured:
    return Measured(Latency(p50, p95, 100), FINE)


SLOW = latency(80.0, 95.0)  # over 1.5 x 60 and 60 + 20
JITTERY = latency(5.0, 59.0)  # p95 as good as any, but 54 ms from p50 where others have 30
LOSSY = Measured(FINE, FINE, loss=0.05, segments=1000)
CLEAN = Measured(FINE, FINE, loss=0.004, segments=1000)


@pytest.mark.parametrize(
    ("odd", "word"), [(SLOW, "p95 of first bytes is 95 ms, its peers' 60 ms"), (JITTERY, "jitter")]
)
def test_video_leaves_in_steps_after_bad_rounds(odd: Measured, word: str) -> None:
    rounds = Rounds()
    assert rounds.play(BAD_ROUNDS - 1, a=odd) == []
    (shift,) = rounds.play(a=odd)
    assert (shift.cdn, shift.before, shift.after) == ("a", 1.0, pytest.approx(1 - STEP * 100 / 25))
    assert word in shift.reason
    rounds.play(5, a=odd)
    assert rounds.kept == {"a": pytest.approx(FLOOR)}, "a little stays, so that its recovery is noticed"
    assert rounds.play(5, a=odd) == []


def test_it_comes_back_after_many_good_rounds() -> None:
    rounds = Rounds()
    rounds.play(10, a=SLOW)
    assert rounds.play(GOOD_ROUNDS - 1) == []
    (shift,) = rounds.play()
    assert shift.after > shift.before
    assert "again" in shift.reason
    rounds.play(5)
    assert rounds.kept == {}


def test_in_between_nothing_moves() -> None:
    between = latency(50.0, 80.0)  # over 1.2 x, under 1.5 x
    rounds = Rounds()
    assert rounds.play(50, a=between) == []
    rounds.play(10, a=SLOW)
    kept = dict(rounds.kept)
    assert rounds.play(50, a=between) == []
    assert rounds.kept == kept


def test_one_good_round_breaks_a_run_of_bad_ones_and_the_other_way_round() -> None:
    rounds = Rounds()
    for _ in range(5):
        assert rounds.play(BAD_ROUNDS - 1, a=SLOW) == rounds.play(1) == []
    rounds.play(10, a=SLOW)
    for _ in range(3):
        assert rounds.play(GOOD_ROUNDS - 1) == rounds.play(1, a=SLOW) == []


def test_few_milliseconds_are_noise() -> None:
    """Three times the others', but no 20 ms above them."""
    quick = {name: latency(1.0, 2.0) for name in "bcd"}
    assert Rounds().play(20, a=latency(3.0, 6.0), **quick) == []
    rounds = Rounds()
    rounds.play(10, a=SLOW, **quick)
    assert rounds.kept
    rounds.play(GOOD_ROUNDS + 5, a=latency(3.0, 6.0), **quick)
    assert rounds.kept == {}, "and no reason to stay away either"


def test_loss_needs_to_be_high_and_higher_than_the_others() -> None:
    clean, lossy = dict.fromkeys("bcd", CLEAN), dict.fromkeys("bcd", LOSSY)
    (shift,) = Rounds().play(BAD_ROUNDS, a=LOSSY, **clean)
    assert "5.0 % of its segments are lost" in shift.reason
    assert Rounds().play(20, a=LOSSY, **lossy) == [], "the clients' own networks lose them"
    assert Rounds().play(20, a=CLEAN._replace(loss=0.015), **clean) == []
    few = LOSSY._replace(segments=MIN_SEGMENTS - 1)
    assert Rounds().play(20, a=few, **clean) == []


def test_too_few_samples_are_no_round() -> None:
    assert Rounds().play(50, fresh=1, a=SLOW) == Rounds().play(2, fresh=MIN_SAMPLES, a=SLOW) == []
    rounds = Rounds()
    assert rounds.play(10, fresh=MIN_SAMPLES // 4, a=SLOW) == []
    assert len(rounds.play(fresh=MIN_SAMPLES, a=SLOW)) == 1, "new ones add up to a round"
    sparse = Measured(SLOW.first_byte._replace(samples=5), None)  # type: ignore[union-attr]
    assert Rounds().play(20, a=sparse) == []


def test_handshakes_do_where_first_bytes_are_few() -> None:
    slow = Measured(None, Latency(80.0, 95.0, 100))
    (shift,) = Rounds().play(BAD_ROUNDS, a=slow)
    assert "handshakes" in shift.reason


def test_nobody_to_compare_with() -> None:
    assert Rounds({"a": 10}).play(50, a=SLOW) == []
    assert Rounds({"a": 10, "b": 0}).play(50, a=SLOW) == []


def test_two_of_three_bad_ones_never_take_more_than_half() -> None:
    rounds = Rounds({"a": 40, "b": 40, "c": 20, "d": 20})
    rounds.play(60, a=SLOW, b=SLOW)
    moved = sum(rounds.weights[cdn] * (1 - kept) for cdn, kept in rounds.kept.items())
    assert moved <= 60 * (1 + 1e-9)


def test_one_that_leaves_the_rotation_begins_afresh() -> None:
    rounds = Rounds()
    rounds.play(10, a=SLOW)
    rounds.weights = {**WEIGHTS, "a": 0}
    rounds.play()
    rounds.weights = WEIGHTS
    assert rounds.play() == []
    assert rounds.kept == {}


def test_a_service_of_few_cdns_is_bounded_by_itself() -> None:
    kept = bounded({"a": 90, "b": 10}, {"a": 0.1})
    assert 90 * (1 - kept["a"]) == pytest.approx(50)
    assert bounded({"a": 50, "b": 50}, {"a": 0.1}) == {"a": pytest.approx(0.1)}


NAMES = "abcde"
MS = st.floats(0.1, 2000.0)
LATENCY = st.builds(lambda p50, more, samples: Latency(p50, p50 + more, samples), MS, MS, st.integers(0, 200))
MEASURED = st.builds(
    Measured, st.none() | LATENCY, st.none() | LATENCY, st.floats(0, 1), st.integers(0, 1000)
)
ROUND = st.tuples(
    st.dictionaries(st.sampled_from(NAMES), MEASURED),
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 1000)),
)


def played(
    history: list[tuple[dict[str, Measured], dict[str, int]]],
) -> Iterator[tuple[Plan, dict[str, int]]]:
    memory: dict[str, Memory] = {}
    for number, (measured, weights) in enumerate(history, 1):
        counted = {cdn: each._replace(total=MIN_SAMPLES * number) for cdn, each in measured.items()}
        done = plan(memory, counted, weights)
        yield done, weights
        memory = done.memory


@given(st.lists(ROUND, max_size=30))
@settings(max_examples=2 * settings.default.max_examples)
def test_never_more_than_half_whatever_comes(
    history: list[tuple[dict[str, Measured], dict[str, int]]],
) -> None:
    for done, weights in played(history):
        total = sum(weights.values())
        moved = sum(weights[cdn] * (1 - each.kept) for cdn, each in done.memory.items())
        assert moved <= total / 2 + 1e-6
        assert all(FLOOR - 1e-9 <= each.kept <= 1 for each in done.memory.values())
        assert all(shift.reason and shift.before != shift.after for shift in done.shifts)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), MEASURED), min_size=5, max_size=40))
@settings(max_examples=2 * settings.default.max_examples)
def test_never_swings(history: list[dict[str, Measured]]) -> None:
    """Between a step away and one back, or the other way round, lie as many rounds as are asked for."""
    last: dict[str, tuple[int, bool]] = {}
    weights = dict.fromkeys("abc", 100)
    for number, (done, _) in enumerate(played([(measured, weights) for measured in history])):
        for shift in done.shifts:
            back = shift.after > shift.before
            at, was_back = last.get(shift.cdn, (-1, True))
            if back != was_back:
                assert number - at >= (GOOD_ROUNDS if back else BAD_ROUNDS)
            last[shift.cdn] = (number, back)
