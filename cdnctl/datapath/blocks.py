"""The block list in the kernel: two tables, and the hints in front of them.

Single addresses are in lines and a hash (cdnctl.datapath.lines), everything shorter in `block_prefix`; the
hints (cdnctl.datapath.hints) keep packets of networks in which nothing is blocked away from either. Hints
are set before an entry is written and cleared after it is gone: at worst a packet looks in vain.

In here a prefix is its key in the kernel's trie: a list may have a million, and bytes are made, hashed
and compared many times faster than networks.
"""

from __future__ import annotations

import heapq
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from cdnctl.datapath import abi, packing
from cdnctl.datapath.hints import Hints
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.lines import FULL, Addresses
from cdnctl.datapath.packing import BLOCK, WHOLE, Entries

_SAME_END_NS = 100_000_000
"""An end is the same if it is this close: it may be rounded up by a tick (abi.BLOCK_TICK_LOG), and wall time
and the kernel's clock drift apart a little."""
_LAPSING_NS = 100_000_000
"""An entry that ends this soon may be over for the kernel by now, or gone."""
_LENGTH = struct.Struct("=I")
_Write = Callable[[], None]
Codes = Iterable[tuple[int, int, Iterable[int], Iterable[abi.AnyNetwork]]]
"""Prefixes as numbers: their end (wall time in nanoseconds, 0 is never), the bits that tell a length, those
of IPv4 so, and those of IPv6 as networks."""


def to_monotonic_ns(wall_ns: int) -> int:
    """A wall time on the kernel's clock; 0 (never) stays, and what is long past is 1."""
    return packing.on_clock(wall_ns, _began_ns())


def _began_ns() -> int:
    return time.time_ns() - time.monotonic_ns()


class _Entry(NamedTuple):
    """struct block: what the kernel knows of a prefix."""

    expires_ns: int
    hits: int
    length: int
    pad: int = 0


class Differences(NamedTuple):
    """Of what is wanted and what the kernel enforces."""

    missing: list[abi.AnyNetwork]
    excess: list[abi.AnyNetwork]
    otherwise: list[abi.AnyNetwork]
    """Enforced, but until another time."""


class KernelBlocks:
    """Writes wanted prefixes into the kernel. Lifetimes are wall time in nanoseconds, 0 means never."""

    def __init__(self, pins: Path) -> None:
        self._exact = Addresses(pins)
        self._prefix = Map.pinned(pins / "block_prefix")
        self._hints = Hints(
            Map.pinned(pins / "block_bits"), Map.pinned(pins / "block6_bits"), Map.pinned(pins / "block_wide")
        )
        self._held: dict[bytes, int] = {}
        """What was written and not taken out again, with its end on the kernel's clock."""
        self._ends: list[tuple[int, bytes]] = []
        """A heap of ends; those that were changed since stay until due."""
        self._ended: set[bytes] = set()
        """Of what is held, what the kernel has let go by itself."""

    def load(self, wanted: Mapping[abi.AnyNetwork, int], more: Codes = (), *, keep: bool = False) -> None:
        """Make the kernel hold exactly `wanted` and `more`; hits of what stays are kept.

        What was blocked and stays so is blocked at every moment: entries come first, then their hints,
        and only then does anything go; with `keep` nothing does. Raises OSError; then nothing was opened.
        """
        known, found = self._known(), self._found(wanted, more)
        # nobody is to wait for the kernel who has something to count meanwhile
        with ThreadPoolExecutor(1) as kernel:
            writing = kernel.submit(self._write_missing, found, known)
            plan, ends = self._hints.plan(found.others, found.addresses), found.all()
            late = writing.result()
        self._hints.open_to(plan)
        if keep:
            for write in late:
                write()
            self._hold(ends)
            return
        gone = [key for key in known if key not in ends]
        self._exact.delete_all(key[4:] for key in gone if key.startswith(WHOLE))
        self._prefix.delete_all(key for key in gone if not key.startswith(WHOLE))
        for write in late:
            write()
        self._exact.recount()
        self._hints.close_to(plan)
        self._hold(ends)

    def _hold(self, ends: dict[bytes, int]) -> None:
        self._held, self._ended = ends, set()
        self._ends = [(end, key) for key, end in ends.items() if end]
        heapq.heapify(self._ends)

    def _found(self, wanted: Mapping[abi.AnyNetwork, int], more: Codes) -> packing.Sorted:
        """All that is wanted, on the kernel's clock."""
        began_ns = _began_ns()
        found = packing.sort(wanted, began_ns)
        for end_ns, length_bits, codes4, networks6 in more:
            end = packing.on_clock(end_ns, began_ns)
            found = packing.merged(found, packing.of_codes(length_bits, codes4, end))
            others = {abi.prefix_key(network): end for network in networks6}
            found = packing.merged(found, packing.Sorted([], [], others))
        return found

    def put(self, network: abi.AnyNetwork, expires_ns: int) -> bool:
        """Add a prefix, or change when it ends. Raises OSError, and then all is as it was.

        Returns whether it may have been free until now: live flows that were let through must ask
        again.
        """
        key, end_ns = abi.prefix_key(network), to_monotonic_ns(expires_ns)
        before = self._find(key)
        new = key not in self._held
        if new:
            self._hints.add(key)
        try:
            self._write(key, _entry(key, end_ns, 0 if before is None else before.hits))
        except OSError:
            if new:
                self._hints.remove(key)
            raise
        self._held[key] = end_ns
        self._ended.discard(key)
        if end_ns:
            heapq.heappush(self._ends, (end_ns, key))
        return before is None or bool(
            before.expires_ns and before.expires_ns <= time.monotonic_ns() + _LAPSING_NS
        )

    def remove(self, network: abi.AnyNetwork) -> None:
        """Take a prefix out, if the kernel has not done so already. Raises OSError; it then stays."""
        key = abi.prefix_key(network)
        self._delete(key, ended=key in self._held)
        if self._held.pop(key, None) is not None:
            self._ended.discard(key)
            self._hints.remove(key)

    def differences(self, wanted: Mapping[abi.AnyNetwork, int], more: Codes = ()) -> Differences:
        """How the kernel's tables differ from what is wanted; what is about to end counts as gone."""
        soon_ns, ends = time.monotonic_ns() + _LAPSING_NS, self._found(wanted, more).all()
        known = {key: _unpack(value).expires_ns for key, value in self._known().items()}
        live = {key for key, end in known.items() if not 0 < end <= soon_ns}
        due = {key for key, end in ends.items() if not 0 < end <= soon_ns}
        return Differences(
            [abi.network(key) for key in due - live],
            [abi.network(key) for key in live - ends.keys()],
            [abi.network(key) for key in due & live if not _same_end(known[key], ends[key])],
        )

    def hits(self, network: abi.AnyNetwork) -> int:
        """Packets it dropped, estimated; 0 when the kernel does not have it."""
        entry = self._find(abi.prefix_key(network))
        return 0 if entry is None else entry.hits

    def end_ns(self, network: abi.AnyNetwork) -> int | None:
        """When it ends, on the kernel's clock, 0 for never; None when the kernel does not have it."""
        entry = self._find(abi.prefix_key(network))
        return None if entry is None else entry.expires_ns

    def __len__(self) -> int:
        """How many were written and not taken out again."""
        return len(self._held)

    def count(self) -> int:
        """How many prefixes the kernel enforces: what was written, less what it has ended by itself."""
        now_ns = time.monotonic_ns()
        while self._ends and self._ends[0][0] <= now_ns:
            end, key = heapq.heappop(self._ends)
            if self._held.get(key) == end:
                self._ended.add(key)
        return len(self._held) - len(self._ended)

    # -- the tables --

    def _known(self) -> dict[bytes, bytes]:
        """What the kernel holds, as it holds it."""
        return {WHOLE + address: value for address, value in self._exact.items()} | dict(self._prefix.items())

    def _write_missing(self, found: packing.Sorted, known: Mapping[bytes, bytes]) -> list[_Write]:
        """Write what the kernel has not. What finds no room comes back: what has to go takes it up."""
        late = []
        for write in self._missing(found, known):
            try:
                write()
            except OSError as error:
                if error.errno not in FULL:
                    raise
                late.append(write)
        return late

    def _missing(self, found: packing.Sorted, known: Mapping[bytes, bytes]) -> list[_Write]:
        """What to write into either table, with the hits so far."""
        # Those that are not known need no entries of their own, nor to be compared with anything.
        new, old = packing.apart(found, known)
        left = self._exact.add_all(new.addresses, new.ends) if new.addresses else []
        others = [address for address, _ in left], [end for _, end in left]
        wanted = packing.Sorted(*others, found.others).all() | packing.Sorted(*old, {}).all()
        singles: dict[bytes, bytes] = {}
        prefixes: dict[bytes, bytes] = {}
        for key, end in wanted.items():
            before = _unpack(known[key]) if key in known else None
            if before is None or not _same_end(before.expires_ns, end):
                entry = _entry(key, end, 0 if before is None else before.hits)
                if key.startswith(WHOLE):
                    singles[key[4:]] = entry
                else:
                    prefixes[key] = entry
        entries = Entries.of(prefixes)
        return [lambda: self._exact.put_all(singles), lambda: entries.write(self._prefix)]

    def _find(self, key: bytes) -> _Entry | None:
        value = self._exact.get(key[4:]) if key.startswith(WHOLE) else self._prefix.get(key)
        if value is None:
            return None
        entry = _unpack(value)
        # a trie finds the longest match; this may be the entry of a shorter prefix
        return entry if entry.length == _length(key) else None

    def _write(self, key: bytes, value: bytes) -> None:
        if key.startswith(WHOLE):
            self._exact.put(key[4:], value)
        else:
            self._prefix.put(key, value)

    def _delete(self, key: bytes, *, ended: bool) -> None:
        if key.startswith(WHOLE):
            self._exact.delete(key[4:], ended=ended)
        else:
            self._prefix.delete(key)


def _same_end(one_ns: int, other_ns: int) -> bool:
    if not one_ns or not other_ns:
        return one_ns == other_ns
    return abs(one_ns - other_ns) < _SAME_END_NS


def _length(key: bytes) -> int:
    return int(_LENGTH.unpack_from(key)[0])


def _unpack(value: bytes) -> _Entry:
    return _Entry._make(BLOCK.unpack(value))


def _entry(key: bytes, end_ns: int, hits: int) -> bytes:
    return BLOCK.pack(end_ns, hits, _length(key), 0)
