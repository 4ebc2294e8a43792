"""The pick table: which endpoint a new flow's hash leads to.

Weighted Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
NSDI 2016, section 3.4). Every endpoint has an order of its own in which it would like to have the
slots, made from nothing but its key; they take turns, each taking the next free slot in its order,
until none is left. When one leaves, the others keep nearly all they had, so that nearly all flows that
are picked afresh (after an eviction, or on another edge box) go where they went.

Weights are turns: the heaviest endpoint has one in every round, one of half its weight in every other
round. So shares are right to within a few slots whatever the weights' sum is; giving out each weight's
turns in one go would leave the last round, of up to the sum, to whoever comes first.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

SLOTS = 16381
"""Size of the table: the largest prime below 2**14. Any step through a prime reaches every slot."""

_FREE = 0xFFFF


class Entry(NamedTuple):
    """An endpoint that wants slots."""

    id: int
    """What is written into its slots: 0 to 65534."""
    key: str
    """What it is told by, as in `198.51.100.10:443`; decides its order, so ids may change freely."""
    weight: int
    """0 or more; only the ratio to the others' counts."""


def table(entries: Iterable[Entry]) -> array[int]:
    """The ids of `entries` over `SLOTS` slots (unsigned 16-bit), each about as often as its weight says.

    The same entries in any order give the same table. Takes about 20 ms. Raises ValueError if no
    entry has a weight.
    """
    takers = sorted((entry for entry in entries if entry.weight > 0), key=lambda entry: entry.key)
    if not takers:
        raise ValueError("no endpoint has a weight above 0")
    heaviest = max(entry.weight for entry in takers)
    # [weight, credit, id, next slot wanted, step]: lists, since this loop is all the cost there is.
    # Half a turn to begin with rounds shares to the nearest slot instead of down.
    turns = [[entry.weight, heaviest // 2, entry.id, *_order(entry.key)] for entry in takers]
    owners = array("H", [_FREE]) * SLOTS
    left = SLOTS
    while True:
        for turn in turns:
            turn[1] += turn[0]
            if turn[1] < heaviest:
                continue
            turn[1] -= heaviest
            slot, step = turn[3], turn[4]
            while owners[slot] != _FREE:
                slot += step
                if slot >= SLOTS:
                    slot -= SLOTS
            owners[slot] = turn[2]
            turn[3] = slot
            left -= 1
            if not left:
                return owners


def moved(before: array[int], after: array[int]) -> int:
    """In how many slots two tables differ."""
    return sum(old != new for old, new in zip(before, after, strict=True))


@lru_cache(maxsize=1024)
def _order(key: str) -> tuple[int, int]:
    """Where the endpoint's order of slots starts, and its step (1 to SLOTS - 1)."""
    digest = blake2b(key.encode(), digest_size=16, person=b"cdnctl maglev").digest()
    first, second = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
    return first % SLOTS, second % (SLOTS - 1) + 1
