"""From the weights operators give CDNs to weights of endpoints, and to the shares they lead to."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from math import lcm
from typing import Generic, NamedTuple, TypeVar

E = TypeVar("E", bound=Hashable)
"""However the caller names an endpoint: its key, its id."""

_HEAVIEST = 2**31
"""The kernel has 32 bits for the sum of all endpoints' weights."""


class Split(NamedTuple, Generic[E]):
    """What weights and drains lead to."""

    weights: dict[E, int]
    """By endpoint, for the pick table. Those of one CDN share its weight evenly."""
    shares: dict[str, float]
    """By CDN, in the order of the weights given: 0 to 1, together 1, or all 0 if nothing is left."""


def shares(weights: Mapping[str, int], drained: Collection[str] = ()) -> dict[str, float]:
    """The share of new flows that each CDN gets, all being well: 0 to 1, or all 0 if nothing is left."""
    wanted = {cdn: 0 if cdn in drained else weight for cdn, weight in weights.items()}
    total = sum(wanted.values())
    return {cdn: weight / total if total else 0.0 for cdn, weight in wanted.items()}


def split(
    weights: Mapping[str, int], drained: Collection[str], endpoints: Mapping[str, Sequence[E]]
) -> Split[E]:
    """Weights of endpoints and shares of CDNs.

    `weights` and `endpoints` are by CDN; a CDN without endpoints gets nothing. Endpoint weights may
    exceed 1000: they are scaled so that every CDN's divides evenly among its endpoints, or, where that
    would take too large numbers, to within a millionth or so. None with a weight rounds to 0.
    """
    wanted = {cdn: weight if endpoints.get(cdn) else 0 for cdn, weight in weights.items()}
    scale = lcm(*(len(group) for group in endpoints.values() if group))
    total = sum(wanted.values())
    if scale * total > _HEAVIEST:
        scale = _HEAVIEST // total
    return Split(
        {
            endpoint: 0 if cdn in drained else _part(wanted.get(cdn, 0) * scale, len(group))
            for cdn, group in endpoints.items()
            for endpoint in group
        },
        shares(wanted, drained),
    )


def _part(weight: int, parts: int) -> int:
    return max(1, weight // parts) if weight else 0
