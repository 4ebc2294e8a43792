"""The language of the table, which says what the data path does: one line for each thing that can come in.

    test_table_tcp, test_table_udp               flows, in each of their states
    test_table_icmp                              errors about them, and pings
    test_table_headers, test_table_fragments     what stands before the transport's header, and what behind
    test_table_links                             into and out of VLANs, tunnels, the host's own stack
    test_table_host                              what is left alone

A row says what it is, the packet, and what becomes of it: verdict, every byte that comes out, what is counted
for the CDN, and the state that its flow is in then. Rows stand below the state that the flow is in before;
all of them are tried in both families, unless they say otherwise.

    "established": [
        row("data", up("PA", b"GET /"), to_cdn(segments_to=1)),
        row("a reset", up("R"), to_cdn(closed=1), then=CLOSING),

Bytes are scapy's. Frames come in with nothing but ones in the room before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pytest
from harness import Action, DataPath
from netbox import CLIENT_SIDE_MAC, ROUTER_MAC
from scapy.compat import raw
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6TimeExceeded, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Padding, Raw
from segments import End, Macs, network, reset_to, translated
from session import Flow, Session, macs_from

from cdnctl.datapath.abi import SlotState, Verdict

TO_CLIENTS = CLIENT_SIDE_MAC, ROUTER_MAC
FROM_CLIENTS = ROUTER_MAC, CLIENT_SIDE_MAC
FAMILIES = (4, 6)
FREE, SYN_SENT, SYN_RECV, ESTABLISHED, CLOSING, TOMBSTONE = SlotState
UNCHANGED = None
NOW = 10**15
QUOTE_MAX = {4: 576 - 28, 6: 1280 - 48}

Make = Callable[[Flow], Packet]
Frame = Callable[[Flow, Packet], bytes]


class Outcome(NamedTuple):
    """What becomes of a packet."""

    verdict: Verdict
    action: Action
    frame: Frame | None
    """What comes out; None: nothing does."""
    counted: Mapping[str, int]
    """For the CDN that the flow is with then, beside the packet itself."""
    lost: Mapping[str, int]
    """For the CDN that it was with before, if that is another."""
    way: str = "known"
    """Or `new`, by any port; or `another`, to a CDN that it was not with before."""


class Row(NamedTuple):
    """One line of the table."""

    what: str
    packet: Make
    outcome: Outcome
    then: SlotState | None
    families: Sequence[int]


class Given(NamedTuple):
    """A state to begin with."""

    name: str
    make: Callable[[DataPath, int], Flow]


def row(
    what: str,
    packet: Make,
    outcome: Outcome,
    then: SlotState | None = UNCHANGED,
    families: Sequence[int] = FAMILIES,
) -> Row:
    """A line of the table."""
    return Row(what, packet, outcome, then, families)


def cases(*tables: Mapping[Given, Sequence[Row]]) -> Iterator[object]:
    """For pytest: each row, in its families."""
    for given, rows in (item for table in tables for item in table.items()):
        for each in rows:
            for family in each.families:
                yield pytest.param(given, each, family, id=f"{given.name}: {each.what}, IPv{family}")


# -- what comes in --


def layer_of(packet: Packet) -> Packet:
    """The network header."""
    return packet[IPv6] if IPv6 in packet else packet[IP]


def client_side(flow: Flow) -> Packet:
    """Ethernet and network header of a client's packet."""
    return Ether(src=ROUTER_MAC, dst=CLIENT_SIDE_MAC) / network(flow.client[0], flow.service[0], id=77)


def cdn_side(flow: Flow) -> Packet:
    """The same of its CDN's."""
    sender, receiver = macs_from(flow.cdn)
    return Ether(src=sender, dst=receiver) / network(flow.endpoint[0], flow.snat[0], 57, id=0)


def up(flags: str, payload: bytes = b"", **fields: object) -> Make:
    """A client's segment; by itself the next one that would be right."""

    def make(flow: Flow) -> Packet:
        assert isinstance(flow, Session)
        numbers = {
            "seq": flow.isn + ("S" not in flags),
            "ack": flow.cdn_isn + 1 if "A" in flags else 0,
            "sport": flow.client[1],
            "dport": flow.service[1],
        }
        return client_side(flow) / TCP(flags=flags, **(numbers | fields)) / payload

    return make


def down(flags: str, payload: bytes = b"", **fields: object) -> Make:
    """A CDN's segment; by itself the next one that would be right."""

    def make(flow: Flow) -> Packet:
        assert isinstance(flow, Session)
        numbers = {
            "seq": flow.cdn_isn + ("S" not in flags),
            "ack": flow.isn + 1 if "A" in flags else 0,
            "sport": flow.endpoint[1],
            "dport": flow.snat[1],
        }
        return cdn_side(flow) / TCP(flags=flags, **(numbers | fields)) / payload

    return make


def ask(payload: bytes = b"a question", **fields: object) -> Make:
    """A client's datagram."""

    def make(flow: Flow) -> Packet:
        ports = {"sport": flow.client[1], "dport": flow.service[1]}
        return client_side(flow) / UDP(**(ports | fields)) / payload

    return make


def answer(payload: bytes = b"an answer!", **fields: object) -> Make:
    """A CDN's datagram."""

    def make(flow: Flow) -> Packet:
        ports = {"sport": flow.endpoint[1], "dport": flow.snat[1]}
        return cdn_side(flow) / UDP(**(ports | fields)) / payload

    return make


def but(make: Make, v6: Mapping[str, object] | None = None, **fields: object) -> Make:
    """The same with other fields in its network header: `v6` where these are called otherwise."""

    def changed(flow: Flow) -> Packet:
        packet = make(flow)
        layer, wanted = layer_of(packet), v6 if v6 is not None and IPv6 in packet else fields
        for name, value in wanted.items():
            setattr(layer, name, value)
        if isinstance(layer, IP) and "chksum" not in wanted:
            layer.chksum = None
        return packet

    return changed


def hops(make: Make, left: int) -> Make:
    """The same with so many hops to live."""
    return but(make, ttl=left, v6={"hlim": left})


def padded(make: Make, count: int = 6) -> Make:
    """The same in a frame that is longer than it."""
    return lambda flow: make(flow) / Padding(b"\xee" * count)


def behind(make: Make, *headers: Packet) -> Make:
    """The same behind extension headers of IPv6."""

    def extended(flow: Flow) -> Packet:
        packet = make(flow)
        layer = packet[IPv6]
        upper = layer.payload
        layer.remove_payload()
        for header in headers:
            layer = layer / header.copy()
        return Ether(src=packet.src, dst=packet.dst) / layer / upper

    return extended


def framed(make: Make, **fields: object) -> Make:
    """The same with other fields in its Ethernet header."""

    def changed(flow: Flow) -> Packet:
        packet = make(flow)
        for name, value in fields.items():
            setattr(packet[Ether], name, value)
        return packet

    return changed


# -- what becomes of it --


def _residue(packet: Packet, layer: type[Packet]) -> int:
    """How far the checksum that a packet brings along is from the right one (RFC 1071)."""
    given = packet[layer].chksum
    if given is None:
        return 0
    right = packet.copy()
    del right[layer].chksum
    return (given - int(Ether(raw(right))[layer].chksum)) % 0xFFFF


def _as_wrong(frame: bytes, packet: Packet) -> bytes:
    """A checksum that was wrong stays wrong by as much: whoever it is for must see it; none stays none."""
    for layer in (IP, UDP, TCP):
        if layer not in packet or packet[layer].chksum is None:
            continue
        out = Ether(frame)
        bare = layer is UDP and packet[UDP].chksum == 0
        out[layer].chksum = 0 if bare else (out[layer].chksum + _residue(packet, layer)) % 0xFFFF
        frame = raw(out)
    return frame


def moved(packet: Packet, source: End, target: End, macs: Macs) -> bytes:
    """The packet after NAT and one hop."""
    return _as_wrong(translated(packet, source, target, macs), packet)


def _up(flow: Flow, packet: Packet) -> bytes:
    return moved(packet, flow.snat, flow.endpoint, macs_from(flow.cdn)[::-1])


def _down(flow: Flow, packet: Packet) -> bytes:
    return moved(packet, flow.service, flow.client, TO_CLIENTS)


def _same(flow: Flow, packet: Packet) -> bytes:
    return raw(packet)


def to_cdn(frame: Frame = _up, **counted: int) -> Outcome:
    """To its CDN, as before."""
    return Outcome(Verdict.FORWARDED, Action.REDIRECT, frame, counted, {})


def opens(frame: Frame = _up, **counted: int) -> Outcome:
    """To a CDN, as a new flow."""
    return Outcome(Verdict.FORWARDED, Action.REDIRECT, frame, {"new_flows": 1} | counted, {}, "new")


RESCUED = opens(rescued_to=1)._replace(lost={"rescued_from": 1}, way="another")
"""To another CDN than before, which has been silent."""


def to_client(frame: Frame = _down, **counted: int) -> Outcome:
    """To its client."""
    return Outcome(Verdict.REPLIED, Action.REDIRECT, frame, counted, {})


def _reset(verdict: Verdict, flags: str, seq: int, ack: int, counted: Mapping[str, int]) -> Outcome:
    def frame(_: Flow, packet: Packet) -> bytes:
        return reset_to(packet, flags=flags, seq=seq, ack=ack)

    return Outcome(verdict, Action.TX, frame, counted, {})


def reset_client(flags: str, seq: int = 0, ack: int = 0, **counted: int) -> Outcome:
    """Answered by that reset."""
    return _reset(Verdict.RESET_CLIENT, flags, seq, ack, counted)


def reset_cdn(flags: str, seq: int = 0, ack: int = 0, **counted: int) -> Outcome:
    """Answered by that reset."""
    return _reset(Verdict.RESET_CDN, flags, seq, ack, counted)


def drop(verdict: Verdict, **counted: int) -> Outcome:
    """Counted, and no more."""
    return Outcome(verdict, Action.DROP, None, counted, {})


def handed(**counted: int) -> Outcome:
    """To the host's own stack, whose CDN it is."""
    return Outcome(Verdict.HANDED, Action.PASS, _same, counted, {})


PASSES = Outcome(Verdict.PASSED, Action.PASS, _same, {}, {})


def error_about(header: Packet, packet: Packet) -> bytes:
    """An error about a packet from where that was to go, of which it quotes as much as every path takes."""
    layer, ether = layer_of(packet), packet[Ether]
    quote = raw(layer)
    if Padding in packet:
        quote = quote[: -len(packet[Padding])]
    fields = {} if layer.version == 6 else {"id": 0, "flags": "DF"}
    frame = Ether(src=ether.dst, dst=ether.src) / network(layer.dst, layer.src, **fields)
    return raw(frame / header.copy() / Raw(quote[: QUOTE_MAX[layer.version]]))


def _too_late(flow: Flow, packet: Packet) -> bytes:
    late = ICMPv6TimeExceeded(code=0) if IPv6 in packet else ICMP(type=11, code=0)
    return error_about(late, packet)


TOO_LATE = Outcome(Verdict.SAID_TOO_LATE, Action.TX, _too_late, {}, {})
