"""A great many prefixes as the kernel's keys.

A list may have a million, nearly all of them single IPv4 addresses: their keys are made column by column,
a byte of all of them at a time, not one by one.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPV4LENGTH, IPv4Network
from typing import NamedTuple

from cdnctl.datapath import abi
from cdnctl.datapath.kernel import Map

WHOLE = abi.prefix_key(IPv4Network("0.0.0.0/32"))[:4]
"""How the key of a single address begins, of either family; the rest is its key among single addresses."""
_WHOLE4 = abi.prefix_key(IPv4Network("0.0.0.0/32"))[:-4]
_NUMBER, _END = 4, 8
"""Bytes of an IPv4 address, and of an end."""
_MAPPED_BITS = 96
BLOCK = struct.Struct("=QQII")
"""struct block: its end on the kernel's clock, hits, length of its prefix, nothing."""
_MAPPED4 = _WHOLE4[4:]
_PREFIX4 = struct.Struct("=I12s")
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


class Sorted(NamedTuple):
    """What is wanted, by kind; each with its end on the kernel's clock."""

    addresses: list[int]
    """Single IPv4 addresses, as numbers."""
    ends: list[int]
    """Theirs, one each."""
    others: dict[bytes, int]
    """Everything else, by its key in the trie."""

    def all(self) -> dict[bytes, int]:
        """Ends by the key in the trie."""
        packed, size = _packed(_WHOLE4, self.addresses), len(_WHOLE4) + _NUMBER
        keys = [packed[at : at + size] for at in range(0, len(packed), size)]
        return dict(zip(keys, self.ends, strict=True)) | self.others


def merged(one: Sorted, other: Sorted) -> Sorted:
    """What is wanted by either; by both, until the later end."""
    few, many = sorted((one, other), key=lambda each: len(each.addresses) + len(each.others))
    ends = dict(zip(few.addresses, few.ends, strict=True))
    if not ends:
        return Sorted(many.addresses, many.ends, _latest(many.others, few.others))
    addresses, kept = many.addresses[:], many.ends[:]
    for place, address in enumerate(many.addresses):
        if address in ends:
            kept[place] = later(kept[place], ends.pop(address))
    addresses += ends
    kept += ends.values()
    return Sorted(addresses, kept, _latest(many.others, few.others))


def apart(found: Sorted, known: Mapping[bytes, bytes]) -> tuple[Sorted, tuple[list[int], list[int]]]:
    """The single addresses that the kernel has not, and those that it has."""
    if not known:
        return found, ([], [])
    size = len(_WHOLE4)
    held = {int.from_bytes(key[size:], "big") for key in known if key.startswith(_WHOLE4)}
    pairs = list(zip(found.addresses, found.ends, strict=True))
    old = [pair for pair in pairs if pair[0] in held]
    new = [pair for pair in pairs if pair[0] not in held] if old else pairs
    return (
        Sorted([address for address, _ in new], [end for _, end in new], {}),
        ([address for address, _ in old], [end for _, end in old]),
    )


def _latest(one: dict[bytes, int], other: dict[bytes, int]) -> dict[bytes, int]:
    if not other:
        return one
    return one | {key: later(end, one[key]) if key in one else end for key, end in other.items()}


def later(one_ns: int, other_ns: int) -> int:
    """The later of two ends, of which 0 is never."""
    return max(one_ns, other_ns) if one_ns and other_ns else 0


def of_codes(length_bits: int, codes: Iterable[int], end_ns: int) -> Sorted:
    """IPv4 prefixes as numbers, the address and then their length in so many bits; one end for all."""
    addresses, others = list[int](), dict[bytes, int]()
    whole = (1 << length_bits) - 1
    for code in codes:
        length = code & whole
        if length == IPV4LENGTH:
            addresses.append(code >> length_bits)
        else:
            others[
                _PREFIX4.pack(length + _MAPPED_BITS, _MAPPED4) + (code >> length_bits).to_bytes(4, "big")
            ] = end_ns
    return Sorted(addresses, [end_ns] * len(addresses), others)


def on_clock(wall_ns: int, began_ns: int) -> int:
    """A wall time on the clock that began then; 0 (never) stays, and what is long past is 1."""
    return wall_ns and max(1, wall_ns - began_ns)


def sort(wanted: Mapping[abi.AnyNetwork, int], began_ns: int) -> Sorted:
    """Wanted ends are wall time, 0 is never; the kernel's clock began at `began_ns`."""
    addresses, ends, others = list[int](), list[int](), dict[bytes, int]()
    for network, wall_ns in wanted.items():
        end_ns = on_clock(wall_ns, began_ns)
        if type(network) is IPv4Network and network.prefixlen == IPV4LENGTH:
            addresses.append(int(network.network_address))
            ends.append(end_ns)
        else:
            others[abi.prefix_key(network)] = end_ns
    return Sorted(addresses, ends, others)


def _packed(first: bytes, addresses: Sequence[int]) -> bytes:
    """Keys that begin with `first` and end with an address."""
    numbers = array("I", addresses)
    if sys.byteorder == "little":
        numbers.byteswap()
    keys = bytearray((first + bytes(_NUMBER)) * len(addresses))
    _set_columns(keys, len(first), len(first) + _NUMBER, numbers.tobytes(), _NUMBER)
    return bytes(keys)


def _set_columns(rows: bytearray, at: int, size: int, fields: bytes, width: int) -> None:
    """Put a field of `width` bytes into each row of `size`, from its byte `at` on."""
    for column in range(width):
        rows[at + column :: size] = fields[column::width]
