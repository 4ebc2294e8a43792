"""Who wants which prefix: removing a feed removes only what it alone brought.

The kernel has one entry a prefix, whoever wants it. `Origins` says which entries a new version of a feed
adds and which it frees, by looking only at what has changed.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from cdnctl.defence.blocklist import Network
from cdnctl.defence.feeds.prefixes import Difference, Prefixes, code_of, difference


class Origins:
    """The prefixes of each feed. Not thread-safe."""

    def __init__(self, feeds: Mapping[str, Prefixes] | None = None) -> None:
        self._feeds: dict[str, Prefixes] = dict(feeds or {})

    def __iter__(self) -> Iterator[str]:
        return iter(self._feeds)

    def __getitem__(self, feed: str) -> Prefixes:
        return self._feeds[feed]

    def replace(self, feed: str, prefixes: Prefixes) -> Difference:
        """The feed has these prefixes now; what nobody had before, and what nobody has any more."""
        change = difference(self._feeds.get(feed, Prefixes()), prefixes)
        self._feeds.pop(feed, None)
        others = list(self._feeds.values())
        if prefixes:
            self._feeds[feed] = prefixes
        return Difference(_not_in(change.added, others), _not_in(change.removed, others))

    def remove(self, feed: str) -> Difference:
        """The feed is gone."""
        return self.replace(feed, Prefixes())

    def of(self, network: Network) -> list[str]:
        """The feeds that have exactly this prefix."""
        code = code_of(network)
        return [feed for feed, prefixes in self._feeds.items() if _has(prefixes.part(network.version), code)]

    def touching(self, network: Network) -> list[str]:
        """The feeds that have an address in common with it."""
        return [feed for feed, prefixes in self._feeds.items() if prefixes.overlapping(network)]


def _not_in(prefixes: Prefixes, others: Sequence[Prefixes]) -> Prefixes:
    def left(version: int) -> list[int]:
        parts = [each.part(version) for each in others]
        return [code for code in prefixes.part(version) if not any(_has(part, code) for part in parts)]

    return Prefixes(array("Q", left(4)), left(6))


def _has(codes: Sequence[int], code: int) -> bool:
    at = bisect_left(codes, code)
    return at < len(codes) and codes[at] == code
