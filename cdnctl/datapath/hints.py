"""The bits in front of the block list's tables: what may be blocked, before anybody asks them.

Two bits for each cell, BLOCK_EXACT and BLOCK_PREFIX. Of IPv4 a cell is a /22. Of IPv6 it is a hash of
the /48, so that what shares a cell with something blocked asks in vain; prefixes shorter than that are
in no cell but counted, and while there is one every IPv6 source asks. Counts in here tell when a bit
may be cleared.

Prefixes are the kernel's keys (struct prefix_key), which are made and compared much faster than
networks: a list may have a million.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from mmap import mmap
from typing import NamedTuple, Protocol

from cdnctl.datapath import abi

CELLS_PER_WORD = 32
CELLS6_LOG = (abi.BLOCK6_WORDS * CELLS_PER_WORD).bit_length() - 1
_FACTOR, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1
_EVERY_PREFIX_BIT = 0xAAAA_AAAA_AAAA_AAAA
_MAPPED_BITS = 96
_ADDRESS = 128
_SITE = 48
"""An IPv6 prefix of this length has a cell to itself, but for others of the same hash."""
_CELL = _MAPPED_BITS + abi.BLOCK_CELL
"""An IPv4 prefix of this length is a cell."""
_WHOLE_WORDS = _CELL - 5
"""One of this length is the cells of exactly one word; a shorter one is several whole words."""
_BELOW = 32 - abi.BLOCK_CELL
"""Bits of an IPv4 address that tell nothing of its cell."""
_COUNT = struct.Struct("=I")
_PIECE = 512  # words


def cell6(address: bytes) -> int:
    """The cell of an IPv6 address, by the hash of its /48 that bpf/guard.h has."""
    return (int.from_bytes(address[:6], "big") * _FACTOR & _MASK) >> (64 - CELLS6_LOG)


class Memory(Protocol):
    """What is needed of an array that is mapped."""

    def memory(self) -> object:
        """Its values, writable through the buffer protocol."""


class Values(Protocol):
    """What is needed of any other map."""

    def put(self, key: bytes, value: bytes) -> None:
        """Write one value."""


class Plan(NamedTuple):
    """What the kernel's hints should be."""

    ip4: array[int]
    ip6: array[int]
    wide: int


class _Cells:
    """The words of one family, and how much is in each cell."""

    def __init__(self, table: Memory) -> None:
        self.words = memoryview(table.memory()).cast("Q")  # type: ignore[arg-type]
        self.forget()

    def forget(self) -> None:
        cells = len(self.words) * CELLS_PER_WORD
        self._counts = {bit: _no_counts(cells) for bit in (abi.BLOCK_EXACT, abi.BLOCK_PREFIX)}
        """By the bit: how many entries set it in a cell."""

    def add(self, cells: Iterable[int], bit: int, words: memoryview | memoryview[int]) -> None:
        counts = self._counts[bit]
        for cell in cells:
            counts[cell] += 1
            words[cell // CELLS_PER_WORD] |= bit << (cell % CELLS_PER_WORD * 2)

    def mark(self, cells: Iterable[int], bit: int) -> None:
        for cell in cells:
            self.words[cell // CELLS_PER_WORD] |= bit << (cell % CELLS_PER_WORD * 2)

    def add_all(self, cells: Iterable[int], bit: int, words: memoryview[int]) -> None:
        """The same for a great many, of which there are none yet."""
        counts = self._counts[bit]
        for cell in cells:
            if not counts[cell]:
                words[cell // CELLS_PER_WORD] |= bit << (cell % CELLS_PER_WORD * 2)
            counts[cell] += 1

    def remove(self, cells: Iterable[int], bit: int) -> None:
        for cell in cells:
            if _is_last(self._counts[bit], cell) and not self._covered(cell // CELLS_PER_WORD, bit):
                self.words[cell // CELLS_PER_WORD] &= ~(bit << (cell % CELLS_PER_WORD * 2))

    def open_to(self, words: array[int]) -> None:
        """Set every bit of `words`, clear none."""
        for index in self._differing(words):
            self.words[index] |= words[index]

    def close_to(self, words: array[int]) -> None:
        """Exactly `words`."""
        for index in self._differing(words):
            self.words[index] = words[index]

    def _differing(self, words: array[int]) -> Iterator[int]:
        """Where they differ. In most places they do not, so they are compared by the piece first."""
        wanted = memoryview(words)
        for first in range(0, len(words), _PIECE):
            if wanted[first : first + _PIECE] != self.words[first : first + _PIECE]:
                for index in range(first, min(first + _PIECE, len(words))):
                    if words[index] != self.words[index]:
                        yield index

    def _covered(self, word: int, bit: int) -> bool:
        """Whether something else sets this bit in the whole word."""
        return False


class _Cells4(_Cells):
    """Short prefixes of IPv4 set whole words: a /8 has 512 of them, and 16,384 cells."""

    def forget(self) -> None:
        super().forget()
        self._wide: Counter[int] = Counter()

    def add_words(self, chosen: Iterable[int], words: memoryview | memoryview[int]) -> None:
        for word in chosen:
            self._wide[word] += 1
            words[word] |= _EVERY_PREFIX_BIT

    def remove_words(self, chosen: Iterable[int]) -> None:
        narrow = self._counts[abi.BLOCK_PREFIX]
        for word in chosen:
            if _released(self._wide, word):
                first = word * CELLS_PER_WORD
                left = sum(abi.BLOCK_PREFIX << (n * 2) for n in range(CELLS_PER_WORD) if narrow[first + n])
                self.words[word] &= ~_EVERY_PREFIX_BIT | left

    def _covered(self, word: int, bit: int) -> bool:
        return bit == abi.BLOCK_PREFIX and word in self._wide


class Hints:
    """Both families'. A key is added once, and removed once it was added."""

    def __init__(self, ip4: Memory, ip6: Memory, wide: Values) -> None:
        self._ip4, self._ip6 = _Cells4(ip4), _Cells(ip6)
        self._wide_count = wide
        self._wide = 0

    def add(self, key: bytes) -> None:
        """Mark what the prefix touches."""
        if self._count(key, self._ip4.words, self._ip6.words):
            self._wide_count.put(abi.key(0), _COUNT.pack(self._wide))

    def add_many(self, addresses: Iterable[int], keys: Iterable[bytes]) -> None:
        """Mark what many touch: single IPv4 addresses as numbers, all else by keys."""
        self._ip4.add((address >> _BELOW for address in addresses), abi.BLOCK_EXACT, self._ip4.words)
        for key in keys:
            self.add(key)

    def set_again(self, key: bytes) -> None:
        """Mark what a prefix touches that is counted already."""
        length, address = _COUNT.unpack_from(key)[0], key[4:]
        bit = abi.BLOCK_EXACT if length == _ADDRESS else abi.BLOCK_PREFIX
        if not _is_ipv4(address, length):
            if length >= _SITE:
                self._ip6.mark((cell6(address),), bit)
            else:
                self._wide_count.put(abi.key(0), _COUNT.pack(self._wide))
        elif length <= _WHOLE_WORDS:
            for word in _words4(address, length):
                self._ip4.words[word] |= _EVERY_PREFIX_BIT
        else:
            self._ip4.mark(_cells4(address, length), bit)

    def remove(self, key: bytes) -> None:
        """Clear what nothing else touches."""
        length, address = _COUNT.unpack_from(key)[0], key[4:]
        bit = abi.BLOCK_EXACT if length == _ADDRESS else abi.BLOCK_PREFIX
        if not _is_ipv4(address, length):
            if length >= _SITE:
                self._ip6.remove((cell6(address),), bit)
            else:
                self._wide -= 1
                self._wide_count.put(abi.key(0), _COUNT.pack(self._wide))
        elif length <= _WHOLE_WORDS:
            self._ip4.remove_words(_words4(address, length))
        else:
            self._ip4.remove(_cells4(address, length), bit)

    def plan(self, keys: Iterable[bytes], addresses: Iterable[int] = ()) -> Plan:
        """Count these and no others; what the hints should be, which are left as they are.

        Single IPv4 addresses, which long lists are of, may come as numbers instead of keys.
        """
        self._ip4.forget()
        self._ip6.forget()
        self._wide = 0
        plan4, plan6 = (array("Q", bytes(8 * len(cells.words))) for cells in (self._ip4, self._ip6))
        words4, words6 = memoryview(plan4), memoryview(plan6)
        self._ip4.add_all((address >> _BELOW for address in addresses), abi.BLOCK_EXACT, words4)
        for key in keys:
            self._count(key, words4, words6)
        return Plan(plan4, plan6, self._wide)

    def open_to(self, plan: Plan) -> None:
        """Set what is set in the plan, clear nothing."""
        self._ip4.open_to(plan.ip4)
        self._ip6.open_to(plan.ip6)
        if plan.wide:
            self._wide_count.put(abi.key(0), _COUNT.pack(plan.wide))

    def close_to(self, plan: Plan) -> None:
        """Exactly the plan."""
        self._ip4.close_to(plan.ip4)
        self._ip6.close_to(plan.ip6)
        self._wide_count.put(abi.key(0), _COUNT.pack(plan.wide))

    def _count(
        self, key: bytes, ip4: memoryview | memoryview[int], ip6: memoryview | memoryview[int]
    ) -> bool:
        """Count a prefix and mark it in these words; whether it is one that only the wide count knows."""
        length, address = _COUNT.unpack_from(key)[0], key[4:]
        bit = abi.BLOCK_EXACT if length == _ADDRESS else abi.BLOCK_PREFIX
        if not _is_ipv4(address, length):
            if length < _SITE:
                self._wide += 1
                return True
            self._ip6.add((cell6(address),), bit, ip6)
        elif length <= _WHOLE_WORDS:
            self._ip4.add_words(_words4(address, length), ip4)
        else:
            self._ip4.add(_cells4(address, length), bit, ip4)
        return False


def _is_ipv4(address: bytes, length: int) -> bool:
    return length >= _MAPPED_BITS and abi.is_ipv4(address)


def _cells4(address: bytes, length: int) -> range:
    """Every cell that the prefix touches."""
    first = int.from_bytes(address[12:16], "big") >> _BELOW
    return range(first, first + (1 << max(0, _CELL - length)))


def _words4(address: bytes, length: int) -> range:
    """The words that a prefix of `_WHOLE_WORDS` or shorter fills."""
    cells = _cells4(address, length)
    return range(cells.start // CELLS_PER_WORD, cells.stop // CELLS_PER_WORD)


def _no_counts(cells: int) -> memoryview[int]:
    """A count for each cell, all 0. Of a million entries a dictionary of cells would take ten times as much;
    and what is never counted is not touched, and takes no memory at all."""
    return memoryview(mmap(-1, 4 * cells)).cast("I")


def _is_last(counts: memoryview[int], cell: int) -> bool:
    """One less of it; whether that was the last."""
    counts[cell] = max(0, counts[cell] - 1)
    return not counts[cell]


def _released(counts: Counter[int], key: int) -> bool:
    """One less of it; whether that was the last."""
    counts[key] -= 1
    if counts[key] > 0:
        return False
    del counts[key]
    return True
