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
    UNREACHABLE,
    Kind,
    answers,
    asks,
    begins,
    described,
    error,
    family_of,
    flow_of,
    hopped,
    sent_on,
    to_cdn,
    to_client,
    to_snat,
    to_vip,
)
from harness import SNAT, SNAT6, Action, DataPath, Seen
from netbox import CLIENT_SIDE_MAC, ROUTER_MAC
from scapy.compat import raw
from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from segments import network
from session import Datagrams, Session, link_of
from steps import dropped, forwarded, replied, untouched, verdict_of

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict

pytestmark = pytest.mark.usefixtures("filled_headroom")


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

    @pytest.mark.parametrize("name", ["udp4", "udp6"])
    def test_a_checksum_that_comes_to_none_is_its_other_zero(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        rest = Ether(raw(asks(flow, b"\0\0")))[UDP].chksum
        packet = asks(flow, rest.to_bytes(2, "big"))
        assert Ether(raw(packet))[UDP].chksum == 0xFFFF
        header = UNREACHABLE[family_of(flow.snat[0])]
        frame = to_snat(flow, header, sent_on(path, packet))
        reply_seen(path.run(frame, LINK.name), to_client(flow, header, hopped(packet)))

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
        session.open()
        replied(path.run(frames[0], link_of(session.cdn)))  # it is no probe any more

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
