"""The table: what is not for the edge is left alone, byte for byte: the host's own, and everybody else's."""

from __future__ import annotations

import pytest
from harness import SNAT, SNAT6, DataPath
from netbox import CLIENT_SIDE_MAC, ROUTER_MAC
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw
from segments import is_ipv6, network
from session import Flow
from states import NOTHING, OPEN
from table import PASSES, Given, Make, Row, but, cases, down, drop, hops, layer_of, row, up
from trying import check

from cdnctl.datapath.abi import Verdict

V4, V6 = [4], [6]
FRAME = Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC)
OURS = SNAT[1], SNAT6[1]
ELSEWHERE = "192.0.2.1", "2001:db8:99::1"
MAPPED = "::ffff:203.0.113.80"
MALFORMED, NO_OWNER = drop(Verdict.MALFORMED), drop(Verdict.NO_OWNER)
SSH, DNS = TCP(sport=40001, dport=22, flags="S"), UDP(sport=53, dport=19_001) / b"an answer"


def to(target: tuple[str, str], upper: Packet, upper6: Packet | None = None) -> Make:
    """A client's packet to one address or, over IPv6, to the other."""

    def make(flow: Flow) -> Packet:
        if is_ipv6(flow.client[0]):
            return FRAME / network(flow.client[0], target[1]) / (upper if upper6 is None else upper6)
        return FRAME / network(flow.client[0], target[0]) / upper

    return make


def frame(packet: Packet) -> Make:
    """Just this."""
    return lambda _: packet


def first(count: int, make: Make) -> Make:
    """The first so many bytes of it."""
    return lambda flow: Ether(bytes(make(flow))[:count])


def tagged(make: Make, *tags: Packet) -> Make:
    """The same in VLANs."""

    def changed(flow: Flow) -> Packet:
        packet: Packet = Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC)
        for tag in tags:
            packet = packet / tag
        return packet / layer_of(make(flow))

    return changed


def tcp(dport: int, flags: str = "S", **fields: object) -> Packet:
    return TCP(sport=40001, dport=dport, flags=flags, **fields)


PING, PING6 = ICMP() / b"ping", ICMPv6EchoRequest(data=b"ping")


def _ping_of_a_cdn(flow: Flow) -> Packet:
    packet = down("A")(flow)
    layer = layer_of(packet)
    layer.remove_payload()
    return packet / (PING6 if layer.version == 6 else PING)


THE_HOSTS: dict[Given, list[Row]] = {
    NOTHING: [
        row("ssh", to(OURS, SSH), PASSES),
        row("ssh, an ACK", to(OURS, tcp(22, "A")), PASSES),
        row("ssh, a reset", to(OURS, tcp(22, "R")), PASSES),
        row("ssh, impossible flags", to(OURS, tcp(22, "SFPU")), PASSES),
        row("ssh, a header of 4 words", to(OURS, tcp(22, dataofs=4)), PASSES),
        row("ssh, a header beyond the packet", to(OURS, tcp(22, dataofs=15)), PASSES),
        row("BGP with 1 hop to live", hops(to(OURS, tcp(179)), 1), PASSES),
        row("to the port below ours", to(OURS, tcp(19_999, "SA")), PASSES),
        row("to the port above ours", to(OURS, tcp(20_032, "SA")), PASSES),
        row("to the first port of ours", to(OURS, tcp(20_000, "SA")), NO_OWNER),
        row("to the last port of ours", to(OURS, tcp(20_031, "A")), NO_OWNER),
        row("to a port of ours, impossible flags", to(OURS, tcp(20_031, "SF")), drop(Verdict.IMPOSSIBLE)),
        row("to port 0", to(OURS, tcp(0)), MALFORMED),
        row("an answer of DNS", to(OURS, DNS), PASSES),
        row("an answer of DNS to a port of ours", to(OURS, UDP(sport=53, dport=20_001) / b"x"), NO_OWNER),
        row("UDP without a checksum", to(OURS, UDP(sport=4789, dport=4789, chksum=0) / b"VXLAN"), PASSES),
        row("UDP with a wrong length", to(OURS, UDP(sport=53, dport=53, len=99) / b"x"), PASSES),
        row("a ping", to(OURS, PING, PING6), PASSES),
        row("a ping's answer", to(OURS, ICMP(type=0), ICMPv6EchoReply()), PASSES),
        row("a redirect", to(OURS, ICMP(type=5) / IP() / TCP(), ICMPv6ND_RA()), PASSES),
        row("another protocol", to(OURS, Raw(bytes(40))), PASSES),
        row("GRE", but(to(OURS, Raw(bytes(40))), proto=47, v6={"nh": 47}), PASSES),
        row("ESP", but(to(OURS, Raw(bytes(40))), proto=50, v6={"nh": 50}), PASSES),
        row("IP options", but(to(OURS, SSH), options=[IPOption_NOP()] * 40), PASSES, families=V4),
        row("a first fragment", but(to(OURS, DNS), flags="MF"), PASSES, families=V4),
        row("a later fragment", but(to(OURS, Raw(bytes(40))), frag=5, proto=17), PASSES, families=V4),
        row(
            "a later fragment",
            to(OURS, IPv6ExtHdrFragment(offset=5, nh=17) / Raw(b"x" * 40)),
            PASSES,
            families=V6,
        ),
        row("extension headers", to(OURS, IPv6ExtHdrDestOpt() / SSH), PASSES, families=V6),
        row(
            "a route that goes on",
            to(OURS, IPv6ExtHdrRouting(segleft=1, addresses=["::1"]) / SSH),
            PASSES,
            families=V6,
        ),
        row("a length beyond the frame", but(to(OURS, SSH), len=41, v6={"plen": 21}), MALFORMED),
    ],
    OPEN: [
        row("what the CDN's host says to ssh", down("S", dport=22), PASSES),
        row("what comes back from the CDN's web server to the host", down("SA", dport=40_000), PASSES),
        row("a CDN's ping", _ping_of_a_cdn, PASSES),
    ],
}


def _source(make: Make, source: tuple[str, str]) -> Make:
    return but(make, src=source[0], v6={"src": source[1]})


VIPS = "203.0.113.80", "2001:db8:203::80"
OTHERS: dict[Given, list[Row]] = {
    NOTHING: [
        row("a SYN", to(ELSEWHERE, tcp(80)), PASSES),
        row("impossible flags", to(ELSEWHERE, tcp(80, "SFR")), PASSES),
        row("from port 0 to port 0", to(ELSEWHERE, TCP(sport=0, dport=0)), PASSES),
        row("UDP without a checksum", to(ELSEWHERE, UDP(chksum=0) / b"abc"), PASSES),
        row("a ping at its last hop", hops(to(ELSEWHERE, PING, PING6), 0), PASSES),
        row("an unknown protocol", to(ELSEWHERE, Raw(bytes(40))), PASSES),
        row("a header of one word", but(to(ELSEWHERE, tcp(80)), ihl=1, len=3), PASSES, families=V4),
        row("a length beyond the frame", but(to(ELSEWHERE, tcp(80)), len=4000, v6={"plen": 4000}), PASSES),
        row("IP options", but(to(ELSEWHERE, tcp(80)), options=[IPOption_NOP()]), PASSES, families=V4),
        row("a fragment", but(to(ELSEWHERE, Raw(bytes(9))), frag=7), PASSES, families=V4),
        row("a fragment", to(ELSEWHERE, IPv6ExtHdrFragment(offset=7) / Raw(b"x")), PASSES, families=V6),
        row("of the other version, they say", but(to(ELSEWHERE, tcp(80)), version=5), PASSES),
        row("from a VIP", _source(to(ELSEWHERE, tcp(80)), VIPS), PASSES),
        row("from a SNAT address", _source(to(ELSEWHERE, tcp(80)), OURS), PASSES),
        row("to a network's broadcast", to(("10.255.0.255", "ff02::1"), UDP(sport=68, dport=67)), PASSES),
        row("to all", to(("255.255.255.255", "ff02::1:2"), UDP(sport=68, dport=67)), PASSES),
        row("in a VLAN", tagged(to(ELSEWHERE, tcp(80)), Dot1Q(vlan=7)), PASSES),
        row("in a VLAN in a VLAN", tagged(to(ELSEWHERE, tcp(80)), Dot1AD(vlan=7), Dot1Q(vlan=8)), PASSES),
        row("cut before its addresses end", first(33, up("S")), PASSES, families=V4),
        row("cut before its addresses end", first(53, up("S")), PASSES, families=V6),
        row("from a mapped address", but(up("S"), v6={"src": MAPPED}), PASSES, families=V6),
        row("to a mapped address", but(up("S"), v6={"dst": MAPPED}), PASSES, families=V6),
        row("between mapped ones", but(up("S"), v6={"src": MAPPED, "dst": MAPPED}), PASSES, families=V6),
        row(
            "a neighbour asks for a VIP",
            hops(to(VIPS, PING, ICMPv6ND_NS(tgt=VIPS[1])), 255),
            PASSES,
            families=V6,
        ),
        row(
            "a neighbour says where it is",
            hops(to(VIPS, PING, ICMPv6ND_NA(tgt="fe80::1")), 255),
            PASSES,
            families=V6,
        ),
        row(
            "who listens to what", hops(to(("", "ff02::16"), PING, ICMPv6MLReport2()), 1), PASSES, families=V6
        ),
        row("ARP for a VIP", frame(FRAME / ARP(pdst=VIPS[0])), PASSES, families=V4),
        row(
            "an 802.3 length",
            frame(Ether(dst="01:80:c2:00:00:00", type=38) / Raw(bytes(46))),
            PASSES,
            families=V4,
        ),
        row("LLDP", frame(Ether(dst="01:80:c2:00:00:0e", type=0x88CC) / Raw(bytes(46))), PASSES, families=V4),
        row("MPLS", frame(FRAME.__class__(type=0x8847) / Raw(bytes(46))), PASSES, families=V4),
        row("PPPoE", frame(FRAME.__class__(type=0x8864) / Raw(bytes(46))), PASSES, families=V4),
        row("no more than a type", frame(Ether(type=0x0800)), PASSES, families=V4),
        row("no more than a tag's type", frame(Ether(type=0x8100)), PASSES, families=V4),
        row("half a tag", frame(Ether(type=0x8100) / Raw(b"\0\x07")), PASSES, families=V4),
        row("three tags", tagged(up("S"), Dot1AD(vlan=1), Dot1Q(vlan=2), Dot1Q(vlan=3)), PASSES),
    ],
}


@pytest.mark.parametrize(("given", "row", "family"), cases(THE_HOSTS, OTHERS))
def test_left_alone(bare: DataPath, given: Given, row: Row, family: int) -> None:
    check(bare, given, row, family)
