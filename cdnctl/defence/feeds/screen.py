"""From what a list says to what may be blocked: skipped with the reason is what would hit us.

An allow list stands above all feeds: an entry that has one address in common with what is protected is
left out as a whole, and named. Public lists do hold private ranges, and whole CDNs.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct, field

from cdnctl.defence.blocklist import SHORTEST
from cdnctl.defence.feeds.entries import Entries, FeedError, Group
from cdnctl.defence.feeds.prefixes import (
    Difference,
    Prefixes,
    aggregated,
    difference,
    network_of,
    overlapping,
    show,
)
from cdnctl.defence.protected import Protected, refusal

SKIPPED_SHOWN = 100
SHRINKS_TO = 0.5
"""A list that is less than this part of its last good version is refused."""
_FEW = 10
"""So many entries less are no shrinking, however few there were."""
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")

PRIVATE: tuple[tuple[str, str], ...] = (
    ("0.0.0.0/8", "this network itself"),
    ("10.0.0.0/8", "a private range"),
    ("100.64.0.0/10", "addresses that a provider's customers share"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local addresses"),
    ("172.16.0.0/12", "a private range"),
    ("192.168.0.0/16", "a private range"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved addresses"),
    ("::/127", "loopback"),
    ("fc00::/7", "a private range"),
    ("fe80::/10", "link-local addresses"),
    ("ff00::/8", "multicast"),
)
"""What no list from outside can know about (RFC 6890), in the words of a `Protected`."""


class Skipped(Struct, frozen=True):
    """An entry that is not taken."""

    prefix: str
    line: int
    why: str
    """Reads on from the prefix: `covers 203.0.113.80, the VIP of service www`."""


class Brought(Struct, kw_only=True, frozen=True):
    """What a list brings once it is screened."""

    format: str
    kind: str
    entries: int
    """As they stand in the list, those skipped included."""
    prefixes: dict[int | None, Prefixes]
    """By lifetime in seconds (None: while they are listed): aggregated, nothing protected in them."""
    skipped: list[Skipped] = field(default_factory=list)
    """The first `SKIPPED_SHOWN`, the list's order within each reason."""
    skipped_total: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)
    codes: tuple[list[int], list[int]] | None = None
    """Of both families, those that were taken, sorted and as often as they stand there: of a list that has no
    lifetimes."""

    @property
    def count(self) -> int:
        """Prefixes that would be blocked."""
        return sum(map(len, self.prefixes.values()))

    def whole(self) -> Prefixes:
        """All of them, whatever their lifetime."""
        if len(self.prefixes) == 1:
            return next(iter(self.prefixes.values()))
        return aggregated(
            (code for each in self.prefixes.values() for code in each.v4),
            (code for each in self.prefixes.values() for code in each.v6),
        )


def private() -> list[Protected]:
    """`PRIVATE`, as what is protected."""
    return [Protected(ipaddress.ip_network(text), why) for text, why in PRIVATE]


def ranges_of(cdn: str, ranges: Prefixes) -> list[Protected]:
    """A provider's own ranges, as what is protected."""
    return [Protected(network, f"a range of {cdn}") for network in ranges.networks()]


def screen(entries: Entries, guarded: Sequence[Protected] = ()) -> Brought:
    """What `entries` bring, with nothing in it that is `guarded` or too wide."""
    notes = _Skipping()
    prefixes, codes = {}, None
    for lifetime_s, group in entries.groups.items():
        codes = _screened(group, 4, guarded, notes), _screened(group, 6, guarded, notes)
        clean = aggregated(*codes)
        if clean:
            prefixes[lifetime_s] = clean
    return Brought(
        codes=codes if set(entries.groups) == {None} else None,
        format=entries.format,
        kind=entries.kind,
        entries=len(entries),
        prefixes=prefixes,
        skipped=sorted(notes.shown, key=lambda each: each.line),
        skipped_total=notes.total,
        passed_over=entries.passed_over,
    )


def taken(group: Group, guarded: Sequence[Protected]) -> tuple[list[int], list[int], list[Skipped]]:
    """The codes of both versions that may be taken, sorted and as often as they stand there; and the first
    of the others."""
    notes = _Skipping()
    return _screened(group, 4, guarded, notes), _screened(group, 6, guarded, notes), notes.shown


class _Skipping:
    def __init__(self) -> None:
        self.shown: list[Skipped] = []
        self.total = 0

    def note(self, group: Group, version: int, code: int, why: str) -> None:
        self.total += 1
        if len(self.shown) < SKIPPED_SHOWN:
            self.shown.append(Skipped(show(version, code), group.line_of(version, code), why))


def _screened(group: Group, version: int, guarded: Sequence[Protected], notes: _Skipping) -> list[int]:
    codes = sorted(group.v4 if version == 4 else group.v6)
    bad: set[int] = set()
    for code in _too_wide(codes, version):
        bad.add(code)
        notes.note(group, version, code, _why_too_wide(version))
    hit: dict[int, list[Protected]] = {}
    for each in guarded:
        if each.network.version == version:
            for code in overlapping(codes, each.network):
                hit.setdefault(code, []).append(each)
    for code, by in hit.items():
        if code not in bad:
            bad.add(code)
            notes.note(group, version, code, refusal(network_of(version, code), by) or "is protected")
    return [code for code in codes if code not in bad] if bad else codes


def _why_too_wide(version: int) -> str:
    widest = f"is too wide: of IPv{version} a /{SHORTEST[version]} is the most"
    return widest if version == 4 else f"{widest}, and none that holds IPv4 in IPv6's form"


def _too_wide(codes: Sequence[int], version: int) -> Iterator[int]:
    mask, shortest = (63, SHORTEST[4]) if version == 4 else (255, SHORTEST[6])
    wide = [code for code in codes if code & mask < shortest]
    if version == 6:
        # In the kernel's tables IPv4 lies in IPv6's form: whatever covers that covers all of it.
        wide += [
            code
            for code in overlapping(codes, _MAPPED)
            if code & mask < _MAPPED.prefixlen and code & mask >= shortest
        ]
    yield from dict.fromkeys(wide)


class Last(NamedTuple):
    """What is in force of a feed."""

    entries: int
    prefixes: Prefixes


def require_plausible(
    brought: Brought, last: Last | None, name: str, shrinks_to: float = SHRINKS_TO
) -> Difference:
    """What changes against the last good version. Raises FeedError for a list that is empty or has
    shrunk sharply: that is how a broken publisher looks, and taking it would lift every block."""
    if not brought.entries:
        raise FeedError(
            f"{name} has no entries", "an empty list is never taken; if it is meant, remove the feed"
        )
    if (
        last is not None
        and brought.entries < shrinks_to * last.entries
        and last.entries - brought.entries > _FEW
    ):
        raise FeedError(
            f"{name} has {brought.entries:,} entries where its last good version had {last.entries:,}:"
            f" less than {100 * shrinks_to:.0f} % of it",
            "the last good list stays; if the new one is right, accept it: remove the feed and add it again",
        )
    return difference(last.prefixes if last else Prefixes(), brought.whole())
