"""How sources behave, as the kernel keeps it, and the model that it weighs that by.

There are two models: one in force, and one that the next is written into. Which of them is, and what is
done with the score, is one word of the settings: a packet meets the old model or the new one, and none in
between.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from heapq import nlargest
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import NamedTuple

from cdnctl.datapath import abi
from cdnctl.datapath.kernel import Map

MOMENT_SHIFT = 20
"""A moment is 2^20 ns."""
_WORDS = abi.size(abi.Manner) // 4
_SEEN = abi.Manner.seen.offset // 4
_SCORE = abi.Manner.score.offset // 8
_MOMENTS = 1 << 32


class Seen(NamedTuple):
    """A source, when it last asked for a flow."""

    source: str
    features: list[int]
    score: int


class Lately(NamedTuple):
    """Sources that asked for a flow in some time."""

    sources: int
    suspicious: int
    """Of them."""
    newest: list[abi.Manner]


class MannerTables:
    """Raises OSError when a pin is missing."""

    def __init__(self, pins: Path) -> None:
        self._manners = Map.pinned(pins / "manners")
        self._models = Map.pinned(pins / "models")
        self._memory = memoryview(self._manners.memory())

    def model(self, word: int) -> abi.Model:
        """The one that a word of the settings says."""
        raw = self._models.get(abi.key(bool(word & abi.MODEL_SECOND)))
        return abi.Model.from_buffer_copy(raw or bytes(abi.size(abi.Model)))

    def put(self, word: int, mode: abi.ModelMode, model: abi.Model) -> int:
        """Write a model beside the one of `word`, if it is another: the word that puts it into force."""
        second = word & abi.MODEL_SECOND
        if bytes(self.model(word)) != bytes(model):
            second ^= abi.MODEL_SECOND
            self._models.put(abi.key(bool(second)), bytes(model))
        return mode | second

    def lately(self, now_ns: int, seconds: float, most: int) -> Lately:
        """The sources that asked for a flow in so many seconds before `now_ns`; the last `most` of them."""
        raw = self._memory.tobytes()
        seen, scores = array("I", raw)[_SEEN::_WORDS], array("q", raw)[_SCORE :: _WORDS // 2]
        now, age = now_ns >> MOMENT_SHIFT, int(seconds * 1e9) >> MOMENT_SHIFT
        # the coarse clock may be ahead of ours
        places = [n for n, at in enumerate(seen) if at and (now - at + 1) % _MOMENTS <= age + 1]
        size = abi.size(abi.Manner)
        newest = [
            abi.Manner.from_buffer_copy(raw, n * size) for n in nlargest(most, places, key=seen.__getitem__)
        ]
        return Lately(len(places), sum(scores[n] > 0 for n in places), newest)


def seen_of(manner: abi.Manner) -> Seen:
    """Its source, features and score."""
    return Seen(source_of(manner), list(manner.feature), manner.score)


def source_of(manner: abi.Manner) -> str:
    """An IPv4 address, or the first of a /64."""
    raw = bytes(manner.source)
    return str(IPv4Address(raw[4:]) if not any(raw[:4]) else IPv6Address(raw + bytes(8)))


def model_of(weights: Sequence[int], bias: int, times: int) -> abi.Model:
    """As the kernel has it."""
    return abi.Model(weight=tuple(weights), bias=bias, times=times)
