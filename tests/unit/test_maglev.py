"""The pick table: fair to a slot or two, the same for everybody, and steady when an endpoint leaves."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdnctl.steering.maglev import SLOTS, Entry, moved, table


def entries(*weights: int) -> list[Entry]:
    return [Entry(number, f"198.51.100.{number}:443", weight) for number, weight in enumerate(weights)]


WEIGHTS = st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any)


@given(WEIGHTS)
@example([1, 1000])
@example([1000, 1000, 1000])
@example([1, 0, 0])
def test_shares_follow_weights(weights: list[int]) -> None:
    got = Counter(table(entries(*weights)))
    assert sum(got.values()) == SLOTS
    for number, weight in enumerate(weights):
        assert abs(got[number] - SLOTS * weight / sum(weights)) <= 1 + len(weights) / 2


def test_size_is_prime_and_fits() -> None:
    assert all(SLOTS % divisor for divisor in range(2, int(SLOTS**0.5) + 1))
    assert SLOTS < 2**14
    assert table(entries(1)).itemsize == 2


def test_order_and_ids_do_not_matter() -> None:
    some = entries(60, 30, 10)
    names = {entry.id: entry.key for entry in some}
    expected = [names[owner] for owner in table(some)]
    assert table(reversed(some)) == table(some)
    renumbered = [entry._replace(id=entry.id + 100) for entry in some]
    assert [names[owner - 100] for owner in table(renumbered)] == expected


def test_only_the_ratio_of_weights_counts() -> None:
    assert table(entries(60, 30, 10)) == table(entries(600, 300, 100))


@pytest.mark.parametrize("weights", [(100,) * 8, (60, 30, 10), (100, 100, 100)])
def test_a_leaver_takes_little_along(weights: tuple[int, ...]) -> None:
    some = entries(*weights)
    before = table(some)
    for leaver in some:
        after = table(entry for entry in some if entry is not leaver)
        others = moved(before, after) - before.count(leaver.id)
        assert others < SLOTS * 0.05, (leaver, others)


def test_a_small_change_of_weight_moves_little() -> None:
    before, after = table(entries(100, 100, 100)), table(entries(100, 100, 90))
    assert moved(before, after) < SLOTS * 0.1


def test_nobody_to_go_to() -> None:
    for nobody in ([], entries(0, 0)):
        with pytest.raises(ValueError, match="no endpoint"):
            table(nobody)


def test_is_quick() -> None:
    start = time.process_time()
    table(entries(1000, 999, 500, 250, 77, 60, 30, 1))
    assert time.process_time() - start < 0.2  # about 0.01 s; this catches a change of order only
