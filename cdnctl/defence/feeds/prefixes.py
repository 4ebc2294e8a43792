"""Sets of prefixes as numbers: a million of them in some megabytes, compared and joined in a second.

In here a prefix is its *code*, one whole number, as in `defence.codes` but for the mark of its version, which
the part that it lies in tells: IPv4 codes have 38 bits and lie in arrays; those of IPv6 have 136 and lie in
lists. Codes sort by address, and the wider of two that begin alike comes first.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct, field

from cdnctl.defence import codes
from cdnctl.defence.blocklist import SHORTEST, Network
from cdnctl.defence.codes import LENGTH_BITS, LENGTH_MASK, MARK

_WIDTH = {4: 32, 6: 128}


def code_of(network: Network) -> int:
    """The code of a network; only with its version does it say which."""
    return codes.of_network(network) ^ MARK[network.version]


def network_of(version: int, code: int) -> Network:
    """The inverse of `code_of`."""
    return codes.network(MARK[version] | code)


def show(version: int, code: int) -> str:
    """As operators write it; ten times as quick as by a network."""
    return codes.show(MARK[version] | code)


def _no_codes() -> array[int]:
    return array("Q")


class Prefixes(Struct, frozen=True):
    """A set of prefixes, none of which lies in another; each part is sorted."""

    v4: array[int] = field(default_factory=_no_codes)
    v6: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        """How many prefixes."""
        return len(self.v4) + len(self.v6)

    def __bool__(self) -> bool:
        return bool(self.v4 or self.v6)

    def part(self, version: int) -> Sequence[int]:
        """The codes of a version, 4 or 6."""
        return self.v4 if version == 4 else self.v6

    def networks(self) -> Iterator[Network]:
        """All of them, IPv4 first, in order."""
        return (network_of(version, code) for version in (4, 6) for code in self.part(version))

    def shown(self) -> Iterator[str]:
        """The same as text."""
        return (show(version, code) for version in (4, 6) for code in self.part(version))

    def addresses(self, version: int) -> int:
        """How many addresses of a version they cover."""
        width, mask = _WIDTH[version], LENGTH_MASK[version]
        return sum(1 << (width - (code & mask)) for code in self.part(version))

    def overlapping(self, network: Network) -> list[int]:
        """The codes of those that have an address in common with `network`."""
        return overlapping(self.part(network.version), network)


def of_networks(networks: Iterable[Network]) -> Prefixes:
    """The set that covers what these cover, with as few prefixes as may be."""
    parts: dict[int, list[int]] = {4: [], 6: []}
    for network in networks:
        parts[network.version].append(code_of(network))
    return aggregated(parts[4], parts[6])


def aggregated(v4: Iterable[int], v6: Iterable[int]) -> Prefixes:
    """The set that covers what these codes cover, with as few prefixes as may be."""
    return Prefixes(array("Q", aggregate(4, v4)), aggregate(6, v6))


def aggregate(version: int, codes: Iterable[int]) -> list[int]:
    """The fewest codes that cover the same addresses, sorted.

    Halves are joined up to the widest that the block list takes: what no single line may say, many
    together may not either.
    """
    bits, width, mask = LENGTH_BITS[version], _WIDTH[version], LENGTH_MASK[version]
    widest = SHORTEST[version]
    kept: list[int] = []
    last = -1
    for code in sorted(codes):
        address = code >> bits
        if address <= last:
            continue  # within the one before
        length = code & mask
        size = 1 << (width - length)
        last = address + size - 1
        # The upper half of a pair finds the lower half on top; the pair may be an upper half in turn.
        while kept and address & size and length > widest and kept[-1] == (address ^ size) << bits | length:
            kept.pop()
            address ^= size
            length -= 1
            size <<= 1
        kept.append(address << bits | length)
    return kept


def overlapping(codes: Sequence[int], network: Network) -> list[int]:
    """Of sorted codes of its version, those that have an address in common with `network`.

    They may lie in each other.
    """
    version = network.version
    bits, width = LENGTH_BITS[version], _WIDTH[version]
    first = int(network.network_address)
    found = []
    for length in range(network.prefixlen):  # those that cover it
        code = first >> (width - length) << (width - length + bits) | length
        at = bisect_left(codes, code)
        while at < len(codes) and codes[at] == code:
            found.append(code)
            at += 1
    start = bisect_left(codes, first << bits | network.prefixlen)
    end = bisect_right(codes, int(network.broadcast_address) << bits | LENGTH_MASK[version])
    return found + list(codes[start:end])


class Difference(NamedTuple):
    """What has come and gone, as prefixes and not as addresses."""

    added: Prefixes
    removed: Prefixes

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


def difference(before: Prefixes, after: Prefixes) -> Difference:
    """What turns `before` into `after`."""
    added4, removed4 = _difference(before.v4, after.v4)
    added6, removed6 = _difference(before.v6, after.v6)
    return Difference(Prefixes(array("Q", added4), added6), Prefixes(array("Q", removed4), removed6))


_STRIDE = 256


def _difference(old: Sequence[int], new: Sequence[int]) -> tuple[list[int], list[int]]:
    """What of two sorted sequences only the second has, and only the first.

    Mostly they are the same in long stretches, which are compared as such: a change of a thousand in a
    million takes a tenth of what sets of them do.
    """
    added: list[int] = []
    removed: list[int] = []
    at, to = 0, 0
    while at < len(old) and to < len(new):
        if old[at] == new[to]:
            if old[at : at + _STRIDE] == new[to : to + _STRIDE]:
                at, to = at + _STRIDE, to + _STRIDE
                continue
            while at < len(old) and to < len(new) and old[at] == new[to]:
                at, to = at + 1, to + 1
        elif old[at] < new[to]:
            removed.append(old[at])
            at += 1
        else:
            added.append(new[to])
            to += 1
    return [*added, *new[to:]], [*removed, *old[at:]]
