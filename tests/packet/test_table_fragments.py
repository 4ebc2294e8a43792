"""The table: fragments, of which only the first one has ports. It leads the rest, or all are dropped."""

from __future__ import annotations

import pytest
from harness import DataPath
from scapy.compat import raw
from scapy.layers.inet6 import IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from session import Flow, macs_from
from states import NOTHING, THEIRS, UDP_NOTHING, UDP_OPEN, udp
from table import (
    PASSES,
    SYN_SENT,
    TO_CLIENTS,
    Frame,
    Given,
    Make,
    Row,
    answer,
    ask,
    behind,
    cases,
    drop,
    hops,
    layer_of,
    moved,
    opens,
    reset_client,
    row,
    to_cdn,
    to_client,
    up,
)
from trying import check

from cdnctl.datapath.abi import FragmentPolicy, Verdict

LOST, EXPIRED = drop(Verdict.FRAGMENT), drop(Verdict.EXPIRED_TTL)
MALFORMED = drop(Verdict.MALFORMED)
BODY = bytes(n % 253 for n in range(300))
BIG, BIG_ANSWER = ask(BODY), answer(BODY)
FIRST, MIDDLE, LAST = (0, 96), (96, 192), (192, 400)
Span = tuple[int, int]


def _piece(packet: Packet, span: Span, identity: int) -> Packet:
    whole = Ether(raw(packet))
    layer, upper = layer_of(whole), raw(layer_of(whole).payload)
    at, more = span[0] // 8, span[1] < len(upper)
    layer.remove_payload()
    if layer.version == 6:
        between = IPv6ExtHdrFragment(id=identity, nh=layer.nh, offset=at, m=more)
        layer.plen, layer.nh = None, 44
        layer = layer / between
    else:
        layer.len, layer.chksum, layer.id = None, None, identity
        layer.frag, layer.flags = at, "MF" if more else 0
    return Ether(raw(Ether(src=whole.src, dst=whole.dst) / layer / Raw(upper[slice(*span)])))


def piece(make: Make, span: Span, identity: int = 4711) -> Make:
    """So much of what the network header carries."""
    return lambda flow: _piece(make(flow), span, identity)


def piece_up(span: Span, make: Make = BIG) -> Frame:
    """The same of the packet that the CDN gets."""

    def frame(flow: Flow, _: Packet) -> bytes:
        return raw(
            _piece(Ether(moved(make(flow), flow.snat, flow.endpoint, macs_from(flow.cdn)[::-1])), span, 4711)
        )

    return frame


def piece_down(span: Span, make: Make = BIG_ANSWER) -> Frame:
    """The same of the packet that the client gets."""

    def frame(flow: Flow, _: Packet) -> bytes:
        return raw(_piece(Ether(moved(make(flow), flow.service, flow.client, TO_CLIENTS)), span, 4711))

    return frame


def _first_seen(flow: Flow) -> None:
    flow.open()
    for make in (BIG, BIG_ANSWER):
        packet = piece(make, FIRST)(flow)
        flow.path.run(raw(packet), "cdn1" if make is BIG_ANSWER else "clients")


def _unwanted(flow: Flow) -> None:
    flow.open()
    flow.path.change(fragments=FragmentPolicy.DROP)


FIRST_SEEN = udp("the first fragments were sent on", _first_seen)
UNWANTED = udp("both have heard of each other, and the operator drops fragments", _unwanted)
TABLE: dict[Given, list[Row]] = {
    UDP_NOTHING: [
        row("a first fragment", piece(BIG, FIRST), opens(piece_up(FIRST)), SYN_SENT),
        row("a later fragment", piece(BIG, MIDDLE), LOST),
        row("a CDN's first fragment", piece(BIG_ANSWER, FIRST), drop(Verdict.NO_OWNER)),
        row("a CDN's later fragment", piece(BIG_ANSWER, MIDDLE), PASSES),
        row("a first fragment without its whole header", piece(BIG, (0, 0)), MALFORMED),
    ],
    NOTHING: [
        row(
            "a first fragment of a SYN",
            piece(up("S", BODY), FIRST),
            opens(piece_up(FIRST, up("S", BODY))),
            SYN_SENT,
        ),
        row("a first fragment with half a header", piece(up("S", BODY), (0, 8)), MALFORMED),
        row(
            "a first fragment of an unknown segment",
            piece(up("A", BODY), (0, 24)),
            reset_client("R", seq=THEIRS),
        ),
    ],
    UDP_OPEN: [
        row("a first fragment", piece(BIG, FIRST), to_cdn(piece_up(FIRST))),
        row("a later fragment before the first", piece(BIG, MIDDLE), LOST),
        row("a CDN's first fragment", piece(BIG_ANSWER, FIRST), to_client(piece_down(FIRST))),
        row("a CDN's later fragment before the first", piece(BIG_ANSWER, LAST), PASSES),
    ],
    FIRST_SEEN: [
        row("the first again", piece(BIG, FIRST), to_cdn(piece_up(FIRST))),
        row("the next", piece(BIG, MIDDLE), to_cdn(piece_up(MIDDLE))),
        row("the last", piece(BIG, LAST), to_cdn(piece_up(LAST))),
        row("one of another packet", piece(BIG, MIDDLE, 4712), LOST),
        row("the next, with 1 hop to live", hops(piece(BIG, MIDDLE), 1), EXPIRED),
        row("the CDN's next", piece(BIG_ANSWER, MIDDLE), to_client(piece_down(MIDDLE))),
        row("the CDN's last", piece(BIG_ANSWER, LAST), to_client(piece_down(LAST))),
        row("the CDN's of another packet", piece(BIG_ANSWER, MIDDLE, 4712), PASSES),
        row("the CDN's next, with 1 hop to live", hops(piece(BIG_ANSWER, MIDDLE), 1), EXPIRED),
    ],
    UNWANTED: [
        row("a first fragment", piece(BIG, FIRST), LOST),
        row("a later fragment", piece(BIG, MIDDLE), LOST),
        row("a CDN's first fragment", piece(BIG_ANSWER, FIRST), LOST),
        row("a CDN's later fragment", piece(BIG_ANSWER, MIDDLE), PASSES),
        row("a fragment that is whole", behind(ask(), IPv6ExtHdrFragment(id=7)), to_cdn(), families=[6]),
    ],
}


@pytest.mark.parametrize(("given", "row", "family"), cases(TABLE))
def test_fragments(bare: DataPath, given: Given, row: Row, family: int) -> None:
    check(bare, given, row, family)
