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
from cdnctl.defence.codes import LENGTH_BITS
from cdnctl.defence.feeds.entries import Entries, HopelessError
from cdnctl.defence.feeds.formats import plain_text, some_lines
from cdnctl.defence.feeds.prefixes import (
    Difference,
    Prefixes,
    aggregate,
    network_of,
    overlapping,
)
from cdnctl.defence.feeds.screen import Skipped, taken
from cdnctl.defence.protected import Protected

_PIECES = (256, 1 << 16)
"""Characters compared at once: first few, for changes are near each other, then more and more."""
_LINE = 24
"""Characters of a usual line, at least."""
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


def begin(
    data: bytes,
    entries: Entries,
    guarded: Sequence[Protected],
    prefixes: Prefixes,
    codes: tuple[list[int], list[int]] | None = None,
) -> Version | None:
    """The first version, once it is parsed and screened as a whole; None for formats that cannot be
    followed. `codes` are those of both families that were taken, where they are at hand."""
    if set(entries.groups) != {None} or plain_text(data, "") is None:
        return None
    codes4, codes6 = codes or taken(entries.groups[None], guarded)[:2]
    return Version(data, tuple(guarded), array("Q", codes4), codes6, prefixes, len(entries))


def follow(
    before: Version, data: bytes, guarded: Sequence[Protected], name: str = "the list"
) -> Followed | None:
    """The next version. None if it has to be read as a whole; raises FeedError with lines and remedies.

    Whether it is plausible (cdnctl.defence.feeds.screen) is for the caller to ask.
    """
    if before.guarded != tuple(guarded):
        return None
    old, new = plain_text(before.data, name), plain_text(data, name)
    if old is None or new is None:
        return None
    changed = _changed(old + "\n", new + "\n")
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


def _changed(old: str, new: str) -> tuple[Numbered, Numbered] | None:
    """Lines that only the first has, and only the second; None if they are too many. Both end with a newline.

    A line that has moved may be in both: it is no change then. Texts are compared by the piece, and cut into
    lines only where they differ: a million lines would take a hundred megabytes.
    """
    gone: Numbered = []
    came: Numbered = []
    most = int(_MOST * new.count("\n")) + 10
    at = to = 0
    line, other = 1, 1
    while at < len(old) and to < len(new):
        if same := _alike(old, at, new, to):
            lines = old.count("\n", at, at + same)
            at, to, line, other = at + same, to + same, line + lines, other + lines
            continue
        step = _agreeing(old, at, new, to)
        if step is None or len(gone) + len(came) > most:
            return None
        gone += enumerate(step[0], line)
        came += enumerate(step[1], other)
        at, line = at + _length(step[0]), line + len(step[0])
        to, other = to + _length(step[1]), other + len(step[1])
    gone += enumerate(old[at:].split("\n")[:-1], line)
    came += enumerate(new[to:].split("\n")[:-1], other)
    return None if len(gone) + len(came) > most else (gone, came)


def _alike(old: str, at: int, new: str, to: int) -> int:
    """How many characters from there on are the same in both, up to the end of a line."""
    size, piece = 0, _PIECES[0]
    while True:
        one, another = old[at + size : at + size + piece], new[to + size : to + size + piece]
        if one != another or not one:
            break
        size += piece
        piece = min(2 * piece, _PIECES[1])
    size = min(size, len(old) - at, len(new) - to)
    low, high = 0, min(len(one), len(another))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == another[:middle]:
            low = middle
        else:
            high = middle - 1
    return max(0, old.rfind("\n", at, at + size + low) + 1 - at)


def _length(lines: list[str]) -> int:
    """Characters of these lines in a text."""
    return sum(map(len, lines)) + len(lines)


def _lines(text: str, at: int, count: int) -> tuple[list[str], bool]:
    """So many lines from there on, and whether these are all that are left."""
    size = count * _LINE
    while True:
        lines = text[at : at + size].split("\n")[:-1]
        is_end = at + size >= len(text)
        if is_end or len(lines) >= count:
            return lines[:count], is_end and len(lines) <= count
        size *= 2


def _agreeing(old: str, at: int, new: str, to: int) -> tuple[list[str], list[str]] | None:
    """The lines of each until they have one in common again; to the end of both, where that is near."""
    for look in _LOOK:
        ours, is_our_end = _lines(old, at, look)
        theirs, is_their_end = _lines(new, to, look)
        places = {line: number for number, line in reversed(list(enumerate(theirs)))}
        for number, line in enumerate(ours):
            if line in places:
                return ours[:number], theirs[: places[line]]
        if is_our_end and is_their_end:
            return ours, theirs
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
    mask = (1 << LENGTH_BITS[version]) - 1
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
        if any(code & mask <= network.prefixlen for code in (*before, *after)):
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
