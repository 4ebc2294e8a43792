"""What lies between Ethernet and the transport: VLAN tags in and out, IP options, extension headers, hops."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from errors import KINDS, LINK, TO_CDN, TO_CLIENTS, answers, asks, begins, flow_of
from harness import SNAT6, Action, DataPath
from netbox import CLIENTS
from scapy.compat import raw
from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from segments import translated
from session import Flow, Session
from steps import dropped, from_cdn, replied, untouched, verdict_of
from tags import QINQ, SINGLE, UNTAGGED, Tags, tagged

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Transport, Verdict

pytestmark = pytest.mark.usefixtures("filled_headroom")
ALL_TAGS = {"untagged": UNTAGGED, "VLAN": SINGLE, "QinQ": QINQ}
INTO_AND_OUT_OF = list(itertools.product(ALL_TAGS, ALL_TAGS))


# -- VLANs --


@pytest.fixture
def own_links(path: DataPath) -> Iterator[DataPath]:
    """The tables of links, to be changed at will."""
    keys, links = path.tables.link_keys(), path.tables.links()
    yield path
    path.tables.set_link_keys(keys)
    for identity, link in links.items():
        path.tables.put_link(identity, link)


def put_into(path: DataPath, device: str, tags: Tags) -> None:
    """Frames of the device have these tags from now on; without, they are of no link."""
    index = path.indexes[device]
    keys = path.tables.link_keys()
    identity = keys[index, 0, 0]
    link = path.tables.link(identity)
    ids = [vlan for _, vlan in tags]
    link.outer, link.inner = [*ids, 0, 0][:2]
    link.tpid = abi.port(tags[0][0]) if tags else 0
    path.tables.put_link(identity, link)
    if device == CLIENTS and tags:
        del keys[index, 0, 0]
    path.tables.set_link_keys(keys | {(index, link.outer, link.inner): identity})


@pytest.mark.parametrize(("near", "far"), INTO_AND_OUT_OF, ids=[f"{n}-{f}" for n, f in INTO_AND_OUT_OF])
@pytest.mark.parametrize("name", KINDS)
class TestTags:
    """Of the clients' link, and of the CDN's."""

    def test_every_byte_both_ways(self, own_links: DataPath, name: str, near: str, far: str) -> None:
        path, ours, theirs = own_links, ALL_TAGS[near], ALL_TAGS[far]
        put_into(path, CLIENTS, ours)
        put_into(path, LINK.name, theirs)
        flow = flow_of(path, name)
        first = begins(flow)
        seen = path.run(tagged(raw(first), ours, priority=5))
        verdict_of(seen, Verdict.FORWARDED, Action.REDIRECT)
        offset = 4 * len(theirs)
        flow.went(seen._replace(frame=seen.frame[:12] + seen.frame[12 + offset :]))
        assert seen.frame == tagged(translated(first, flow.snat, flow.endpoint, TO_CDN), theirs), seen
        if isinstance(flow, Session):
            packet = from_cdn(flow, "SA", seq=flow.cdn_isn, ack=flow.isn + 1)
            replied(path.run(tagged(raw(packet), theirs), LINK.name))
        for packet in (asks(flow), asks(flow, b"more")):
            seen = path.run(tagged(raw(packet), ours))
            verdict_of(seen, Verdict.FORWARDED, Action.REDIRECT)
            assert seen.frame == tagged(translated(packet, flow.snat, flow.endpoint, TO_CDN), theirs), seen
        packet = answers(flow)
        back = tagged(raw(packet), theirs, priority=7)
        seen = verdict_of(path.run(back, LINK.name), Verdict.REPLIED, Action.REDIRECT)
        assert seen.frame == tagged(translated(packet, flow.service, flow.client, TO_CLIENTS), ours), seen

    def test_into_a_tunnel(self, own_links: DataPath, name: str, near: str, far: str) -> None:
        path, ours, theirs = own_links, ALL_TAGS[near], ALL_TAGS[far]
        put_into(path, CLIENTS, ours)
        put_into(path, LINK.name, theirs)
        for transport in (Transport.IPIP, Transport.GUE):
            flow = flow_of(path, name)
            path.change_endpoint("aurora", flow.pool, transport=transport, tunnel_port=6080)
            for packet in (begins(flow), asks(flow)):
                seen = path.run(tagged(raw(packet), ours))
                verdict_of(seen, Verdict.FORWARDED, Action.REDIRECT)
                assert seen.frame == tagged(wrapped(path, packet, transport, seen.frame), theirs), seen


def wrapped(path: DataPath, packet: Packet, transport: Transport, sent: bytes) -> bytes:
    """The frame that carries the packet in a tunnel; its UDP source port is as it was sent."""
    inner = packet.copy()
    layer = inner.payload
    if layer.version == 4:
        layer.ttl -= 1
    else:
        layer.hlim -= 1
    six = layer.version == 6
    inside = raw(layer)
    snat = path.config.edge.snat_of(6 if six else 4)[0]
    target = LINK.endpoint6 if six else LINK.endpoint
    outer: Packet = (
        IPv6(src=snat, dst=target, hlim=64) if six else IP(src=snat, dst=target, ttl=64, id=0, flags="DF")
    )
    if transport is Transport.IPIP:
        if six:
            outer.nh = 41
        else:
            outer.proto = 4
        return raw(Ether(src=LINK.mac, dst=LINK.gateway_mac) / outer / Raw(inside))
    at = len(sent) - len(inside) - 8
    port = int.from_bytes(sent[at : at + 2], "big")
    assert port >= 0xC000
    outer /= UDP(sport=port, dport=6080, chksum=0)
    return raw(Ether(src=LINK.mac, dst=LINK.gateway_mac) / outer / Raw(inside))


def test_a_vlan_that_is_no_link_of_ours(path: DataPath) -> None:
    for tags in (SINGLE, QINQ, ((0x8100, 1), (0x8100, 2))):
        dropped(path.run(tagged(raw(begins(Session(path, "solo"))), tags)), Verdict.NO_LINK)


def test_a_third_tag_is_nothing_that_we_read(path: DataPath) -> None:
    untouched(path.run(tagged(raw(begins(Session(path, "solo"))), (*QINQ, (0x8100, 5)))))


def test_a_priority_tag_is_no_vlan(path: DataPath) -> None:
    session = Session(path, "solo")
    packet = begins(session)
    seen = session.went(path.run(tagged(raw(packet), ((0x8100, 0),), priority=3)))
    verdict_of(seen, Verdict.FORWARDED, Action.REDIRECT)
    assert seen.frame == translated(packet, session.snat, session.endpoint, TO_CDN)


@pytest.mark.parametrize("tags", [SINGLE, QINQ], ids=["VLAN", "QinQ"])
def test_tagged_and_cut_anywhere(path: DataPath, tags: Tags) -> None:
    for name in KINDS:
        frame = tagged(raw(begins(flow_of(path, name))), tags)
        header = 14 + 4 * len(tags) + (40 if "6" in name else 20)
        for length in range(14, len(frame)):
            seen = path.run(frame[:length])
            if length < header:
                untouched(seen)
            else:
                dropped(seen, Verdict.MALFORMED)


# -- options and extension headers --


def extended(flow: Flow, packet: Packet, *extensions: Packet) -> Packet:
    """The packet with extension headers."""
    layer = packet[IPv6]
    upper = layer.payload
    made = IPv6(src=layer.src, dst=layer.dst, hlim=layer.hlim)
    for extension in extensions:
        made = made / extension.copy()
    return Ether(src=packet.src, dst=packet.dst) / made / upper


EXTENSIONS = {
    "hop by hop": (IPv6ExtHdrHopByHop(),),
    "destination": (IPv6ExtHdrDestOpt(options=[PadN(optdata=b"x" * 12)]),),
    "a route that is at its end": (IPv6ExtHdrRouting(type=2, segleft=0, addresses=["2001:db8::9"]),),
    "an atomic fragment": (IPv6ExtHdrFragment(id=7),),
    "all": (IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrFragment(id=9), IPv6ExtHdrDestOpt()),
    "as many as we read": (IPv6ExtHdrHopByHop(), *[IPv6ExtHdrDestOpt()] * 4),
    "a long one": (IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(255))]),),
}


@pytest.mark.parametrize("name", ["tcp6", "udp6"])
@pytest.mark.parametrize("extensions", EXTENSIONS.values(), ids=EXTENSIONS)
def test_extension_headers_stay(path: DataPath, name: str, extensions: tuple[Packet, ...]) -> None:
    flow = flow_of(path, name).open()
    packet = extended(flow, asks(flow), *extensions)
    seen = verdict_of(path.run(raw(packet)), Verdict.FORWARDED, Action.REDIRECT)
    assert seen.frame == translated(packet, flow.snat, flow.endpoint, TO_CDN), seen
    packet = extended(flow, answers(flow), *extensions)
    seen = verdict_of(path.run(raw(packet), LINK.name), Verdict.REPLIED, Action.REDIRECT)
    assert seen.frame == translated(packet, flow.service, flow.client, TO_CLIENTS), seen


@pytest.mark.parametrize("name", ["tcp6", "udp6"])
def test_extension_headers_of_a_first_packet(path: DataPath, name: str) -> None:
    for extensions in EXTENSIONS.values():
        flow = flow_of(path, name)
        packet = extended(flow, begins(flow), *extensions)
        verdict_of(path.run(raw(packet)), Verdict.FORWARDED, Action.REDIRECT)
        assert flow.half_open is not None


UNREAD = {
    "a route that goes on": (IPv6ExtHdrRouting(type=0, segleft=1, addresses=["2001:db8::9"]),),
    "seven": (IPv6ExtHdrHopByHop(), *[IPv6ExtHdrDestOpt()] * 6),
    "none follows": (IPv6ExtHdrDestOpt(nh=59),),
    "authentication": (IPv6ExtHdrDestOpt(nh=51),),
    "encryption": (IPv6ExtHdrDestOpt(nh=50),),
    "another protocol": (IPv6ExtHdrDestOpt(nh=132),),
}


@pytest.mark.parametrize("extensions", UNREAD.values(), ids=UNREAD)
def test_what_we_cannot_read_is_the_hosts_or_nobodys(path: DataPath, extensions: tuple[Packet, ...]) -> None:
    flow = Session(path, "solo6")
    packet = extended(flow, begins(flow), *extensions)
    dropped(path.run(raw(packet)), Verdict.UNSUPPORTED)
    packet[IPv6].dst = SNAT6[1]
    untouched(path.run(raw(packet)))


@pytest.mark.parametrize("extensions", EXTENSIONS.values(), ids=EXTENSIONS)
def test_extension_headers_cut_anywhere(path: DataPath, extensions: tuple[Packet, ...]) -> None:
    flow = Session(path, "solo6").open()
    packet = extended(flow, asks(flow), *extensions)
    whole = raw(packet)
    for length in range(54, len(whole)):
        dropped(path.run(whole[:length]), Verdict.MALFORMED)
        shorter = bytearray(whole[:length])
        shorter[18:20] = (length - 54).to_bytes(2, "big")
        seen = path.run(bytes(shorter))
        if seen.verdict is not Verdict.FORWARDED:  # only its data was cut
            dropped(seen, Verdict.MALFORMED)
        else:
            assert length >= len(whole) - len(packet[TCP].payload), seen
    verdict_of(path.run(whole), Verdict.FORWARDED, Action.REDIRECT)


def test_headers_beyond_what_we_read(path: DataPath) -> None:
    flow = Session(path, "solo6")
    long = IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(250))])
    dropped(path.run(raw(extended(flow, begins(flow), long, long))), Verdict.MALFORMED)


@pytest.mark.parametrize("name", ["tcp4", "udp4"])
@pytest.mark.parametrize(
    "options",
    [[IPOption_NOP()] * 4, [IPOption_NOP()] * 40, [IPOption_RR(routers=["0.0.0.0"] * 9)]],
    ids=["4 bytes", "40 bytes", "record route"],
)
def test_ip_options_stay(path: DataPath, name: str, options: list[Packet]) -> None:
    flow = flow_of(path, name).open()
    packet = asks(flow)
    packet[IP].options = options
    seen = verdict_of(path.run(raw(packet)), Verdict.FORWARDED, Action.REDIRECT)
    assert seen.frame == translated(packet, flow.snat, flow.endpoint, TO_CDN), seen
    packet = answers(flow)
    packet[IP].options = options
    seen = verdict_of(path.run(raw(packet), LINK.name), Verdict.REPLIED, Action.REDIRECT)
    assert seen.frame == translated(packet, flow.service, flow.client, TO_CLIENTS), seen


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("ttl", [2, 3, 64, 128, 255])
def test_a_hop_is_counted(path: DataPath, name: str, ttl: int) -> None:
    flow = flow_of(path, name).open()
    for packet, device, source, target, macs, verdict in (
        (asks(flow), CLIENTS, flow.snat, flow.endpoint, TO_CDN, Verdict.FORWARDED),
        (answers(flow), LINK.name, flow.service, flow.client, TO_CLIENTS, Verdict.REPLIED),
    ):
        layer = packet.payload
        if layer.version == 4:
            layer.ttl = ttl
        else:
            layer.hlim = ttl
        seen = verdict_of(path.run(raw(packet), device), verdict, Action.REDIRECT)
        assert seen.frame == translated(packet, source, target, macs), seen
