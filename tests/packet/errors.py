"""ICMP errors of both families, by scapy: about packets that went through the edge, and of the edge's own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from harness import DataPath
from netbox import CLIENT_SIDE_MAC, CLIENTS, LINKS, ROUTER_MAC
from scapy.compat import raw
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from segments import Macs, is_ipv6, network
from session import CDN_ISN, Datagrams, Flow, Session, macs_from
from steps import from_cdn, from_client

from cdnctl.datapath.abi import Verdict

ETHERNET = 14
LINK = LINKS[0]
FROM_CLIENTS = ROUTER_MAC, CLIENT_SIDE_MAC
TO_CLIENTS = CLIENT_SIDE_MAC, ROUTER_MAC
TO_CDN = LINK.mac, LINK.gateway_mac
ROUTER = {4: "172.31.9.9", 6: "2001:db8:99::9"}
"""Somewhere on the way, on either side."""
KINDS = {
    "tcp4": (Session, "solo"),
    "tcp6": (Session, "solo6"),
    "udp4": (Datagrams, "dns"),
    "udp6": (Datagrams, "dns6"),
}
LEAST = {4: 20 + 8, 6: 40 + 8}
"""Bytes of a quote by which one can tell whose it is."""


class Kind(NamedTuple):
    """A kind of error."""

    name: str
    family: int
    header: Packet


ERRORS = [
    Kind("host unreachable", 4, ICMP(type=3, code=1)),
    Kind("port unreachable", 4, ICMP(type=3, code=3)),
    Kind("fragmentation needed", 4, ICMP(type=3, code=4, nexthopmtu=1400)),
    Kind("prohibited", 4, ICMP(type=3, code=13)),
    Kind("time exceeded", 4, ICMP(type=11, code=0)),
    Kind("reassembly time exceeded", 4, ICMP(type=11, code=1)),
    Kind("parameter problem", 4, ICMP(type=12, code=0, ptr=20)),
    Kind("address unreachable", 6, ICMPv6DestUnreach(code=3)),
    Kind("port unreachable", 6, ICMPv6DestUnreach(code=4)),
    Kind("packet too big", 6, ICMPv6PacketTooBig(mtu=1280)),
    Kind("hop limit exceeded", 6, ICMPv6TimeExceeded(code=0)),
    Kind("reassembly time exceeded", 6, ICMPv6TimeExceeded(code=1)),
    Kind("parameter problem", 6, ICMPv6ParamProblem(code=1, ptr=40)),
]


UNREACHABLE = {4: ICMP(type=3, code=1), 6: ICMPv6DestUnreach(code=0)}
"""Of each family one, when it does not matter which."""


def described(kind: Kind) -> str:
    """A name for a test."""
    return f"{kind.name} {kind.family}"


def family_of(address: str) -> int:
    """4 or 6."""
    return 6 if is_ipv6(address) else 4


def error(
    header: Packet, source: str, target: str, quote: bytes, macs: Macs, ttl: int = 250, **fields: object
) -> bytes:
    """A frame with an error that quotes these bytes."""
    carrier = network(source, target, ttl, **({"id": 7} | fields))
    return raw(Ether(src=macs[0], dst=macs[1]) / carrier / header.copy() / Raw(quote))


def hopped(packet: Packet, hops: int = 1) -> bytes:
    """The network packet in a frame, some hops later."""
    packet = packet.copy()
    if IPv6 in packet:
        packet[IPv6].hlim -= hops
    else:
        packet[IP].ttl -= hops
        del packet[IP].chksum
    return raw(packet)[ETHERNET:]


def asks(flow: Flow, payload: bytes = b"what is the time, please?") -> Packet:
    """A packet of a client's in an open flow."""
    if isinstance(flow, Session):
        return from_client(flow, "PA", payload, seq=flow.isn + 1, ack=CDN_ISN + 1)
    (source, sport), (target, dport) = flow.client, flow.service
    frame = Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC) / network(source, target, id=77)
    return frame / UDP(sport=sport, dport=dport) / payload


def answers(flow: Flow, payload: bytes = b"late") -> Packet:
    """A packet of the CDN in an open flow."""
    if isinstance(flow, Session):
        return from_cdn(flow, "PA", payload, seq=CDN_ISN + 1, ack=flow.isn + 1)
    (source, sport), (target, dport) = flow.endpoint, flow.snat
    macs = macs_from(flow.cdn)
    frame = Ether(src=macs[0], dst=macs[1]) / network(source, target, 57, id=0)
    return frame / UDP(sport=sport, dport=dport) / payload


def begins(flow: Flow) -> Packet:
    """A packet that opens the flow."""
    return from_client(flow, "S", seq=flow.isn) if isinstance(flow, Session) else asks(flow)


def flow_of(path: DataPath, kind: str) -> Flow:
    """One that has not begun, by its name in KINDS."""
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


@contextlib.contextmanager
def one_cpu() -> Iterator[None]:
    """All packets meanwhile go through one CPU: each has answers of its own to give away."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)
