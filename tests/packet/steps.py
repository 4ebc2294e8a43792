"""Steps of a session with what must become of each: to a CDN, to the client, reset, dropped."""

from __future__ import annotations

from harness import Action, Seen
from netbox import CLIENT_SIDE_MAC, LINKS, ROUTER_MAC
from scapy.compat import raw
from scapy.layers.inet import TCP
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from segments import Flag, network, reset_to, translated
from session import Session, link_of

from cdnctl.datapath.abi import Verdict

LINK = LINKS[0]
ACK, PSH, FIN, RST = Flag.ACK, Flag.PSH, Flag.FIN, Flag.RST
TIMES = ("Timestamp", (123456, 654321))


def from_client(session: Session, flags: str, payload: bytes = b"", **fields: object) -> Packet:
    """By scapy."""
    (source, sport), (target, dport) = session.client, session.service
    ends = network(source, target, id=77) / TCP(sport=sport, dport=dport, flags=flags, **fields)
    return Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC) / ends / payload


def from_cdn(session: Session, flags: str, payload: bytes = b"", **fields: object) -> Packet:
    """By scapy, to where the session's SYN came out."""
    (source, sport), (target, dport) = session.endpoint, session.snat
    ends = network(source, target, 57, id=0) / TCP(sport=sport, dport=dport, flags=flags, **fields)
    return Ether(src=LINK.gateway_mac, dst=LINK.mac) / ends / payload


def verdict_of(seen: Seen, verdict: Verdict, action: Action) -> Seen:
    """`seen`, which must have ended so."""
    assert (seen.verdict, seen.action) == (verdict, action), seen
    return seen


def goes_up(session: Session, packet: Packet) -> None:
    """The packet leaves towards the CDN, every byte as scapy has it."""
    seen = verdict_of(session.path.run(raw(packet)), Verdict.FORWARDED, Action.REDIRECT)
    expected = translated(packet, session.snat, session.endpoint, (LINK.mac, LINK.gateway_mac))
    assert seen.frame == expected, seen


def goes_down(session: Session, packet: Packet) -> None:
    """The packet leaves towards the client, every byte as scapy has it."""
    seen = verdict_of(session.path.run(raw(packet), link_of(session.cdn)), Verdict.REPLIED, Action.REDIRECT)
    expected = translated(packet, session.service, session.client, (CLIENT_SIDE_MAC, ROUTER_MAC))
    assert seen.frame == expected, seen


def reset_to_cdn(session: Session, packet: Packet, **fields: int | str) -> None:
    """The packet is answered by exactly that reset."""
    seen = verdict_of(session.path.run(raw(packet), link_of(session.cdn)), Verdict.RESET_CDN, Action.TX)
    assert seen.frame == reset_to(packet, **fields), seen


def forwarded(seen: Seen) -> None:
    verdict_of(seen, Verdict.FORWARDED, Action.REDIRECT)


def replied(seen: Seen) -> None:
    verdict_of(seen, Verdict.REPLIED, Action.REDIRECT)


def dropped(seen: Seen, verdict: Verdict) -> None:
    verdict_of(seen, verdict, Action.DROP)


def untouched(seen: Seen) -> None:
    """Left to the host, byte for byte."""
    verdict_of(seen, Verdict.PASSED, Action.PASS)
    assert seen.frame == seen.sent, seen
