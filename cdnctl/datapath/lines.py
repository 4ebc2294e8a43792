"""Single addresses of the block list: of IPv4 in lines of cells, and what is not there in a hash.

A line is as long as a cache line and has seven cells; which one an address may be in its hash says. Nearly
all find a place in theirs; others are in `block_exact`, with every address of IPv6, and their line counts
them: more of them while one comes or goes, so that at worst a packet looks in vain. The kernel only reads
the lines; hits are counted in `block_hits`, of those addresses that had some of late. A cell is one word:
whoever reads it sees the old or the new.

Keys and values are those of the hash: a packed address, and struct block.
"""

from __future__ import annotations

import errno
import struct
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cdnctl.datapath import abi
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.packing import BLOCK, Entries

FULL = (errno.E2BIG, errno.ENOSPC)
LENGTH = 128
"""Of a single address, as the trie counts."""
_FACTOR, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1
_WORDS = abi.BLOCK_CELLS + 1
_ELSEWHERE = abi.BLOCK_CELLS
"""The word of a line that counts."""
_NUMBER = struct.Struct("=I")
_END_BITS = 32
_END = (1 << _END_BITS) - 1
_LAST_TICK = abi.BLOCK_FOR_EVER - 1
_HITS = struct.Struct("=Q")
_MAPPED = bytes(10) + b"\xff\xff"


def shift_of(lines: int) -> int:
    """What of a hash is no line's number (`block_line_shift`)."""
    return 64 - (lines.bit_length() - 1)


def ticks(end_ns: int) -> int:
    """An end on the kernel's clock in a cell's ticks, rounded up; 0 is never."""
    return min((end_ns >> abi.BLOCK_TICK_LOG) + 1, _LAST_TICK) if end_ns else abi.BLOCK_FOR_EVER


def _number(key: bytes) -> int:
    """The address of a cell; 0 when it can be in none."""
    return int(_NUMBER.unpack_from(key, len(_MAPPED))[0]) if key.startswith(_MAPPED) else 0


class Addresses:
    """Both tables as one. Raises OSError when the hash has no room."""

    def __init__(self, pins: Path) -> None:
        self._hash = Map.pinned(pins / "block_exact")
        lines = Map.pinned(pins / "block_lines")
        self._hits = Map.pinned(pins / "block_hits")
        self._shift = shift_of(lines.info.max_entries)
        self._words = memoryview(lines.memory()).cast("Q")

    def get(self, key: bytes) -> bytes | None:
        """The entry of an address."""
        at = self._find(_number(key))
        if at is None:
            return self._hash.get(key)
        return _entry(self._words[at], self._hits.get(key[len(_MAPPED) :]) or _NO_HITS)

    def put(self, key: bytes, value: bytes) -> None:
        """Add an address, or change its entry."""
        number = _number(key)
        at = self._find(number)
        if at is None and number and self._hash.get(key) is None:
            at = self._free(number)
        if at is None:
            self._put_elsewhere(key, value, number)
            return
        end_ns, hits, _length, _pad = BLOCK.unpack(value)
        self._put_hits(key, hits)
        self._words[at] = number << _END_BITS | ticks(end_ns)

    def delete(self, key: bytes, *, ended: bool = False) -> None:
        """Take an address out; `ended`: it was put in, and the kernel may have taken it out by itself."""
        number = _number(key)
        at = self._find(number)
        if at is not None:
            self._words[at] = 0
        elif (self._hash.delete(key) or ended) and number:
            self._count(number, -1)

    def put_all(self, entries: Mapping[bytes, bytes]) -> None:
        """Add many, or change their entries; those that were written before it failed stay."""
        Entries.of({key: value for key, value in entries.items() if not _number(key)}).write(self._hash)
        for key, value in entries.items():
            if _number(key):
                self.put(key, value)

    def delete_all(self, keys: Iterable[bytes]) -> None:
        """The same for many."""
        for key in keys:
            self.delete(key)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All addresses with their entries."""
        words, hits = array("Q", self._words.tobytes()), dict(self._hits.items())
        for at, word in enumerate(words):
            if word and at % _WORDS != _ELSEWHERE:
                address = _NUMBER.pack(word >> _END_BITS)
                yield _MAPPED + address, _entry(word, hits.get(address, _NO_HITS))
        yield from self._hash.items()

    def ends(self) -> dict[int, int]:
        """The ends of all that have a cell, on the kernel's clock, by their numbers: of a million quickly."""
        words, never, tick = array("Q", self._words.tobytes()), abi.BLOCK_FOR_EVER, abi.BLOCK_TICK_LOG
        del words[_ELSEWHERE::_WORDS]
        return {
            word >> _END_BITS: 0 if (end := word & _END) == never else end << tick for word in words if word
        }

    def elsewhere(self) -> Iterator[tuple[bytes, bytes]]:
        """All others with their entries."""
        yield from self._hash.items()

    def add_all(self, numbers: Sequence[int], ends: Sequence[int]) -> list[tuple[int, int]]:
        """Put a great many IPv4 addresses, as numbers, with their ends, into lines that are empty.

        Returns those that found no cell.
        """
        self._hits.delete_all(list(self._hits.keys()))
        words, shift = self._words, self._shift
        room, late = bytearray(len(words) // _WORDS), list[tuple[int, int]]()
        for number, end_ns in zip(numbers, ends, strict=True):
            line = (number * _FACTOR & _MASK) >> shift
            cell = room[line]
            if cell == _ELSEWHERE or not number:
                late.append((number, end_ns))
                continue
            room[line] = cell + 1
            words[line * _WORDS + cell] = number << _END_BITS | ticks(end_ns)
        return late

    def add_new(self, numbers: Sequence[int], ends: Sequence[int]) -> list[tuple[int, int]]:
        """The same into lines that have some, of addresses that are in none."""
        words, shift, late = self._words, self._shift, list[tuple[int, int]]()
        for number, end_ns in zip(numbers, ends, strict=True):
            first = ((number * _FACTOR & _MASK) >> shift) * _WORDS
            line = words[first : first + _ELSEWHERE].tolist()
            if not number or 0 not in line or any(word >> _END_BITS == number for word in line):
                late.append((number, end_ns))
            else:
                words[first + line.index(0)] = number << _END_BITS | ticks(end_ns)
        self._hits.delete_all([_NUMBER.pack(number) for number in numbers])
        return late

    def recount(self) -> None:
        """Have each line count exactly those that are elsewhere: an agent may have ended in between."""
        numbers = filter(None, (_number(key) for key, _ in self._hash.items()))
        wanted = Counter(self._line(number) for number in numbers)
        counts = self._words[_ELSEWHERE::_WORDS].tolist()
        for line, count in enumerate(counts):
            if count and count != wanted.get(line * _WORDS, 0):
                self._words[line * _WORDS + _ELSEWHERE] = wanted.get(line * _WORDS, 0)
        for line, count in wanted.items():
            self._words[line + _ELSEWHERE] = count

    def copy_from(self, before: Addresses) -> None:
        """All that another pair of tables holds into these, which are empty, as far as there is room."""
        if len(before._words) == len(self._words):
            self._words[:] = before._words
            self._hits.put_all(dict(before._hits.items()))
        try:
            if len(before._words) == len(self._words):
                for count, keys, values in before._hash.batches():
                    self._hash.put_batch(count, keys, values)
            else:
                self.put_all(dict(before.items()))
        except OSError as error:
            if error.errno not in FULL:
                raise

    def _put_elsewhere(self, key: bytes, value: bytes, number: int) -> None:
        new = bool(number) and self._hash.get(key) is None
        if new:
            self._count(number, 1)
        try:
            self._hash.put(key, value)
        except OSError:
            if new:
                self._count(number, -1)
            raise

    def _count(self, number: int, by: int) -> None:
        """So many more addresses of its line are elsewhere."""
        at = self._line(number) + _ELSEWHERE
        self._words[at] = max(0, self._words[at] + by)

    def _line(self, number: int) -> int:
        """Where the words of its line begin."""
        return ((number * _FACTOR & _MASK) >> self._shift) * _WORDS

    def _find(self, number: int) -> int | None:
        """Where its cell is, if it has one."""
        if not number:
            return None
        line = self._line(number)
        return next(
            (at for at in range(line, line + _ELSEWHERE) if self._words[at] >> _END_BITS == number), None
        )

    def _free(self, number: int) -> int | None:
        line = self._line(number)
        return next((at for at in range(line, line + _ELSEWHERE) if not self._words[at]), None)

    def _put_hits(self, key: bytes, hits: int) -> None:
        address = key[len(_MAPPED) :]
        if hits:
            self._hits.put(address, _HITS.pack(hits))
        else:
            self._hits.delete(address)


_NO_HITS = bytes(_HITS.size)


def _entry(word: int, hits: bytes) -> bytes:
    end = word & _END
    end_ns = 0 if end == abi.BLOCK_FOR_EVER else end << abi.BLOCK_TICK_LOG
    return BLOCK.pack(end_ns, _HITS.unpack(hits)[0], LENGTH, 0)
