"""The counters of an edge, exact and only growing: the sums over all CPUs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cdnctl.datapath import abi, kernel
from cdnctl.datapath.kernel import Map

_COUNT = struct.Struct("=2Q")
_CDN_COUNT = struct.Struct("=22Q")
_CUSTOMER_COUNT = struct.Struct("=6Q")
_BUCKETS = struct.Struct(f"={abi.HISTOGRAM_BUCKETS}Q")
_WORD = struct.Struct("=Q")


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


def _sum(layout: struct.Struct, raw: bytes | None) -> tuple[int, ...]:
    """The values of all CPUs, added up field by field.

    As whole numbers of many words: no field comes near its 64 bits, so nothing is carried over.
    """
    if not raw:
        return layout.unpack(bytes(layout.size))
    size = len(raw) // kernel.possible_cpus()
    total = sum(int.from_bytes(raw[at : at + size], "little") for at in range(0, len(raw), size))
    return layout.unpack(total.to_bytes(size, "little")[: layout.size])


def _zero(table: Map, keys: list[bytes]) -> None:
    for key in keys:
        if any(held := table.get(key) or b""):
            table.put(key, bytes(len(held)))


class Counters:
    """Raises OSError when a pin is missing: then no data path is loaded."""

    def __init__(self, pins: Path) -> None:
        def table(name: str) -> Map:
            return Map.pinned(pins / name, per_cpu=True)

        self._verdicts = table("verdicts")
        self._cdns = table("cdn_counts")
        self._customers = table("customer_counts")
        self._service_flows = table("service_flows")
        self._handshakes = table("handshakes")
        self._first_bytes = table("first_bytes")

    def forget_cdn(self, identity: int) -> None:
        """Begin at nothing, for a CDN that gets the number of one that left."""
        key = abi.key(identity)
        _zero(self._cdns, [key])
        _zero(self._handshakes, [key])
        _zero(self._first_bytes, [abi.key(identity * abi.CLASSES + each) for each in abi.TrafficClass])

    def forget_service(self, identity: int) -> None:
        """The same for a service."""
        _zero(self._service_flows, [abi.key(identity)])

    def forget_customer(self, identity: int) -> None:
        """The same for a customer."""
        _zero(self._customers, [abi.key(identity)])

    def verdicts(self) -> Iterator[tuple[abi.Verdict, int, int]]:
        """Each verdict with its packets and bytes so far."""
        for number, raw in enumerate(self._verdicts.values()):
            if number:
                packets, octets = _sum(_COUNT, raw)
                yield abi.Verdict(number), packets, octets

    def cdn(self, identity: int) -> CdnTotals:
        """Exact totals of a CDN."""
        return CdnTotals(*_sum(_CDN_COUNT, self._cdns.get(abi.key(identity))))

    def customer(self, identity: int) -> CustomerTotals:
        """Exact totals of a customer."""
        return CustomerTotals(*_sum(_CUSTOMER_COUNT, self._customers.get(abi.key(identity))))

    def customers(self) -> dict[int, CustomerTotals]:
        """Those of all customers that ever sent anything."""
        return {
            number: CustomerTotals(*_sum(_CUSTOMER_COUNT, raw))
            for number, raw in enumerate(self._customers.values())
            if any(raw)
        }

    def service_flows(self, identity: int) -> int:
        """New flows of a service so far."""
        return int(_sum(_WORD, self._service_flows.get(abi.key(identity)))[0])

    def handshakes(self, cdn: int) -> tuple[int, ...]:
        """The histogram of a CDN's handshakes."""
        return _sum(_BUCKETS, self._handshakes.get(abi.key(cdn)))

    def first_bytes(self, cdn: int, traffic_class: int) -> tuple[int, ...]:
        """The histogram of the times to a CDN's first bytes, of one class of traffic."""
        return _sum(_BUCKETS, self._first_bytes.get(abi.key(cdn * abi.CLASSES + traffic_class)))
