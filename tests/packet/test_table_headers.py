"""The table: what stands between Ethernet and the transport, and how far it may be trusted."""

from __future__ import annotations

import pytest
from harness import OTHER_VIP, OTHER_VIP6, SNAT, SNAT6, VIP, VIP6, DataPath
from netbox import CLIENTS
from scapy.compat import raw
from scapy.layers.inet import TCP, IPOption_NOP, IPOption_RR, IPOption_Timestamp
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from session import macs_from
from states import NOTHING, OPEN, UDP_NOTHING, UDP_OPEN
from steps import dropped, untouched
from table import (
    FAMILIES,
    PASSES,
    SYN_SENT,
    TO_CLIENTS,
    TOO_LATE,
    Given,
    Make,
    Outcome,
    Row,
    answer,
    ask,
    behind,
    but,
    cases,
    down,
    drop,
    framed,
    hops,
    moved,
    opens,
    padded,
    row,
    to_cdn,
    to_client,
    up,
)
from trying import check, device_of

from cdnctl.datapath.abi import Verdict

MALFORMED, UNSUPPORTED = drop(Verdict.MALFORMED), drop(Verdict.UNSUPPORTED)
LOST, EXPIRED = drop(Verdict.FRAGMENT), drop(Verdict.EXPIRED_TTL)
SYN, DATA, REPLY = up("S"), up("PA", b"GET /"), down("PA", b"200 OK")
SENT, CAME = to_cdn(segments_to=1), to_client(segments_from=1)
V4, V6 = [4], [6]
ALL = {"dst": "33:33:00:00:00:01"}

# -- hops, padding, what routers may change --


def _marked(make: Make) -> Make:
    return but(make, tos=0xB9, id=0xFFFF, flags="DF", v6={"tc": 0xB9, "fl": 0xFFFFF})


GENERAL = {
    NOTHING: [
        *(row(f"a SYN with {left} hops to live", hops(SYN, left), opens(), SYN_SENT) for left in (2, 255)),
        *(row(f"a SYN with {left} hops to live", hops(SYN, left), TOO_LATE) for left in (0, 1)),
        row("a SYN to all with 1 hop to live", hops(framed(SYN, **ALL), 1), EXPIRED),
        row("a SYN with DSCP, ECN, DF or a flow label", _marked(SYN), opens(), SYN_SENT),
        row("a SYN, padded", padded(SYN), opens(), SYN_SENT),
        row("a SYN, padded very much", padded(SYN, 1000), opens(), SYN_SENT),
        row("a SYN with a wrong header checksum", but(SYN, chksum=1), opens(), SYN_SENT, V4),
    ],
    UDP_NOTHING: [
        *(row(f"a question with {left} hops to live", hops(ask(), left), TOO_LATE) for left in (0, 1)),
        row("a question, padded", padded(ask(b"?")), opens(), SYN_SENT),
        row("a question with DSCP, ECN, DF or a flow label", _marked(ask()), opens(), SYN_SENT),
    ],
    OPEN: [
        *(row(f"data with {left} hops to live", hops(DATA, left), SENT) for left in (2, 255)),
        *(
            row(
                f"data with {left} hops to live",
                hops(DATA, left),
                TOO_LATE._replace(counted={"segments_to": 1}),
            )
            for left in (0, 1)
        ),
        row("data with DSCP, ECN, DF or a flow label", _marked(DATA), SENT),
        row("an ACK, padded", padded(up("A")), to_cdn()),
        *(row(f"a reply with {left} hops to live", hops(REPLY, left), CAME) for left in (2, 255)),
        *(
            row(
                f"a reply with {left} hops to live",
                hops(REPLY, left),
                TOO_LATE._replace(counted={"segments_from": 1}),
            )
            for left in (0, 1)
        ),
        row("a reply with DSCP, ECN, DF or a flow label", _marked(REPLY), CAME),
        row("a CDN's ACK, padded", padded(down("A")), to_client()),
        row("a reply with a wrong header checksum", but(REPLY, chksum=1), CAME, families=V4),
    ],
    UDP_OPEN: [
        *(row(f"a question with {left} hops to live", hops(ask(), left), TOO_LATE) for left in (0, 1)),
        *(row(f"an answer with {left} hops to live", hops(answer(), left), TOO_LATE) for left in (0, 1)),
        row("an answer with DSCP, ECN, DF or a flow label", _marked(answer()), to_client()),
        row("an answer, padded", padded(answer(b"!")), to_client()),
    ],
}

# -- whose it cannot be --

NOBODYS = {
    4: ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.9", "224.0.0.1", "239.9.9.9", "240.0.0.1",
        "255.255.255.255", VIP, OTHER_VIP, *SNAT],
    6: ["::", "::1", "::9.9.9.9", "ff02::1", "ff0e::9", VIP6, OTHER_VIP6, *SNAT6],
}  # fmt: skip
SOMEBODYS = {
    4: ["1.0.0.1", "126.255.255.255", "128.0.0.1", "223.255.255.255", "203.0.113.82"],
    6: ["2001:db8:203::82", "fd00::1"],
}


def _from(address: str, make: Make) -> Make:
    return but(make, src=address, v6={"src": address})


def _nobodys(address: str) -> Outcome:
    """What becomes of it, when the VIP asked is the last of ours."""
    return drop(Verdict.LAND if address in (OTHER_VIP, OTHER_VIP6) else Verdict.SPOOFED)


def _somebodys(_address: str) -> Outcome:
    return opens()


WHOSE = {
    NOTHING: [
        *(
            row(f"a SYN from {address}", _from(address, SYN), outcome(address), then, [family])
            for all_of, outcome, then in ((NOBODYS, _nobodys, None), (SOMEBODYS, _somebodys, SYN_SENT))
            for family in all_of
            for address in all_of[family]
        ),
        row("an ACK from nobody", _from("127.0.0.1", up("A")), drop(Verdict.SPOOFED), families=V4),
    ],
    UDP_NOTHING: [
        row(f"a question from {address}", _from(address, ask()), _nobodys(address), families=[family])
        for family, addresses in NOBODYS.items()
        for address in addresses
    ],
}

# -- lengths and versions --


def _both(what: str, **fields: object) -> list[Row]:
    """Of a client's and of a CDN's."""
    families = V6 if "plen" in fields or "v6" in fields else V4
    wanted = {name: value for name, value in fields.items() if name != "v6"}
    return [
        row(f"{side} with {what}", but(make, v6=wanted, **wanted), MALFORMED, families=families)
        for side, make in (("data", up("A", b"12345678")), ("a reply", down("A", b"12345678")))
    ]


LENGTHS = {
    OPEN: [
        *_both("an IP header of 4 words", ihl=4),
        *_both("an IP header of none", ihl=0),
        *_both("an IP header over all there is", ihl=15),
        *_both("a length of 0", len=0),
        *_both("a length below its header's", len=19),
        *_both("a length that leaves no room for TCP", len=39),
        *_both("a length beyond the frame", len=49),
        *_both("all the length there can be", len=0xFFFF),
        *_both("IPv6's version, in a frame of IPv4", version=6),
        *_both("no version, in a frame of IPv4", version=0),
        *_both("a length that leaves no room for TCP", plen=19),
        *_both("no length", plen=0),
        *_both("a length beyond the frame", plen=29),
        *_both("all the length there can be", plen=0xFFFF),
        *_both("IPv4's version, in a frame of IPv6", version=4, v6=True),
        *_both("no version, in a frame of IPv6", version=0, v6=True),
    ],
}

# -- IP options --


def _optioned(make: Make, *options: Packet) -> Make:
    return but(make, options=list(options))


def _options(what: str, *options: Packet) -> list[Row]:
    return [
        row(f"data with {what}", _optioned(DATA, *options), SENT, families=V4),
        row(f"a reply with {what}", _optioned(REPLY, *options), CAME, families=V4),
    ]


OPTIONS = {
    NOTHING: [row("a SYN with an IP option", _optioned(SYN, IPOption_NOP()), opens(), SYN_SENT, V4)],
    UDP_NOTHING: [row("a question with IP options", _optioned(ask(), IPOption_NOP()), opens(), SYN_SENT, V4)],
    OPEN: [
        *_options("one IP option", IPOption_NOP()),
        *_options("as many IP options as there can be", *[IPOption_NOP()] * 40),
        *_options("its route recorded", IPOption_RR(routers=["0.0.0.0"] * 9)),
        *_options("times recorded", IPOption_Timestamp(flg=0, pointer=5, timestamp=7)),
    ],
}

# -- extension headers --


HOP_BY_HOP, DESTINATION, ATOMIC = IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrFragment(id=7)
LONG = IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(255))])
ARRIVED = IPv6ExtHdrRouting(type=2, segleft=0, addresses=["2001:db8::9"])
ON_ITS_WAY = IPv6ExtHdrRouting(type=2, segleft=1, addresses=["2001:db8::9"])
READ = {
    "hop-by-hop options": (HOP_BY_HOP,),
    "destination options": (DESTINATION,),
    "a route that is at its end": (ARRIVED,),
    "the header of a fragment that is whole": (ATOMIC,),
    "a long header": (LONG,),
    "six headers": (HOP_BY_HOP, DESTINATION, ARRIVED, ATOMIC, DESTINATION, DESTINATION),
}
UNREAD = {
    "a route that goes on": (ON_ITS_WAY,),
    "seven headers": (HOP_BY_HOP, *[DESTINATION] * 6),
    "authentication": (IPv6ExtHdrDestOpt(nh=51),),
    "encryption": (IPv6ExtHdrDestOpt(nh=50),),
    "nothing, they say": (IPv6ExtHdrDestOpt(nh=59),),
    "the mobility header": (IPv6ExtHdrDestOpt(nh=135),),
}
BROKEN = {
    "a header beyond the packet": (IPv6ExtHdrDestOpt(len=255),),
    "more than we read of a frame": (LONG, LONG),
}
EXTENSIONS = {
    NOTHING: [
        *(row(f"a SYN behind {n}", behind(SYN, *h), opens(), SYN_SENT, V6) for n, h in READ.items()),
        *(row(f"a SYN behind {n}", behind(SYN, *h), UNSUPPORTED, families=V6) for n, h in UNREAD.items()),
        *(row(f"a SYN behind {n}", behind(SYN, *h), MALFORMED, families=V6) for n, h in BROKEN.items()),
    ],
    UDP_NOTHING: [
        *(row(f"a question behind {n}", behind(ask(), *h), opens(), SYN_SENT, V6) for n, h in READ.items()),
    ],
    OPEN: [
        *(row(f"data behind {n}", behind(DATA, *h), SENT, families=V6) for n, h in READ.items()),
        *(row(f"a reply behind {n}", behind(REPLY, *h), CAME, families=V6) for n, h in READ.items()),
        *(row(f"a reply behind {n}", behind(REPLY, *h), PASSES, families=V6) for n, h in UNREAD.items()),
        *(row(f"a reply behind {n}", behind(REPLY, *h), MALFORMED, families=V6) for n, h in BROKEN.items()),
    ],
    UDP_OPEN: [
        *(
            row(f"an answer behind {n}", behind(answer(), *h), to_client(), families=V6)
            for n, h in READ.items()
        ),
    ],
}

# -- other protocols --

OTHERS = {
    "SCTP": 132,
    "GRE": 47,
    "IP in IP": 4,
    "IPv6 in IP": 41,
    "ESP": 50,
    "AH": 51,
    "IGMP": 2,
    "nothing": 59,
}


def _carrying(make: Make, number: int) -> Make:
    return but(make, proto=number, v6={"nh": number})


PROTOCOLS = {
    OPEN: [
        *(row(f"a client's {n}", _carrying(DATA, number), UNSUPPORTED) for n, number in OTHERS.items()),
        *(row(f"{n} from a CDN", _carrying(REPLY, number), PASSES) for n, number in OTHERS.items()),
    ]
}


@pytest.mark.parametrize(
    ("given", "row", "family"), cases(GENERAL, WHOSE, LENGTHS, OPTIONS, EXTENSIONS, PROTOCOLS)
)
def test_headers(bare: DataPath, given: Given, row: Row, family: int) -> None:
    check(bare, given, row, family)


# -- cut short --

WHOLE = [
    pytest.param(NOTHING, up("S", options=[("MSS", 1460), ("NOP", None), ("WScale", 7)]), id="a SYN"),
    pytest.param(OPEN, DATA, id="data"),
    pytest.param(OPEN, REPLY, id="a reply"),
    pytest.param(UDP_OPEN, ask(), id="a question"),
    pytest.param(UDP_OPEN, answer(), id="an answer"),
]


def _network_ends(packet: Packet) -> int:
    return 14 + (40 if IPv6 in packet else 20)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("given", "make"), WHOLE)
def test_cut_off_anywhere(bare: DataPath, given: Given, make: Make, family: int) -> None:
    packet = make(given.make(bare, family))
    for length in range(14, len(raw(packet))):
        seen = bare.run(raw(packet)[:length], device_of(packet))
        if length < _network_ends(packet):
            untouched(seen)  # nobody can say that it is for us
        else:
            dropped(seen, Verdict.MALFORMED)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("given", "make"), WHOLE)
def test_cut_off_anywhere_with_its_length_made_right(
    bare: DataPath, given: Given, make: Make, family: int
) -> None:
    flow = given.make(bare, family)
    packet = make(flow)
    start, upward = _network_ends(packet), device_of(packet) == CLIENTS
    header = len(raw(packet)) - len(packet[TCP].payload) if TCP in packet else len(raw(packet))
    for length in range(start, len(raw(packet))):
        frame = bytearray(raw(packet)[:length])
        at, size = (18, length - start) if family == 6 else (16, length - 14)
        frame[at : at + 2] = size.to_bytes(2, "big")
        seen = bare.run(bytes(frame), device_of(packet))
        if length < header:
            dropped(seen, Verdict.MALFORMED)
            continue
        ends = (flow.snat, flow.endpoint) if upward else (flow.service, flow.client)
        macs = macs_from(flow.cdn)[::-1] if upward else TO_CLIENTS
        assert seen.frame == moved(Ether(bytes(frame)), *ends, macs), seen  # less data, a wrong checksum
