"""Many keys made at once are those that are made one by one."""

from __future__ import annotations

import struct
from ipaddress import IPv4Network, IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from cdnctl.datapath import abi, packing
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.packing import Entries

BEGAN_NS = 1_700_000_000_000_000_000
NETWORKS = st.one_of(
    st.builds(IPv4Network, st.tuples(st.integers(0, 2**32 - 1), st.just(32))),
    st.builds(IPv4Network, st.tuples(st.integers(0, 2**24 - 1).map(lambda n: n << 8), st.just(24))),
    st.builds(IPv6Network, st.tuples(st.integers(0, 2**128 - 1), st.just(128))),
    st.builds(IPv6Network, st.tuples(st.integers(0, 2**48 - 1).map(lambda n: n << 80), st.just(48))),
)
ENDS = st.one_of(st.just(0), st.integers(1, 2**63 - 1))


class Table(Map):
    """Stands for a map; has what was written by the call."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bytes, bytes]] = []

    def put_batch(self, count: int, keys: bytes, values: bytes) -> None:
        self.calls.append((count, keys, values))


@given(st.dictionaries(NETWORKS, ENDS))
def test_every_key_and_end_is_there(wanted: dict[abi.AnyNetwork, int]) -> None:
    found = packing.sort(wanted, BEGAN_NS)
    whole = abi.prefix_key(IPv4Network("0.0.0.0/32"))[:-4]
    keys = {
        whole + struct.pack("=I", number): end
        for number, end in zip(found.numbers(), found.ends, strict=True)
    }
    assert keys | found.others == {
        abi.prefix_key(network): packing.on_clock(end, BEGAN_NS) for network, end in wanted.items()
    }
    assert len(found.addresses) + len(found.others) == len(wanted)


def test_a_time_on_the_kernels_clock() -> None:
    assert packing.on_clock(0, BEGAN_NS) == 0, "never"
    assert packing.on_clock(BEGAN_NS + 5, BEGAN_NS) == 5
    assert packing.on_clock(1, BEGAN_NS) == 1, "long past, and not never"


def test_they_are_written_by_the_piece_and_none_is_left_out() -> None:
    table, count = Table(), 200_001
    entries = Entries.of({number.to_bytes(4): bytes([number % 251] * 8) for number in range(count)})
    entries.write(table)
    assert len(table.calls) > 1
    assert sum(written for written, _, _ in table.calls) == count
    assert b"".join(keys for _, keys, _ in table.calls) == entries.keys
    assert b"".join(values for _, _, values in table.calls) == entries.values


def test_nothing_is_written_of_nothing() -> None:
    table = Table()
    Entries.of({}).write(table)
    assert table.calls == []
