"""What no client sends that means well: each has a verdict of its own, at any level."""

from __future__ import annotations

import pytest
from harness import OTHER_VIP, OTHER_VIP6, SERVICES, SNAT, SNAT6, VIP, VIP6, DataPath
from netbox import CLIENTS, LINKS
from quic import V1, V2, Kind, long_header, some_id
from segments import Flag, datagram, segment
from session import CLIENT, CLIENT6, Datagrams, Session
from shielded import Shielded, shielded
from steps import dropped, forwarded, untouched
from test_pings import ping

from cdnctl.datapath.abi import Level, Mode, Verdict

SYN, ACK, FIN, RST, PSH, URG = Flag.SYN, Flag.ACK, Flag.FIN, Flag.RST, Flag.PSH, Flag.URG
SSDP, MEMCACHED, DNS = 1900, 11211, 53


@pytest.fixture
def shield(path: DataPath) -> Shielded:
    """At calm."""
    return shielded(path)


@pytest.mark.parametrize(
    "flags",
    [0, FIN, PSH, URG, FIN | PSH | URG, SYN | FIN, SYN | RST, SYN | FIN | ACK, SYN | RST | ACK],
    ids=repr,
)
@pytest.mark.parametrize("service", ["solo", "solo6"])
def test_flags_that_no_stack_sends(path: DataPath, service: str, flags: int) -> None:
    client = CLIENT6 if service.endswith("6") else CLIENT
    dropped(path.run(segment((client, 1234), SERVICES[service], flags, seq=1)), Verdict.IMPOSSIBLE)
    session = Session(path, service, client=client).open()
    dropped(session.up(Flag(flags)), Verdict.IMPOSSIBLE)


@pytest.mark.parametrize(("vip", "port"), [(VIP, 80), (VIP6, 80)])
@pytest.mark.parametrize("level", [Level.CALM, Level.SIEGE])
def test_from_the_address_it_is_for(shield: Shielded, vip: str, port: int, level: Level) -> None:
    shield.level(level)
    dropped(shield.path.run(segment((vip, port), (vip, port), SYN, seq=1)), Verdict.LAND)
    dropped(shield.path.run(datagram((vip, 443), (vip, 443), b"?")), Verdict.LAND)


@pytest.mark.parametrize(
    ("source", "service"),
    [
        *(
            (source, "solo")
            for source in ("0.0.0.1", "127.0.0.1", "224.0.0.5", "255.255.255.255", VIP, *SNAT)
        ),
        *((source, "solo6") for source in ("::1", "ff02::1", VIP6, *SNAT6)),
    ],
)
def test_from_nobody_who_could_be_out_there(path: DataPath, source: str, service: str) -> None:
    dropped(Session(path, service, client=source).syn(), Verdict.SPOOFED)
    dropped(Datagrams(path, "dns6" if service == "solo6" else "dns", client=source).up(), Verdict.SPOOFED)
    assert {VIP, VIP6}.isdisjoint({OTHER_VIP, OTHER_VIP6})


@pytest.mark.parametrize(
    ("source", "verdict"), [(VIP, Verdict.LAND), (SNAT[0], Verdict.SPOOFED), ("127.0.0.1", Verdict.SPOOFED)]
)
def test_nor_are_they_answered(path: DataPath, source: str, verdict: Verdict) -> None:
    """Neither in the middle of nothing nor when they ping: who they are said to be would get it."""
    dropped(path.run(segment((source, 1234), (VIP, 80), ACK)), verdict)
    dropped(path.run(bytes(ping(source, VIP, b"are you there?"))), verdict)


RESERVED = (
    "10.0.0.1", "100.64.0.1", "100.127.255.254", "169.254.7.7", "172.16.0.1", "172.31.255.254", "192.0.0.9",
    "192.0.2.1", "192.168.4.4", "198.18.0.1", "198.19.255.254", "198.51.100.77", "203.0.113.200",
)  # fmt: skip
REAL = (
    "1.1.1.1", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "169.253.1.1", "172.15.0.1",
    "172.32.0.1", "192.0.1.1", "192.0.3.1", "192.167.0.1", "192.169.0.1", "198.17.0.1", "198.20.0.1",
    "198.51.99.1", "203.0.112.1", "223.255.255.1",
)  # fmt: skip
RESERVED6 = ("fe80::1", "fc00::1", "fd12::1", "2001:db8:1::1", "2002:a00::1", "2001::1", "3fff::1", "4000::1")
REAL6 = ("2600::1", "2a00:1450::1", "2001:4860::8", "2001:db7::1", "3ffe::1")


class TestBogons:
    @pytest.fixture(autouse=True)
    def outside(self, shield: Shielded) -> None:
        """The internet is behind the clients' interface, and not behind a CDN's."""
        shield.level(Level.CALM, outside=1 << shield.path.links.ids[CLIENTS])

    @pytest.mark.parametrize("source", [*RESERVED, *RESERVED6])
    def test_nobody_out_there_has_a_reserved_address(self, shield: Shielded, source: str) -> None:
        service = "solo6" if ":" in source else "solo"
        dropped(Session(shield.path, service, client=source).syn(), Verdict.BOGON)

    @pytest.mark.parametrize("source", [*REAL, *REAL6])
    def test_who_has_another_is_let_in(self, shield: Shielded, source: str) -> None:
        service = "solo6" if ":" in source else "solo"
        forwarded(Session(shield.path, service, client=source).syn())

    def test_by_another_interface_they_come(self, shield: Shielded) -> None:
        frame = segment((CLIENT, 1234), SERVICES["solo"], SYN, seq=1)
        assert shield.path.run(frame, LINKS[0].name).verdict is Verdict.FORWARDED
        dropped(shield.path.run(frame.replace(b"\x04\xd2", b"\x04\xd3", 1)), Verdict.BOGON)

    def test_and_by_all_where_nothing_is_said_or_all_is_off(self, shield: Shielded) -> None:
        shield.path.tables.mode = Mode.DISARMED
        forwarded(Session(shield.path, client=CLIENT).syn())
        shield.path.tables.mode = Mode(0)
        shield.level(Level.CALM, outside=0)
        forwarded(Session(shield.path, client=CLIENT).syn())

    def test_in_siege_they_are_not_even_challenged(self, shield: Shielded) -> None:
        shield.level(Level.SIEGE)
        dropped(Session(shield.path, client=CLIENT).syn(), Verdict.BOGON)

    def test_what_is_not_for_us_is_none_of_our_business(self, shield: Shielded) -> None:
        untouched(shield.path.run(segment(("10.0.0.1", 1), ("192.0.2.200", 80), SYN, seq=1)))


class TestSynWithData:
    def send(self, path: DataPath) -> Verdict:
        """A SYN with eight bytes."""
        return Session(path).up(SYN, seq=1000, payload=bytes(8)).verdict

    def test_is_let_in_unless_the_configuration_says_otherwise(self, shield: Shielded) -> None:
        assert self.send(shield.path) is Verdict.FORWARDED
        shield.level(Level.CALM, syn_data=1)
        assert self.send(shield.path) is Verdict.SYN_WITH_DATA
        assert shield.opens() is Verdict.FORWARDED
        shield.path.tables.mode = Mode.DISARMED
        assert self.send(shield.path) is Verdict.FORWARDED


def initial(version: int) -> bytes:
    """A client's first datagram."""
    return long_header(Kind.INITIAL, some_id(), some_id(), version=version)


class TestShortInitials:
    @pytest.mark.parametrize("version", [V1, V2])
    @pytest.mark.parametrize("service", ["quic", "quic6"])
    def test_no_server_takes_one(self, path: DataPath, service: str, version: int) -> None:
        whole = initial(version)
        assert len(whole) == 1200
        dropped(Datagrams(path, service).up(whole[:1199]), Verdict.SHORT_INITIAL)
        forwarded(Datagrams(path, service).up(whole))

    def test_other_datagrams_may_be_short(self, path: DataPath) -> None:
        forwarded(Datagrams(path, "quic").up(b"?"))
        forwarded(Datagrams(path, "quic").up(b"\x40" + bytes(60)))  # a short header
        forwarded(Datagrams(path, "quic").up(b"\xc0\x00\x00\x00\x09" + bytes(60)))  # a version of tomorrow
        forwarded(Datagrams(path, "dns").up(bytes.fromhex("c000010000010000")))

    def test_nor_is_it_asked_of_a_flow_under_way(self, path: DataPath) -> None:
        flow = Datagrams(path, "quic").open()
        forwarded(flow.up(initial(V1)[:600]))

    def test_or_when_disarmed(self, shield: Shielded) -> None:
        shield.path.tables.mode = Mode.DISARMED
        forwarded(Datagrams(shield.path, "quic").up(initial(V1)[:600]))


class TestReflected:
    @pytest.fixture(autouse=True)
    def table(self, shield: Shielded) -> None:
        """Some ports of amplifiers."""
        shield.path.tables.shield.set_amplifiers([19, DNS, 123, SSDP, MEMCACHED, 65535])

    @pytest.mark.parametrize("port", [19, DNS, 123])
    @pytest.mark.parametrize("service", ["quic", "quic6"])
    def test_from_a_well_known_port_always(self, shield: Shielded, port: int, service: str) -> None:
        dropped(Datagrams(shield.path, service, port=port).up(bytes(400)), Verdict.REFLECTED)

    @pytest.mark.parametrize("port", [SSDP, MEMCACHED, 65535])
    def test_from_a_higher_one_when_there_is_an_attack(self, shield: Shielded, port: int) -> None:
        forwarded(Datagrams(shield.path, "quic", client="10.4.0.1", port=port).up(bytes(400)))
        shield.level(Level.BUSY)
        dropped(
            Datagrams(shield.path, "quic", client="10.4.0.2", port=port).up(bytes(400)), Verdict.REFLECTED
        )

    @pytest.mark.parametrize("port", [18, 20, 124, 1901, 65534])
    def test_from_others_never(self, shield: Shielded, port: int) -> None:
        shield.level(Level.BUSY)
        forwarded(Datagrams(shield.path, "quic", port=port).up(bytes(400)))

    def test_a_server_may_ask_another_of_its_kind(self, shield: Shielded) -> None:
        forwarded(Datagrams(shield.path, "dns", port=DNS).up())

    def test_tcp_may_come_from_any(self, shield: Shielded) -> None:
        shield.level(Level.BUSY)
        forwarded(Session(shield.path, port=DNS).syn())

    def test_a_flow_under_way_goes_on(self, shield: Shielded) -> None:
        flow = Datagrams(shield.path, "quic", port=MEMCACHED).open()
        shield.level(Level.SHEDDING)
        forwarded(flow.up(bytes(400)))

    def test_the_table_can_be_emptied(self, shield: Shielded) -> None:
        shield.path.tables.shield.set_amplifiers([])
        forwarded(Datagrams(shield.path, "quic", port=19).up(bytes(400)))
