"""The table: which way packets go: into and out of VLANs, into tunnels, or to the host's own stack."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from errors import hopped
from harness import AURORA, SNAT, SNAT6, DataPath
from netbox import CLIENTS, LINKS
from scapy.compat import raw
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from session import Flow, macs_from
from states import ISN, MINE, NOTHING, OPEN, THEIRS, UDP_NOTHING, UDP_OPEN, tcp, udp
from table import (
    ESTABLISHED,
    FREE,
    SYN_SENT,
    TOO_LATE,
    Given,
    Make,
    Outcome,
    Row,
    answer,
    ask,
    but,
    cases,
    down,
    drop,
    handed,
    hops,
    opens,
    reset_client,
    row,
    to_cdn,
    to_client,
    up,
)
from tags import QINQ, SINGLE, TPID_8021AD, TPID_8021Q, UNTAGGED, Tags, tagged
from trying import check

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Transport, Verdict

SYN, ACK, DATA, REPLY = up("S"), up("A"), up("PA", b"GET /"), down("PA", b"200 OK")
SENT, CAME = to_cdn(segments_to=1), to_client(segments_from=1)
PRIORITY: Tags = ((TPID_8021Q, 0),)
S_TAG: Tags = ((TPID_8021AD, 100),)
TWICE: Tags = ((TPID_8021Q, 100), (TPID_8021Q, 300))

# -- VLANs --


@pytest.fixture
def linked(bare: DataPath) -> Iterator[DataPath]:
    """Links are as before in the end."""
    keys, links = bare.tables.link_keys(), bare.tables.links()
    yield bare
    bare.tables.set_link_keys(keys)
    for identity, link in links.items():
        bare.tables.put_link(identity, link)


def _put_into(path: DataPath, device: str, tags: Tags) -> None:
    """The device's frames have these tags, as those of a VLAN device on it; its own are of no link."""
    index, keys = path.indexes[device], path.tables.link_keys()
    identity = keys.pop((index, 0, 0)) if device == CLIENTS else keys[index, 0, 0]
    link = path.tables.link(identity)
    link.outer, link.inner = [*(vlan for _, vlan in tags), 0, 0][:2]
    link.tpid = abi.port(tags[0][0])
    path.tables.put_link(identity, link)
    path.tables.set_link_keys(keys | {(index, link.outer, link.inner): identity})


def inside(make: Make, tags: Tags, priority: int = 0) -> Make:
    """The same in VLANs."""
    return lambda flow: Ether(tagged(raw(make(flow)), tags, priority))


def crossing(outcome: Outcome, make: Make, tags: Tags) -> Outcome:
    """The same outcome for what it would be without tags, with those of where it goes."""

    def frame(flow: Flow, _: Packet) -> bytes:
        assert outcome.frame is not None
        return tagged(outcome.frame(flow, make(flow)), tags)

    return outcome._replace(frame=frame)


def between(given: Given, name: str, near: Tags, far: Tags) -> Given:
    """The same, where the clients' link and the CDN's are in VLANs."""

    def make(path: DataPath, family: int) -> Flow:
        flow = given.make(path, family)
        for device, tags in ((CLIENTS, near), (LINKS[0].name, far)):
            if tags:
                _put_into(path, device, tags)
        return flow

    return Given(f"{given.name}, {name}", make)


def _vlans() -> Iterator[tuple[Given, list[Row]]]:
    for name, near, far in (
        ("out of a VLAN", SINGLE, UNTAGGED),
        ("into a VLAN", UNTAGGED, SINGLE),
        ("from one VLAN to another", SINGLE, S_TAG),
        ("out of a VLAN in a VLAN", QINQ, UNTAGGED),
        ("into a VLAN in a VLAN", UNTAGGED, QINQ),
        ("from VLANs to VLANs", TWICE, QINQ),
    ):
        yield (
            between(NOTHING, name, near, far),
            [
                row("a SYN", inside(SYN, near), crossing(opens(), SYN, far), SYN_SENT),
                row(
                    "an unknown segment",
                    inside(ACK, near),
                    crossing(reset_client("R", seq=THEIRS), ACK, near),
                ),
            ],
        )
        yield (
            between(OPEN, name, near, far),
            [
                row("data", inside(DATA, near, 5), crossing(SENT, DATA, far)),
                row("a reply", inside(REPLY, far, 7), crossing(CAME, REPLY, near)),
                row(
                    "data that dies here", inside(hops(ACK, 1), near), crossing(TOO_LATE, hops(ACK, 1), near)
                ),
            ],
        )
        yield (
            between(UDP_OPEN, name, near, far),
            [
                row("a question", inside(ask(), near), crossing(to_cdn(), ask(), far)),
                row("an answer", inside(answer(), far), crossing(to_client(), answer(), near)),
            ],
        )


NO_LINK = drop(Verdict.NO_LINK)
VLANS: dict[Given, list[Row]] = dict(_vlans()) | {
    NOTHING: [
        row(
            "a SYN with a tag for its priority alone",
            inside(SYN, PRIORITY, 3),
            crossing(opens(), SYN, UNTAGGED),
            SYN_SENT,
        ),
        row("a SYN in a VLAN that is not ours", inside(SYN, SINGLE), NO_LINK),
        row("a SYN in VLANs that are not ours", inside(SYN, QINQ), NO_LINK),
    ],
    UDP_NOTHING: [row("a question in a VLAN that is not ours", inside(ask(), SINGLE), NO_LINK)],
    between(NOTHING, "out of a VLAN", SINGLE, UNTAGGED): [
        row("a SYN without its tag", SYN, NO_LINK),
        row("a SYN with one tag more", inside(SYN, TWICE), NO_LINK),
    ],
}

# -- ways that do not come back --


def _wrapped(flow: Flow, packet: Packet) -> bytes:
    """IP in IP: the packet a hop later, behind a header of ours."""
    if IPv6 in packet:
        outer: Packet = IPv6(src=SNAT6[0], dst=flow.endpoint[0], hlim=64, nh=41, tc=packet[IPv6].tc)
    else:
        tos = packet[IP].tos
        outer = IP(src=SNAT[0], dst=flow.endpoint[0], ttl=64, id=0, flags="DF", proto=4, tos=tos)
    sender, receiver = macs_from(flow.cdn)[::-1]
    return raw(Ether(src=sender, dst=receiver) / outer / Raw(hopped(packet)))


def _said(transport: Transport, *said: Make) -> Callable[[Flow], None]:
    """To a CDN of that kind, a client has said so much."""

    def do(flow: Flow) -> None:
        flow.path.change_endpoint(AURORA, flow.pool, transport=transport)
        for make in said:
            flow.path.run(raw(make(flow)))

    return do


def _direct(name: str, transport: Transport, sent: Callable[..., Outcome]) -> dict[Given, list[Row]]:
    """Flows of which the edge sees one side alone."""
    proved = {"promoted": 1, "handshakes": 1}
    return {
        tcp(f"{name}, no segment was seen", _said(transport)): [
            row("a SYN", SYN, sent(new_flows=1), SYN_SENT),
            row("an ACK", ACK, reset_client("R", seq=THEIRS)),
            row("what the CDN says to a port of ours", REPLY, drop(Verdict.NO_OWNER)),
        ],
        tcp(f"{name}, a SYN was sent", _said(transport, SYN)): [
            row("the SYN again", SYN, sent()),
            row("a SYN with another number", up("S", seq=9), sent()),
            row("the ACK of an answer that nobody saw", ACK, sent(**proved), ESTABLISHED),
            row("the same after data in the SYN", up("A", seq=MINE + 18), sent(**proved), ESTABLISHED),
            row("the ACK with data", DATA, sent(**proved, segments_to=1), ESTABLISHED),
            row("an ACK of no handshake", up("A", seq=ISN), drop(Verdict.BAD_ACK)),
            row("a reset", up("R"), sent()),
        ],
        tcp(f"{name}, established", _said(transport, SYN, ACK)): [
            row("an ACK", ACK, sent()),
            row("data", DATA, sent(segments_to=1)),
            row("a FIN", up("FA"), sent(closed=1)),
            row("a reset", up("R"), sent(closed=1)),
            row("a SYN, the CDN's to judge", up("S", seq=424242), sent()),
        ],
        tcp(f"{name}, the client has closed", _said(transport, SYN, ACK, up("FA"))): [
            row("an ACK", up("A", seq=MINE + 1), sent()),
            row("the FIN again", up("FA"), sent()),
            row("a SYN: the port is used again", up("S", seq=5_000_000), sent(new_flows=1), SYN_SENT),
        ],
        udp(f"{name}, no datagram was seen", _said(transport)): [
            row("a question", ask(), sent(new_flows=1), SYN_SENT),
        ],
        udp(f"{name}, a question was sent", _said(transport, ask())): [
            row("another one", ask(b"and?"), sent(promoted=1), ESTABLISHED),
        ],
        udp(f"{name}, two questions were sent", _said(transport, ask(), ask())): [
            row("a third one", ask(b"and?"), sent()),
        ],
    }


def _turned(given: Given, name: str, transport: Transport) -> Given:
    """The same, but since then the operator has changed how its CDN is reached."""

    def make(path: DataPath, family: int) -> Flow:
        flow = given.make(path, family)
        path.change_endpoint(AURORA, flow.pool, transport=transport)
        return flow

    return Given(f"{given.name}, {name}", make)


_IN_A_TUNNEL = tcp("established, in a tunnel", _said(Transport.IPIP, SYN, ACK))
_UDP_IN_A_TUNNEL = udp("two questions were sent, in a tunnel", _said(Transport.IPIP, ask(), ask()))
TURNED: dict[Given, list[Row]] = {
    _turned(OPEN, "before its CDN took tunnels", Transport.IPIP): [
        row("data", DATA, SENT),
        row("a reply", REPLY, CAME),
        row("a SYN, the CDN's to judge", up("S", seq=424242), to_cdn()),
    ],
    _turned(OPEN, "before its CDN was the host", Transport.PASS): [
        row("data", DATA, SENT),
        row("a reply", REPLY, CAME),
    ],
    _turned(UDP_OPEN, "before its CDN took tunnels", Transport.GUE): [
        row("a question", ask(), to_cdn()),
        row("an answer", answer(), to_client()),
    ],
    _turned(_IN_A_TUNNEL, "before its CDN took none", Transport.NAT): [
        row("data", DATA, reset_client("R", seq=THEIRS, segments_to=1), FREE),
        row("a SYN", SYN, opens(), SYN_SENT),
    ],
    _turned(_IN_A_TUNNEL, "before its CDN was the host", Transport.PASS): [
        row("data", DATA, handed(segments_to=1))
    ],
    _turned(_UDP_IN_A_TUNNEL, "before its CDN took none", Transport.NAT): [
        row("a question", ask(), opens(), SYN_SENT)
    ],
}


def _tunnelled(**counted: int) -> Outcome:
    return to_cdn(_wrapped, **counted)


LAST_HOP = {
    tcp("by the host, no segment was seen, and it is the last hop", _said(Transport.PASS)): [
        row("a SYN", hops(SYN, 1), handed(new_flows=1), SYN_SENT),
    ],
    tcp("by the host, established, and it is the last hop", _said(Transport.PASS, SYN, ACK)): [
        row("data", hops(DATA, 1), handed(segments_to=1)),
    ],
    tcp("IP in IP, no segment was seen, and it is the last hop", _said(Transport.IPIP)): [
        row("a SYN", hops(SYN, 1), TOO_LATE),
    ],
    udp("by the host, no datagram was seen, and it is the last hop", _said(Transport.PASS)): [
        row("a question", hops(ask(), 1), handed(new_flows=1), SYN_SENT),
    ],
}
_MARKS = {f"DSCP {tos >> 2} and ECN {tos & 3}": tos for tos in (0xB8, 0x01, 0x02, 0x03, 0xFF)}
MARKED = {
    _IN_A_TUNNEL: [
        row(f"data with {name}", but(DATA, tos=tos, v6={"tc": tos, "fl": 0x54321}), _tunnelled(segments_to=1))
        for name, tos in _MARKS.items()
    ],
}
WAYS = _direct("IP in IP", Transport.IPIP, _tunnelled) | _direct("by the host", Transport.PASS, handed)


@pytest.mark.parametrize(("given", "row", "family"), cases(VLANS, WAYS, MARKED, LAST_HOP, TURNED))
def test_ways(linked: DataPath, given: Given, row: Row, family: int) -> None:
    check(linked, given, row, family)
