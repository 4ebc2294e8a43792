"""The tables as user space writes them: nothing in use is touched, and nothing is written in vain."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from array import array
from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from harness import VIP, DataPath
from netbox import CLIENTS, ROUTER_MAC, name
from scapy.compat import raw
from scapy.layers.inet6 import ICMPv6ND_RA, IPv6
from scapy.layers.l2 import Ether

from cdnctl.datapath import abi, kernel, network
from cdnctl.datapath.choice import Choice, ServiceKey
from cdnctl.datapath.clients import Client
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.links import Links
from cdnctl.errors import CdnctlError
from cdnctl.lab import netns

KEY = ServiceKey("203.0.113.99", 4433, abi.UDP)
NUMBER, VIP_INDEX = 60, 63
WEIGHTED = [abi.Policy.WEIGHTED] * abi.CLASSES


def picks(*endpoints: int) -> array[int]:
    return array("H", [endpoints[n % len(endpoints)] for n in range(abi.PICK_SLOTS)])


class Written:
    """Writes to maps, by map."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fds: list[int] = []
        put, put_all, delete, delete_all = Map.put, Map.put_all, Map.delete, Map.delete_all

        def noted_put(table: Map, key: bytes, value: bytes) -> None:
            self.fds.append(table.fd)
            put(table, key, value)

        def noted_put_all(table: Map, entries: dict[bytes, bytes]) -> None:
            self.fds += [table.fd] * len(entries)
            put_all(table, entries)

        def noted_delete(table: Map, key: bytes) -> bool:
            self.fds.append(table.fd)
            return delete(table, key)

        def noted_delete_all(table: Map, keys: Iterable[bytes]) -> None:
            gone = list(keys)
            self.fds += [table.fd] * len(gone)
            delete_all(table, gone)

        monkeypatch.setattr(Map, "put", noted_put)
        monkeypatch.setattr(Map, "put_all", noted_put_all)
        monkeypatch.setattr(Map, "delete", noted_delete)
        monkeypatch.setattr(Map, "delete_all", noted_delete_all)

    def to(self, table: Map) -> int:
        return self.fds.count(table.fd)


@pytest.fixture
def choice(path: DataPath) -> Iterator[Choice]:
    """That of the tests' data path, with one more service for the time of the test."""
    yield path.tables.choice
    path.tables.choice.drop_service(KEY)
    path.tables.choice.forget_service(NUMBER)


def put(choice: Choice, *tables: array[int]) -> list[list[int]]:
    """The service with these tables, a region each; which ones it was given."""
    choice.put_service(
        NUMBER,
        KEY,
        VIP_INDEX,
        policies=WEIGHTED,
        picks=[[table] * abi.CLASSES for table in tables],
        members=[0, 1, 127],
    )
    return [list(row) for row in choice.service(NUMBER).table]


class TestPickTables:
    def test_the_same_content_is_one_table(self, choice: Choice) -> None:
        given = put(choice, picks(0, 1), picks(0, 1))
        assert len({table for row in given for table in row}) == 1

    def test_regions_that_are_left_out_have_what_everywhere_has(self, choice: Choice) -> None:
        given = put(choice, picks(0), picks(1))
        assert given[0] != given[1]
        assert given[2:] == [given[0]] * (abi.MAX_REGIONS - 2)

    def test_a_table_in_use_is_never_written(self, choice: Choice) -> None:
        before = {
            table: choice.picks(table)
            for entry in choice._service_entries()
            if entry.protocol
            for row in entry.table
            for table in row
        }
        (first,) = {table for row in put(choice, picks(5)) for table in row}
        assert first not in before
        for n in range(2 * abi.MAX_TABLES):
            now = put(choice, picks(6, n))
            assert choice.picks(now[0][0])[:2] == array("H", [6, n])
            assert now[0][0] not in before
        assert {table: choice.picks(table) for table in before} == before

    def test_a_shorter_table_is_nowhere_behind_its_end(self, choice: Choice) -> None:
        given = put(choice, array("H", [3, 1]))
        held = choice.picks(given[0][0])
        assert held[:2] == array("H", [3, 1])
        assert set(held[2:]) == {abi.NOWHERE}

    def test_asserting_it_again_writes_no_table(
        self, choice: Choice, path: DataPath, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(choice, picks(0, 1), picks(2))
        written = Written(monkeypatch)
        put(choice, picks(0, 1), picks(2))
        assert written.to(choice._picks) == written.to(choice._services) == 0

    def test_another_process_finds_the_tables_that_are_there(
        self, choice: Choice, path: DataPath, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = put(choice, picks(0, 1), picks(2))
        other = Choice(path.program.pins)
        written = Written(monkeypatch)
        assert put(other, picks(2), picks(0, 1))[:2] == [given[1], given[0]]
        assert written.to(other._picks) == 0

    def test_more_than_there_is_room_for_is_said_and_changes_nothing(self, choice: Choice) -> None:
        before = put(choice, picks(0))
        made: list[int] = []

        def fill(used: contextlib.ExitStack) -> None:
            for number in range(20, 60):
                rows = [[picks(number, n, each) for each in range(3)] for n in range(abi.MAX_REGIONS)]
                key = KEY._replace(port=number)
                choice.put_service(number, key, VIP_INDEX, policies=WEIGHTED, picks=rows, members=[])
                used.callback(choice.forget_service, number)
                used.callback(choice.drop_service, key)
                made.append(number)

        with contextlib.ExitStack() as used:
            with pytest.raises(CdnctlError, match="more than 256 different tables"):
                fill(used)
            assert len(made) >= 9
            assert choice.service(made[-1] + 1).protocol == 0
            assert [list(row) for row in choice.service(NUMBER).table] == before


class TestServices:
    def test_who_serves_it_is_a_bit_each(self, choice: Choice) -> None:
        put(choice, picks(0))
        assert list(choice.service(NUMBER).members) == [0b11, 1 << 63]

    def test_one_that_is_dropped_keeps_its_number(self, choice: Choice) -> None:
        put(choice, picks(0))
        assert choice.services()[KEY] == NUMBER
        choice.drop_service(KEY)
        assert KEY not in choice.services()
        assert choice.known_services()[KEY] == NUMBER
        assert choice.vips()[KEY.vip] == VIP_INDEX

    def test_tcp_and_udp_of_one_port_are_two(self, choice: Choice, path: DataPath) -> None:
        both = {key.protocol for key in choice.services() if (key.vip, key.port) == (VIP, 443)}
        assert both == {abi.TCP, abi.UDP}


class TestClients:
    TEN, SITE = ip_network("10.0.0.0/8"), ip_network("2001:db8:c1::/48")

    def test_exactly_what_is_wanted_is_there(self, path: DataPath) -> None:
        clients = path.tables.clients
        wanted = {self.TEN: Client(customer=7), self.SITE: Client(9, 2, abi.ClientFlag.ALLOWED)}
        assert clients.load(wanted)
        assert clients.held() == wanted
        assert clients.load({self.SITE: Client(9)})
        assert clients.held() == {self.SITE: Client(9)}

    def test_only_what_changes_is_written(self, path: DataPath, monkeypatch: pytest.MonkeyPatch) -> None:
        clients = path.tables.clients
        many = {ip_network((0x0A00_0000 + (n << 8), 24)): Client(n % 9) for n in range(5000)}
        clients.load(many)
        written = Written(monkeypatch)
        assert not clients.load(many)
        assert written.fds == []
        clients.load({**many, self.SITE: Client(1), ip_network("10.0.7.0/24"): Client(500)})
        assert written.to(clients._clients) == 2
        del many[ip_network("10.0.8.0/24")]
        clients.load(many)
        assert written.to(clients._clients) == 2 + 1 + 2

    def test_limits_of_all_others_are_none(self, path: DataPath) -> None:
        clients = path.tables.clients
        clients.set_limits({3: abi.limit(pps=1000), 4: abi.limit(mbit=1)})
        clients.set_limits({4: abi.limit(flows_per_s=10)})
        held = [abi.Limit.from_buffer_copy(raw) for raw in path.map("customer_limits").values()]
        assert [number for number, limit in enumerate(held) if limit.burst_ticks] == [4]
        assert held[4].flow_ticks == 1_600_000_000


def test_limits_are_in_ticks_of_a_sixteenth_of_a_nanosecond() -> None:
    limit = abi.limit(pps=1000, mbit=8, flows_per_s=0, burst_ms=20)
    assert limit.packet_ticks == 16e9 / 1000
    assert limit.kib_ticks == 16e9 * 1024 * 8 / 8e6
    assert limit.flow_ticks == 0
    assert limit.burst_ticks == 16e6 * 20


def test_counters_are_the_sums_of_all_cpus(path: DataPath) -> None:
    cpus, fields = kernel.possible_cpus(), abi.size(abi.CdnCount) // 8
    table, cdn = path.map("cdn_counts", per_cpu=True), abi.MAX_CDNS - 1
    big = 2**63 // cpus
    table.put(abi.key(cdn), struct.pack(f"{fields}Q", *(big + n for n in range(fields))) * cpus)
    assert list(path.tables.counters.cdn(cdn)) == [cpus * (big + n) for n in range(fields)]
    table.put(abi.key(cdn), bytes(8 * fields * cpus))


# -- links and forwarding --


@pytest.fixture
def late(path: DataPath) -> Iterator[str]:
    """The name of an interface that is not there yet; the tables' links are as before, afterwards."""
    yield "late"
    with netns.netlink(name()) as ip:
        for index in ip.link_lookup(ifname="late"):
            ip.link("del", index=index)
    path.links.refresh()


def make(device: str) -> int:
    with netns.netlink(name()) as ip:
        ip.link("add", ifname=device, kind="veth", peer={"ifname": f"{device}-far"})
        return int(ip.link_lookup(ifname=device)[0])


def remove(index: int) -> None:
    with netns.netlink(name()) as ip:
        ip.link("del", index=index)


def test_a_link_keeps_its_number_whatever_becomes_of_its_device(path: DataPath, late: str) -> None:
    tables = path.tables
    with contextlib.closing(Links(tables, [CLIENTS, late])) as links:
        with pytest.raises(CdnctlError, match="interface late does not exist"):
            links.refresh()
        assert [change.lost for change in links.changes()] == [True]
        assert links.ids[CLIENTS] == path.links.ids[CLIENTS], "what the tables have is taken over"
        first = make(late)
        links.refresh()
        assert [change.text for change in links.changes()] == ["interface late is there again"]
        number = links.ids[late]
        assert tables.link(number).ifindex == first
        assert tables.link_keys()[first, 0, 0] == number
        remove(first)
        links.keep()
        assert (first, 0, 0) not in tables.link_keys()
        assert tables.link(number).ifindex == 0, "nothing leaves by a device that is gone"
        second = make(late)
        links.refresh()
        assert second != first
        assert (links.ids[late], tables.link_keys()[second, 0, 0]) == (number, number)


def test_links_that_are_as_they_were_are_not_written(path: DataPath, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written(monkeypatch)
    path.links.refresh()
    assert written.fds == []


def forwarding_of(device: str) -> list[str]:
    conf = Path("/proc/sys/net")
    return [
        (conf / family / "conf" / device / "forwarding").read_text().strip() for family in ("ipv4", "ipv6")
    ]


def test_ipv6_forwarding_is_switched_on_where_it_is_needed_and_back(late: str, tmp_path: Path) -> None:
    make(late)
    record = tmp_path / "record"
    assert len(network.Forwarding(record).enable(late)) == 1
    assert forwarding_of(late) == ["1", "0"]
    assert len(network.Forwarding(record).enable(late, ipv6=True)) == 1
    assert network.Forwarding(record).enable(late, ipv6=True) == []
    assert forwarding_of(late) == ["1", "1"]
    network.Forwarding(record).restore(["other"])
    assert forwarding_of(late) == ["1", "1"]
    network.Forwarding(record).restore([late])
    assert forwarding_of(late) == ["0", "0"]
    assert not record.exists()


def test_a_default_route_that_goes_with_forwarding_is_told_of(late: str, tmp_path: Path) -> None:
    index = make(late)
    with netns.netlink(name()) as ip:
        for end in (index, ip.link_lookup(ifname="late-far")[0]):
            ip.link("set", index=end, state="up")
    netns.sysctl(f"net.ipv6.conf.{late}.disable_ipv6", 0)
    for _ in range(100):
        advertise()
        if late in default_routes():
            break
        time.sleep(0.05)
    assert late in default_routes()
    said = network.Forwarding(tmp_path / "record").enable(late, ipv6=True)
    assert f"sysctl net.ipv6.conf.{late}.accept_ra=2" in said[-1]
    assert late not in default_routes(), "the warning is true"
    network.Forwarding(tmp_path / "record").restore()


def default_routes() -> set[str]:
    """Interfaces that have one of IPv6."""
    with netns.netlink(name()) as ip:
        routes = ip.get_default_routes(family=socket.AF_INET6)
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in ip.get_links()}
    return {names[route.get_attr("RTA_OIF")] for route in routes if route.get_attr("RTA_OIF") in names}


def advertise() -> None:
    """A router at the far end says that it is one."""
    advertisement = (
        Ether(src=ROUTER_MAC, dst="33:33:00:00:00:01")
        / IPv6(src="fe80::1", dst="ff02::1", hlim=255)
        / ICMPv6ND_RA(routerlifetime=1800)
    )
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("late-far", 0))
        wire.send(raw(advertisement))
