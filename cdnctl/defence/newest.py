"""The blocks made last: every frame shows some, and must not look at a million for that."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Sized
from typing import Protocol

from cdnctl.model import Block

_SPARE = 2
"""So many times as many are kept as were asked for: some will be lifted."""


class _All(Sized, Iterable[Block], Protocol):
    """All of them, and how many."""


class Newest:
    """Of one list, kept while that changes, and found anew when too many of them have gone."""

    def __init__(self) -> None:
        self._kept: list[Block] = []
        """The newest first: none of the others is newer than the last of these."""
        self._named: set[tuple[str, str]] = set()
        """Prefix and source of each."""

    def forget(self) -> None:
        """The list is another one."""
        self._kept, self._named = [], set()

    def add(self, block: Block) -> None:
        """It is on the list now."""
        if self._kept and block.created_ns >= self._kept[-1].created_ns:
            insort(self._kept, block, key=_age)
            self._named.add((block.prefix, block.source))

    def drop(self, prefix: str, source: str) -> None:
        """It is not any more."""
        if (prefix, source) in self._named:
            self._named.discard((prefix, source))
            self._kept = [each for each in self._kept if (each.prefix, each.source) != (prefix, source)]

    def of(self, everything: _All, count: int) -> list[Block]:
        """So many of all."""
        if len(self._kept) < min(count, len(everything)):
            self._kept = _found(list(everything), _SPARE * count)
        elif len(self._kept) > 2 * _SPARE * count:
            del self._kept[_SPARE * count :]
        else:
            return self._kept[:count]
        self._named = {(each.prefix, each.source) for each in self._kept}
        return self._kept[:count]


def _found(blocks: list[Block], count: int) -> list[Block]:
    """A list is nearly in the order of its times, in which they are sorted in no time; but not quite."""
    if len(blocks) > count:
        least_ns = sorted([block.created_ns for block in blocks])[-count]
        blocks = [block for block in blocks if block.created_ns >= least_ns]
    return sorted(blocks, key=_age)[:count]


def _age(block: Block) -> int:
    return -block.created_ns
