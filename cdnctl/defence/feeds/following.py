"""A new version of a long list, by what has changed in it.

Reading a million lines takes two seconds; mostly a few of them are new. The lines are compared with those
of the version before, only what is different is parsed and screened, and prefixes are joined anew only in
the networks it lies in. The result is exactly that of reading it all, or None where that has to be done:
another format, other protected prefixes, too much that is different.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from cdnctl.defence.blocklist import Network
from cdnctl.defence.feeds.entries import Entries, HopelessError
from cdnctl.defence.feeds.formats import lines_of, some_lines
from cdnctl.defence.feeds.prefixes import (
    Difference,
    Prefixes,
    aggregate,
    network_of,
    overlapping,
)
from cdnctl.defence.feeds.screen import Skipped, taken
from cdnctl.defence.protected import Protected

_STRIDE = 256
_LOOK = (64, 4096)
"""Lines ahead in which both versions are looked to agree again: first near, then far."""
_MOST = 0.05
"""More lines than this part are quicker read as a whole."""
_NEAR = {4: 16, 6: 32}
_FAR = {4: 8, 6: 16}
"""Lengths of the networks in which prefixes are joined anew; none is joined to more than the second."""

Codes = TypeVar("Codes", "array[int]", list[int])


class Version(NamedTuple):
    """A list in force: what is needed to follow it."""

    data: bytes
    guarded: tuple[Protected, ...]
    codes4: array[int]
    codes6: list[int]
    """What was taken, sorted, before joining, and as often as it stands there."""
    prefixes: Prefixes
    """The same joined."""
    entries: int


class Followed(NamedTuple):
    """What a new version leads to."""

    version: Version
    change: Difference
    skipped: list[Skipped]
    """Of what is new; those of the version before stay skipped."""


def begin(data: bytes, entries: Entries, guarded: Sequence[Protected], prefixes: Prefixes) -> Version | None:
    """The first version, once it is parsed and screened as a whole; None for formats that cannot be
    followed."""
    if lines_of(data, "") is None or set(entries.groups) != {None}:
        return None
    codes4, codes6, _ = taken(entries.groups[None], guarded)
    return Version(data, tuple(guarded), array("Q", codes4), codes6, prefixes, len(entries))


def follow(
    before: Version, data: bytes, guarded: Sequence[Protected], name: str = "the list"
) -> Followed | None:
    """The next version. None if it has to be read as a whole; raises FeedError with lines and remedies.

    Whether it is plausible (cdnctl.defence.feeds.screen) is for the caller to ask.
    """
    if before.guarded != tuple(guarded):
        return None
    old, new = lines_of(before.data, name), lines_of(data, name)
    if old is None or new is None:
        return None
    changed = _changed(old, new)
    if changed is None:
        return None
    del old, new
    try:
        gone, came = (some_lines(numbered) for numbered in changed)
    except HopelessError as error:
        came = error.entries
    came.require_right(name)
    gone4, gone6, _ = taken(gone.group(), guarded)
    came4, came6, skipped = taken(came.group(), guarded)
    codes4, touched4 = _updated(before.codes4, came4, gone4)
    codes6, touched6 = _updated(before.codes6, came6, gone6)
    added4, removed4 = _rejoined(4, codes4, before.prefixes.v4, touched4)
    added6, removed6 = _rejoined(6, codes6, before.prefixes.v6, touched6)
    prefixes = Prefixes(
        _updated(before.prefixes.v4, added4, removed4)[0], _updated(before.prefixes.v6, added6, removed6)[0]
    )
    change = Difference(Prefixes(array("Q", added4), added6), Prefixes(array("Q", removed4), removed6))
    entries = before.entries + len(came) - len(gone)
    version = Version(data, before.guarded, codes4, codes6, prefixes, entries)
    return Followed(version, change, skipped)


Numbered = list[tuple[int, str]]


def _changed(old: list[str], new: list[str]) -> tuple[Numbered, Numbered] | None:
    """Lines that only the first has, and only the second; None if they are too many.

    A line that has moved may be in both: it is no change then.
    """
    gone: Numbered = []
    came: Numbered = []
    most = int(_MOST * len(new)) + 10
    at = to = 0
    while at < len(old) and to < len(new):
        if old[at] == new[to]:
            if old[at : at + _STRIDE] == new[to : to + _STRIDE]:
                at, to = at + _STRIDE, to + _STRIDE
                continue
            while at < len(old) and to < len(new) and old[at] == new[to]:
                at, to = at + 1, to + 1
            continue
        step = _agreeing(old, at, new, to)
        if step is None or len(gone) + len(came) > most:
            return None
        gone += zip(range(at + 1, at + step[0] + 1), old[at : at + step[0]], strict=True)
        came += zip(range(to + 1, to + step[1] + 1), new[to : to + step[1]], strict=True)
        at, to = at + step[0], to + step[1]
    gone += enumerate(old[at:], at + 1)
    came += enumerate(new[to:], to + 1)
    return None if len(gone) + len(came) > most else (gone, came)


def _agreeing(old: list[str], at: int, new: list[str], to: int) -> tuple[int, int] | None:
    """How many lines on in each they have one in common again; to the end of both, where that is near."""
    for look in _LOOK:
        places = {line: number for number, line in reversed(list(enumerate(new[to : to + look])))}
        for number, line in enumerate(old[at : at + look]):
            if line in places:
                return number, places[line]
        if at + look >= len(old) and to + look >= len(new):
            return len(old) - at, len(new) - to
    return None


def _updated(codes: Codes, came: Iterable[int], gone: Iterable[int]) -> tuple[Codes, list[int]]:
    """Sorted codes with some more and some less of them; and those that are new or not there any more."""
    change = Counter(came)
    change.subtract(Counter(gone))
    after = codes[:0]
    touched = []
    last = 0
    for code in sorted(code for code, count in change.items() if count):
        start = bisect_left(codes, code, last)
        end = bisect_right(codes, code, start)
        count = max(0, end - start + change[code])
        after.extend(codes[last:start])
        after.extend([code] * count)
        if (end > start) != (count > 0):
            touched.append(code)
        last = end
    after.extend(codes[last:])
    return after, touched


def _rejoined(
    version: int, codes: Sequence[int], joined: Sequence[int], touched: Iterable[int]
) -> tuple[list[int], list[int]]:
    """What of the joined prefixes is new, and what is gone, where `touched` came or went."""
    near: dict[Network, None] = {}
    far: dict[Network, None] = {}
    for code in touched:
        network = network_of(version, code)
        if network.prefixlen < _NEAR[version]:
            far[_widened(network, _FAR[version])] = None
        else:
            near[_widened(network, _NEAR[version])] = None
    changes = []
    for network in near:
        before, after = overlapping(joined, network), aggregate(version, overlapping(codes, network))
        # Joined across its border, or to be.
        if any(network_of(version, code).prefixlen <= network.prefixlen for code in (*before, *after)):
            far[_widened(network, _FAR[version])] = None
        else:
            changes.append((network, before, after))
    for network in far:
        before, after = overlapping(joined, network), aggregate(version, overlapping(codes, network))
        changes.append((network, before, after))
    added, removed = [], []
    for network, before, after in changes:
        if network.prefixlen == _NEAR[version] and _widened(network, _FAR[version]) in far:
            continue  # done with the wider one
        old, new = set(before), set(after)
        added += sorted(new - old)
        removed += sorted(old - new)
    return sorted(added), sorted(removed)


def _widened(network: Network, length: int) -> Network:
    return network.supernet(new_prefix=length) if network.prefixlen > length else network
