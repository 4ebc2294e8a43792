"""Pings of VIPs are answered; of ICMP and ICMPv6, what is the host's is left to it."""

from __future__ import annotations

import pytest
from errors import one_cpu
from harness import SNAT, SNAT6, VIP, VIP6, Action, DataPath
from netbox import CLIENT_SIDE_MAC, ROUTER_MAC
from scapy.compat import raw
from scapy.layers.inet import ICMP, IP, TCP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Padding, Raw
from segments import is_ipv6, network
from session import CLIENT, CLIENT6
from steps import dropped, untouched, verdict_of

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict

pytestmark = pytest.mark.usefixtures("filled_headroom")
PINGING = {VIP: CLIENT, VIP6: CLIENT6}


def ping(source: str, target: str, payload: bytes, tags: Packet | None = None, **fields: object) -> Packet:
    frame = Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC)
    request = (
        ICMPv6EchoRequest(id=77, seq=9, data=payload) if is_ipv6(target) else ICMP(id=77, seq=9) / payload
    )
    return (frame / tags if tags else frame) / network(source, target, **fields) / request


def pong(packet: Packet) -> bytes:
    """What must come back."""
    out = packet.copy()
    out[Ether].src, out[Ether].dst = packet[Ether].dst, packet[Ether].src
    layer = out[IPv6] if IPv6 in out else out[IP]
    layer.src, layer.dst = layer.dst, layer.src
    if IPv6 in out:
        request, layer.hlim = out[ICMPv6EchoRequest], 64
        reply = ICMPv6EchoReply(id=request.id, seq=request.seq, data=request.data)
        padding = out.getlayer(Padding)
        layer.remove_payload()
        layer.payload = reply
        return raw(out / padding if padding else out)
    layer.ttl, out[ICMP].type = 64, 0
    del layer.chksum, out[ICMP].chksum
    return raw(out)


@pytest.mark.parametrize("vip", [VIP, VIP6])
class TestPings:
    @pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 8, 31, 56, 57, 1000, 1451, 1452, 3001, 5000, 20_000])
    def test_of_any_length(self, path: DataPath, vip: str, length: int) -> None:
        packet = ping(PINGING[vip], vip, bytes(n % 251 for n in range(length)))
        seen = verdict_of(path.run(raw(packet)), Verdict.ECHOED, Action.TX)
        assert seen.frame == pong(packet), seen

    @pytest.mark.parametrize("ttl", [0, 1, 2, 255])
    def test_of_any_age_for_they_have_arrived(self, path: DataPath, vip: str, ttl: int) -> None:
        packet = ping(PINGING[vip], vip, b"ping", ttl=ttl)
        seen = verdict_of(path.run(raw(packet)), Verdict.ECHOED, Action.TX)
        assert seen.frame == pong(packet), seen

    @pytest.mark.parametrize(
        "tags", [Dot1Q(vlan=7), Dot1Q(vlan=8, prio=5, type=0x8100) / Dot1Q(vlan=9)], ids=["one", "two"]
    )
    def test_in_a_vlan_they_go_back_into_it(self, path: DataPath, vip: str, tags: Packet) -> None:
        packet = ping(PINGING[vip], vip, b"tagged", tags=tags)
        seen = verdict_of(path.run(raw(packet)), Verdict.ECHOED, Action.TX)
        assert seen.frame == pong(packet), seen

    def test_padding_is_not_theirs(self, path: DataPath, vip: str) -> None:
        packet = ping(PINGING[vip], vip, b"?") / Padding(bytes(17))
        seen = verdict_of(path.run(raw(packet)), Verdict.ECHOED, Action.TX)
        assert seen.frame == pong(packet), seen

    def test_cut_anywhere(self, path: DataPath, vip: str) -> None:
        whole = raw(ping(PINGING[vip], vip, b"12345678"))
        header = 40 if is_ipv6(vip) else 20
        for length in range(14, len(whole)):
            seen = path.run(whole[:length])
            if length < 14 + header:
                untouched(seen)
            else:
                dropped(seen, Verdict.MALFORMED)

    def test_an_icmp_header_in_less_than_its_length(self, path: DataPath, vip: str) -> None:
        packet = ping(PINGING[vip], vip, b"")
        layer = packet[IPv6] if is_ipv6(vip) else packet[IP]
        for length in range(8):
            if is_ipv6(vip):
                layer.plen = length
            else:
                layer.len, layer.chksum = 20 + length, None
            dropped(path.run(raw(packet)), Verdict.MALFORMED)

    def test_checksums_are_right_whatever_is_in_them(self, path: DataPath, vip: str) -> None:
        for number in range(0, 0x1_0000, 331):
            packet = ping(PINGING[vip], vip, number.to_bytes(2, "big") * 3)
            packet = Ether(raw(packet))
            echo = packet[ICMPv6EchoRequest] if is_ipv6(vip) else packet[ICMP]
            echo.id, echo.seq = number, number ^ 0xFFFF
            if is_ipv6(vip):
                echo.cksum = None
            else:
                echo.chksum = None
            packet = Ether(raw(packet))
            assert path.run(raw(packet)).frame == pong(packet)

    def test_sent_to_all_they_are_not_answered(self, path: DataPath, vip: str) -> None:
        for target in ("ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01"):
            packet = ping(PINGING[vip], vip, b"all")
            packet[Ether].dst = target
            dropped(path.run(raw(packet)), Verdict.UNRELATED)

    def test_nor_from_nobody_in_particular(self, path: DataPath, vip: str) -> None:
        nobody = (
            ["::", "ff02::1"] if is_ipv6(vip) else ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"]
        )
        for source in nobody:
            packet = Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC) / ping(source, vip, b"who?")[1]
            dropped(path.run(raw(packet)), Verdict.SPOOFED)

    def test_of_a_snat_address_they_are_the_hosts(self, path: DataPath, vip: str) -> None:
        for target in SNAT6 if is_ipv6(vip) else SNAT:
            untouched(path.run(raw(ping(PINGING[vip], target, b"ping"))))

    def test_of_others_they_are_nobodys(self, path: DataPath, vip: str) -> None:
        target = "2001:db8:203::9" if is_ipv6(vip) else "203.0.113.9"
        untouched(path.run(raw(ping(PINGING[vip], target, b"ping"))))

    def test_while_observing_the_host_answers(self, path: DataPath, vip: str) -> None:
        path.tables.mode = abi.Mode.OBSERVE
        untouched(path.run(raw(ping(PINGING[vip], vip, b"ping"))))

    def test_so_many_a_second(self, path: DataPath, vip: str) -> None:
        path.clock(10**15)
        frame = raw(ping(PINGING[vip], vip, b"flood"))
        with one_cpu():
            verdicts = [path.run(frame).verdict for _ in range(1002)]
            assert verdicts == [Verdict.ECHOED] * 1000 + [Verdict.UNRELATED] * 2
            path.clock(10**15 + 10**9)
            assert path.run(frame).verdict is Verdict.ECHOED


UNREAD = [
    ("a ping with IP options", VIP, network(CLIENT, VIP, options=[IPOption_NOP()] * 4) / ICMP() / b"x"),
    ("a ping's answer", VIP, network(CLIENT, VIP) / ICMP(type=0)),
    ("a redirect", VIP, network(CLIENT, VIP) / ICMP(type=5, gw="10.0.0.1") / IP() / TCP()),
    ("a source quench", VIP, network(CLIENT, VIP) / ICMP(type=4) / IP() / TCP()),
    ("a request for the time", VIP, network(CLIENT, VIP) / ICMP(type=13)),
    ("a router advertisement of IPv4", VIP, network(CLIENT, VIP) / ICMP(type=9)),
    ("ICMPv6 over IPv4", VIP, network(CLIENT, VIP, proto=58) / ICMPv6EchoRequest()),
    (
        "a ping behind destination options",
        VIP6,
        IPv6(src=CLIENT6, dst=VIP6) / IPv6ExtHdrDestOpt() / ICMPv6EchoRequest(),
    ),
    (
        "a ping in an atomic fragment",
        VIP6,
        IPv6(src=CLIENT6, dst=VIP6) / IPv6ExtHdrFragment() / ICMPv6EchoRequest(),
    ),
    ("a ping's answer of IPv6", VIP6, IPv6(src=CLIENT6, dst=VIP6) / ICMPv6EchoReply()),
    ("an error of no known type", VIP6, IPv6(src=CLIENT6, dst=VIP6, nh=58) / Raw(b"\x05" + bytes(60))),
    ("type 0", VIP6, IPv6(src=CLIENT6, dst=VIP6, nh=58) / Raw(bytes(60))),
    ("ICMP over IPv6", VIP6, IPv6(src=CLIENT6, dst=VIP6, nh=1) / ICMP()),
]


@pytest.mark.parametrize(("name", "vip", "packet"), UNREAD, ids=[name for name, _, _ in UNREAD])
def test_what_no_vip_answers(path: DataPath, name: str, vip: str, packet: Packet) -> None:
    frame = Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC)
    dropped(path.run(raw(frame / packet)), Verdict.UNSUPPORTED)
    packet = packet.copy()
    packet.dst = SNAT6[1] if is_ipv6(vip) else SNAT[1]
    untouched(path.run(raw(frame / packet)))


@pytest.mark.parametrize("target", [VIP6, SNAT6[0], "ff02::1:ff00:80"])
@pytest.mark.parametrize(
    "message",
    [ICMPv6ND_RS(), ICMPv6ND_RA(), ICMPv6ND_NS(tgt=VIP6), ICMPv6ND_NA(tgt=VIP6), ICMPv6MLReport2()],
    ids=["RS", "RA", "NS", "NA", "MLD2"],
)
def test_neighbours_talk_to_the_host(path: DataPath, message: Packet, target: str) -> None:
    packet = Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC) / IPv6(src="fe80::1", dst=target, hlim=255) / message
    untouched(path.run(raw(packet)))
