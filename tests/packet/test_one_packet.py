"""One packet into an empty edge: its way out, what is told of it. Verdicts and bytes: test_table_*.py."""

from __future__ import annotations

import time

import harness
import netbox
from harness import CDNS, ENDPOINTS, VIP, Action, DataPath, Seen
from netbox import CLIENT_SIDE_MAC, LINKS, ROUTER_MAC
from scapy.compat import raw
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from segments import Ends, Flag, segment

from cdnctl.datapath import abi, kernel
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.perf import Sample
from cdnctl.lab import netns

CLIENT = "10.1.0.7"
FRAME = Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC)
TO_VIP = FRAME / IP(src=CLIENT, dst=VIP)


def run(path: DataPath, packet: Packet) -> Seen:
    return path.run(raw(packet))


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


def two_samples(path: DataPath) -> list[Sample]:
    """Of two CPUs, so they come in no order."""
    samples: list[Sample] = []
    for _ in range(300):
        samples += path.reader.take_samples()
        if len(samples) == 2:
            break
        time.sleep(0.01)
    return samples


def test_samples_say_what_became_of_whom(path: DataPath) -> None:
    path.reader.take_samples()
    path.change(sample_one_in=1)
    forwarded = run(path, TO_VIP / TCP(sport=40001, dport=80, flags="S", seq=1000))
    dropped = run(path, TO_VIP / UDP(sport=5, dport=80))
    samples = two_samples(path)
    samples.sort(key=lambda sample: sample.verdict)  # of two CPUs, they come in no order
    cdn = CDNS[list(ENDPOINTS.values()).index(Ends(forwarded.frame).target)]
    assert [(s.verdict, s.cdn, s.length, s.one_in) for s in samples] == [
        (Verdict.FORWARDED, path.layout.cdns[cdn], len(forwarded.sent), 1),
        (Verdict.NO_SERVICE, abi.NO_CDN_ID, len(dropped.sent), 1),
    ]
    assert {abi.show_address(s.source) for s in samples} == {CLIENT}
    assert {abi.show_address(s.target) for s in samples} == {VIP}


def test_what_is_no_ip_is_not_told_as_the_packet_before(path: DataPath) -> None:
    path.reader.take_samples()
    path.change(sample_one_in=1)
    run(path, TO_VIP / TCP(sport=40001, dport=80, flags="S", seq=1000))
    arp = run(path, Ether(dst=b"\xff" * 6, type=0x0806) / bytes(50))
    assert arp.verdict is Verdict.PASSED
    samples = two_samples(path)
    (told,) = [sample for sample in samples if sample.verdict == Verdict.PASSED]
    assert (told.source, told.target, told.protocol) == (abi.NOBODY, abi.NOBODY, 0)


def test_a_map_is_as_large_as_the_operator_said(path: DataPath) -> None:
    limits = path.config.limits
    pins = path.program.pins
    assert Map.pinned(pins / "established").info.max_entries == limits.flows
    assert Map.pinned(pins / "datagrams").info.max_entries == limits.flows // 2
    assert Map.pinned(pins / "half_open").info.max_entries == limits.half_open
    assert Map.pinned(pins / "reverse").info.max_entries == 2 * limits.endpoints * 1000
    assert Map.pinned(pins / "block_exact").info.max_entries == limits.block_entries
    assert Map.pinned(pins / "block_prefix").info.max_entries == limits.block_entries
