"""What the lab's own programs put together by hand, read by scapy."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from cdnctl.lab import packets

ROUTERS = (ip_address("100.66.1.1").packed, ip_address("2001:db8:f2:1::1").packed)
LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
CLIENT, VIP, CLIENT6, VIP6 = "10.1.7.7", "203.0.113.80", "3fff:1:7::7", "2001:db8:80::80"


def checked(packet: Packet) -> Packet:
    """The packet, having the lengths and checksums that scapy gives it."""
    again = packet.copy()
    for layer in (IP, IPv6, TCP, UDP, ICMP, ICMPv6PacketTooBig):
        if layer in again and not (layer is UDP and packet[UDP].chksum == 0):
            for field in ("len", "plen", "chksum", "cksum"):
                if field in again[layer].fields:
                    del again[layer].fields[field]
    assert bytes(again) == bytes(packet)
    return packet


def test_a_segment_and_a_datagram() -> None:
    source, target = ip_address(CLIENT).packed, ip_address(VIP).packed
    segment = checked(IP(packets.tcp(source, target, (4000, 80), (7, 9), 0x10, 1024, b"odd")))
    assert (segment[TCP].seq, segment[TCP].ack, bytes(segment[TCP].payload)) == (7, 9, b"odd")
    datagram = checked(IP(packets.udp(source, target, (4000, 53), b"question")))
    assert (datagram.dst, datagram[UDP].dport, datagram[UDP].chksum) == (VIP, 53, 0)


def frame(size: int, **more: str) -> bytes:
    return bytes(LINK / IP(src=CLIENT, dst=VIP, flags=more.get("flags", "DF")) / TCP() / bytes(size))


def test_a_router_says_that_a_packet_is_too_big() -> None:
    sent = frame(1400)
    answer = packets.too_big(sent, 1280, ROUTERS)
    assert answer
    said = Ether(answer)
    assert (said.src, said.dst) == (LINK.dst, LINK.src)
    error = checked(said[IP])
    assert (error.src, error.dst) == ("100.66.1.1", CLIENT)
    assert (error[ICMP].type, error[ICMP].code, error[ICMP].nexthopmtu) == (3, 4, 1280)
    assert bytes(error)[28:] == sent[14 : 14 + packets.QUOTE]
    assert len(error) == 576


def test_so_does_one_of_ipv6() -> None:
    sent = bytes(LINK / IPv6(src=CLIENT6, dst=VIP6) / TCP() / bytes(1400))
    answer = packets.too_big(sent, 1280, ROUTERS)
    assert answer
    error = checked(Ether(answer)[IPv6])
    assert (error.src, error.dst, len(error)) == ("2001:db8:f2:1::1", CLIENT6, 1280)
    assert error[ICMPv6PacketTooBig].mtu == 1280
    assert bytes(error)[48:] == sent[14 : 14 + packets.QUOTE6]


@pytest.mark.parametrize(
    "packet",
    [
        IP(src=CLIENT, dst=VIP) / TCP() / bytes(1400),
        IP(src=CLIENT, dst=VIP, flags="DF") / ICMP(type=3) / bytes(1400),
        ARP() / bytes(1400),
    ],
    ids=["may be fragmented", "ICMP", "not IP"],
)
def test_but_not_of_everything(packet: Packet) -> None:
    assert packets.too_big(bytes(LINK / packet), 1280, ROUTERS) is None


def test_talk_of_the_next_hop_is_told_from_traffic() -> None:
    for talk in (ARP(), IPv6() / ICMPv6ND_NS(tgt=VIP6)):
        assert packets.is_next_hop_talk(bytes(LINK / talk))
    for traffic in (frame(10), bytes(LINK / IPv6() / TCP()), bytes(LINK / IPv6() / ICMPv6PacketTooBig())):
        assert not packets.is_next_hop_talk(traffic)
