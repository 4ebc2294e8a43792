"""Regions from a file: a prefix and a label a line, as geographic data bases export them.

    192.0.2.0/24,eu
    2001:db8::/32,us

The longest prefix wins, as in the kernel. Prefixes are joined as far as that changes no address's region.
"""

from __future__ import annotations

import csv
import io
import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from cdnctl.defence.blocklist import Network, covers
from cdnctl.defence.feeds.prefixes import code_of, network_of
from cdnctl.errors import CdnctlError
from cdnctl.paths import NAME

MOST_BYTES = 64 << 20
_MISTAKES_SHOWN = 10
_HEADINGS = ("cidr", "network", "prefix", "range", "subnet", "ip")


class RegionError(CdnctlError):
    """A file of regions that cannot be used; nothing of it was taken."""


class Regions(NamedTuple):
    """What a file says."""

    prefixes: dict[str, list[Network]]
    """By label, joined; IPv4 first, in order."""
    lines: int
    """Entries as they stand in it."""

    @property
    def total(self) -> int:
        """Prefixes when joined."""
        return sum(map(len, self.prefixes.values()))


def parse(data: bytes, name: str = "the file") -> Regions:
    """The regions of a file, or a RegionError with every mistake's line and remedy."""
    if len(data) > MOST_BYTES:
        raise RegionError(
            f"{name} is larger than {MOST_BYTES >> 20} MB", "leave regions out that you do not use"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RegionError(f"{name}, line {line}: this is not UTF-8", "export it as UTF-8 text") from None
    labels: dict[int, dict[int, str]] = {4: {}, 6: {}}
    mistakes: list[str] = []
    lines = 0
    for line, fields in _rows(text, mistakes):
        lines += 1
        problem = _add(labels, fields)
        if problem:
            mistakes.append(f"line {line}: {problem}")
    if mistakes:
        more = len(mistakes) - _MISTAKES_SHOWN
        shown = [*mistakes[:_MISTAKES_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        raise RegionError(
            f"{name} cannot be used; nothing of it was taken:\n" + "\n".join(f"  {each}" for each in shown),
            "write a prefix and a label a line, as in 192.0.2.0/24,eu",
        )
    if not lines:
        raise RegionError(
            f"{name} has no entries", "write a prefix and a label a line, as in 192.0.2.0/24,eu"
        )
    prefixes: dict[str, list[Network]] = {}
    for version in (4, 6):
        for code, label in _joined(version, labels[version]):
            prefixes.setdefault(label, []).append(network_of(version, code))
    return Regions(prefixes, lines)


def _rows(text: str, mistakes: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and fields, without comments and a heading."""
    rows = csv.reader(io.StringIO(text), strict=True)
    is_first = True
    while True:
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            mistakes.append(f"line {rows.line_num}: this is not CSV: {error}")
            return
        fields = [field.strip() for field in fields]
        if not any(fields) or fields[0].startswith("#"):
            continue
        if is_first and fields[0].lower() in _HEADINGS:
            is_first = False
            continue
        is_first = False
        yield rows.line_num, fields


def _add(labels: dict[int, dict[int, str]], fields: list[str]) -> str:
    """What is wrong with a row; empty when it is taken."""
    if len(fields) != 2:
        return f"{len(fields)} fields where a prefix and a label are expected, as in 192.0.2.0/24,eu"
    text, label = fields[0], fields[1].lower()
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        return f"{_clipped(str(error))}; write a prefix without host bits, as in 192.0.2.0/24"
    if "%" in text:
        return f"{_clipped(text)} names a link; leave out the % and what follows"
    if not NAME.fullmatch(label):
        return f"{_clipped(label)!r} is no label; use 1 to 32 of a-z, 0-9 and '-'"
    known = labels[network.version].setdefault(code_of(network), label)
    return "" if known == label else f"{network} is {label} here and {known} above; keep one"


def _clipped(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:60])


def _joined(version: int, labels: dict[int, str]) -> list[tuple[int, str]]:
    """Without what lies in its like, and with halves of one label joined."""
    table = dict(labels)
    open_: list[tuple[Network, str]] = []
    for code in sorted(labels):
        network = network_of(version, code)
        while open_ and not covers(open_[-1][0], network):
            open_.pop()
        if open_ and open_[-1][1] == labels[code]:
            del table[code]
        else:
            open_.append((network, labels[code]))
    by_length: dict[int, list[int]] = {}
    for code in table:
        by_length.setdefault(network_of(version, code).prefixlen, []).append(code)
    for length in range(max(by_length, default=0), 0, -1):
        for code in by_length.get(length, ()):
            if code not in table:
                continue  # went with its other half
            whole = network_of(version, code).supernet()
            other = next(half for each in whole.subnets() if (half := code_of(each)) != code)
            # Both halves of a prefix hide what is said of the prefix itself.
            if table.get(other) == table[code] and code_of(whole) not in table:
                table[code_of(whole)] = table.pop(code)
                del table[other]
                by_length.setdefault(length - 1, []).append(code_of(whole))
    return sorted(table.items())
