"""One packet into an empty edge: its verdict, its bytes, and nothing else."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

import harness
import netbox
import pytest
from harness import CDNS, ENDPOINTS, SNAT, VIP, VIP6, Action, DataPath, Seen
from netbox import CLIENT_SIDE_MAC, LINKS, ROUTER_MAC
from scapy.compat import raw
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6TimeExceeded, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Padding, Raw
from segments import Ends, Flag, network, reset_to, segment, translated

from cdnctl.datapath import abi, kernel
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.perf import Sample
from cdnctl.lab import netns

CLIENT = "10.1.0.7"
FRAME = Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC)
TO_VIP = FRAME / IP(src=CLIENT, dst=VIP)
TO_VIP6 = FRAME / IPv6(src="2001:db8:c1::7", dst=VIP6)
FROM_CDN = Ether(src=LINKS[0].gateway_mac, dst=LINKS[0].mac) / IP(src=LINKS[0].endpoint, dst=SNAT[0])
OPTIONS = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (7, 0)), ("NOP", None), ("WScale", 7)]


class Case(NamedTuple):
    """What one packet should end in."""

    description: str
    packet: Packet
    verdict: Verdict


def tcp(flags: str = "S", **fields: object) -> Packet:
    """A client's segment to the service `www`."""
    return TO_VIP / TCP(sport=40001, dport=80, flags=flags, seq=1000, **fields)


def changed(packet: Packet, **fields: int) -> Packet:
    """The same with IP header fields that scapy would not write by itself."""
    packet = packet.copy()
    for name, value in fields.items():
        setattr(packet[IP], name, value)
    return packet


def optioned(transport: Packet) -> Packet:
    """From a client to a VIP, with an IP option."""
    return FRAME / IP(src=CLIENT, dst=VIP, options=[IPOption_NOP()]) / transport


def to_all(packet: Packet) -> Packet:
    """The same as an Ethernet broadcast."""
    packet = packet.copy()
    packet[Ether].dst = "ff:ff:ff:ff:ff:ff"
    return packet


DROPPED = [
    Case(
        "a port of the VIP without service",
        TO_VIP / TCP(sport=40001, dport=81, flags="S"),
        Verdict.NO_SERVICE,
    ),
    Case("UDP to a port of TCP", TO_VIP / UDP(sport=40001, dport=80) / b"x", Verdict.NO_SERVICE),
    Case("a tagged frame of a VLAN that is not ours", FRAME / Dot1Q(vlan=7) / tcp()[IP], Verdict.NO_LINK),
    Case("a ping of a VIP with IP options", optioned(ICMP()), Verdict.UNSUPPORTED),
    Case("another protocol to a VIP", TO_VIP / Raw(bytes(40)), Verdict.UNSUPPORTED),
    Case("a later fragment", changed(tcp(), frag=100), Verdict.FRAGMENT),
    Case("the last fragment", changed(tcp("A"), frag=3, flags=0), Verdict.FRAGMENT),
    Case("a SYN that dies here, to everybody", to_all(changed(tcp(), ttl=1)), Verdict.EXPIRED_TTL),
    Case("source port 0", TO_VIP / TCP(sport=0, dport=80, flags="S"), Verdict.MALFORMED),
    Case("destination port 0", TO_VIP / TCP(sport=40001, dport=0, flags="S"), Verdict.MALFORMED),
    *(
        Case(f"impossible flags {flags or 'none'}", tcp(flags), Verdict.MALFORMED)
        for flags in ("", "F", "P", "U", "FPU", "EC", "SF", "SR", "SFA", "SRA", "SFRPAUEC")
    ),
    Case("an IP header of 4 words", changed(tcp(), ihl=4), Verdict.MALFORMED),
    Case("an IP header of no words", changed(tcp(), ihl=0), Verdict.MALFORMED),
    Case("IP version 6 in an IPv4 frame", changed(tcp(), version=6), Verdict.MALFORMED),
    Case("an IP length below its header", changed(tcp(), len=19), Verdict.MALFORMED),
    Case("an IP length of 0", changed(tcp(), len=0), Verdict.MALFORMED),
    Case("an IP length beyond the frame", changed(tcp(), len=41), Verdict.MALFORMED),
    Case("an IP length without room for TCP", changed(tcp(), len=39), Verdict.MALFORMED),
    Case("an IP header over the whole segment", changed(tcp(), ihl=15), Verdict.MALFORMED),
    Case("a TCP header of 4 words", tcp(dataofs=4), Verdict.MALFORMED),
    Case("a TCP header beyond the packet", tcp(dataofs=6), Verdict.MALFORMED),
    Case("options beyond the packet", tcp(dataofs=15) / bytes(12), Verdict.MALFORMED),
    Case("a client's SYN-ACK", tcp("SA", ack=1), Verdict.UNKNOWN_FLOW),
    Case("a reset of no flow", tcp("R"), Verdict.UNKNOWN_FLOW),
    Case("a reset with ACK of no flow", tcp("RA", ack=5), Verdict.UNKNOWN_FLOW),
    Case(
        "a reply to a port nobody holds", FROM_CDN / TCP(sport=80, dport=20001, flags="SA"), Verdict.NO_OWNER
    ),
    Case("the same, past the first port", FROM_CDN / TCP(sport=80, dport=20999, flags="A"), Verdict.NO_OWNER),
    Case("a reply from another port", FROM_CDN / TCP(sport=81, dport=20001, flags="SA"), Verdict.NO_OWNER),
    Case(
        "a stranger to a SNAT port",
        FRAME / IP(src=CLIENT, dst=SNAT[1]) / TCP(sport=80, dport=20500, flags="S"),
        Verdict.NO_OWNER,
    ),
    Case(
        "UDP to a port of ours",
        FRAME / IP(src="192.0.2.53", dst=SNAT[1]) / UDP(sport=53, dport=20001) / b"dns",
        Verdict.NO_OWNER,
    ),
]

UNTOUCHED = [
    Case(
        "IPv4 to elsewhere",
        FRAME / IP(src=CLIENT, dst="203.0.113.9") / TCP(dport=80, flags="S"),
        Verdict.PASSED,
    ),
    Case("UDP to elsewhere", FRAME / IP(src=CLIENT, dst="192.0.2.1") / UDP() / b"abc", Verdict.PASSED),
    Case(
        "a fragment to elsewhere",
        changed(FRAME / IP(src=CLIENT, dst="192.0.2.1") / Raw(bytes(9)), frag=7),
        Verdict.PASSED,
    ),
    Case(
        "a dying packet to elsewhere", FRAME / IP(src=CLIENT, dst="192.0.2.1", ttl=1) / ICMP(), Verdict.PASSED
    ),
    Case(
        "nonsense to elsewhere",
        changed(FRAME / IP(src=CLIENT, dst="192.0.2.1") / Raw(bytes(20)), ihl=1, len=3),
        Verdict.PASSED,
    ),
    Case(
        "IP options to elsewhere",
        FRAME / IP(src=CLIENT, dst="192.0.2.1", options=[IPOption_NOP()]) / TCP(),
        Verdict.PASSED,
    ),
    Case("a VIP's own packet", FRAME / IP(src=VIP, dst=CLIENT) / TCP(sport=80), Verdict.PASSED),
    Case(
        "IPv6", FRAME / IPv6(src="2001:db8::1", dst="2001:db8::2") / TCP(dport=80, flags="S"), Verdict.PASSED
    ),
    Case("ARP for a VIP", FRAME / ARP(pdst=VIP), Verdict.PASSED),
    Case("LLDP", Ether(src=ROUTER_MAC, dst="01:80:c2:00:00:0e", type=0x88CC) / bytes(46), Verdict.PASSED),
    Case("an 802.3 length instead of a type", FRAME.__class__(type=0x0026) / bytes(46), Verdict.PASSED),
    Case(
        "ssh to a SNAT address",
        FRAME / IP(src=CLIENT, dst=SNAT[0]) / TCP(dport=22, flags="S"),
        Verdict.PASSED,
    ),
    Case("the port below ours", FROM_CDN / TCP(sport=80, dport=19999, flags="SA"), Verdict.PASSED),
    Case("the port above ours", FROM_CDN / TCP(sport=80, dport=21000, flags="SA"), Verdict.PASSED),
    Case(
        "BGP with TTL 1 to a SNAT address",
        FRAME / IP(src=CLIENT, dst=SNAT[0], ttl=1) / TCP(dport=179, flags="S"),
        Verdict.PASSED,
    ),
    Case("ping of a SNAT address", FRAME / IP(src=CLIENT, dst=SNAT[0]) / ICMP() / b"12", Verdict.PASSED),
    Case("an ICMP error to a SNAT address", FROM_CDN / ICMP(type=3, code=4) / IP() / TCP(), Verdict.PASSED),
    Case(
        "DNS to a SNAT address",
        FRAME / IP(src="192.0.2.53", dst=SNAT[1]) / UDP(sport=53, dport=19001) / b"dns",
        Verdict.PASSED,
    ),
    Case("a fragment to a SNAT address", changed(FROM_CDN / Raw(bytes(30)), frag=5), Verdict.PASSED),
]


def described(case: Case) -> str:
    """The name of the test."""
    return case.description


def run(path: DataPath, packet: Packet) -> Seen:
    return path.run(raw(packet), "cdn1" if packet.dst == LINKS[0].mac else netbox.CLIENTS)


def nothing_kept(path: DataPath) -> bool:
    """No flow, no slot, no memory of a connect."""
    tables = path.tables
    return (
        not list(tables.half_open.keys())
        and not list(tables.established.keys())
        and not any(any(value) for _, value in tables.reverse.items())
        and not any(path.health(cdn).unanswered for cdn in CDNS)
    )


@pytest.mark.parametrize("case", DROPPED, ids=described)
def test_dropped(path: DataPath, case: Case) -> None:
    seen = run(path, case.packet)
    assert (seen.verdict, seen.action) == (case.verdict, Action.DROP), seen
    assert nothing_kept(path), seen


@pytest.mark.parametrize("case", UNTOUCHED, ids=described)
def test_left_to_the_host_byte_for_byte(path: DataPath, case: Case) -> None:
    seen = run(path, case.packet)
    assert (seen.verdict, seen.action) == (case.verdict, Action.PASS), seen
    assert seen.frame == raw(case.packet), seen


@pytest.mark.parametrize("case", [*DROPPED, *UNTOUCHED], ids=described)
def test_bypassed_everything_passes(path: DataPath, case: Case) -> None:
    path.tables.mode = abi.Mode.BYPASS
    seen = run(path, case.packet)
    assert seen.action is Action.PASS
    assert seen.verdict in (Verdict.BYPASSED, Verdict.PASSED), seen
    assert seen.frame == raw(case.packet), seen


@pytest.mark.parametrize("corrected", [False, True], ids=["cut off", "cut off, with its IP length right"])
def test_truncated_everywhere(path: DataPath, corrected: bool) -> None:
    whole = raw(tcp(options=OPTIONS))
    for length in range(14, len(whole)):
        frame = bytearray(whole[:length])
        if corrected and length >= 34:
            frame[16:18] = (length - 14).to_bytes(2, "big")
        seen = path.run(bytes(frame))
        if length < 34:  # no whole IP header: nobody can say that it is for us
            assert (seen.verdict, seen.action) == (Verdict.PASSED, Action.PASS), (length, seen)
            assert seen.frame == bytes(frame), (length, seen)
        else:
            assert (seen.verdict, seen.action) == (Verdict.MALFORMED, Action.DROP), (length, seen)
    assert path.run(whole).verdict is Verdict.FORWARDED


def forwarded_as_it_should(seen: Seen, packet: Packet) -> None:
    """Every byte of a packet to a CDN, by scapy; the edge chose SNAT address, port and CDN."""
    assert (seen.verdict, seen.action) == (Verdict.FORWARDED, Action.REDIRECT), seen
    out = Ether(seen.frame)
    source = out[IP].src, out[TCP].sport
    target = out[IP].dst, out[TCP].dport
    assert source[0] in SNAT, seen
    assert harness.PORTS[0] <= source[1] <= harness.PORTS[1], seen
    link = LINKS[list(ENDPOINTS.values()).index(target)]
    assert seen.frame == translated(packet, source, target, (link.mac, link.gateway_mac)), seen


@pytest.mark.parametrize(
    "packet",
    [
        tcp(),
        tcp(options=OPTIONS),
        tcp("SEC"),
        tcp("SP"),
        tcp() / b"fast open",
        tcp(options=[("TFO", (0x1234, 0x5678))]) / bytes(range(255)),
        changed(tcp(), tos=0xB9, id=0xFFFF, flags=0),
        changed(tcp(), flags="DF", ttl=255),
        changed(tcp(), ttl=2),
        tcp(window=0, urgptr=9, reserved=7),
        tcp() / Padding(bytes(6)),
        FRAME / IP(src=CLIENT, dst=VIP, options=[IPOption_NOP()]) / TCP(sport=40001, dport=80, flags="S"),
        FRAME
        / IP(src=CLIENT, dst=VIP, options=[IPOption_RR(routers=["0.0.0.0"] * 9)])
        / tcp(options=OPTIONS)[TCP],
        FRAME / IP(src="255.255.255.254", dst=VIP) / TCP(sport=65535, dport=443, flags="S", seq=0xFFFFFFFF),
        FRAME / IP(src="0.0.0.1", dst=VIP) / TCP(sport=1, dport=443, flags="S", seq=0),
    ],
    ids=lambda packet: packet.command()[-90:],
)
def test_a_new_syn_goes_to_a_cdn_translated_in_every_byte(path: DataPath, packet: Packet) -> None:
    forwarded_as_it_should(run(path, packet), packet)


def test_checksums_are_right_whatever_is_in_the_packet(path: DataPath) -> None:
    # a thousand consecutive sequence numbers reach every carry of the one's complement sums
    for number in range(0, 0x1_0000, 67):
        frame = segment(
            (f"10.{number >> 8}.{number & 255}.9", 1024 + number % 60000),
            (VIP, 80),
            Flag.SYN,
            seq=number << 16 | number,
        )
        ran = kernel.test_run(path.fd, frame, ifindex=path.indexes[netbox.CLIENTS])
        ends = Ends(ran.frame)
        link = LINKS[list(ENDPOINTS.values()).index(ends.target)]
        macs = link.mac, link.gateway_mac
        assert ran.frame == segment(
            ends.source, ends.target, Flag.SYN, seq=number << 16 | number, ttl=63, macs=macs
        )


UNKNOWN = [
    tcp("A", ack=0x0102_0304),
    tcp("PA", ack=0xFFFF_FFFF) / b"GET / HTTP/1.1\r\n\r\n",
    tcp("FA", ack=0),
    tcp("A", ack=77, options=OPTIONS),
    tcp("A", ack=78) / Padding(bytes(6)),
    TO_VIP / TCP(sport=40001, dport=9999, flags="A", ack=5),
    FRAME
    / IP(src=CLIENT, dst=VIP, ttl=1, options=[IPOption_NOP()])
    / TCP(sport=9, dport=80, flags="A", ack=6),
]


@pytest.mark.parametrize("packet", UNKNOWN, ids=lambda packet: packet.command()[-90:])
def test_a_segment_of_no_flow_is_reset_never_met_by_silence(path: DataPath, packet: Packet) -> None:
    seen = run(path, packet)
    assert (seen.verdict, seen.action) == (Verdict.RESET_CLIENT, Action.TX), seen
    assert seen.frame == reset_to(packet, flags="R", seq=packet[TCP].ack), seen
    assert nothing_kept(path)


def back(packet: Packet, **fields: object) -> Packet:
    """The link and network headers of an answer to `packet`."""
    frame, layer = packet[Ether], packet[IPv6] if IPv6 in packet else packet[IP]
    return Ether(src=frame.dst, dst=frame.src) / network(layer.dst, layer.src, **fields)


@pytest.mark.parametrize("payload", [b"", b"odd", bytes(range(256)) * 5], ids=len)
def test_a_ping_of_a_vip_is_answered(path: DataPath, payload: bytes) -> None:
    ping = changed(TO_VIP / ICMP(id=7, seq=9) / payload, id=77, ttl=9)
    seen = run(path, ping)
    assert (seen.verdict, seen.action) == (Verdict.ECHOED, Action.TX), seen
    assert seen.frame == raw(back(ping, id=77) / ICMP(type="echo-reply", id=7, seq=9) / payload), seen
    ping6 = TO_VIP6 / ICMPv6EchoRequest(id=7, seq=9, data=payload)
    seen = run(path, ping6)
    assert (seen.verdict, seen.action) == (Verdict.ECHOED, Action.TX), seen
    assert seen.frame == raw(back(ping6) / ICMPv6EchoReply(id=7, seq=9, data=payload)), seen


@pytest.mark.parametrize("ttl", [0, 1])
def test_whose_time_ends_here_is_told(path: DataPath, ttl: int) -> None:
    dying = changed(tcp(), ttl=ttl)
    seen = run(path, dying)
    assert (seen.verdict, seen.action) == (Verdict.SAID_TOO_LATE, Action.TX), seen
    told = back(dying, id=0, flags="DF") / ICMP(type="time-exceeded", code=0) / raw(dying[IP])
    assert seen.frame == raw(told), seen
    dying6 = TO_VIP6 / TCP(sport=40001, dport=80, flags="S", seq=1000)
    dying6[IPv6].hlim = ttl
    seen = run(path, dying6)
    assert (seen.verdict, seen.action) == (Verdict.SAID_TOO_LATE, Action.TX), seen
    assert seen.frame == raw(back(dying6) / ICMPv6TimeExceeded(code=0) / raw(dying6[IPv6])), seen
    assert nothing_kept(path)


def test_resets_are_limited(path: DataPath) -> None:
    frame, cpus = raw(UNKNOWN[0]), os.sched_getaffinity(0)
    before = {verdict: packets for verdict, packets, _ in path.tables.counters.verdicts()}
    os.sched_setaffinity(0, {min(cpus)})  # the budget is a CPU's own
    try:
        for _ in range(1500):
            kernel.test_run(path.fd, frame, ifindex=path.indexes[netbox.CLIENTS])
    finally:
        os.sched_setaffinity(0, cpus)
    counted = {verdict: packets - before[verdict] for verdict, packets, _ in path.tables.counters.verdicts()}
    assert counted[Verdict.RESET_CLIENT] == 1000
    assert counted[Verdict.UNKNOWN_FLOW] == 500


def test_out_of_the_interface_it_came_in_by_is_a_transmit(path: DataPath) -> None:
    solo = FRAME / IP(src=CLIENT, dst=harness.OTHER_VIP) / TCP(sport=40001, dport=80, flags="S")
    seen = path.run(raw(solo), "cdn1")
    assert (seen.verdict, seen.action) == (Verdict.FORWARDED, Action.TX), seen


class TestNextHop:
    """What keeps a packet from leaving is a counted drop, and over as soon as it is mended."""

    SOLO = FRAME / IP(src=CLIENT, dst=harness.OTHER_VIP) / TCP(sport=40001, dport=80, flags="S")

    def ends_in(self, path: DataPath, verdict: Verdict) -> None:
        seen = run(path, self.SOLO)
        assert (seen.verdict, seen.action) == (verdict, Action.DROP), seen
        assert seen.frame == raw(self.SOLO), seen

    def mended(self, path: DataPath) -> None:
        assert run(path, self.SOLO).verdict is Verdict.FORWARDED

    def test_no_neighbour(self, path: DataPath) -> None:
        with netns.netlink(netbox.name()) as ip:
            netbox.neighbour(ip, LINKS[0], path.indexes["cdn1"], "del")
            try:
                self.ends_in(path, Verdict.NO_NEIGHBOUR)
            finally:
                netbox.neighbour(ip, LINKS[0], path.indexes["cdn1"])
        self.mended(path)

    def test_no_route(self, path: DataPath) -> None:
        route = {"dst": f"{LINKS[0].endpoint}/32", "gateway": LINKS[0].gateway}
        with netns.netlink(netbox.name()) as ip:
            ip.route("del", **route)
            try:
                self.ends_in(path, Verdict.NO_ROUTE)
            finally:
                ip.route("add", **route)
        self.mended(path)

    def test_forwarding_off(self, path: DataPath) -> None:
        netbox.forwarding(netbox.CLIENTS, on=False)
        try:
            self.ends_in(path, Verdict.NO_ROUTE)
        finally:
            netbox.forwarding(netbox.CLIENTS, on=True)
        self.mended(path)


def test_samples_say_what_became_of_whom(path: DataPath) -> None:
    path.reader.take_samples()
    path.change(sample_one_in=1)
    forwarded = run(path, tcp())
    dropped = run(path, TO_VIP / UDP(sport=5, dport=80))
    samples: list[Sample] = []
    for _ in range(300):
        samples += path.reader.take_samples()
        if len(samples) == 2:
            break
        time.sleep(0.01)
    samples.sort(key=lambda sample: sample.verdict)  # of two CPUs, they come in no order
    cdn = CDNS[list(ENDPOINTS.values()).index(Ends(forwarded.frame).target)]
    assert [(s.verdict, s.cdn, s.length, s.one_in) for s in samples] == [
        (Verdict.FORWARDED, path.layout.cdns[cdn], len(forwarded.sent), 1),
        (Verdict.NO_SERVICE, abi.NO_CDN_ID, len(dropped.sent), 1),
    ]
    assert {abi.show_address(s.source) for s in samples} == {CLIENT}
    assert {abi.show_address(s.target) for s in samples} == {VIP}


def test_a_map_is_as_large_as_the_operator_said(path: DataPath) -> None:
    limits = path.config.limits
    pins = path.program.pins
    assert Map.pinned(pins / "established").info.max_entries == limits.flows
    assert Map.pinned(pins / "half_open").info.max_entries == limits.half_open
    assert Map.pinned(pins / "reverse").info.max_entries == 2 * limits.endpoints * 1000
    assert Map.pinned(pins / "block_exact").info.max_entries == limits.block_entries
