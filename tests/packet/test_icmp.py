"""ICMP and ICMPv6: errors about packets that the edge translated find their ways, translated back."""

from __future__ import annotations

import pytest
from errors import (
    ERRORS,
    FROM_CLIENTS,
    KINDS,
    LEAST,
    LINK,
    ROUTER,
    TO_CDN,
    TO_CLIENTS,
    Kind,
    answers,
    asks,
    begins,
    described,
    error,
    family_of,
    hopped,
)
from harness import ENDPOINTS, ENDPOINTS6, SNAT, SNAT6, VIP, VIP6, Action, DataPath, Seen
from netbox import CLIENT_SIDE_MAC, CLIENTS, ROUTER_MAC
from scapy.compat import raw
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from segments import network
from session import CLIENT, CLIENT6, Datagrams, Flow, Session, link_of
from steps import dropped, forwarded, replied, untouched, verdict_of

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict

pytestmark = pytest.mark.usefixtures("filled_headroom")
UNREACHABLE = {4: ICMP(type=3, code=1), 6: ICMPv6DestUnreach(code=0)}


def flow_of(path: DataPath, kind: str) -> Flow:
    made, service = KINDS[kind]
    return made(path, service)


def sent_on(path: DataPath, packet: Packet, device: str = CLIENTS) -> bytes:
    """The network packet that comes out."""
    seen = path.run(raw(packet), device)
    assert seen.verdict in (Verdict.FORWARDED, Verdict.REPLIED), seen
    return seen.frame[14:]


def to_snat(flow: Flow, header: Packet, quote: bytes, source: str = "", **fields: object) -> bytes:
    """An error about the client's packet, as it arrives from the CDN's side."""
    router = source or ROUTER[family_of(flow.snat[0])]
    return error(header, router, flow.snat[0], quote, (LINK.gateway_mac, LINK.mac), **fields)


def to_client(flow: Flow, header: Packet, quote: bytes, source: str = "", **fields: object) -> bytes:
    """The same as it should arrive at the client."""
    router = source or ROUTER[family_of(flow.snat[0])]
    return error(header, router, flow.client[0], quote, TO_CLIENTS, ttl=249, **fields)


def to_vip(flow: Flow, header: Packet, quote: bytes, **fields: object) -> bytes:
    """An error about the CDN's reply, as it arrives from the client's side."""
    return error(header, ROUTER[family_of(flow.service[0])], flow.service[0], quote, FROM_CLIENTS, **fields)


def to_cdn(flow: Flow, header: Packet, quote: bytes, **fields: object) -> bytes:
    """The same as it should arrive at the CDN."""
    return error(header, flow.snat[0], flow.endpoint[0], quote, TO_CDN, ttl=249, **fields)


def reply_seen(seen: Seen, expected: bytes) -> None:
    verdict_of(seen, Verdict.REPLIED, Action.REDIRECT)
    assert seen.frame == expected, f"{seen}\n gave {Ether(seen.frame).command()}"


def forward_seen(seen: Seen, expected: bytes) -> None:
    verdict_of(seen, Verdict.FORWARDED, Action.REDIRECT)
    assert seen.frame == expected, f"{seen}\n gave {Ether(seen.frame).command()}"


EACH = [
    pytest.param(kind, name, id=f"{described(kind)} of {name}")
    for kind in ERRORS
    for name in KINDS
    if str(kind.family) in name
]


class TestAboutAClientsPacket:
    """To a SNAT address, from somewhere behind it."""

    @pytest.mark.parametrize(("kind", "name"), EACH)
    def test_the_client_finds_its_own_packet_quoted(self, path: DataPath, kind: Kind, name: str) -> None:
        flow = flow_of(path, name).open()
        packet = asks(flow)
        quote, own = sent_on(path, packet), hopped(packet)
        seen = path.run(to_snat(flow, kind.header, quote), LINK.name)
        reply_seen(seen, to_client(flow, kind.header, own))

    @pytest.mark.parametrize("name", KINDS)
    def test_a_quote_of_any_length(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        packet, family = asks(flow), family_of(flow.snat[0])
        quote, own = sent_on(path, packet), hopped(packet)
        for length in range(len(quote) + 1):
            seen = path.run(to_snat(flow, UNREACHABLE[family], quote[:length]), LINK.name)
            if length < LEAST[family]:
                untouched(seen)
                continue
            cut = own[:length]
            if "tcp" in name and length == LEAST[family] + 9:
                cut = cut[:-1] + quote[length - 1 : length]  # half a checksum is none, and left alone
            reply_seen(seen, to_client(flow, UNREACHABLE[family], cut))

    @pytest.mark.parametrize("name", KINDS)
    def test_a_frame_cut_anywhere(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        family = family_of(flow.snat[0])
        whole = to_snat(flow, UNREACHABLE[family], sent_on(path, asks(flow)))
        header = {4: 20, 6: 40}[family]
        for length in range(14, len(whole)):
            seen = path.run(whole[:length], LINK.name)
            if length < 14 + header:
                untouched(seen)
            else:
                dropped(seen, Verdict.MALFORMED)

    @pytest.mark.parametrize("name", ["tcp4", "tcp6"])
    def test_while_the_handshake_is_under_way(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name)
        packet = begins(flow)
        seen = flow.went(path.run(raw(packet)))
        header = UNREACHABLE[family_of(flow.snat[0])]
        seen = path.run(to_snat(flow, header, seen.frame[14:]), LINK.name)
        reply_seen(seen, to_client(flow, header, hopped(packet)))

    @pytest.mark.parametrize("name", ["tcp4", "tcp6"])
    def test_when_the_session_is_over_but_its_port_rests(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        packet = asks(flow)
        quote = sent_on(path, packet)
        flow.close()
        header = UNREACHABLE[family_of(flow.snat[0])]
        reply_seen(path.run(to_snat(flow, header, quote), LINK.name), to_client(flow, header, hopped(packet)))

    @pytest.mark.parametrize("name", KINDS)
    def test_from_the_endpoint_itself_it_comes_from_the_vip(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        packet, header = asks(flow), UNREACHABLE[family_of(flow.snat[0])]
        frame = to_snat(flow, header, sent_on(path, packet), source=flow.endpoint[0])
        expected = to_client(flow, header, hopped(packet), source=flow.service[0])
        reply_seen(path.run(frame, LINK.name), expected)

    def test_a_quote_with_ip_options(self, path: DataPath) -> None:
        flow = flow_of(path, "udp4").open()
        packet = asks(flow)
        packet[IP].options = [IPOption_RR(routers=["0.0.0.0"] * 9)]
        quote, own = sent_on(path, packet), hopped(packet)
        for length in (60 + 8, 60 + 7, len(quote)):
            seen = path.run(to_snat(flow, UNREACHABLE[4], quote[:length]), LINK.name)
            if length == 60 + 7:
                untouched(seen)
            else:
                reply_seen(seen, to_client(flow, UNREACHABLE[4], own[:length]))

    def test_a_quote_with_extension_headers(self, path: DataPath) -> None:
        flow = flow_of(path, "tcp6").open()
        packet = asks(flow)
        extended = packet[IPv6].copy()
        extended.remove_payload()
        extended.nh = 0
        extended /= IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 12)])
        extended /= IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(id=5) / packet[TCP]
        packet = Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC) / extended
        quote, own = sent_on(path, packet), hopped(packet)
        for length in (40 + 32 + 7, 40 + 32 + 8, 40 + 32 + 18, len(quote)):
            seen = path.run(to_snat(flow, UNREACHABLE[6], quote[:length]), LINK.name)
            if length == 40 + 32 + 7:
                untouched(seen)
            else:
                reply_seen(seen, to_client(flow, UNREACHABLE[6], own[:length]))

    def test_itself_with_ip_options(self, path: DataPath) -> None:
        flow = flow_of(path, "tcp4").open()
        packet, options = asks(flow), {"options": [IPOption_NOP()] * 4}
        frame = to_snat(flow, UNREACHABLE[4], sent_on(path, packet), **options)
        reply_seen(path.run(frame, LINK.name), to_client(flow, UNREACHABLE[4], hopped(packet), **options))

    def test_udp_without_a_checksum_stays_without(self, path: DataPath) -> None:
        flow = flow_of(path, "udp4").open()
        packet = asks(flow)
        packet[UDP].chksum = 0
        quote, own = sent_on(path, packet), hopped(packet)
        assert quote[26:28] == b"\0\0"
        reply_seen(
            path.run(to_snat(flow, UNREACHABLE[4], quote), LINK.name), to_client(flow, UNREACHABLE[4], own)
        )

    def test_checksums_are_right_whatever_is_quoted(self, path: DataPath) -> None:
        for name in KINDS:
            flow = flow_of(path, name).open()
            header = UNREACHABLE[family_of(flow.snat[0])]
            for number in range(0, 0x1_0000, 991):
                packet = asks(flow, number.to_bytes(2, "big") * 9 + b"!" * (number % 3))
                frame = to_snat(flow, header, sent_on(path, packet))
                reply_seen(path.run(frame, LINK.name), to_client(flow, header, hopped(packet)))

    @pytest.mark.parametrize("name", ["tcp4", "tcp6"])
    def test_to_a_flow_that_was_rescued_from_there_it_says_nothing(self, path: DataPath, name: str) -> None:
        service = "www" if name == "tcp4" else "www6"
        session = Session(path, service)
        pool = session.pool
        for cdn in ("aurora", "borealis", "corona"):
            path.change_health(cdn, pool, samples=20, baseline_us=1000)
        seen = session.syn()
        snat, link = session.snat, session.cdn
        session.age(300)
        session.syn()
        assert session.cdn != link
        header = UNREACHABLE[family_of(snat[0])]
        frame = error(header, ROUTER[family_of(snat[0])], snat[0], seen.frame[14:], FROM_CLIENTS)
        dropped(path.run(frame, link_of(link)), Verdict.STALE_REPLY)

    def test_the_refusal_of_a_probe_is_kept_from_its_client(self, path: DataPath) -> None:
        session = Session(path, "duo")
        seen = session.syn()
        slot = session.slot
        slot.flags = abi.FlowFlag.PROBE
        path.put_slot(session.slot_index, slot)
        frames = [to_snat(session, kind.header, seen.frame[14:]) for kind in ERRORS if kind.family == 4]
        verdicts = [path.run(frame, link_of(session.cdn)).verdict for frame in frames]
        kept, told = Verdict.ABSORBED, Verdict.REPLIED
        assert verdicts == [kept, kept, told, kept, told, told, told]

    def test_it_counts_for_the_cdn_and_dies_like_any_packet(self, path: DataPath) -> None:
        flow = flow_of(path, "tcp4").open()
        quote = sent_on(path, asks(flow))
        with path.counting("aurora") as counted:
            replied(path.run(to_snat(flow, UNREACHABLE[4], quote), LINK.name))
        assert counted["from_cdn_packets"] == 1
        frame = to_snat(flow, UNREACHABLE[4], quote)
        for ttl in (0, 1):
            packet = Ether(frame)
            packet[IP].ttl = ttl
            dropped(path.run(raw(packet), LINK.name), Verdict.EXPIRED_TTL)  # no error about an error


class TestAboutAReply:
    """To a VIP, from somewhere on the client's side."""

    @pytest.mark.parametrize(("kind", "name"), EACH)
    def test_the_cdn_finds_its_own_packet_quoted(self, path: DataPath, kind: Kind, name: str) -> None:
        flow = flow_of(path, name).open()
        packet = answers(flow)
        quote = sent_on(path, packet, LINK.name)
        seen = path.run(to_vip(flow, kind.header, quote))
        forward_seen(seen, to_cdn(flow, kind.header, hopped(packet)))

    @pytest.mark.parametrize("name", KINDS)
    def test_a_quote_of_any_length(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        packet, family = answers(flow), family_of(flow.service[0])
        quote, own = sent_on(path, packet, LINK.name), hopped(packet)
        for length in range(len(quote) + 1):
            seen = path.run(to_vip(flow, UNREACHABLE[family], quote[:length]))
            if length < LEAST[family]:
                dropped(seen, Verdict.UNRELATED)
                continue
            cut = own[:length]
            if "tcp" in name and length == LEAST[family] + 9:
                cut = cut[:-1] + quote[length - 1 : length]  # half a checksum is none, and left alone
            forward_seen(seen, to_cdn(flow, UNREACHABLE[family], cut))

    @pytest.mark.parametrize("name", ["tcp4", "tcp6"])
    def test_while_the_handshake_is_under_way(self, path: DataPath, name: str) -> None:
        session = flow_of(path, name)
        session.syn()
        seen = session.syn_ack()
        header = UNREACHABLE[family_of(session.service[0])]
        verdict_of(path.run(to_vip(session, header, seen.frame[14:])), Verdict.FORWARDED, Action.REDIRECT)

    def test_it_counts_for_the_cdn_and_dies_like_any_packet(self, path: DataPath) -> None:
        flow = flow_of(path, "tcp6").open()
        frame = to_vip(flow, UNREACHABLE[6], sent_on(path, answers(flow), LINK.name))
        with path.counting("aurora") as counted:
            forwarded(path.run(frame))
        assert counted["to_cdn_packets"] == 1
        for hops in (0, 1):
            packet = Ether(frame)
            packet[IPv6].hlim = hops
            dropped(path.run(raw(packet)), Verdict.EXPIRED_TTL)

    @pytest.mark.parametrize("name", KINDS)
    def test_a_cdn_that_replies_directly_gets_it_as_it_is(self, path: DataPath, name: str) -> None:
        made, service = KINDS[name]
        flow = made(path, service)
        flow.cdn = "aurora"
        path.change_endpoint("aurora", flow.pool, transport=abi.Transport.IPIP)
        forwarded(path.run(raw(begins(flow))))
        family = family_of(flow.service[0])
        reply = network(flow.service[0], flow.client[0], 56) / (
            TCP(sport=flow.service[1], dport=flow.client[1], flags="SA")
            if isinstance(flow, Session)
            else UDP(sport=flow.service[1], dport=flow.client[1])
        )
        frame = to_vip(flow, UNREACHABLE[family], raw(reply))
        expected = hopped(Ether(frame))
        outer = network(SNAT[0] if family == 4 else SNAT6[0], flow.endpoint[0])
        if family == 4:
            outer.flags, outer.id, outer.proto = "DF", 0, 4
        else:
            outer.nh = 41
        forward_seen(path.run(frame), raw(Ether(src=LINK.mac, dst=LINK.gateway_mac) / outer / Raw(expected)))

    def test_a_tunnels_packets_of_one_flow_look_alike(self, path: DataPath) -> None:
        flow = Datagrams(path, "dns6")
        path.change_endpoint("aurora", flow.pool, transport=abi.Transport.GUE, tunnel_port=6080)
        first = path.run(raw(asks(flow)))
        forwarded(first)
        reply = network(flow.service[0], flow.client[0]) / UDP(sport=53, dport=flow.client[1]) / b"!"
        seen = path.run(to_vip(flow, UNREACHABLE[6], raw(reply)))
        forwarded(seen)
        assert seen.frame[54:58] == first.frame[54:58], "the same outer ports"

    def test_a_cdn_of_the_hosts_own_stack_gets_it_from_there(self, path: DataPath) -> None:
        flow = Datagrams(path, "dns")
        path.change_endpoint("aurora", flow.pool, transport=abi.Transport.PASS)
        verdict_of(path.run(raw(asks(flow))), Verdict.HANDED, Action.PASS)
        reply = network(flow.service[0], flow.client[0]) / UDP(sport=53, dport=flow.client[1]) / b"!"
        seen = path.run(to_vip(flow, UNREACHABLE[4], raw(reply)))
        verdict_of(seen, Verdict.HANDED, Action.PASS)
        assert seen.frame == seen.sent


def strange(family: int) -> list[tuple[str, bytes]]:
    """Quotes that are of no flow of ours, though they look like it."""
    vip, client = ((VIP, CLIENT), (VIP6, CLIENT6))[family == 6]
    other = ("192.0.2.7", "2001:db8:1::7")[family == 6]
    quotes: list[tuple[str, Packet | bytes]] = [
        ("nothing", b""),
        ("of a flow that is unknown", network(vip, client) / TCP(sport=80, dport=4)),
        ("of another sender", network(other, client) / TCP(sport=80, dport=4)),
        ("of another protocol", network(vip, client, **{("proto", "nh")[family == 6]: 132}) / Raw(bytes(20))),
        ("ones", b"\xff" * 64),
    ]
    if family == 4:
        quotes += [
            ("a later fragment", IP(src=vip, dst=client, frag=9, proto=6) / Raw(bytes(20))),
            ("of the other family", IPv6(src=VIP6, dst=CLIENT6) / TCP(sport=80, dport=4)),
            ("a header of 4 words", IP(src=vip, dst=client, ihl=4) / TCP(sport=80, dport=4)),
            ("a header beyond the quote", IP(src=vip, dst=client, ihl=15) / TCP(sport=80, dport=4)),
        ]
    else:
        tail = TCP(sport=80, dport=4)
        seven = IPv6(src=vip, dst=client)
        for _ in range(7):
            seven /= IPv6ExtHdrDestOpt()
        quotes += [
            (
                "a later fragment",
                IPv6(src=vip, dst=client) / IPv6ExtHdrFragment(offset=9, nh=6) / Raw(bytes(20)),
            ),
            ("of the other family", IP(src=VIP, dst=CLIENT) / tail),
            ("seven extension headers", seven / tail),
            (
                "an extension header beyond the quote",
                IPv6(src=vip, dst=client) / IPv6ExtHdrDestOpt(len=255) / tail,
            ),
        ]
    return [(name, quote if isinstance(quote, bytes) else raw(quote)) for name, quote in quotes]


@pytest.mark.parametrize(
    ("family", "name", "quote"), [pytest.param(f, n, q, id=f"{n} {f}") for f in (4, 6) for n, q in strange(f)]
)
class TestAboutNothingOfOurs:
    def test_to_a_vip_it_is_a_counted_drop(
        self, path: DataPath, family: int, name: str, quote: bytes
    ) -> None:
        target = (VIP, VIP6)[family == 6]
        for kind in ERRORS:
            if kind.family == family:
                frame = error(kind.header, ROUTER[family], target, quote, FROM_CLIENTS)
                dropped(path.run(frame), Verdict.UNRELATED)

    def test_to_a_snat_address_it_is_the_hosts(
        self, path: DataPath, family: int, name: str, quote: bytes
    ) -> None:
        target = (SNAT, SNAT6)[family == 6][1]
        for kind in ERRORS:
            if kind.family == family:
                untouched(path.run(error(kind.header, ROUTER[family], target, quote, FROM_CLIENTS)))

    def test_where_the_edge_only_observes_it_passes(
        self, path: DataPath, family: int, name: str, quote: bytes
    ) -> None:
        path.tables.mode = abi.Mode.OBSERVE
        target = (VIP, VIP6)[family == 6]
        untouched(path.run(error(UNREACHABLE[family], ROUTER[family], target, quote, FROM_CLIENTS)))


def test_what_a_tunnel_meets_is_the_hosts(path: DataPath) -> None:
    for outer in (
        IP(src=SNAT[0], dst=ENDPOINTS["aurora"][0], proto=4) / Raw(bytes(60)),
        IP(src=SNAT[0], dst=ENDPOINTS["aurora"][0]) / UDP(sport=0xC123, dport=6080) / Raw(bytes(60)),
    ):
        untouched(
            path.run(
                error(UNREACHABLE[4], ROUTER[4], SNAT[0], raw(outer), (LINK.gateway_mac, LINK.mac)), LINK.name
            )
        )
    for outer in (
        IPv6(src=SNAT6[0], dst=ENDPOINTS6["aurora"][0], nh=41) / Raw(bytes(60)),
        IPv6(src=SNAT6[0], dst=ENDPOINTS6["aurora"][0]) / UDP(sport=0xC123, dport=6080) / Raw(bytes(60)),
    ):
        untouched(
            path.run(
                error(UNREACHABLE[6], ROUTER[6], SNAT6[0], raw(outer), (LINK.gateway_mac, LINK.mac)),
                LINK.name,
            )
        )


def test_an_error_of_a_flow_while_observing_leaves_every_byte(path: DataPath) -> None:
    for name in KINDS:
        path.fresh()
        flow = flow_of(path, name).open()
        header = UNREACHABLE[family_of(flow.snat[0])]
        up, down = sent_on(path, asks(flow)), sent_on(path, answers(flow), LINK.name)
        path.tables.mode = abi.Mode.OBSERVE
        seen = path.run(to_snat(flow, header, up), LINK.name)
        assert (seen.verdict, seen.action, seen.frame) == (Verdict.REPLIED, Action.PASS, seen.sent)
        seen = path.run(to_vip(flow, header, down))
        assert (seen.verdict, seen.action, seen.frame) == (Verdict.FORWARDED, Action.PASS, seen.sent)
