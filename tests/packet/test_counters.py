"""Histograms of first bytes by CDN, region and class: read together, and forgotten together."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

import pytest
from harness import DataPath

from cdnctl.datapath import abi, kernel
from cdnctl.datapath.counters import Counters, buckets, summed
from cdnctl.datapath.kernel import Map

UNUSED = 13, 14, 15
"""Numbers that no CDN has here."""
OF_A_CDN = abi.MAX_REGIONS * abi.CLASSES


def histogram(count: int) -> bytes:
    return struct.pack("=256Q", *(count if bucket == 100 else 0 for bucket in range(256)))


@pytest.fixture
def table(path: DataPath) -> Iterator[Map]:
    """With something else in each row of those CDNs that nobody is, on each CPU."""
    held = Map.pinned(path.program.pins / "first_bytes", per_cpu=True)
    rows = range(UNUSED[0] * OF_A_CDN, (UNUSED[-1] + 1) * OF_A_CDN)
    held.put_all({abi.key(row): histogram(row) * kernel.possible_cpus() for row in rows})
    yield held
    held.put_all({abi.key(row): bytes(2048 * kernel.possible_cpus()) for row in rows})


@pytest.mark.parametrize("batch", [4 << 20, 20_000, None], ids=["at once", "by batches", "one by one"])
def test_a_span_is_what_its_entries_are(
    table: Map, batch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if batch is None:

        def none(*_: object) -> Iterator[tuple[int, bytes, bytes]]:
            raise OSError(errno.EOPNOTSUPP, "no batches")

        monkeypatch.setattr(Map, "_batches", none)
    else:
        monkeypatch.setattr(kernel, "_BATCH_BYTES", batch)
    last = abi.MAX_CDNS * OF_A_CDN
    for first, count in ((0, 3), (UNUSED[1] * OF_A_CDN, OF_A_CDN), (last - 5, 5), (last - 1, 1)):
        one_by_one = [table.get(abi.key(row)) for row in range(first, first + count)]
        assert table.span(first, count) == one_by_one


def test_a_cdn_s_are_read_by_region_and_class(path: DataPath, table: Map) -> None:
    counters = Counters(path.program.pins)
    timed = counters.timed(UNUSED[1], abi.MAX_REGIONS)
    cpus = kernel.possible_cpus()
    assert len(timed) == OF_A_CDN
    for (region, traffic_class), row in timed.items():
        number = (UNUSED[1] * abi.MAX_REGIONS + region) * abi.CLASSES + traffic_class
        assert buckets(row)[100] == sum(buckets(row)) == cpus * number
    bulk = [row for (_, each), row in timed.items() if each == abi.TrafficClass.BULK]
    assert counters.first_bytes(UNUSED[1], abi.TrafficClass.BULK) == summed(bulk)
    assert summed(bulk)[100] == sum(buckets(row)[100] for row in bulk)
    assert summed([]) == (0,) * abi.HISTOGRAM_BUCKETS


def test_without_regions_only_those_are_read_that_ever_counted(path: DataPath, table: Map) -> None:
    rows = range(UNUSED[0] * OF_A_CDN, (UNUSED[-1] + 1) * OF_A_CDN)
    kept = {row: 7 if row % OF_A_CDN < 6 * abi.CLASSES else 0 for row in rows}
    table.put_all({abi.key(row): histogram(n) * kernel.possible_cpus() for row, n in kept.items()})
    counters = Counters(path.program.pins)
    assert {region for region, _ in counters.timed(UNUSED[0])} == set(range(6))
    late = UNUSED[0] * OF_A_CDN + 7 * abi.CLASSES
    table.put(abi.key(late), histogram(9) * kernel.possible_cpus())
    assert (7, 0) not in counters.timed(UNUSED[0])
    assert (7, 0) in counters.timed(UNUSED[0], 8), "that region is there now"
    assert (7, 0) in counters.timed(UNUSED[0]), "and was"


def test_all_of_a_cdn_s_are_forgotten_and_no_other_s(path: DataPath, table: Map) -> None:
    counters = Counters(path.program.pins)
    others = [counters.timed(number, abi.MAX_REGIONS) for number in (UNUSED[0], UNUSED[2])]
    counters.forget_cdn(UNUSED[1])
    assert counters.timed(UNUSED[1], abi.MAX_REGIONS) == {}
    assert [counters.timed(number, abi.MAX_REGIONS) for number in (UNUSED[0], UNUSED[2])] == others
