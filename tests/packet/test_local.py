"""The edge's own addresses: cells answer as the hash would, also where several are in one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from harness import SNAT, VIP, DataPath
from netbox import CLIENT_SIDE_MAC, ROUTER_MAC
from scapy.compat import raw
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from cdnctl.datapath import abi
from cdnctl.datapath.abi import LocalKind, Verdict
from cdnctl.datapath.local import cell_of


def mates_of(address: str, count: int) -> list[str]:
    """Other addresses that belong into the same cell."""
    wanted = cell_of(abi.packed(address))
    others = (str(IPv4Address("192.88.99.0") + number) for number in itertools.count())
    return list(itertools.islice((each for each in others if cell_of(abi.packed(each)) == wanted), count))


def verdict_of(path: DataPath, target: str) -> Verdict:
    """Of a SYN to a port that no service has."""
    frame = Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC) / IP(src="10.1.0.7", dst=target)
    return path.run(raw(frame / TCP(sport=40_000, dport=9, flags="S"))).verdict


@pytest.fixture
def held(path: DataPath) -> Iterator[list[str]]:
    """Addresses that are the edge's; what a test adds is gone afterwards."""
    addresses = [abi.show_address(key) for key in list(path.map("local_addresses").keys())]
    yield addresses
    path.tables.keep_local(addresses)


def cell(path: DataPath, address: str) -> abi.LocalCell:
    raw_cell = path.map("local_cells").get(abi.key(cell_of(abi.packed(address))))
    return abi.LocalCell.from_buffer_copy(raw_cell or b"")


def test_every_address_is_found(path: DataPath, held: list[str]) -> None:
    assert {VIP, *SNAT} <= set(held)
    cells = path.map("local_cells")
    kinds = [abi.LocalCell.from_buffer_copy(raw_cell).kind for raw_cell in cells.values()]
    assert {number for number, kind in enumerate(kinds) if kind} == {
        cell_of(abi.packed(address)) for address in held
    }


def test_neighbours_in_a_cell_are_strangers_until_they_are_declared(path: DataPath, held: list[str]) -> None:
    one, other = mates_of(VIP, 2)
    assert [verdict_of(path, each) for each in (VIP, one, other)] == [
        Verdict.NO_SERVICE,
        Verdict.PASSED,
        Verdict.PASSED,
    ]
    path.tables.put_local(one, LocalKind.VIP, 63)
    assert [verdict_of(path, each) for each in (VIP, one, other)] == [
        Verdict.NO_SERVICE,
        Verdict.NO_SERVICE,
        Verdict.PASSED,
    ]


def test_who_is_left_in_a_cell_has_it_alone(path: DataPath, held: list[str]) -> None:
    one, other = mates_of(VIP, 2)
    for each in (one, other):
        path.tables.put_local(each, LocalKind.VIP, 63)
    path.tables.keep_local([*held, one])
    assert verdict_of(path, other) is Verdict.PASSED
    path.tables.keep_local(held)
    assert [verdict_of(path, each) for each in (VIP, one)] == [Verdict.NO_SERVICE, Verdict.PASSED]
    assert (str(cell(path, VIP).address), cell(path, VIP).kind) == (VIP, LocalKind.VIP)


def test_what_a_killed_writer_left_in_a_cell_is_nobodys(path: DataPath, held: list[str]) -> None:
    ghost = "192.88.99.7"
    assert cell(path, ghost).kind == 0
    path.tables.put_local(ghost, LocalKind.VIP, 63)
    path.map("local_addresses").delete_all([abi.packed(ghost)])
    assert verdict_of(path, ghost) is Verdict.NO_SERVICE
    path.tables.keep_local(held)
    assert bytes(cell(path, ghost)) == bytes(abi.LocalCell())
    assert [verdict_of(path, each) for each in (VIP, ghost)] == [Verdict.NO_SERVICE, Verdict.PASSED]
