"""ICMP errors that are about no flow of ours, be it for one bit: drops at a VIP, else the host's."""

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
    answers,
    asks,
    error,
    family_of,
    flow_of,
    sent_on,
    to_snat,
    to_vip,
)
from harness import ENDPOINTS, ENDPOINTS6, SNAT, SNAT6, VIP, VIP6, DataPath
from scapy.compat import raw
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.packet import Packet, Raw
from segments import network
from session import CLIENT, CLIENT6, Flow
from steps import dropped, untouched

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict

pytestmark = pytest.mark.usefixtures("filled_headroom")


@pytest.mark.parametrize("name", KINDS)
class TestNotQuiteAboutALiveFlow:
    """Everything is as it should be but for one thing."""

    def ends_nowhere(self, path: DataPath, flow: Flow, up: bytes, down: bytes) -> None:
        header = UNREACHABLE[family_of(flow.snat[0])]
        untouched(path.run(to_snat(flow, header, up), LINK.name))
        dropped(path.run(to_vip(flow, header, down)), Verdict.UNRELATED)

    def quotes(self, path: DataPath, flow: Flow) -> tuple[bytes, bytes]:
        return sent_on(path, asks(flow)), sent_on(path, answers(flow), LINK.name)

    def test_a_later_fragment_has_no_ports(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        cut = []
        for quote in self.quotes(path, flow):
            if "4" in name:
                cut.append(quote[:6] + b"\0\x09" + quote[8:])
            else:
                piece = IPv6ExtHdrFragment(nh=quote[6], offset=9)
                cut.append(quote[:6] + b"\x2c" + quote[7:40] + raw(piece) + quote[40:])
        self.ends_nowhere(path, flow, *cut)

    def test_padding_is_not_quoted(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        length = LEAST[family_of(flow.snat[0])] - 1
        up, down = self.quotes(path, flow)
        header = UNREACHABLE[family_of(flow.snat[0])]
        untouched(path.run(to_snat(flow, header, up[:length]) + up[length:], LINK.name))
        dropped(path.run(to_vip(flow, header, down[:length]) + down[length:]), Verdict.UNRELATED)

    def test_it_was_sent_from_another_address_than_the_error_goes_to(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        up, down = (bytearray(quote) for quote in self.quotes(path, flow))
        last = 15 if "4" in name else 23
        up[last] ^= 1
        down[last] ^= 1
        self.ends_nowhere(path, flow, bytes(up), bytes(down))

    @pytest.mark.parametrize("end", ["source port", "target port", "target"])
    def test_it_was_of_another_flow(self, path: DataPath, name: str, end: str) -> None:
        flow = flow_of(path, name).open()
        start = 20 if "4" in name else 40
        at = {"source port": start + 1, "target port": start + 3, "target": start - 1}[end]
        up, down = (bytearray(quote) for quote in self.quotes(path, flow))
        up[at] ^= 1
        down[at] ^= 1
        self.ends_nowhere(path, flow, bytes(up), bytes(down))

    def test_it_was_by_another_protocol(self, path: DataPath, name: str) -> None:
        flow = flow_of(path, name).open()
        at = 9 if "4" in name else 6
        up, down = (bytearray(quote) for quote in self.quotes(path, flow))
        up[at] = down[at] = 17 if "tcp" in name else 6
        self.ends_nowhere(path, flow, bytes(up), bytes(down))


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
