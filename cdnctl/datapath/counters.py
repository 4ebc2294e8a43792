"""The counters of an edge, exact and only growing: the sums over all CPUs, and what was counted before.

Nobody but the kernel ever writes what a CPU counts: what is read, added to and written back is short of what
that CPU counted meanwhile. So what tables before these have counted stands apart, in `counted_before`, and is
added when it is read.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cdnctl.datapath import abi
from cdnctl.datapath.kernel import Map

_COUNT = struct.Struct("=2Q")
_CDN_COUNT = struct.Struct("=22Q")
_CUSTOMER_COUNT = struct.Struct("=6Q")
_BUCKETS = struct.Struct(f"={abi.HISTOGRAM_BUCKETS}Q")
_WORD = struct.Struct("=Q")
_CELLS = abi.MAX_REGIONS * abi.CLASSES
"""Histograms of first bytes that a CDN has, one behind the other."""
_NO_BUCKETS = (0,) * abi.HISTOGRAM_BUCKETS

CellNumber = tuple[int, int]
"""A region's number, and a class."""


class CdnTotals(NamedTuple):
    """Exact totals of a CDN since the tables were made."""

    to_cdn_packets: int
    to_cdn_bytes: int
    from_cdn_packets: int
    from_cdn_bytes: int
    new_flows: int
    probe_flows: int
    rescued_from: int
    rescued_to: int
    handshakes: int
    promoted: int
    closed: int
    """Flows under way that ended: promoted - closed are open, where replies come back through the box."""
    spilled: int
    reset_dark: int
    segments_to: int
    """Of TCP with data; `resent_to` of them had been sent before."""
    resent_to: int
    segments_from: int
    resent_from: int
    requests: int
    rebound: int
    """QUIC flows that kept their endpoint under a new port."""
    ids_learned: int
    ids_hidden: int
    """Handshakes whose QUIC server chose an id of no length."""
    ids_unknown: int
    """Flows that came by an id that no server has named in clear."""


class CustomerTotals(NamedTuple):
    """Exact totals of a customer since the tables were made."""

    passed_packets: int
    passed_bytes: int
    dropped_packets: int
    dropped_bytes: int
    flows: int
    flows_refused: int


class _Table:
    """One of the tables, with its part of what was counted before."""

    def __init__(self, pins: Path, name: str, before: memoryview) -> None:
        self._table = Map.pinned(pins / name, per_cpu=True)
        self._size = self._table.info.value_size
        self._before = before

    def row(self, number: int) -> bytes:
        """A row's words; nothing but zeros where there is none."""
        return self._sum(number, self._table.get(abi.key(number)))

    def rows(self) -> Iterator[bytes]:
        """All, in order."""
        for number, raw in enumerate(self._table.values()):
            yield self._sum(number, raw)

    def counted(self, first: int, count: int) -> Iterator[tuple[int, bytes]]:
        """Of so many rows from `first` on those that have counted anything, with their numbers."""
        size = self._size
        nothing = bytes(size)
        for number, raw in enumerate(self._table.span(first, count), first):
            before = self._before[number * size : (number + 1) * size].tobytes()
            if before != nothing or raw.count(0) != len(raw):
                yield number, self._sum(number, raw)

    def forget(self, number: int) -> None:
        """Begin at nothing."""
        if any(held := self._table.get(abi.key(number)) or b""):
            self._table.put(abi.key(number), bytes(len(held)))
        self._before[number * self._size : (number + 1) * self._size] = bytes(self._size)

    def _sum(self, number: int, raw: bytes | None) -> bytes:
        """The values of all CPUs, and that of before, added up field by field.

        As whole numbers of many words: no field comes near its 64 bits, so nothing is carried over.
        """
        size, raw = self._size, raw or b""
        total = sum(int.from_bytes(raw[at : at + size], "little") for at in range(0, len(raw), size))
        total += int.from_bytes(self._before[number * size : (number + 1) * size], "little")
        return total.to_bytes(size, "little")


class Counters:
    """Raises OSError when a pin is missing: then no data path is loaded."""

    def __init__(self, pins: Path) -> None:
        self._memory = memoryview(Map.pinned(pins / "counted_before").memory())
        self._tables: dict[str, _Table] = {}
        for name, _ in abi.Counted._fields_:
            part = getattr(abi.Counted, name)
            self._tables[name] = _Table(pins, name, self._memory[part.offset : part.offset + part.size])
        self._regions = 0
        """So many, from the first on, may have counted first bytes; 0: not looked yet."""

    def follow(self, before: Counters) -> None:
        """Count on from where those before are; later once more, when they have counted more meanwhile.

        How much was carried over stands beside it: so it may be done again by whoever comes after a kill.
        """
        size = abi.size(abi.Counted)
        now = b"".join(row for table in before._tables.values() for row in table.rows())
        parts = (self._memory[:size], memoryview(now), self._memory[size : 2 * size])
        columns = (part.cast("Q") for part in parts)
        held = array("Q", [there + max(0, new - old) for there, new, old in zip(*columns, strict=True)])
        self._memory[: 2 * size] = held.tobytes() + now

    def count_closed(self, cdn: int, flows: int) -> None:
        """Established flows of a CDN that end without a packet."""
        offset = abi.Counted.cdn_counts.offset + cdn * abi.size(abi.CdnCount) + abi.CdnCount.closed.offset
        field = self._memory[offset : offset + _WORD.size]
        _WORD.pack_into(field, 0, _WORD.unpack(field)[0] + flows)

    def forget_cdn(self, identity: int) -> None:
        """Begin at nothing, for a CDN that gets the number of one that left."""
        self._tables["cdn_counts"].forget(identity)
        self._tables["handshakes"].forget(identity)
        for number in range(identity * _CELLS, (identity + 1) * _CELLS):
            self._tables["first_bytes"].forget(number)

    def forget_service(self, identity: int) -> None:
        """The same for a service."""
        self._tables["service_flows"].forget(identity)

    def forget_customer(self, identity: int) -> None:
        """The same for a customer."""
        self._tables["customer_counts"].forget(identity)

    def verdicts(self) -> Iterator[tuple[abi.Verdict, int, int]]:
        """Each verdict with its packets and bytes so far."""
        for number, raw in enumerate(self._tables["verdicts"].rows()):
            if number:
                packets, octets = _COUNT.unpack(raw)
                yield abi.Verdict(number), packets, octets

    def cdn(self, identity: int) -> CdnTotals:
        """Exact totals of a CDN."""
        return CdnTotals(*_CDN_COUNT.unpack(self._tables["cdn_counts"].row(identity)))

    def customer(self, identity: int) -> CustomerTotals:
        """Exact totals of a customer."""
        return CustomerTotals(*_CUSTOMER_COUNT.unpack(self._tables["customer_counts"].row(identity)))

    def customers(self) -> dict[int, CustomerTotals]:
        """Those of all customers that ever sent anything."""
        return {
            number: CustomerTotals(*_CUSTOMER_COUNT.unpack(raw))
            for number, raw in enumerate(self._tables["customer_counts"].rows())
            if any(raw)
        }

    def service_flows(self, identity: int) -> int:
        """New flows of a service so far."""
        return int(_WORD.unpack(self._tables["service_flows"].row(identity))[0])

    def handshakes(self, cdn: int) -> tuple[int, ...]:
        """The histogram of a CDN's handshakes."""
        return _BUCKETS.unpack(self._tables["handshakes"].row(cdn))

    def first_bytes(self, cdn: int, traffic_class: int) -> tuple[int, ...]:
        """The histogram of the times to a CDN's first bytes, of one class of traffic from everywhere."""
        rows = self._tables["first_bytes"].counted(cdn * _CELLS, _CELLS)
        return summed([row for number, row in rows if number % abi.CLASSES == traffic_class])

    def timed(self, cdn: int, regions: int = 1) -> dict[CellNumber, bytes]:
        """The same by region and class, as the kernel has them (struct histogram), of those with any.

        `regions` are in use, from the first on. Others are read only if they have ever counted, so that
        nothing is lost of one that is no more, and an edge without regions reads what it has.
        """
        if not self._regions:
            self._regions = self._regions_counted()
        self._regions = max(self._regions, regions)
        first, count = cdn * _CELLS, self._regions * abi.CLASSES
        rows = self._tables["first_bytes"].counted(first, count)
        return {divmod(number - first, abi.CLASSES): row for number, row in rows}

    def _regions_counted(self) -> int:
        rows = self._tables["first_bytes"].counted(0, abi.MAX_CDNS * _CELLS)
        return 1 + max((number % _CELLS // abi.CLASSES for number, _ in rows), default=0)


def buckets(row: bytes) -> tuple[int, ...]:
    """A histogram as the kernel has it, as numbers."""
    return _BUCKETS.unpack(row)


def summed(rows: Sequence[bytes]) -> tuple[int, ...]:
    """Histograms as the kernel has them, put together."""
    if not rows:
        return _NO_BUCKETS
    if len(rows) == 1:
        return _BUCKETS.unpack(rows[0])
    total = sum(int.from_bytes(row, "little") for row in rows)  # no field comes near its 64 bits
    return _BUCKETS.unpack(total.to_bytes(_BUCKETS.size, "little"))
