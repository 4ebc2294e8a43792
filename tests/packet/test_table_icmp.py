"""The table: errors about packets of flows in each of their states, from both sides, and pings."""

from __future__ import annotations

import pytest
from errors import ROUTER, error, family_of, hopped
from harness import SNAT, SNAT6, Action, DataPath
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from session import Flow, Session, macs_from
from states import (
    ANSWERED,
    BEGUN,
    CLOSED,
    EVICTED,
    NOTHING,
    OPEN,
    RESCUED_FROM,
    RESCUED_TO,
    RESET,
    UDP_ANSWERED,
    UDP_ASKED,
    UDP_IDLE,
    UDP_NOTHING,
    UDP_OPEN,
)
from table import (
    FROM_CLIENTS,
    PASSES,
    TO_CLIENTS,
    Frame,
    Given,
    Make,
    Outcome,
    Row,
    answer,
    ask,
    but,
    cases,
    client_side,
    down,
    drop,
    framed,
    hops,
    moved,
    row,
    to_cdn,
    to_client,
    up,
)
from trying import check

from cdnctl.datapath.abi import Verdict

ByFamily = dict[int, Packet]
UNREACHABLE: ByFamily = {4: ICMP(type=3, code=1), 6: ICMPv6DestUnreach(code=3)}
TOO_BIG: ByFamily = {4: ICMP(type=3, code=4, nexthopmtu=1400), 6: ICMPv6PacketTooBig(mtu=1400)}
TOO_LATE: ByFamily = {4: ICMP(type=11), 6: ICMPv6TimeExceeded()}
LEAST = 8
"""Bytes behind the network header of a quote that say whose it was."""


def _family(flow: Flow) -> int:
    return family_of(flow.service[0])


def _request(flow: Flow) -> Packet:
    return up("PA", b"a request")(flow) if isinstance(flow, Session) else ask()(flow)


def _reply(flow: Flow) -> Packet:
    return down("PA", b"a reply")(flow) if isinstance(flow, Session) else answer()(flow)


def _cut(flow: Flow, quote: bytes, cut: int | None) -> bytes:
    """With so many bytes behind its network header, or all."""
    return quote if cut is None else quote[: {4: 20, 6: 40}[_family(flow)] + cut]


def of_request(header: ByFamily, cut: int | None = None, *, by: str = "router") -> Make:
    """An error about a client's packet, by a router behind the edge, or by the CDN itself."""

    def make(flow: Flow) -> Packet:
        sent = moved(_request(flow), flow.snat, flow.endpoint, macs_from(flow.cdn)[::-1])[14:]
        source = ROUTER[_family(flow)] if by == "router" else flow.endpoint[0]
        quote = _cut(flow, sent, cut)
        return Ether(error(header[_family(flow)], source, flow.snat[0], quote, macs_from(flow.cdn)))

    return make


def seen_by_client(header: ByFamily, cut: int | None = None, *, by: str = "router") -> Frame:
    """The same as its client should get it: about its own packet, if by the CDN from the VIP."""

    def frame(flow: Flow, _: Packet) -> bytes:
        source = ROUTER[_family(flow)] if by == "router" else flow.service[0]
        quote = _cut(flow, hopped(_request(flow)), cut)
        return error(header[_family(flow)], source, flow.client[0], quote, TO_CLIENTS, ttl=249)

    return frame


def of_reply(header: ByFamily, cut: int | None = None) -> Make:
    """An error about a CDN's packet, by a router in front of the edge."""

    def make(flow: Flow) -> Packet:
        quote = _cut(flow, moved(_reply(flow), flow.service, flow.client, TO_CLIENTS)[14:], cut)
        router = ROUTER[_family(flow)]
        return Ether(error(header[_family(flow)], router, flow.service[0], quote, FROM_CLIENTS))

    return make


def seen_by_cdn(header: ByFamily, cut: int | None = None) -> Frame:
    """The same as the CDN should get it: from us, about its own packet."""

    def frame(flow: Flow, _: Packet) -> bytes:
        quote, macs = _cut(flow, hopped(_reply(flow)), cut), macs_from(flow.cdn)[::-1]
        return error(header[_family(flow)], flow.snat[0], flow.endpoint[0], quote, macs, ttl=249)

    return frame


def ping(flow: Flow) -> Packet:
    """Of the VIP."""
    payload = b"are you there?"
    request = (
        ICMPv6EchoRequest(id=7, seq=9, data=payload) if _family(flow) == 6 else ICMP(id=7, seq=9) / payload
    )
    return client_side(flow) / request


def pong(_: Flow, packet: Packet) -> bytes:
    """The answer to a ping: the same packet, turned round."""
    out = packet.copy()
    out[Ether].src, out[Ether].dst = packet[Ether].dst, packet[Ether].src
    if IPv6 in out:
        request, layer = out[ICMPv6EchoRequest], out[IPv6]
        layer.remove_payload()
        layer.payload = ICMPv6EchoReply(id=request.id, seq=request.seq, data=request.data)
        layer.hlim = 64
    else:
        layer = out[IP]
        layer.ttl, out[ICMP].type = 64, 0
    layer.src, layer.dst = layer.dst, layer.src
    return bytes(out)


ECHOED = Outcome(Verdict.ECHOED, Action.TX, pong, {}, {})
ALL = {"dst": "ff:ff:ff:ff:ff:ff"}
TO_SNAT = but(ping, dst=SNAT[1], v6={"dst": SNAT6[1]})
UNRELATED = drop(Verdict.UNRELATED)
KNOWN = [
    row("a request met: unreachable", of_request(UNREACHABLE), to_client(seen_by_client(UNREACHABLE))),
    row("a request met: too big", of_request(TOO_BIG), to_client(seen_by_client(TOO_BIG))),
    row("a request met: too late", of_request(TOO_LATE), to_client(seen_by_client(TOO_LATE))),
    row("a reply met: unreachable", of_reply(UNREACHABLE), to_cdn(seen_by_cdn(UNREACHABLE))),
    row("a reply met: too big", of_reply(TOO_BIG), to_cdn(seen_by_cdn(TOO_BIG))),
]
CLOSELY = [
    row(
        "as little quoted as can be told",
        of_request(UNREACHABLE, LEAST),
        to_client(seen_by_client(UNREACHABLE, LEAST)),
    ),
    row("the same of a reply", of_reply(UNREACHABLE, LEAST), to_cdn(seen_by_cdn(UNREACHABLE, LEAST))),
    row("less, of a request", of_request(UNREACHABLE, LEAST - 1), PASSES),
    row("less, of a reply", of_reply(UNREACHABLE, LEAST - 1), UNRELATED),
    row("nothing but a network header, of a request", of_request(TOO_BIG, 0), PASSES),
    row("nothing but a network header, of a reply", of_reply(TOO_BIG, 0), UNRELATED),
    row(
        "the CDN itself says so",
        of_request(UNREACHABLE, by="CDN"),
        to_client(seen_by_client(UNREACHABLE, by="CDN")),
    ),
    row("of a request, at its last hop", hops(of_request(TOO_LATE), 1), drop(Verdict.EXPIRED_TTL)),
    row("of a request, past its last hop", hops(of_request(TOO_LATE), 0), drop(Verdict.EXPIRED_TTL)),
    row("of a reply, at its last hop", hops(of_reply(TOO_LATE), 1), drop(Verdict.EXPIRED_TTL)),
    row("of a reply, past its last hop", hops(of_reply(TOO_LATE), 0), drop(Verdict.EXPIRED_TTL)),
]
UNKNOWN = [
    row("a request met: unreachable", of_request(UNREACHABLE), PASSES),
    row("a request met: too big", of_request(TOO_BIG), PASSES),
    row("a reply met: unreachable", of_reply(UNREACHABLE), UNRELATED),
    row("a reply met: too big", of_reply(TOO_BIG), UNRELATED),
]

TABLE: dict[Given, list[Row]] = {
    NOTHING: [
        *UNKNOWN,
        row("a ping", ping, ECHOED),
        row("a ping at its last hop", hops(ping, 1), ECHOED),
        row("a ping of all", framed(ping, **ALL), UNRELATED),
        row("a ping of a SNAT address", TO_SNAT, PASSES),
    ],
    BEGUN: KNOWN,
    ANSWERED: KNOWN,
    OPEN: KNOWN + CLOSELY,
    CLOSED: KNOWN,
    RESET: KNOWN,
    RESCUED_FROM: [
        row("a request met: unreachable", of_request(UNREACHABLE), drop(Verdict.STALE_REPLY)),
        row("a request met: too big", of_request(TOO_BIG), drop(Verdict.STALE_REPLY)),
    ],
    RESCUED_TO: KNOWN,
    EVICTED: [*KNOWN[:3], *UNKNOWN[2:]],
    UDP_NOTHING: UNKNOWN,
    UDP_ASKED: KNOWN,
    UDP_ANSWERED: KNOWN,
    UDP_OPEN: KNOWN + CLOSELY,
    UDP_IDLE: UNKNOWN,
}


@pytest.mark.parametrize(("given", "row", "family"), cases(TABLE))
def test_icmp(bare: DataPath, given: Given, row: Row, family: int) -> None:
    check(bare, given, row, family)
