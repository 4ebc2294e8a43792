"""The block list in the kernel: two tables, and the bits in front of them.

`block_exact` has single addresses, `block_prefix` everything shorter, and `block_bits` two bits for
each /24, so that a packet from a /24 in which nothing is blocked looks at neither. Bits are set before
an entry is written and cleared after it is gone: at worst a packet looks in vain.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from ipaddress import IPv4Network
from pathlib import Path

from cdnctl.datapath import abi
from cdnctl.datapath.kernel import Map

_EVERY_PREFIX_BIT = 0xAAAA_AAAA_AAAA_AAAA
_PAIRS_PER_WORD = 32


def to_monotonic_ns(wall_ns: int) -> int:
    """A wall time on the kernel's clock; 0 (never) stays, and what is long past is 1."""
    if not wall_ns:
        return 0
    return max(1, wall_ns - time.time_ns() + time.monotonic_ns())


def _range(network: IPv4Network) -> tuple[int, int]:
    """First and last /24 that the network touches."""
    first = int(network.network_address)
    return first >> 8, (first + network.num_addresses - 1) >> 8


class Bits:
    """Two bits for each /24; counts in here tell when one may be cleared."""

    def __init__(self, table: Map) -> None:
        self._words = memoryview(table.memory()).cast("Q")
        self._exact: Counter[int] = Counter()
        self._prefixes: set[IPv4Network] = set()

    def add(self, network: IPv4Network) -> None:
        """Mark what the network touches."""
        if network.prefixlen == 32:
            prefix = _range(network)[0]
            self._exact[prefix] += 1
            self._set(prefix, abi.BLOCK_EXACT)
        else:
            self._prefixes.add(network)
            self._mark(*_range(network))

    def remove(self, network: IPv4Network) -> None:
        """Clear what nothing else touches."""
        if network.prefixlen == 32:
            prefix = _range(network)[0]
            self._exact[prefix] -= 1
            if self._exact[prefix] <= 0:
                del self._exact[prefix]
                self._clear(prefix, abi.BLOCK_EXACT)
            return
        self._prefixes.discard(network)
        first, last = _range(network)
        others = [_range(other) for other in self._prefixes]
        touching = [(low, high) for low, high in others if low <= last and high >= first]
        if any(low <= first and high >= last for low, high in touching):
            return
        for prefix in range(first, last + 1):
            if not any(low <= prefix <= high for low, high in touching):
                self._clear(prefix, abi.BLOCK_PREFIX)

    def clear(self) -> None:
        """Forget everything."""
        self._exact.clear()
        self._prefixes.clear()
        for word in range(len(self._words)):
            if self._words[word]:
                self._words[word] = 0

    def _set(self, prefix: int, bit: int) -> None:
        self._words[prefix // _PAIRS_PER_WORD] |= bit << (prefix % _PAIRS_PER_WORD * 2)

    def _clear(self, prefix: int, bit: int) -> None:
        self._words[prefix // _PAIRS_PER_WORD] &= ~(bit << (prefix % _PAIRS_PER_WORD * 2))

    def _mark(self, first: int, last: int) -> None:
        while first <= last:
            if first % _PAIRS_PER_WORD == 0 and first + _PAIRS_PER_WORD - 1 <= last:
                self._words[first // _PAIRS_PER_WORD] |= _EVERY_PREFIX_BIT
                first += _PAIRS_PER_WORD
            else:
                self._set(first, abi.BLOCK_PREFIX)
                first += 1


class KernelBlocks:
    """Writes wanted prefixes into the kernel. Lifetimes are wall time in nanoseconds, 0 means never."""

    def __init__(self, pins: Path) -> None:
        self._exact = Map.pinned(pins / "block_exact")
        self._prefix = Map.pinned(pins / "block_prefix")
        self._bits = Bits(Map.pinned(pins / "block_bits"))
        self._held: set[IPv4Network] = set()

    def load(self, wanted: Mapping[IPv4Network, int]) -> None:
        """Make the kernel hold exactly `wanted`; hits of what stays are kept."""
        self._bits.clear()
        self._held.clear()
        known: dict[IPv4Network, int] = {}
        for table in (self._exact, self._prefix):
            for key, value in table.items():
                network = _network(key)
                known[network] = abi.Block.from_buffer_copy(value).hits
                if network not in wanted:
                    table.delete(key)
        for network, expires_ns in wanted.items():
            self._put(network, expires_ns, known.get(network, 0))

    def put(self, network: IPv4Network, expires_ns: int) -> None:
        """Add a prefix, or change when it ends."""
        self._put(network, expires_ns, self.hits(network))

    def remove(self, network: IPv4Network) -> None:
        """Take a prefix out, if the kernel has not done so already."""
        self._table(network).delete(_key(network))
        if network in self._held:
            self._held.discard(network)
            self._bits.remove(network)

    def hits(self, network: IPv4Network) -> int:
        """Packets it dropped, estimated; 0 when the kernel does not have it."""
        value = self._table(network).get(_key(network))
        if value is None:
            return 0
        entry = abi.Block.from_buffer_copy(value)
        return int(entry.hits) if entry.length == network.prefixlen else 0

    def count(self) -> int:
        """How many prefixes were written and not taken out again; the kernel may have expired some."""
        return len(self._held)

    def _put(self, network: IPv4Network, expires_ns: int, hits: int) -> None:
        if network not in self._held:
            self._held.add(network)
            self._bits.add(network)
        entry = abi.Block(expires_ns=to_monotonic_ns(expires_ns), hits=hits, length=network.prefixlen)
        self._table(network).put(_key(network), bytes(entry))

    def _table(self, network: IPv4Network) -> Map:
        return self._exact if network.prefixlen == 32 else self._prefix


def _key(network: IPv4Network) -> bytes:
    address = network.network_address.packed
    if network.prefixlen == 32:
        return address
    return network.prefixlen.to_bytes(4, "little") + address


def _network(key: bytes) -> IPv4Network:
    if len(key) == 4:
        return IPv4Network((key, 32))
    return IPv4Network((key[4:], int.from_bytes(key[:4], "little")))
