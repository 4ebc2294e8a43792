"""How full tables are: counted in real maps of the kernel, a little at a time."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from cdnctl.datapath import kernel
from cdnctl.datapath.kernel import Map
from cdnctl.engine import fills
from cdnctl.engine.fills import Fills
from cdnctl.model import MapFill

HASH, LRU_HASH = 1, 9
Make = Callable[[int, int, int], Map]


@pytest.fixture
def make() -> Iterator[Make]:
    """A map of this kind and room, with so many entries."""
    with ExitStack() as made:

        def new(kind: int, room: int, entries: int) -> Map:
            fd = kernel.map_create(kind, "fills", 4, 8, room, 0)
            made.callback(os.close, fd)
            table = Map(fd)
            table.put_all({struct.pack("I", number): bytes(8) for number in range(entries)})
            return table

        yield new


def tables(**maps: Map) -> Any:
    return SimpleNamespace(filled_by_kernel=lambda: maps)


def settled(counting: Fills, of: Any, *, ticks: int = 1000) -> list[MapFill]:
    """What is known at the end of a round."""
    for _ in range(ticks):
        found = counting.tick(of)
        if len(found) == len(of.filled_by_kernel()):
            return found
    raise AssertionError("the round does not end")


def test_every_entry_is_counted_once(make: Make) -> None:
    of = tables(a=make(HASH, 20_000, 12_345), b=make(HASH, 10, 0), c=make(LRU_HASH, 5_000, 1_000))
    assert settled(Fills(), of) == [
        MapFill(name="a", entries=12_345, room=20_000),
        MapFill(name="b", entries=0, room=10),
        MapFill(name="c", entries=1_000, room=5_000),
    ]


def test_a_tick_takes_no_more_than_a_batch_beyond_its_time(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any time each tick still gets one batch done, so that a round ends."""
    monkeypatch.setattr(fills, "BUDGET_S", 1e-9)
    table = make(HASH, 40_000, 30_000)
    batches, of = sum(1 for _ in table.batches()), tables(a=table)
    counting, ticks = Fills(), 0
    while not counting.tick(of):
        ticks += 1
    assert batches - 1 <= ticks <= batches + 1


def test_the_next_round_sees_what_has_changed_and_is_not_hurried(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make(HASH, 1_000, 10)
    of, counting = tables(a=table), Fills()
    assert settled(counting, of)[0].entries == 10
    table.put(struct.pack("I", 999), bytes(8))
    for _ in range(50):
        assert counting.tick(of)[0].entries == 10, "the last round's, until another is due"
    monkeypatch.setattr(fills, "EVERY_S", 0.0)
    for _ in range(5):
        counting.tick(of)
    assert counting.tick(of)[0].entries == 11


def test_other_tables_are_counted_at_once(make: Make) -> None:
    """As after a reload with other limits: nothing is said of the ones before."""
    counting, before, after = Fills(), tables(a=make(HASH, 100, 5)), tables(a=make(HASH, 200, 7))
    assert settled(counting, before)[0].entries == 5
    assert settled(counting, after) == [MapFill(name="a", entries=7, room=200)]
