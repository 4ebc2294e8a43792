"""Prefixes that feeds want blocked: a million in some megabytes, each with who wants it and until when.

Beside the block list proper (cdnctl.defence.blocklist), which knows a reason for each entry and takes a
kilobyte for that. The kernel has one entry a prefix, whoever wants it: `Edit` says what to write there.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from cdnctl.defence.blocklist import Network
from cdnctl.defence.feeds.prefixes import Prefixes, code_of, difference

Groups = Mapping[int, Prefixes]
"""By their end, wall time in nanoseconds; 0 is never."""


class Edit(NamedTuple):
    """What to write into the kernel."""

    put: dict[int, Prefixes]
    """New, or until another time, by their end."""
    gone: Prefixes
    """What no feed wants any more."""

    def __len__(self) -> int:
        """Prefixes that it touches."""
        return sum(map(len, self.put.values())) + len(self.gone)

    def __bool__(self) -> bool:
        return len(self) > 0


class Listed:
    """What each feed wants. Not thread-safe."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, int], Prefixes] = {}
        """By feed and end."""
        self._count = 0

    def __len__(self) -> int:
        """Prefixes that any feed wants."""
        return self._count

    def by_feed(self) -> dict[str, int]:
        """How many each wants."""
        found: dict[str, int] = {}
        for (feed, _), prefixes in self._groups.items():
            found[feed] = found.get(feed, 0) + len(prefixes)
        return found

    def of(self, feed: str) -> dict[int, Prefixes]:
        """What one wants."""
        return {end: prefixes for (name, end), prefixes in self._groups.items() if name == feed}

    def replace(self, feed: str, groups: Groups) -> Edit:
        """The feed wants exactly these from now on."""
        wanted = {(feed, end): prefixes for end, prefixes in groups.items() if prefixes}
        before = {key: prefixes for key, prefixes in self._groups.items() if key[0] == feed}
        changes = [
            (key[1], difference(before.get(key, Prefixes()), wanted.get(key, Prefixes())))
            for key in {**before, **wanted}
        ]
        others = [prefixes for key, prefixes in self._groups.items() if key[0] != feed]
        self._groups = {key: each for key, each in self._groups.items() if key[0] != feed} | wanted
        if not others and len(changes) <= 1:  # the usual case, also of a million
            edit = Edit({}, Prefixes())
            for end, change in changes:
                edit = Edit({end: change.added} if change.added else {}, change.removed)
            self._count += sum(map(len, edit.put.values())) - len(edit.gone)
            return edit
        touched: dict[int, set[int]] = {4: set(), 6: set()}
        for _, change in changes:
            for version in (4, 6):
                touched[version].update(change.added.part(version), change.removed.part(version))
        return self._settled(touched, feed, before)

    def _settled(
        self, touched: Mapping[int, set[int]], feed: str, before: Mapping[tuple[str, int], Prefixes]
    ) -> Edit:
        """Of these codes, each with its end now; `before` is what the feed wanted."""
        put: dict[int, dict[int, list[int]]] = {}
        gone: dict[int, list[int]] = {4: [], 6: []}
        rest = [each for key, each in self._groups.items() if key[0] != feed] + list(before.values())
        for version, codes in touched.items():
            for code in sorted(codes):
                end = self.end_of(version, code)
                was = any(_has(each.part(version), code) for each in rest)
                self._count += (end is not None) - was
                if end is None:
                    gone[version].append(code)
                else:
                    put.setdefault(end, {4: [], 6: []})[version].append(code)
        return Edit(
            {end: Prefixes(array("Q", parts[4]), parts[6]) for end, parts in put.items()},
            Prefixes(array("Q", gone[4]), gone[6]),
        )

    def ended(self, now_ns: int) -> Edit:
        """What has come to its end is wanted no more."""
        edits = [
            self.replace(feed, {end: each for end, each in self.of(feed).items() if not 0 < end <= now_ns})
            for feed in {feed for feed, end in self._groups if 0 < end <= now_ns}
        ]
        if not edits:
            return Edit({}, Prefixes())
        gone = Prefixes(
            array("Q", sorted(code for edit in edits for code in edit.gone.v4)),
            sorted(code for edit in edits for code in edit.gone.v6),
        )
        return Edit({}, gone)

    def end_of(self, version: int, code: int) -> int | None:
        """The latest end that any feed wants (0: never); None if none wants it."""
        ends = [end for (_, end), each in self._groups.items() if _has(each.part(version), code)]
        if not ends:
            return None
        return 0 if 0 in ends else max(ends)

    def end(self, network: Network) -> int | None:
        """The same of a network."""
        return self.end_of(network.version, code_of(network)) if self._groups else None

    def view(self) -> Iterator[tuple[int, Prefixes]]:
        """All there is, by end; a prefix may come again."""
        for (_, end), prefixes in self._groups.items():
            yield end, prefixes

    def touching(self, network: Network) -> list[tuple[str, int, int]]:
        """What has an address in common with it: feed, end and code."""
        return [
            (feed, end, code)
            for (feed, end), prefixes in self._groups.items()
            for code in prefixes.overlapping(network)
        ]


def _has(codes: Sequence[int], code: int) -> bool:
    at = bisect_left(codes, code)
    return at < len(codes) and codes[at] == code
