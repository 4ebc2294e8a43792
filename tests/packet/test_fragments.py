"""Fragments: the first one leads the rest, or all are counted drops, as the operator likes."""

from __future__ import annotations

import struct

import pytest
from errors import KINDS, LINK, TO_CDN, TO_CLIENTS, answers, asks, begins, flow_of
from harness import MS, SNAT, SNAT6, VIP, VIP6, Action, DataPath, Seen
from metered import ACMES, grown, quotas
from netbox import CLIENT_SIDE_MAC, CLIENTS, ROUTER_MAC
from rawmaps import Runner
from scapy.compat import raw
from scapy.layers.inet import ICMP, IP, UDP, IPOption_NOP, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
    fragment6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from segments import network, translated
from session import CLIENT, CLIENT6, Datagrams, Flow, Session
from steps import dropped, untouched, verdict_of

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict

pytestmark = pytest.mark.usefixtures("filled_headroom")
SIZE = 64
"""Bytes of a fragment's payload."""
BODY = bytes(n % 253 for n in range(500))
GAP_NS = 30_000 * MS
IDENTITY_AT = 18
"""In a frame of IPv4."""


def pieces(packet: Packet, identity: int = 4711) -> list[bytes]:
    """The frames that a packet is sent in."""
    ether, layer = Ether(src=packet.src, dst=packet.dst), packet.payload
    if layer.version == 4:
        layer = IP(raw(layer))
        layer.id = identity
        return [raw(ether / piece) for piece in fragment(layer, SIZE)]
    layer = IPv6(raw(layer))
    if IPv6ExtHdrFragment not in layer:
        upper, header = layer.payload, IPv6ExtHdrFragment(id=identity, nh=layer.nh)
        layer.remove_payload()
        layer.nh = 44
        layer = layer / header / upper
    return [raw(ether / piece) for piece in fragment6(layer, SIZE + 120)]


def moved(
    packet: Packet, source: tuple[str, int], target: tuple[str, int], macs: tuple[str, str]
) -> list[bytes]:
    """The same after NAT and one hop: it makes no difference when a packet is cut."""
    return pieces(Ether(translated(packet, source, target, macs)))


def up(flow: Flow) -> Packet:
    return asks(flow, BODY)


def down(flow: Flow) -> Packet:
    return answers(flow, BODY)


def expect(seen: list[Seen], verdict: Verdict, expected: list[bytes]) -> None:
    """All went out, and so."""
    assert len(seen) == len(expected) > 2
    for each, frame in zip(seen, expected, strict=True):
        verdict_of(each, verdict, Action.REDIRECT)
        assert each.frame == frame, f"{each}\n gave {Ether(each.frame).command()}"


@pytest.mark.parametrize("name", KINDS)
class TestFollowing:
    def test_a_clients_packet_in_an_open_flow(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        seen = [path.run(frame) for frame in pieces(up(flow))]
        expect(seen, Verdict.FORWARDED, moved(up(flow), flow.snat, flow.endpoint, TO_CDN))

    def test_a_reply(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        seen = [path.run(frame, LINK.name) for frame in pieces(down(flow))]
        expect(seen, Verdict.REPLIED, moved(down(flow), flow.service, flow.client, TO_CLIENTS))

    def test_in_any_order_behind_the_first(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        first, *rest = pieces(up(flow))
        head, *tail = moved(up(flow), flow.snat, flow.endpoint, TO_CDN)
        seen = [path.run(frame) for frame in (first, *reversed(rest), first, *rest)]
        expect(seen, Verdict.FORWARDED, [head, *reversed(tail), head, *tail])

    def test_before_the_first_they_are_lost(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        first, *rest = pieces(up(flow))
        for frame in rest:
            dropped(path.run(frame), Verdict.FRAGMENT)
        verdict_of(path.run(first), Verdict.FORWARDED, Action.REDIRECT)
        for frame in pieces(up(flow), identity=4712)[1:]:
            dropped(path.run(frame), Verdict.FRAGMENT)  # of another packet
        for frame in rest:
            verdict_of(path.run(frame), Verdict.FORWARDED, Action.REDIRECT)

    def test_replies_before_the_first_are_the_hosts_or_nobodys(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        for frame in pieces(down(flow))[1:]:
            untouched(path.run(frame, LINK.name))

    def test_long_after_the_first_they_are_lost(self, path: DataPath, name: str) -> None:
        now = 10**15
        path.clock(now)
        flow = flow_of(path, name).open()
        ups, downs = pieces(up(flow)), pieces(down(flow))
        path.run(ups[0])
        path.run(downs[0], LINK.name)
        path.clock(now + GAP_NS)
        verdict_of(path.run(ups[1]), Verdict.FORWARDED, Action.REDIRECT)
        verdict_of(path.run(downs[1], LINK.name), Verdict.REPLIED, Action.REDIRECT)
        path.clock(now + GAP_NS + 1)
        dropped(path.run(ups[1]), Verdict.FRAGMENT)
        untouched(path.run(downs[1], LINK.name))

    def test_it_counts_for_the_cdn(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        ups, downs = pieces(up(flow)), pieces(down(flow))
        with path.counting("aurora") as counted:
            for frame in ups:
                path.run(frame)
            for frame in downs:
                path.run(frame, LINK.name)
        assert counted["to_cdn_packets"] == len(ups)
        assert counted["to_cdn_bytes"] == sum(map(len, ups))
        assert counted["from_cdn_packets"] == len(downs)
        assert counted["from_cdn_bytes"] == sum(map(len, downs))

    def test_those_that_die_here(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        first, second, *_ = pieces(up(flow))
        path.run(first)
        for ttl in (0, 1):
            seen = path.run(aged(first, ttl))
            verdict_of(seen, Verdict.SAID_TOO_LATE, Action.TX)
            dropped(path.run(aged(second, ttl)), Verdict.EXPIRED_TTL)  # its sender knows already

    def test_where_the_operator_drops_them(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        path.change(fragments=abi.FragmentPolicy.DROP)
        for frame in pieces(up(flow)):
            dropped(path.run(frame), Verdict.FRAGMENT)
        first, *rest = pieces(down(flow))
        dropped(path.run(first, LINK.name), Verdict.FRAGMENT)
        for frame in rest:
            untouched(path.run(frame, LINK.name))
        path.tables.mode = abi.Mode.DISARMED
        seen = [path.run(frame) for frame in pieces(up(flow))]
        expect(seen, Verdict.FORWARDED, moved(up(flow), flow.snat, flow.endpoint, TO_CDN))

    def test_where_the_edge_only_observes(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        path.tables.mode = abi.Mode.OBSERVE
        first, *rest = pieces(up(flow))
        seen = path.run(first)
        assert (seen.verdict, seen.action, seen.frame) == (Verdict.FORWARDED, Action.PASS, first)
        for frame in rest:
            untouched(path.run(frame))
        assert not list(path.map("fragments").keys())

    def test_in_a_tunnel(self, path: DataPath, name: str) -> None:
        for transport in (abi.Transport.IPIP, abi.Transport.GUE):
            flow = flow_of(path, name)
            flow.cdn = "aurora"
            path.change_endpoint("aurora", flow.pool, transport=transport, tunnel_port=6080)
            path.run(raw(begins(flow)))
            packet = up(flow)
            ports = set()
            for frame in pieces(packet):
                seen = verdict_of(path.run(frame), Verdict.FORWARDED, Action.REDIRECT)
                inner = aged(frame, 63)[14:]
                assert seen.frame.endswith(inner), seen
                overhead = len(seen.frame) - 14 - len(inner)
                assert overhead == (20, 40)["6" in name] + 8 * (transport is abi.Transport.GUE)
                ports.add(
                    seen.frame[14 + (20, 40)["6" in name] :][:2] if transport is abi.Transport.GUE else b""
                )
            assert len(ports) == 1, "one flow goes one way"

    def test_for_a_cdn_of_the_hosts_own_stack(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name)
        path.change_endpoint("aurora", flow.pool, transport=abi.Transport.PASS)
        path.run(raw(begins(flow)))
        for frame in pieces(up(flow)):
            seen = verdict_of(path.run(frame), Verdict.HANDED, Action.PASS)
            assert seen.frame == frame

    def test_cut_anywhere(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        first, second, *_ = pieces(up(flow))
        header = (34, 54)["6" in name]
        for frame in (first, second):
            for length in range(14, len(frame)):
                seen = path.run(frame[:length])
                if length < header:
                    untouched(seen)
                else:
                    dropped(seen, Verdict.MALFORMED)
            verdict_of(path.run(frame), Verdict.FORWARDED, Action.REDIRECT)


def aged(frame: bytes, ttl: int) -> bytes:
    """The frame, with so many hops to live."""
    packet = Ether(frame)
    if IPv6 in packet:
        packet[IPv6].hlim = ttl
        return raw(packet)
    packet[IP].ttl = ttl
    packet[IP].chksum = None
    return raw(packet)


@pytest.mark.parametrize("name", ["udp4", "udp6"])
def test_replies_go_back_by_the_router_that_each_client_came_from(path: DataPath, name: str) -> None:
    made, service = KINDS[name]
    flows = [made(path, service), made(path, service)]
    routers = [f"02:00:00:00:09:0{n}" for n in range(2)]
    for flow, router in zip(flows, routers, strict=True):
        packet = asks(flow)
        packet[Ether].src = router
        flow.went(path.run(raw(packet)))
    for each in zip(*(pieces(down(flow), identity) for identity, flow in enumerate(flows, 1)), strict=True):
        for frame, router in zip(each, routers, strict=True):
            seen = verdict_of(path.run(frame, LINK.name), Verdict.REPLIED, Action.REDIRECT)
            assert Ether(seen.frame).dst == router


@pytest.mark.parametrize("client", [ACMES, "2001:db8:7::7"])
def test_all_of_them_are_charged(path: DataPath, client: str) -> None:
    """Both ways, to the client's customer."""
    acme = quotas(path)
    flow = Datagrams(path, "dns6" if ":" in client else "dns", client=client).open()
    ups, downs = pieces(up(flow)), pieces(down(flow))
    before = acme.totals()
    acme.limit(pps=1, burst_ms=1000.0 * (len(ups) + len(downs) - 1))
    seen = [path.run(frame).verdict for frame in ups] + [
        path.run(frame, LINK.name).verdict for frame in downs
    ]
    assert seen == [Verdict.FORWARDED] * len(ups) + [Verdict.REPLIED] * len(downs)
    assert path.run(ups[0]).verdict is Verdict.OVER_QUOTA
    assert path.run(ups[1]).verdict is Verdict.OVER_QUOTA
    assert path.run(downs[1], LINK.name).verdict is Verdict.OVER_QUOTA
    changed = grown(before, acme.totals())
    assert changed["passed_packets"] == len(ups) + len(downs)
    assert changed["dropped_packets"] == 3


@pytest.mark.parametrize("name", ["udp4", "udp6"])
class TestNewFlows:
    def test_the_first_one_opens_the_flow(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name)
        first, *rest = pieces(up(flow))
        seen = [path.run(first), *(path.run(frame) for frame in rest)]
        whole = seen[0].frame[:54] + seen[0].frame[62:] if "6" in name else seen[0].frame
        flow.went(seen[0]._replace(frame=whole))
        expect(seen, Verdict.FORWARDED, moved(up(flow), flow.snat, flow.endpoint, TO_CDN))
        assert flow.half_open is not None

    def test_not_where_the_operator_drops_them(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name)
        path.change(fragments=abi.FragmentPolicy.DROP)
        for frame in pieces(up(flow)):
            dropped(path.run(frame), Verdict.FRAGMENT)
        assert flow.half_open is None

    def test_the_first_answer_too(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name)
        flow.went(path.run(raw(asks(flow))))
        seen = [path.run(frame, LINK.name) for frame in pieces(down(flow))]
        expect(seen, Verdict.REPLIED, moved(down(flow), flow.service, flow.client, TO_CLIENTS))

    def test_without_a_checksum(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name)
        packet = up(flow)
        packet[UDP].chksum = 0
        first, *rest = pieces(packet)
        seen = flow.went(path.run(first))
        if "6" in name:
            dropped(seen, Verdict.NO_CHECKSUM)
            return
        expected = Ether(translated(packet, flow.snat, flow.endpoint, TO_CDN))
        expected[UDP].chksum = 0
        expect([seen, *(path.run(frame) for frame in rest)], Verdict.FORWARDED, pieces(expected))


def test_a_syn_may_be_a_first_fragment(path: DataPath) -> None:
    session = Session(path, "solo")
    packet = begins(session) / BODY
    first, *rest = pieces(packet)
    seen = [session.went(path.run(first)), *(path.run(frame) for frame in rest)]
    expect(seen, Verdict.FORWARDED, moved(packet, session.snat, session.endpoint, TO_CDN))


def test_an_unknown_segments_first_fragment_is_reset(path: DataPath) -> None:
    session = Session(path, "solo")
    first, second, *_ = pieces(up(session))
    verdict_of(path.run(first), Verdict.RESET_CLIENT, Action.TX)
    dropped(path.run(second), Verdict.FRAGMENT)


@pytest.mark.parametrize("name", ["tcp4", "tcp6", "udp4", "udp6"])
def test_a_first_fragment_without_its_whole_header(path: DataPath, name: str) -> None:
    """Somebody's trick (RFC 1858), also when the frame is padded."""
    flow = flow_of(path, name).open()
    upper = raw(up(flow).payload.payload)
    (source, target), header = (flow.client[0], flow.service[0]), 20 if "tcp" in name else 8
    protocol = {"tcp": 6, "udp": 17}[name[:3]]
    for length in range(header):
        if "6" in name:
            layer = IPv6(src=source, dst=target) / IPv6ExtHdrFragment(id=9, m=1, nh=protocol)
        else:
            layer = IP(src=source, dst=target, id=9, flags="MF", proto=protocol)
        frame = raw(Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC) / layer / Raw(upper[:length]))
        dropped(path.run(frame), Verdict.MALFORMED)
        dropped(path.run(frame + upper[length:40]), Verdict.MALFORMED)


def test_two_clients_may_use_one_identity(path: DataPath) -> None:
    flows = [Datagrams(path, "dns", client=f"10.1.{n}.7").open() for n in range(2)]
    frames = [pieces(up(flow)) for flow in flows]
    for pair in zip(*frames, strict=True):
        for flow, frame, expected in zip(
            flows, pair, [moved(up(flow), flow.snat, flow.endpoint, TO_CDN) for flow in flows], strict=True
        ):
            assert path.run(frame).frame == expected[frames[flows.index(flow)].index(frame)]


def test_one_identity_of_two_protocols(path: DataPath) -> None:
    """IPv4 tells them apart, by its key; IPv6 by the identity alone."""
    datagrams, session = Datagrams(path, "dns").open(), Session(path, "solo").open()
    first, later = pieces(up(datagrams)), pieces(up(session))
    path.run(first[0])
    dropped(path.run(later[1]), Verdict.FRAGMENT)


class TestExtensionHeaders:
    def packet(
        self, flow: Flow, *before: Packet, after: tuple[Packet, ...] = (), identity: int = 5
    ) -> Packet:
        packet = up(flow)
        layer = IPv6(src=packet[IPv6].src, dst=packet[IPv6].dst)
        for extension in (*before, IPv6ExtHdrFragment(id=identity), *after):
            layer = layer / extension
        return Ether(src=packet.src, dst=packet.dst) / layer / packet[UDP]

    def test_an_atomic_fragment_is_a_whole_packet(self, path: DataPath) -> None:
        flow = Datagrams(path, "dns6").open()
        packet = self.packet(flow)
        seen = verdict_of(path.run(raw(packet)), Verdict.FORWARDED, Action.REDIRECT)
        assert seen.frame == translated(packet, flow.snat, flow.endpoint, TO_CDN)
        assert not list(path.map("fragments").keys())
        path.change(fragments=abi.FragmentPolicy.DROP)
        verdict_of(path.run(raw(packet)), Verdict.FORWARDED, Action.REDIRECT)

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ((IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]),), ()),
            ((), (IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)]),)),
            ((IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt()), (IPv6ExtHdrDestOpt(),)),
        ],
        ids=["before", "after", "around"],
    )
    def test_around_the_fragments_own(
        self, path: DataPath, before: tuple[Packet, ...], after: tuple[Packet, ...]
    ) -> None:
        flow = Datagrams(path, "dns6").open()
        packet = self.packet(flow, *before, after=after)
        seen = [path.run(frame) for frame in pieces(packet)]
        expect(seen, Verdict.FORWARDED, moved(packet, flow.snat, flow.endpoint, TO_CDN))

    def test_later_ones_may_say_that_something_else_comes_next(self, path: DataPath) -> None:
        flow = Datagrams(path, "dns6").open()
        first, second, *_ = pieces(self.packet(flow))
        path.run(first)
        packet = Ether(second)
        packet[IPv6ExtHdrFragment].nh = 59
        verdict_of(path.run(raw(packet)), Verdict.FORWARDED, Action.REDIRECT)


def test_ip_options_stay_where_they_are(path: DataPath) -> None:
    flow = Datagrams(path, "dns").open()
    packet = up(flow)
    packet[IP].options = [IPOption_NOP()] * 8
    seen = [path.run(frame) for frame in pieces(packet)]
    expect(seen, Verdict.FORWARDED, moved(packet, flow.snat, flow.endpoint, TO_CDN))


@pytest.mark.parametrize("policy", abi.FragmentPolicy)
@pytest.mark.parametrize("family", [4, 6])
def test_pings_in_pieces(path: DataPath, family: int, policy: abi.FragmentPolicy) -> None:
    path.change(fragments=policy)
    ping = ICMP() / BODY if family == 4 else ICMPv6EchoRequest(data=BODY)
    client = (CLIENT, CLIENT6)[family == 6]
    for target in (VIP6, SNAT6[1]) if family == 6 else (VIP, SNAT[1]):
        packet = Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC) / network(client, target) / ping
        for frame in pieces(packet):
            if target in (VIP, VIP6):
                dropped(path.run(frame), Verdict.FRAGMENT)
            else:
                untouched(path.run(frame))


@pytest.mark.parametrize("policy", abi.FragmentPolicy)
def test_what_is_not_ours_is_left_alone(path: DataPath, policy: abi.FragmentPolicy) -> None:
    path.change(fragments=policy)
    for source, target in (
        (CLIENT, "203.0.113.9"),
        (CLIENT6, "2001:db8:203::9"),
        (CLIENT, SNAT[0]),
        (CLIENT6, SNAT6[0]),
    ):
        packet = (
            Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC)
            / network(source, target)
            / UDP(sport=5, dport=53)
            / BODY
        )
        for frame in pieces(packet):
            untouched(path.run(frame))


def test_a_flood_of_first_ones_forgets_the_oldest_alone(path: DataPath) -> None:
    flow = Datagrams(path, "dns").open()
    frame = pieces(up(flow), 0)[0]
    runner = Runner(path.fd, len(frame), path.indexes[CLIENTS])
    runner.frame[: len(frame)] = frame
    for identity in range(9000):
        struct.pack_into("!H", runner.frame, IDENTITY_AT, identity)
        assert runner.run() == Action.REDIRECT
    assert len(list(path.map("fragments").keys())) <= path.map("fragments").info.max_entries
    second = pieces(up(flow), 8999)[1]
    verdict_of(path.run(second), Verdict.FORWARDED, Action.REDIRECT)
