"""What the kernel's pick tables hold, for each service, region and class of traffic.

Where weights decide it is a Maglev table; for `failover` it is the order itself. Tables that turn out
the same are the same object, and take one place in the kernel.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from cdnctl.steering import maglev
from cdnctl.steering.shares import split


class Server(NamedTuple):
    """An endpoint that may serve a service."""

    id: int
    key: str
    cdn: str
    regions: tuple[str, ...] = ()
    """Whose clients it is for; none: everybody's."""


def near(servers: Sequence[Server], region: str) -> list[Server]:
    """Those for the clients of a region (empty: of none), in their order; all where that leaves nobody."""
    found = [server for server in servers if not server.regions or region in server.regions]
    return found or list(servers)


def ordered(servers: Iterable[Server], weights: Mapping[str, int]) -> array[int]:
    """The table of `failover`: whoever has a weight, in order. Raises ValueError when nobody has."""
    ids = tuple(server.id for server in servers if weights.get(server.cdn))
    if not ids:
        raise ValueError("no endpoint has a weight above 0")
    return _order(ids)


def spread(servers: Iterable[Server], weights: Mapping[str, int]) -> array[int]:
    """The table where weights, by CDN, decide. Raises ValueError when nobody has one."""
    groups: dict[str, list[Server]] = {}
    for server in servers:
        groups.setdefault(server.cdn, []).append(server)
    chosen = {cdn: weights.get(cdn, 0) for cdn in groups}
    entries = (
        maglev.Entry(server.id, server.key, weight)
        for server, weight in split(chosen, (), groups).weights.items()
        if weight
    )
    return _table(tuple(sorted(entries)))


@lru_cache(maxsize=256)
def _order(ids: tuple[int, ...]) -> array[int]:
    return array("H", ids)


@lru_cache(maxsize=256)
def _table(entries: tuple[maglev.Entry, ...]) -> array[int]:
    return maglev.table(entries)
