"""Who may talk to SNAT addresses: those on the list, and what the edge and its host live on."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
from blocking import FOUR, Guarded, Names
from errors import ERRORS, KINDS, LINK, ROUTER, Kind, asks, described, error, flow_of, sent_on, to_snat
from harness import SNAT, SNAT6, Action, DataPath, Seen
from netbox import CLIENTS, LINKS
from scapy.compat import raw
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6PacketTooBig,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet
from segments import Flag, datagram, is_ipv6, network, segment
from session import Datagrams, Session
from states import NOTHING
from table import Row
from test_table_host import THE_HOSTS
from trying import device_of

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict

RANGE = {4: "198.18.64.0/18", 6: "2a00:6001::/32"}
"""A provider's."""
GUEST = {4: "198.18.99.9", 6: "2a00:6001::9"}
STRANGER = {4: "198.19.1.1", 6: "2a00:bad::9"}
HOST_PORT = 19_001
IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75
MACS = LINK.gateway_mac, LINK.mac


def shut(path: DataPath, *prefixes: str) -> None:
    path.tables.invite({abi.prefix_key(ip_network(each)) for each in prefixes})
    path.tables.invited_only = True


@pytest.fixture
def door(path: DataPath) -> Iterator[DataPath]:
    """Shut to all but providers of both families."""
    shut(path, *RANGE.values())
    yield path
    path.tables.invited_only = False  # for those who come without `fresh`


@pytest.fixture(params=[4, 6])
def family(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def snat(family: int) -> str:
    return (SNAT6 if family == 6 else SNAT)[1]


def run(path: DataPath, packet: Packet | bytes) -> Seen:
    return path.run(packet if isinstance(packet, bytes) else raw(packet), LINK.name)


def dropped(seen: Seen) -> None:
    assert (seen.verdict, seen.action) == (Verdict.UNINVITED, Action.DROP), seen


def passed(seen: Seen) -> None:
    assert (seen.verdict, seen.action, seen.frame) == (Verdict.PASSED, Action.PASS, seen.sent), seen


def ssh(source: str, target: str, flags: Flag = Flag.SYN) -> bytes:
    return segment((source, 40_001), (target, 22), flags, macs=MACS)


def ping(source: str, target: str) -> Packet:
    echo = ICMPv6EchoRequest(data=b"ping") if is_ipv6(source) else ICMP() / b"ping"
    return Ether(src=MACS[0], dst=MACS[1]) / network(source, target) / echo


# -- what is left to the host, or is nobody's --


ROWS = [
    pytest.param(each, family, id=f"{each.what}, IPv{family}")
    for each in THE_HOSTS[NOTHING]
    for family in each.families
]


@pytest.mark.parametrize(("row", "family"), ROWS)
def test_of_all_that_the_host_may_get_a_stranger_brings_nothing_and_a_guest_everything(
    bare: DataPath, row: Row, family: int
) -> None:
    frame = row.packet(NOTHING.make(bare, family))
    device, sender = device_of(frame), frame[IP].src if IP in frame else frame["IPv6"].src
    open_to_all = bare.run(raw(frame), device)
    assert open_to_all.verdict is row.outcome.verdict, "as it is while nobody has shut the door"
    taken = open_to_all.verdict not in (Verdict.PASSED, Verdict.NO_OWNER)
    try:
        shut(bare, *RANGE.values())
        seen = bare.run(raw(frame), device)
        assert seen.verdict is (open_to_all.verdict if taken else Verdict.UNINVITED)
        assert seen.action is Action.DROP
        shut(bare, sender)
        seen = bare.run(raw(frame), device)
        assert (seen.verdict, seen.action, seen.frame) == open_to_all[1:]
    finally:
        bare.tables.invited_only = False
        bare.tables.invite(())


def test_a_list_alone_shuts_nobody_out(door: DataPath, family: int) -> None:
    door.tables.invited_only = False
    passed(run(door, ssh(STRANGER[family], snat(family))))


def test_every_snat_address_has_the_door_and_no_other_address(door: DataPath, at: Names) -> None:
    family = 4 if at is FOUR else 6
    for address in SNAT6 if family == 6 else SNAT:
        dropped(run(door, ssh(STRANGER[family], address)))
        passed(run(door, ssh(GUEST[family], address)))
    assert run(door, ping(STRANGER[family], at.vip)).verdict is Verdict.ECHOED
    for target in (at.elsewhere, "ff02::1" if family == 6 else "224.0.0.1"):
        frame = Ether(ssh(STRANGER[family], target))
        passed(run(door, frame))
        tagged = Ether(src=frame.src, dst=frame.dst) / Dot1Q(vlan=7, type=frame.type) / frame.payload
        passed(run(door, tagged))  # which no express lane takes
    passed(run(door, Ether(src=MACS[0], dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=SNAT[0])))


def test_clients_and_replies_know_of_no_door(path: DataPath, at: Names) -> None:
    """Not even of endpoints that are not on the list."""
    shut(path)
    try:
        session = Session(path, at.service).open()
        assert session.up(Flag.PSH | Flag.ACK, payload=b"GET /").verdict is Verdict.FORWARDED
        assert session.down(Flag.PSH | Flag.ACK, payload=b"200").verdict is Verdict.REPLIED
        assert session.down(Flag.FIN | Flag.ACK).verdict is Verdict.REPLIED
        asked = Datagrams(path, "dns6" if at.service.endswith("6") else "dns")
        asked.up(b"?")
        assert asked.down(b"!").verdict is Verdict.REPLIED
    finally:
        path.tables.invited_only = False


def test_a_port_that_nobody_holds_is_nobodys_to_a_guest(door: DataPath, family: int) -> None:
    for source, verdict in ((GUEST, Verdict.NO_OWNER), (STRANGER, Verdict.UNINVITED)):
        frame = segment((source[family], 443), (snat(family), 20_500), Flag.SYN | Flag.ACK, macs=MACS)
        seen = run(door, frame)
        assert (seen.verdict, seen.action) == (verdict, Action.DROP)


# -- switches, and who has the first word --


def test_disarmed_nothing_is_dropped(door: DataPath, family: int) -> None:
    door.tables.mode = abi.Mode.DISARMED
    passed(run(door, ssh(STRANGER[family], snat(family))))
    passed(run(door, ping(STRANGER[family], snat(family))))


def test_where_it_only_observes_it_counts_and_passes(door: DataPath, family: int) -> None:
    door.tables.mode = abi.Mode.OBSERVE
    seen = run(door, ssh(STRANGER[family], snat(family)))
    assert (seen.verdict, seen.action, seen.frame) == (Verdict.UNINVITED, Action.PASS, seen.sent)


def test_a_block_holds_for_guests_too(door: DataPath, family: int) -> None:
    Guarded(door).block(RANGE[family])
    assert run(door, ssh(GUEST[family], snat(family))).verdict is Verdict.BLOCKED


# -- what the link and the way live on --


@pytest.mark.parametrize("kind", ERRORS, ids=described)
def test_a_routers_error_about_a_flow_is_believed_whoever_he_is(door: DataPath, kind: Kind) -> None:
    for name in KINDS:
        if not name.endswith(str(kind.family)):
            continue
        flow = flow_of(door, name)
        flow.open() if isinstance(flow, Session) else flow.up(b"?")
        quote = sent_on(door, asks(flow))
        seen = run(door, to_snat(flow, kind.header, quote))
        assert seen.verdict is Verdict.REPLIED, seen
        # about what nobody has sent it is a stranger's word, and a guest's is left to the host
        other = bytearray(quote)
        other[(20 if kind.family == 4 else 40) + 1] ^= 1  # the port that it says it came from
        dropped(run(door, to_snat(flow, kind.header, bytes(other))))
        passed(run(door, to_snat(flow, kind.header, bytes(other), GUEST[kind.family])))


def test_neighbours_are_found(door: DataPath) -> None:
    for hops, found in ((255, passed), (254, dropped)):
        for word in (ICMPv6ND_NS(tgt=SNAT6[1]), ICMPv6ND_NA(tgt=SNAT6[1])):
            layers = network(STRANGER[6], SNAT6[1], hops) / word
            found(run(door, Ether(src=MACS[0], dst=MACS[1]) / layers))


def test_a_lease_is_renewed(door: DataPath) -> None:
    passed(run(door, datagram((STRANGER[4], 67), (SNAT[1], 68), b"an ACK", macs=MACS)))
    dropped(run(door, datagram((STRANGER[4], 67), (SNAT[1], 69), b"not one", macs=MACS)))
    dropped(run(door, datagram((STRANGER[4], 66), (SNAT[1], 68), b"not one", macs=MACS)))
    dropped(run(door, segment((STRANGER[4], 67), (SNAT[1], 68), Flag.SYN, macs=MACS)))


# -- what the host has asked for --


@contextlib.contextmanager
def host(
    family: int, kind: socket.SocketKind, port: int = HOST_PORT, to: tuple[str, int] | None = None
) -> Iterator[socket.socket]:
    """A socket of the host's own at a SNAT address: connected, or with nobody in particular."""
    with socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, kind) as opened:
        level, option = (
            (socket.IPPROTO_IPV6, IPV6_TRANSPARENT) if family == 6 else (socket.IPPROTO_IP, IP_TRANSPARENT)
        )
        opened.setsockopt(level, option, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setblocking(False)
        opened.bind((snat(family), port))
        if to is not None:
            with contextlib.suppress(BlockingIOError):
                opened.connect(to)
        elif kind is socket.SOCK_STREAM:
            opened.listen()
        yield opened


FAR = {4: LINKS[1].endpoint, 6: LINKS[1].endpoint6}
"""Reached by a route, which a socket must have to connect; and not on the list."""


def frame_of(kind: socket.SocketKind, family: int, source_port: int = 443, port: int = HOST_PORT) -> bytes:
    ends = (FAR[family], source_port), (snat(family), port)
    if kind is socket.SOCK_DGRAM:
        return datagram(*ends, b"an answer", macs=MACS)
    return segment(*ends, Flag.SYN | Flag.ACK, macs=MACS)


KIND = pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["TCP", "UDP"])


@KIND
def test_whom_the_host_has_asked_may_answer(door: DataPath, family: int, kind: socket.SocketKind) -> None:
    dropped(run(door, frame_of(kind, family)))
    with host(family, kind, to=(FAR[family], 443)):
        passed(run(door, frame_of(kind, family)))
        dropped(run(door, frame_of(kind, family, source_port=444)))
        dropped(run(door, frame_of(kind, family, port=HOST_PORT - 1)))
        dropped(run(door, ssh(FAR[family], snat(family))))
        dropped(run(door, ping(FAR[family], snat(family))))
    dropped(run(door, frame_of(kind, family)))


@KIND
def test_who_asks_the_host_is_no_guest_for_that(door: DataPath, family: int, kind: socket.SocketKind) -> None:
    with host(family, kind):
        dropped(run(door, frame_of(kind, family)))


@KIND
def test_at_a_port_of_ours_the_host_is_not_asked(
    door: DataPath, family: int, kind: socket.SocketKind
) -> None:
    with host(family, kind, 20_500, (FAR[family], 443)):
        dropped(run(door, frame_of(kind, family, port=20_500)))


@KIND
def test_errors_about_what_the_host_has_sent_get_there(
    door: DataPath, family: int, kind: socket.SocketKind
) -> None:
    """Or its own path MTU would not work."""
    ports = {"sport": HOST_PORT, "dport": 443}
    upper = UDP(**ports) / bytes(20) if kind is socket.SOCK_DGRAM else TCP(**ports, flags="A") / bytes(20)
    quote = raw(network(snat(family), FAR[family]) / upper)
    header = ICMPv6PacketTooBig(mtu=1400) if family == 6 else ICMP(type=3, code=4, nexthopmtu=1400)

    def said(quote: bytes) -> Seen:
        return run(door, error(header, ROUTER[family], snat(family), quote, MACS))

    dropped(said(quote))
    with host(family, kind, to=(FAR[family], 443)):
        passed(said(quote))
        dropped(said(raw(network(snat(family), GUEST[family]) / upper)))
        dropped(said(raw(network(GUEST[family], FAR[family]) / upper)))
        # a plain packet behind it is not taken for what the error was about
        dropped(run(door, ping(STRANGER[family], snat(family))))


def test_an_error_that_quotes_too_little_is_a_strangers_word(door: DataPath, family: int) -> None:
    header = ICMPv6DestUnreach() if family == 6 else ICMP(type=3, code=1)
    quote = raw(network(snat(family), FAR[family]) / UDP(sport=HOST_PORT, dport=443))
    with host(family, socket.SOCK_DGRAM, to=(FAR[family], 443)):
        passed(run(door, error(header, ROUTER[family], snat(family), quote, MACS)))
        dropped(run(door, error(header, ROUTER[family], snat(family), quote[:-1], MACS)))
        passed(run(door, error(header, GUEST[family], snat(family), quote[:-1], MACS)))


def test_it_does_not_matter_which_way_a_packet_comes(door: DataPath, family: int) -> None:
    frame = segment((STRANGER[family], 40_001), (snat(family), 22), Flag.SYN)
    dropped(door.run(frame, CLIENTS))
