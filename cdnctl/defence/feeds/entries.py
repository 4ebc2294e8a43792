"""What a list says, entry by entry with its line, and what is wrong with it.

A list is taken as a whole or not at all: every mistake is noted with its line, and one is enough to
refuse it. What is right but not ours to block (a country, a wish for a captcha) is only passed over.
"""

from __future__ import annotations

import socket
from array import array
from collections.abc import Iterator
from ipaddress import IPv6Network, ip_address, ip_network, summarize_address_range
from typing import Literal, NamedTuple

from cdnctl.defence.blocklist import parse_prefix
from cdnctl.defence.feeds.prefixes import code_of
from cdnctl.errors import CdnctlError

Kind = Literal["blocks", "ranges", "either"]
"""Whom it is about: attackers, a provider's own servers, or it does not say."""

MISTAKES_SHOWN = 10
_MISTAKES_READ = 10_000
"""After so many it is clear that this is no list; the rest is not looked at."""
_VALUE_SHOWN = 60
_V4, _V6 = socket.AF_INET, socket.AF_INET6
_LENGTHS = {"": 32, **{str(length): length for length in range(33)}}
_BEYOND = [((1 << (32 - length)) - 1) << 6 for length in range(33)]
"""By length: the bits of a code that must be 0."""
_LENGTHS6 = {"": 128, **{str(length): length for length in range(129)}}
_BEYOND6 = [((1 << (128 - length)) - 1) << 8 for length in range(129)]
_MAPPED = 0xFFFF
_inet_pton = socket.inet_pton
_from_bytes = int.from_bytes
MINUTE_S = 60


class FeedError(CdnctlError):
    """A list that cannot be used; what was good before stays in force."""


class HopelessError(Exception):
    """So many mistakes that reading on is a waste."""

    def __init__(self, entries: Entries) -> None:
        super().__init__()
        self.entries = entries


class Mistake(NamedTuple):
    """What is wrong in one place."""

    line: int
    value: str
    why: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.why}"


class Entry(NamedTuple):
    """A prefix as it was found."""

    version: int
    code: int
    line: int


class Group:
    """Entries of one lifetime, in the list's order; arrays, for there may be a million."""

    def __init__(self) -> None:
        self.v4, self.lines4 = array("Q"), array("L")
        self.v6: list[int] = []
        self.lines6 = array("L")

    def __len__(self) -> int:
        return len(self.v4) + len(self.v6)

    def __iter__(self) -> Iterator[Entry]:
        for code, line in zip(self.v4, self.lines4, strict=True):
            yield Entry(4, code, line)
        for code, line in zip(self.v6, self.lines6, strict=True):
            yield Entry(6, code, line)

    def line_of(self, version: int, code: int) -> int:
        """Where the entry stands first."""
        return self.lines4[self.v4.index(code)] if version == 4 else self.lines6[self.v6.index(code)]


class Entries:
    """Collects what a list says. Prefixes wider than the block list takes are in it, too: whoever
    screens them has to say so."""

    def __init__(self, kind: Kind = "either") -> None:
        self.kind = kind
        self.format = ""
        """In words."""
        self.groups: dict[int | None, Group] = {}
        """By lifetime in seconds, in whole minutes, from when the list was made; None: as long as they
        are on it."""
        self.mistakes: list[Mistake] = []
        """The first `MISTAKES_SHOWN`."""
        self.mistakes_total = 0
        self.passed_over: dict[str, int] = {}
        """How many entries were right but nothing for us, by why."""

    def __len__(self) -> int:
        return sum(map(len, self.groups.values()))

    def group(self, lifetime_s: float | None = None) -> Group:
        """The entries with this lifetime."""
        key = None if lifetime_s is None else max(1, -int(-lifetime_s // MINUTE_S)) * MINUTE_S
        return self.groups.setdefault(key, Group())

    def add(self, text: str, line: int, lifetime_s: float | None = None) -> None:
        """An address or prefix as text; a mistake is noted."""
        self.add_to(self.group(lifetime_s), text, line)

    def add_to(self, group: Group, text: str, line: int) -> None:
        """The same where the group is known."""
        address, slash, tail = text.partition("/")
        try:
            if ":" not in address:
                length = _LENGTHS[tail]
                code = _from_bytes(_inet_pton(_V4, address), "big") << 6 | length
                if not code & _BEYOND[length] and (tail or not slash):
                    group.v4.append(code)
                    group.lines4.append(line)
                    return
            else:
                length = _LENGTHS6[tail]
                code = _from_bytes(_inet_pton(_V6, address), "big") << 8 | length
                # Addresses of IPv4 in IPv6's form are rare enough for the long way.
                if not code & _BEYOND6[length] and (tail or not slash) and code >> 40 != _MAPPED:
                    group.v6.append(code)
                    group.lines6.append(line)
                    return
        except (OSError, KeyError, ValueError):
            pass
        self._add_slowly(group, text, line)

    def add_range(self, first: str, last: str, line: int, lifetime_s: float | None = None) -> None:
        """All addresses from `first` to `last`."""
        try:
            low, high = ip_address(first), ip_address(last)
            networks = list(summarize_address_range(low, high))
        except (ValueError, TypeError):
            self.wrong(line, f"{first}-{last}", "is no range; write the lower address, '-', the higher")
            return
        for network in networks:
            self.add(str(network), line, lifetime_s)

    def wrong(self, line: int, value: object, why: str) -> None:
        """Note a mistake: `why` reads on from the value and holds the remedy."""
        self.mistakes_total += 1
        if len(self.mistakes) < MISTAKES_SHOWN:
            shown = value if isinstance(value, str) else repr(value)
            self.mistakes.append(Mistake(line, shown, f"{clipped(shown)} {why}"))
        if self.mistakes_total >= _MISTAKES_READ:
            raise HopelessError(self)

    def pass_over(self, why: str, count: int = 1) -> None:
        """An entry that is right but nothing for us."""
        self.passed_over[why] = self.passed_over.get(why, 0) + count

    def require_right(self, name: str) -> Entries:
        """Itself, if no mistake was noted; raises FeedError with the first of them."""
        if not self.mistakes:
            return self
        more = self.mistakes_total - len(self.mistakes)
        lines = [*map(str, self.mistakes), *([f"and {more} more"] if more else [])]
        raise FeedError(
            f"{clipped(name, 200)} cannot be used as {self.format}; nothing of it was taken:\n"
            + "\n".join(f"  {line}" for line in lines),
            "mend these lines, or have whoever publishes it do so; until then the last good list stays",
        )

    def _add_slowly(self, group: Group, text: str, line: int) -> None:
        """Whatever is not plain: IPv4 in IPv6's form, netmasks, prefixes wider than may be, mistakes."""
        bare = text.strip()
        version: int
        try:
            network = parse_prefix(bare)
            version, code = network.version, code_of(network)
        except ValueError as error:
            wide = _wide(bare)
            if wide is None:
                self.wrong(line, bare, str(error).removeprefix(repr(bare)).removeprefix(bare).strip())
                return
            version, code = wide
        (group.v4 if version == 4 else group.v6).append(code)
        (group.lines4 if version == 4 else group.lines6).append(line)


def _wide(text: str) -> tuple[int, int] | None:
    """Version and code of a prefix that is right, but wider than the block list takes: whoever screens
    the list says so."""
    try:
        network = ip_network(text)
    except ValueError:
        return None
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        number = int(network.network_address)
        return (4, (number & 0xFFFFFFFF) << 6 | network.prefixlen - 96) if number >> 32 == _MAPPED else None
    return network.version, code_of(network)


def clipped(text: str, most: int = _VALUE_SHOWN) -> str:
    """For a message: printable, on one line, and not too long."""
    clean = "".join(char if char.isprintable() else "?" for char in text[: most + 1])
    return clean if len(clean) <= most else f"{clean[:most]}..."
