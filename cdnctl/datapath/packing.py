"""A great many prefixes as the kernel's keys.

A list may have a million, nearly all of them single IPv4 addresses: these go as numbers, all else as the
keys of the kernel's trie.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPV4LENGTH, IPv4Network
from typing import NamedTuple

from cdnctl.datapath import abi
from cdnctl.datapath.kernel import Map

WHOLE = abi.prefix_key(IPv4Network("0.0.0.0/32"))[:4]
"""How the key of a single address begins, of either family; the rest is its key among single addresses."""
BLOCK = struct.Struct("=QQII")
"""struct block: its end on the kernel's clock, hits, length of its prefix, nothing."""
_AT_ONCE = 65_536
"""Entries in a call of the kernel."""


@dataclass(frozen=True)
class Entries:
    """Many entries of a table: their keys and their values, each one behind the other."""

    count: int
    keys: bytes
    values: bytes

    @classmethod
    def of(cls, entries: Mapping[bytes, bytes]) -> Entries:
        """By their keys."""
        return cls(len(entries), b"".join(entries), b"".join(entries.values()))

    def write(self, table: Map) -> None:
        """Put them into the table; what is written when it fails stays. Raises OSError."""
        if not self.count:
            return
        key, value = len(self.keys) // self.count, len(self.values) // self.count
        keys, values = memoryview(self.keys), memoryview(self.values)
        for at in range(0, self.count, _AT_ONCE):
            until = min(at + _AT_ONCE, self.count)
            table.put_batch(
                until - at, bytes(keys[at * key : until * key]), bytes(values[at * value : until * value])
            )


class Wanted(NamedTuple):
    """What is to be held, each with its end as wall time; 0 is never."""

    addresses: Sequence[int]
    """Single IPv4 addresses, as numbers."""
    ends: Sequence[int]
    """Theirs, one each."""
    others: Mapping[abi.AnyNetwork, int] | Mapping[abi.AnyNetwork | bytes, int]
    """All else; some may be keys of the trie already."""


class Sorted(NamedTuple):
    """What is wanted, by kind; each with its end on the kernel's clock."""

    addresses: list[int]
    """Single IPv4 addresses, as numbers."""
    ends: list[int]
    """Theirs, one each."""
    others: dict[bytes, int]
    """Everything else, by its key in the trie."""

    def numbers(self) -> array[int]:
        """The addresses as they stand in a packet: as the kernel's lines have them."""
        numbers = array("I", self.addresses)
        if sys.byteorder == "little":
            numbers.byteswap()
        return numbers


def on_clock(wall_ns: int, began_ns: int) -> int:
    """A wall time on the clock that began then; 0 (never) stays, and what is long past is 1."""
    return wall_ns and max(1, wall_ns - began_ns)


def sort(wanted: Wanted | Mapping[abi.AnyNetwork, int], began_ns: int) -> Sorted:
    """Wanted ends are wall time, 0 is never; the kernel's clock began at `began_ns`."""
    if not isinstance(wanted, Wanted):
        wanted = _by_kind(wanted)
    ends = [wall_ns and max(1, wall_ns - began_ns) for wall_ns in wanted.ends]
    others = {
        network if isinstance(network, bytes) else abi.prefix_key(network): on_clock(wall_ns, began_ns)
        for network, wall_ns in wanted.others.items()
    }
    return Sorted(list(wanted.addresses), ends, others)


def _by_kind(wanted: Mapping[abi.AnyNetwork, int]) -> Wanted:
    addresses, ends, others = list[int](), list[int](), dict[abi.AnyNetwork, int]()
    for network, wall_ns in wanted.items():
        if type(network) is IPv4Network and network.prefixlen == IPV4LENGTH:
            addresses.append(int(network.network_address))
            ends.append(wall_ns)
        else:
            others[network] = wall_ns
    return Wanted(addresses, ends, others)
