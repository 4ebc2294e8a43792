"""The block list in the kernel: two tables, and the bits in front of them.

`block_exact` has single addresses, `block_prefix` everything shorter, and `block_bits` two bits for
each /24, so that a packet from a /24 in which nothing is blocked looks at neither. Bits are set before
an entry is written and cleared after it is gone: at worst a packet looks in vain.
"""

from __future__ import annotations

import errno
import heapq
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Protocol

from cdnctl.datapath import abi
from cdnctl.datapath.kernel import Map

_EVERY_PREFIX_BIT = 0xAAAA_AAAA_AAAA_AAAA
_PAIRS_PER_WORD = 32
_WHOLE_WORDS = 19
"""A prefix of this length is the /24s of exactly one word; a shorter one is several whole words."""
_FULL = (errno.E2BIG, errno.ENOSPC)
_SAME_END_NS = 10_000_000
"""An end is the same if it is this close: wall time and the kernel's clock drift apart a little."""
_LAPSING_NS = 100_000_000
"""An entry that ends this soon may be over for the kernel by now, or gone."""


def to_monotonic_ns(wall_ns: int) -> int:
    """A wall time on the kernel's clock; 0 (never) stays, and what is long past is 1."""
    if not wall_ns:
        return 0
    return max(1, wall_ns - time.time_ns() + time.monotonic_ns())


def _range(network: IPv4Network) -> range:
    """Every /24 that the network touches."""
    first = int(network.network_address)
    return range(first >> 8, ((first + network.num_addresses - 1) >> 8) + 1)


def _words_of(network: IPv4Network) -> range:
    """The words that a network of `_WHOLE_WORDS` or shorter fills."""
    prefixes = _range(network)
    return range(prefixes.start // _PAIRS_PER_WORD, prefixes.stop // _PAIRS_PER_WORD)


class _Memory(Protocol):
    """What `Bits` needs of a map."""

    def memory(self) -> object:
        """Its values, writable through the buffer protocol."""


class Bits:
    """Two bits for each /24; counts in here tell when one may be cleared."""

    def __init__(self, table: _Memory) -> None:
        self._words = memoryview(table.memory()).cast("Q")  # type: ignore[arg-type]
        self._forget()

    def _forget(self) -> None:
        self._exact: Counter[int] = Counter()
        """Addresses, by /24."""
        self._prefixes: Counter[int] = Counter()
        """Prefixes that fill less than a word, by each /24 they touch: 16 of them at most."""
        self._wide: Counter[int] = Counter()
        """Prefixes that fill whole words, by each word: a /8 has 2,048."""

    def add(self, network: IPv4Network) -> None:
        """Mark what the network touches."""
        self._add(network, self._words)

    def remove(self, network: IPv4Network) -> None:
        """Clear what nothing else touches."""
        if network.prefixlen <= _WHOLE_WORDS:
            for word in _words_of(network):
                if _released(self._wide, word):
                    self._words[word] &= ~_EVERY_PREFIX_BIT | self._narrow(word)
            return
        exact = network.prefixlen == 32
        bit, counts = (abi.BLOCK_EXACT, self._exact) if exact else (abi.BLOCK_PREFIX, self._prefixes)
        for prefix in _range(network):
            word = prefix // _PAIRS_PER_WORD
            if _released(counts, prefix) and (exact or word not in self._wide):
                self._words[word] &= ~(bit << (prefix % _PAIRS_PER_WORD * 2))

    def plan(self, networks: Iterable[IPv4Network]) -> array[int]:
        """Count these and no others; what the words should be, which are left as they are."""
        self._forget()
        words = array("Q", bytes(8 * len(self._words)))
        for network in networks:
            self._add(network, memoryview(words))
        return words

    def open_to(self, words: array[int]) -> None:
        """Set every bit of `words`, clear none."""
        for index, word in enumerate(words):
            if word & ~self._words[index]:
                self._words[index] |= word

    def close_to(self, words: array[int]) -> None:
        """Exactly `words`."""
        for index, word in enumerate(words):
            if word != self._words[index]:
                self._words[index] = word

    def _add(self, network: IPv4Network, words: memoryview | memoryview[int]) -> None:
        if network.prefixlen <= _WHOLE_WORDS:
            for word in _words_of(network):
                self._wide[word] += 1
                words[word] |= _EVERY_PREFIX_BIT
            return
        exact = network.prefixlen == 32
        bit, counts = (abi.BLOCK_EXACT, self._exact) if exact else (abi.BLOCK_PREFIX, self._prefixes)
        for prefix in _range(network):
            counts[prefix] += 1
            words[prefix // _PAIRS_PER_WORD] |= bit << (prefix % _PAIRS_PER_WORD * 2)

    def _narrow(self, word: int) -> int:
        """The prefix bits of a word, but for prefixes that fill it."""
        first = word * _PAIRS_PER_WORD
        return sum(
            abi.BLOCK_PREFIX << (pair * 2)
            for pair in range(_PAIRS_PER_WORD)
            if first + pair in self._prefixes
        )


def _released(counts: Counter[int], key: int) -> bool:
    """One less of it; whether that was the last."""
    counts[key] -= 1
    if counts[key] > 0:
        return False
    del counts[key]
    return True


class KernelBlocks:
    """Writes wanted prefixes into the kernel. Lifetimes are wall time in nanoseconds, 0 means never."""

    def __init__(self, pins: Path) -> None:
        self._exact = Map.pinned(pins / "block_exact")
        self._prefix = Map.pinned(pins / "block_prefix")
        self._bits = Bits(Map.pinned(pins / "block_bits"))
        self._held: dict[IPv4Network, int] = {}
        """What was written and not taken out again, with its end on the kernel's clock."""
        self._ends: list[tuple[int, IPv4Network]] = []
        """A heap of ends; those that were changed since stay until due."""
        self._ended: set[IPv4Network] = set()
        """Of what is held, what the kernel has let go by itself."""

    def load(self, wanted: Mapping[IPv4Network, int]) -> None:
        """Make the kernel hold exactly `wanted`; hits of what stays are kept.

        What was blocked and stays so is blocked at every moment: entries come first, then their bits,
        and only then does anything go. Raises OSError; then nothing was opened.
        """
        known: dict[IPv4Network, abi.Block] = {}
        for table in (self._exact, self._prefix):
            for key, value in table.items():
                known[_network(key)] = abi.Block.from_buffer_copy(value)
        self._held, self._ends, self._ended = {}, [], set()
        words = self._bits.plan(wanted)
        no_room = [network for network in wanted if not self._load(network, wanted[network], known)]
        self._bits.open_to(words)
        for network in known.keys() - wanted.keys():
            self._table(network).delete(_key(network))
        for network in no_room:
            self._write(network, to_monotonic_ns(wanted[network]), 0)
        self._bits.close_to(words)

    def _load(self, network: IPv4Network, expires_ns: int, known: Mapping[IPv4Network, abi.Block]) -> bool:
        """Whether there was room; an entry that is right is left alone."""
        end, entry = to_monotonic_ns(expires_ns), known.get(network)
        if entry is not None and _same_end(entry.expires_ns, end):
            self._note(network, end)
            return True
        try:
            self._write(network, end, 0 if entry is None else entry.hits)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            return False
        return True

    def put(self, network: IPv4Network, expires_ns: int) -> bool:
        """Add a prefix, or change when it ends. Raises OSError, and then all is as it was.

        Returns whether it may have been free until now: live flows that were let through must ask
        again.
        """
        entry = self._entry(network)
        new = network not in self._held
        if new:
            self._bits.add(network)
        try:
            self._write(network, to_monotonic_ns(expires_ns), 0 if entry is None else entry.hits)
        except OSError:
            if new:
                self._bits.remove(network)
            raise
        return entry is None or bool(
            entry.expires_ns and entry.expires_ns <= time.monotonic_ns() + _LAPSING_NS
        )

    def remove(self, network: IPv4Network) -> None:
        """Take a prefix out, if the kernel has not done so already. Raises OSError; it then stays."""
        self._table(network).delete(_key(network))
        if self._held.pop(network, None) is not None:
            self._ended.discard(network)
            self._bits.remove(network)

    def hits(self, network: IPv4Network) -> int:
        """Packets it dropped, estimated; 0 when the kernel does not have it."""
        entry = self._entry(network)
        return 0 if entry is None else int(entry.hits)

    def __len__(self) -> int:
        """How many were written and not taken out again."""
        return len(self._held)

    def count(self) -> int:
        """How many prefixes the kernel enforces: what was written, less what it has ended by itself."""
        now_ns = time.monotonic_ns()
        while self._ends and self._ends[0][0] <= now_ns:
            end, network = heapq.heappop(self._ends)
            if self._held.get(network) == end:
                self._ended.add(network)
        return len(self._held) - len(self._ended)

    def _entry(self, network: IPv4Network) -> abi.Block | None:
        value = self._table(network).get(_key(network))
        if value is None:
            return None
        entry = abi.Block.from_buffer_copy(value)
        # a trie finds the longest match; this may be the entry of a shorter prefix
        return entry if entry.length == network.prefixlen else None

    def _write(self, network: IPv4Network, end_ns: int, hits: int) -> None:
        entry = abi.Block(expires_ns=end_ns, hits=hits, length=network.prefixlen)
        self._table(network).put(_key(network), bytes(entry))
        self._note(network, end_ns)

    def _note(self, network: IPv4Network, end_ns: int) -> None:
        self._held[network] = end_ns
        self._ended.discard(network)
        if end_ns:
            heapq.heappush(self._ends, (end_ns, network))

    def _table(self, network: IPv4Network) -> Map:
        return self._exact if network.prefixlen == 32 else self._prefix


def _same_end(one_ns: int, other_ns: int) -> bool:
    if not one_ns or not other_ns:
        return one_ns == other_ns
    return abs(one_ns - other_ns) < _SAME_END_NS


def _key(network: IPv4Network) -> bytes:
    address = network.network_address.packed
    if network.prefixlen == 32:
        return address
    return network.prefixlen.to_bytes(4, "little") + address


def _network(key: bytes) -> IPv4Network:
    if len(key) == 4:
        return IPv4Network((key, 32))
    return IPv4Network((key[4:], int.from_bytes(key[:4], "little")))
