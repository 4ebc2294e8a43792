"""Strips go when nobody has them any more, without the collector."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
from rich.segment import Segment
from textual.strip import Strip

from cdnctl.console import strips

USES: dict[str, Callable[[Strip], object]] = {
    "divided": lambda strip: strip.divide([strip.cell_length]),
    "cropped": lambda strip: strip.crop_extend(0, strip.cell_length, None),
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    strips.prepare()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("use", USES)
def test_a_strip_that_was_asked_for_as_a_whole_is_no_cycle(use: str) -> None:
    for _ in range(100):
        USES[use](Strip([Segment("aurora")], 6))
    assert gc.collect() < 100


def test_parts_are_as_ever() -> None:
    strips.prepare()
    whole = Strip([Segment("aur"), Segment("ora")], 6)
    assert [part.text for part in whole.divide([2, 6])] == ["au", "rora"]
    assert [part.text for part in whole.divide([6, 9])] == ["aurora"]
    assert whole.divide(iter([6]))[0] is whole
    assert whole.crop_extend(1, 4, None).text == "uro"
    assert whole.crop_extend(0, 8, None).text == "aurora  "
