"""The block list in the kernel: two tables, and the hints in front of them.

Single addresses are in lines and a hash (cdnctl.datapath.lines), everything shorter in `block_prefix`; the
hints (cdnctl.datapath.hints) keep packets of networks in which nothing is blocked away from either. Hints
are set before an entry is written and cleared after it is gone: at worst a packet looks in vain.

In here a single IPv4 address is the number that a line has of it, and any other prefix its key in the
kernel's trie: a list may have a million, and these are much quicker made, hashed and compared than networks.
"""

from __future__ import annotations

import heapq
import struct
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path
from typing import NamedTuple, cast

from cdnctl.datapath import abi, packing
from cdnctl.datapath.hints import Hints
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.lines import FULL, Addresses
from cdnctl.datapath.packing import BLOCK, WHOLE, Entries, Wanted

Key = int | bytes
"""Of a prefix, as said above."""

_SAME_END_NS = 100_000_000
"""An end is the same if it is this close: it may be rounded up by a tick (abi.BLOCK_TICK_LOG), and wall time
and the kernel's clock drift apart a little."""
_LAPSING_NS = 100_000_000
"""An entry that ends this soon may be over for the kernel by now, or gone."""
_LENGTH = _NUMBER = struct.Struct("=I")
_WHOLE4 = abi.prefix_key(IPv4Network("0.0.0.0/32"))[: -_NUMBER.size]
"""How the trie's key of a single IPv4 address begins."""
_Write = Callable[[], None]


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
        self._held: dict[Key, int] = {}
        """What was written and not taken out again, with its end on the kernel's clock."""
        self._ends: list[tuple[int, bool, Key]] = []
        """A heap of ends, of numbers first; those that were changed since stay until due."""
        self._ended: set[Key] = set()
        """Of what is held, what the kernel has let go by itself."""

    def load(self, wanted: Wanted | Mapping[abi.AnyNetwork, int], *, keep: bool = False) -> None:
        """Make the kernel hold exactly `wanted`; hits of what stays are kept.

        What was blocked and stays so is blocked at every moment: entries come first, then their hints,
        and only then does anything go; with `keep` nothing does. Raises OSError; then nothing was opened.
        """
        known, found = self._known(), packing.sort(wanted, _began_ns())
        ends = _ends(found)
        # nobody is to wait for the kernel who has something to count meanwhile
        with ThreadPoolExecutor(1) as kernel:
            writing = kernel.submit(self._write_missing, found, ends, known)
            plan = self._hints.plan(found.others, found.addresses)
            late = writing.result()
        self._hints.open_to(plan)
        gone = [] if keep else [_long(key) for key in known if key not in ends]
        self._exact.delete_all(key[4:] for key in gone if key.startswith(WHOLE))
        self._prefix.delete_all(key for key in gone if not key.startswith(WHOLE))
        for write in late:
            write()
        self._exact.recount()
        if not keep:
            self._hints.close_to(plan)
        self._held, self._ended = ends, set()
        self._ends = [(end, type(key) is bytes, key) for key, end in ends.items() if end]
        heapq.heapify(self._ends)

    def put(self, network: abi.AnyNetwork, expires_ns: int) -> bool:
        """Add a prefix, or change when it ends. Raises OSError, and then all is as it was.

        Returns whether it may have been free until now: live flows that were let through must ask
        again.
        """
        long, end_ns = abi.prefix_key(network), to_monotonic_ns(expires_ns)
        before, key = self._find(long), _short(long)
        new = key not in self._held
        if new:
            self._hints.add(long)
        elif before is None:
            self._hints.set_again(long)  # somebody took it out, and perhaps these
        try:
            self._write(long, _entry(long, end_ns, 0 if before is None else before.hits))
        except OSError:
            if new:
                self._hints.remove(long)
            raise
        self._held[key] = end_ns
        self._ended.discard(key)
        if end_ns:
            heapq.heappush(self._ends, (end_ns, type(key) is bytes, key))
        return before is None or bool(
            before.expires_ns and before.expires_ns <= time.monotonic_ns() + _LAPSING_NS
        )

    def put_all(self, wanted: Wanted) -> None:
        """Add many prefixes, or change when they end: a hundred thousand in some tenths of a second.

        Raises OSError; then part of them is in force.
        """
        found, held = packing.sort(wanted, _began_ns()), self._held
        ends, known = _ends(found), {key: held[key] for key in _ends(found) if key in held}
        self._hints.add_many(
            [
                address
                for address, number in zip(found.addresses, found.numbers(), strict=True)
                if number not in known
            ],
            [key for key in found.others if key not in known],
        )
        fresh = [number for number in found.numbers() if number not in known]
        late = self._exact.add_new(fresh, [ends[number] for number in fresh])
        rest = cast("dict[Key, int]", dict(late)) | {key: ends[key] for key in known}
        rest |= {key: end for key, end in found.others.items() if key not in known}
        self._held.update(ends)
        self._ended.difference_update(ends)
        for end, key in ((end, key) for key, end in ends.items() if end):
            heapq.heappush(self._ends, (end, type(key) is bytes, key))
        singles: dict[bytes, bytes] = {}
        prefixes: dict[bytes, bytes] = {}
        for key, end in rest.items():
            long = _long(key)
            before = self._find(long) if key in known else None
            entry = _entry(long, end, 0 if before is None else before.hits)
            if long.startswith(WHOLE):
                singles[long[4:]] = entry
            else:
                prefixes[long] = entry
        self._exact.put_all(singles)
        Entries.of(prefixes).write(self._prefix)

    def remove(self, network: abi.AnyNetwork) -> None:
        """Take a prefix out, if the kernel has not done so already. Raises OSError; it then stays."""
        long = abi.prefix_key(network)
        key = _short(long)
        self._delete(long, ended=key in self._held)
        if self._held.pop(key, None) is not None:
            self._ended.discard(key)
            self._hints.remove(long)

    def differences(self, wanted: Wanted | Mapping[abi.AnyNetwork, int]) -> Differences:
        """How the kernel's tables differ from what is wanted; what is about to end counts as gone.

        Only reads, so that a thread may do it; of what changes meanwhile it may say the one or the other.
        """
        soon_ns, ends = time.monotonic_ns() + _LAPSING_NS, _ends(packing.sort(wanted, _began_ns()))
        known = self._known()
        missing, otherwise = list[Key](), list[Key]()
        for key, end in ends.items():
            if 0 < end <= soon_ns:
                continue
            held = known.get(key)
            if held is None or 0 < held <= soon_ns:
                missing.append(key)
            elif held != end and not _same_end(held, end):
                otherwise.append(key)
        excess = [key for key, end in known.items() if key not in ends and not 0 < end <= soon_ns]
        kinds = missing, excess, otherwise
        return Differences(*([abi.network(_long(key)) for key in keys] for keys in kinds))

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
            end, _, key = heapq.heappop(self._ends)
            if self._held.get(key) == end:
                self._ended.add(key)
        return len(self._held) - len(self._ended)

    # -- the tables --

    def _known(self) -> dict[Key, int]:
        """What the kernel holds, with its ends."""
        known = cast("dict[Key, int]", self._exact.ends())
        for address, value in self._exact.elsewhere():
            known[_short(WHOLE + address)] = _unpack(value).expires_ns
        for key, value in self._prefix.items():
            known[key] = _unpack(value).expires_ns
        return known

    def _write_missing(
        self, found: packing.Sorted, ends: dict[Key, int], known: Mapping[Key, int]
    ) -> list[_Write]:
        """Write what the kernel has not. What finds no room comes back: what has to go takes it up."""
        late = []
        for write in self._missing(found, ends, known):
            try:
                write()
            except OSError as error:
                if error.errno not in FULL:
                    raise
                late.append(write)
        return late

    def _missing(self, found: packing.Sorted, ends: dict[Key, int], known: Mapping[Key, int]) -> list[_Write]:
        """What to write into either table, with the hits so far."""
        if not known and found.addresses:  # nothing to compare with: they need no entries of their own
            left = self._exact.add_all(found.numbers(), found.ends)
            wanted = cast("dict[Key, int]", dict(left)) | cast("dict[Key, int]", found.others)
        else:
            wanted = ends
        singles: dict[bytes, bytes] = {}
        prefixes: dict[bytes, bytes] = {}
        for key, end in wanted.items():
            held = known.get(key)
            if held is None or (held != end and not _same_end(held, end)):
                long = _long(key)
                before = None if held is None else self._find(long)
                entry = _entry(long, end, 0 if before is None else before.hits)
                if long.startswith(WHOLE):
                    singles[long[4:]] = entry
                else:
                    prefixes[long] = entry
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


def _ends(found: packing.Sorted) -> dict[Key, int]:
    """By key."""
    ends = dict[Key, int](zip(found.numbers(), found.ends, strict=True))
    ends.update(cast("dict[Key, int]", found.others))
    return ends


def _short(key: bytes) -> Key:
    """From a key of the trie."""
    return int(_NUMBER.unpack(key[-_NUMBER.size :])[0]) if key.startswith(_WHOLE4) else key


def _long(key: Key) -> bytes:
    """The inverse."""
    return key if isinstance(key, bytes) else _WHOLE4 + _NUMBER.pack(key)


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
