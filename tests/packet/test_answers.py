"""What the edge says of its own: that a packet was too big, or came too late. And what it never answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import netbox
import pytest
from errors import (
    FROM_CLIENTS,
    KINDS,
    LINK,
    ROUTER,
    answers,
    asks,
    begins,
    error,
    family_of,
    flow_of,
    one_cpu,
)
from harness import VIP, VIP6, Action, DataPath, Seen, zero
from netbox import CLIENT_SIDE_MAC, CLIENTS, ROUTER_MAC
from scapy.compat import raw
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Padding, Raw
from segments import Flag, is_ipv6, network
from session import CLIENT, CLIENT6, Datagrams, Session
from steps import dropped, forwarded, replied, verdict_of
from tags import QINQ, SINGLE, UNTAGGED, Tags, tagged

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Transport, Verdict
from cdnctl.lab import netns

pytestmark = pytest.mark.usefixtures("filled_headroom")
QUOTE = {4: 576 - 28, 6: 1280 - 48}
NARROW = 1300
TOO_LATE = {4: ICMP(type=11, code=0), 6: ICMPv6TimeExceeded(code=0)}


def too_big(family: int, mtu: int) -> Packet:
    return ICMP(type=3, code=4, nexthopmtu=mtu) if family == 4 else ICMPv6PacketTooBig(mtu=mtu)


def says(header: Packet, packet: Packet, tags: Tags = UNTAGGED) -> bytes:
    """The error about `packet` that goes back where it came from, from where it was to go."""
    layer = packet.payload
    family = layer.version
    fields = {"id": 0, "flags": "DF"} if family == 4 else {}
    carrier = network(layer.dst, layer.src, 64, **fields)
    quote = raw(layer)
    if Padding in packet:
        quote = quote[: -len(packet[Padding])]
    frame = Ether(src=packet.dst, dst=packet.src) / carrier / header.copy() / Raw(quote[: QUOTE[family]])
    return tagged(raw(frame), tags)


def dying(packet: Packet, ttl: int = 1) -> Packet:
    packet = packet.copy()
    if IPv6 in packet:
        packet[IPv6].hlim = ttl
    else:
        packet[IP].ttl = ttl
    return packet


def told_too_late(seen: Seen, packet: Packet, tags: Tags = UNTAGGED) -> None:
    verdict_of(seen, Verdict.SAID_TOO_LATE, Action.TX)
    family = 6 if IPv6 in packet else 4
    assert seen.frame == says(TOO_LATE[family], packet, tags), f"{seen}\n gave {Ether(seen.frame).command()}"


def told_too_big(seen: Seen, packet: Packet, mtu: int) -> None:
    verdict_of(seen, Verdict.SAID_TOO_BIG, Action.TX)
    family = 6 if IPv6 in packet else 4
    expected = says(too_big(family, mtu), packet)
    assert seen.frame == expected, f"{seen}\n gave {Ether(seen.frame).command()}"


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("ttl", [0, 1])
class TestTooLate:
    def test_a_clients_first_packet_leaves_no_trace(self, path: DataPath, name: str, ttl: int) -> None:
        flow = flow_of(path, name)
        packet = dying(begins(flow), ttl)
        told_too_late(path.run(raw(packet)), packet)
        assert flow.half_open is None
        assert not path.health("aurora", flow.pool).unanswered

    def test_in_an_open_flow(self, path: DataPath, name: str, ttl: int) -> None:
        flow = flow_of(path, name).open()
        packet = dying(asks(flow), ttl)
        told_too_late(path.run(raw(packet)), packet)

    def test_a_reply(self, path: DataPath, name: str, ttl: int) -> None:
        flow = flow_of(path, name).open()
        packet = dying(answers(flow), ttl)
        told_too_late(path.run(raw(packet), LINK.name), packet)

    def test_into_a_tunnel(self, path: DataPath, name: str, ttl: int) -> None:
        flow = flow_of(path, name)
        path.change_endpoint("aurora", flow.pool, transport=Transport.IPIP)
        forwarded(path.run(raw(begins(flow))))
        packet = dying(asks(flow), ttl)
        told_too_late(path.run(raw(packet)), packet)

    def test_not_of_what_the_host_gets(self, path: DataPath, name: str, ttl: int) -> None:
        flow = flow_of(path, name)
        path.change_endpoint("aurora", flow.pool, transport=Transport.PASS)
        verdict_of(path.run(raw(begins(flow))), Verdict.HANDED, Action.PASS)
        packet = raw(dying(asks(flow), ttl))
        assert verdict_of(path.run(packet), Verdict.HANDED, Action.PASS).frame == packet


@pytest.mark.parametrize("name", KINDS)
class TestQuotes:
    @pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 100, 101])
    def test_as_much_as_there_is(self, path: DataPath, name: str, length: int) -> None:
        flow = flow_of(path, name).open()
        packet = dying(asks(flow, bytes(range(length))))
        told_too_late(path.run(raw(packet)), packet)

    def test_no_padding(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        packet = dying(asks(flow, b"?")) / Padding(b"\xee" * 17)
        told_too_late(path.run(raw(packet)), packet)

    def test_at_most_what_every_path_takes(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        most, header = QUOTE[family_of(flow.snat[0])], len(raw(asks(flow, b""))) - 14
        for length in (most - header - 1, most - header, most - header + 1, 1400, 1401):
            packet = dying(asks(flow, bytes(n % 251 for n in range(length))))
            told_too_late(path.run(raw(packet)), packet)

    def test_whatever_they_say_their_checksums_are_right(self, path: DataPath, name: str) -> None:
        path.clock(10**15)
        flow = flow_of(path, name).open()
        for number in range(0, 0x1_0000, 1021):
            packet = dying(asks(flow, number.to_bytes(2, "big") * 9))
            told_too_late(path.run(raw(packet)), packet)

    @pytest.mark.parametrize("tags", [SINGLE, QINQ], ids=["VLAN", "QinQ"])
    def test_in_a_vlan_they_go_back_into_it(self, path: DataPath, name: str, tags: Tags) -> None:
        flow = flow_of(path, name).open()
        packet = dying(answers(flow, b"!" * 600))
        told_too_late(path.run(tagged(raw(packet), tags), LINK.name), packet, tags)


def test_a_quote_with_options_and_extension_headers(path: DataPath) -> None:
    flow = Datagrams(path, "dns").open()
    packet = dying(asks(flow))
    packet[IP].options = [IPOption_NOP()] * 40
    told_too_late(path.run(raw(packet)), packet)
    flow = Datagrams(path, "dns6").open()
    packet = asks(flow)
    layer = IPv6(src=flow.client[0], dst=flow.service[0], hlim=1) / IPv6ExtHdrDestOpt() / packet[UDP]
    packet = Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC) / layer
    told_too_late(path.run(raw(packet)), packet)


@contextlib.contextmanager
def narrow(path: DataPath, device: str, mtu: int = NARROW) -> Iterator[None]:
    """The device's link takes no more meanwhile."""

    def to(mtu: int) -> None:
        with netns.netlink(netbox.name()) as ip:
            ip.link("set", index=path.indexes[device], mtu=mtu)
        path.links.refresh()
        zero(path.map("hops", per_cpu=True))  # asked for once a second

    to(mtu)
    try:
        yield
    finally:
        to(1500)


def sized(packet: Packet, length: int) -> Packet:
    """With a payload that makes it so long, at the network layer."""
    bare = packet.copy()
    bare[UDP if UDP in bare else TCP].remove_payload()
    return bare / Raw(bytes(n % 249 for n in range(length - (len(raw(bare)) - 14))))


@pytest.mark.parametrize("name", KINDS)
class TestTooBig:
    def test_for_the_way_to_a_cdn(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        with narrow(path, LINK.name):
            forwarded(path.run(raw(sized(asks(flow), NARROW))))
            for length in (NARROW + 1, 1400, 1500):
                packet = sized(asks(flow), length)
                told_too_big(path.run(raw(packet)), packet, NARROW)

    def test_for_the_way_to_a_client(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        with narrow(path, CLIENTS):
            replied(path.run(raw(sized(answers(flow), NARROW)), LINK.name))
            for length in (NARROW + 1, 1400, 1500):
                packet = sized(answers(flow), length)
                told_too_big(path.run(raw(packet), LINK.name), packet, NARROW)

    def test_in_several_buffers(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        for length in (3400, 3500, 5000, 9000):
            packet = sized(asks(flow), length)
            told_too_big(path.run(raw(packet)), packet, 1500)
            told_too_late(path.run(raw(dying(packet))), dying(packet))

    @pytest.mark.parametrize("transport", [Transport.IPIP, Transport.GUE])
    def test_for_a_tunnel(self, path: DataPath, name: str, transport: Transport) -> None:
        flow = flow_of(path, name)
        path.change_endpoint("aurora", flow.pool, transport=transport, tunnel_port=6080)
        forwarded(path.run(raw(begins(flow))))
        most = 1500 - (20 if "4" in name else 40) - (8 if transport is Transport.GUE else 0)
        forwarded(path.run(raw(sized(asks(flow), most))))
        packet = sized(asks(flow), most + 1)
        told_too_big(path.run(raw(packet)), packet, most)

    def test_a_later_fragment_is_so_in_silence(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        whole = raw(asks(flow))[14:]
        if "4" in name:
            first = layer = IP(whole)
            layer.flags, layer.id, layer.chksum = "MF", 9, None
            later = IP(src=layer.src, dst=layer.dst, id=9, frag=100, proto=layer.proto) / Raw(bytes(1400))
        else:
            layer = IPv6(whole)
            head = IPv6(src=layer.src, dst=layer.dst) / IPv6ExtHdrFragment(id=9, m=1, nh=layer.nh)
            first = head / layer.payload
            later = IPv6(src=layer.src, dst=layer.dst) / IPv6ExtHdrFragment(id=9, offset=100, nh=layer.nh)
            later /= Raw(bytes(1400))
        ether = Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC)
        forwarded(path.run(raw(ether / first)))
        with narrow(path, LINK.name):
            dropped(path.run(raw(ether / later)), Verdict.TOO_BIG)

    def test_where_the_edge_only_observes(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        packet = raw(sized(asks(flow), 1400))
        path.tables.mode = abi.Mode.OBSERVE
        with narrow(path, LINK.name):
            seen = verdict_of(path.run(packet), Verdict.PASSED, Action.PASS)
        assert seen.frame == packet


@pytest.mark.parametrize("name", KINDS)
class TestNoAnswer:
    """Neither to errors, nor to all, nor to nobody in particular."""

    def test_about_an_error(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        family = family_of(flow.snat[0])
        header = {4: ICMP(type=3, code=1), 6: ICMPv6DestUnreach()}[family]
        quote = path.run(raw(asks(flow))).frame[14:]
        for ttl in (0, 1):
            frame = error(header, ROUTER[family], flow.snat[0], quote, (LINK.gateway_mac, LINK.mac), ttl)
            dropped(path.run(frame, LINK.name), Verdict.EXPIRED_TTL)
        with narrow(path, CLIENTS):
            frame = error(header, ROUTER[family], flow.snat[0], quote + bytes(1400), FROM_CLIENTS)
            dropped(path.run(frame, LINK.name), Verdict.TOO_BIG)

    @pytest.mark.parametrize("to", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01"])
    def test_to_a_frame_for_all(self, path: DataPath, name: str, to: str) -> None:
        flow = flow_of(path, name).open()
        packet = dying(asks(flow))
        packet[Ether].dst = to
        dropped(path.run(raw(packet)), Verdict.EXPIRED_TTL)
        if isinstance(flow, Session):
            stranger = asks(Session(path, "solo6" if "6" in name else "solo"))
            stranger[Ether].dst = to
            dropped(path.run(raw(stranger)), Verdict.UNKNOWN_FLOW)

    def test_to_nobody_in_particular(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name)
        nobody = (
            ("::", "ff02::1", "ff0e::7")
            if "6" in name
            else ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255")
        )
        for source in nobody:
            packet = dying(begins(flow))
            packet[IPv6 if "6" in name else IP].src = source
            dropped(path.run(raw(packet)), Verdict.SPOOFED)


def test_so_many_a_second_whatever_they_say(path: DataPath) -> None:
    """Resets, pings and errors each have a budget, of each CPU: who provokes one kind silences no other."""
    path.clock(10**15)
    late = dying(begins(Session(path, "solo6")))
    unknown = asks(Session(path, "solo"))
    big = Datagrams(path, "dns").open()
    with one_cpu():
        for _ in range(1000):
            verdict_of(path.run(raw(unknown)), Verdict.RESET_CLIENT, Action.TX)
        dropped(path.run(raw(unknown)), Verdict.UNKNOWN_FLOW)
        for _ in range(1000):
            verdict_of(path.run(raw(late)), Verdict.SAID_TOO_LATE, Action.TX)
        dropped(path.run(raw(late)), Verdict.EXPIRED_TTL)
        with narrow(path, LINK.name):
            dropped(path.run(raw(sized(asks(big), 1400))), Verdict.TOO_BIG)
        path.clock(10**15 + 10**9)
        told_too_late(path.run(raw(late)), late)


@pytest.mark.parametrize("vip", [VIP, VIP6])
@pytest.mark.parametrize("tags", [UNTAGGED, SINGLE, QINQ], ids=["untagged", "VLAN", "QinQ"])
@pytest.mark.parametrize("flags", [Flag.ACK, Flag.PSH | Flag.ACK, Flag.FIN | Flag.ACK])
def test_resets_of_both_families_and_all_tags(path: DataPath, vip: str, tags: Tags, flags: Flag) -> None:
    client = CLIENT6 if is_ipv6(vip) else CLIENT
    ends = network(client, vip) / TCP(sport=40001, dport=80, flags=int(flags), seq=7, ack=0x01020304)
    packet = Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC) / ends
    seen = verdict_of(path.run(tagged(raw(packet), tags)), Verdict.RESET_CLIENT, Action.TX)
    carrier = network(vip, client, 64, id=0, **({} if is_ipv6(vip) else {"flags": "DF"}))
    reset = (
        Ether(src=CLIENT_SIDE_MAC, dst=ROUTER_MAC)
        / carrier
        / TCP(sport=80, dport=40001, flags="R", seq=0x01020304, window=0)
    )
    assert seen.frame == tagged(raw(reset), tags)
