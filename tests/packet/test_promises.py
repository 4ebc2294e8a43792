"""What a SYN promises to take at once (MSS), lowered to what the path takes."""

from __future__ import annotations

import pytest
from errors import KINDS, LINK, TO_CDN, TO_CLIENTS, begins
from harness import Action, DataPath, Seen
from scapy.compat import raw
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from segments import translated
from session import Session
from steps import from_cdn, verdict_of

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Transport, Verdict

pytestmark = pytest.mark.usefixtures("filled_headroom")
MOST = 1200
Options = list[tuple[str, object]]
USUAL: Options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (7, 0)), ("NOP", None), ("WScale", 7)]
LOWERED: dict[str, Options] = {
    "alone": [("MSS", 1460)],
    "usual": USUAL,
    "last": [*USUAL[1:], ("MSS", 9000)],
    **{
        f"behind {n} that say nothing": [("NOP", None)] * n + [("MSS", 1460)]
        for n in (*range(1, 8), 15, 22, 35, 36)
    },
    "behind an odd one": [("WScale", 3), ("MSS", 0xFFFF), ("NOP", None)],
    "behind two odd ones": [("WScale", 3), ("WScale", 4), ("MSS", 1201)],
    "behind a long one": [(253, b"x" * 31), ("MSS", 1460)],
}
LEFT: dict[str, Options] = {
    "none": [],
    "no less than it may be": [("MSS", MOST)],
    "little": [("MSS", 536)],
    "zero": [("MSS", 0)],
    "of another length": [(2, b"\x05\xb4\0")],
    "of no length": [("WScale", 3), ("NOP", None), (2, b"")],
    "behind the end": [("EOL", None), ("NOP", None), ("MSS", 1460)],
}


def syn(session: Session, options: Options, **fields: object) -> Packet:
    packet = begins(session)
    packet[TCP].options = options
    for name, value in fields.items():
        setattr(packet[TCP], name, value)
    return packet


def lowered(packet: Packet, most: int = MOST) -> Packet:
    out = packet.copy()
    out[TCP].options = [
        (name, min(value, most) if name == "MSS" else value) for name, value in packet[TCP].options
    ]
    return out


def goes_up(session: Session, packet: Packet, expected: Packet) -> None:
    seen = session.went(verdict_of(session.path.run(raw(packet)), Verdict.FORWARDED, Action.REDIRECT))
    frame = translated(expected, session.snat, session.endpoint, TO_CDN)
    assert seen.frame == frame, f"{seen}\n gave {Ether(seen.frame).command()}"


def limited(path: DataPath, name: str, most: int = MOST) -> Session:
    """A session to a CDN that needs small segments."""
    made, service = KINDS[name]
    session = made(path, service)
    assert isinstance(session, Session)
    path.change_endpoint("aurora", session.pool, mss=most)
    return session


@pytest.mark.parametrize("name", ["tcp4", "tcp6"])
class TestToACdn:
    @pytest.mark.parametrize("options", LOWERED.values(), ids=LOWERED)
    def test_too_much_is_lowered(self, path: DataPath, name: str, options: Options) -> None:
        session = limited(path, name)
        packet = syn(session, options)
        goes_up(session, packet, lowered(packet))
        goes_up(session, packet, lowered(packet))  # sent again

    @pytest.mark.parametrize("options", LEFT.values(), ids=LEFT)
    def test_all_else_is_left(self, path: DataPath, name: str, options: Options) -> None:
        session = limited(path, name)
        packet = syn(session, options)
        goes_up(session, packet, packet)

    def test_with_data_and_other_flags(self, path: DataPath, name: str) -> None:
        session = limited(path, name)
        packet = syn(session, USUAL, flags="SEC") / b"fast open"
        goes_up(session, packet, lowered(packet))

    def test_checksums_are_right_whatever_is_promised(self, path: DataPath, name: str) -> None:
        session = limited(path, name)
        for number in range(MOST + 1, 0x1_0000, 1373):
            for before in ([], [("NOP", None)]):
                packet = syn(session, [*before, ("MSS", number)])
                goes_up(session, packet, lowered(packet))

    def test_only_of_a_syn(self, path: DataPath, name: str) -> None:
        session = limited(path, name).open()
        packet = syn(session, [("MSS", 1460)], flags="A", seq=session.isn + 1, ack=session.cdn_isn + 1)
        goes_up(session, packet, packet)

    def test_malformed_options_are_the_receivers(self, path: DataPath, name: str) -> None:
        for options in (
            b"\x02",
            b"\x02\x04",
            b"\x02\x04\x05",
            b"\x05\x00\x02\x04\x05\xb4\0\0",
            b"\x05\x01\x02\x04\x05\xb4\0\0",
            b"\x08\xff\x02\x04\x05\xb4\0\0",
        ):
            session = limited(path, name)
            padded = options.rjust((len(options) + 3) // 4 * 4, b"\x01")
            packet = syn(session, [], dataofs=5 + len(padded) // 4) / padded
            goes_up(session, packet, packet)

    def test_data_is_no_option(self, path: DataPath, name: str) -> None:
        promise = b"\x02\x04\x05\xb4"
        for options, data in ((b"", promise), (b"\x01\x01\x02\x04", promise[2:]), (b"\x01" * 4, promise)):
            session = limited(path, name)
            packet = syn(session, [], dataofs=5 + len(options) // 4) / options / data
            goes_up(session, packet, packet)

    def test_no_limit_no_change(self, path: DataPath, name: str) -> None:
        for most in (0, 0xFFFF):
            session = limited(path, name, most)
            packet = syn(session, [("MSS", 0xFFFF)])
            goes_up(session, packet, packet)

    def test_what_dies_here_is_quoted_as_it_came(self, path: DataPath, name: str) -> None:
        session = limited(path, name)
        packet = syn(session, USUAL)
        goes_up(session, packet, lowered(packet))
        if "6" in name:
            packet[IPv6].hlim = 1
        else:
            packet[IP].ttl = 1
        seen = verdict_of(path.run(raw(packet)), Verdict.SAID_TOO_LATE, Action.TX)
        assert seen.frame.endswith(raw(packet)[14:])

    def test_where_the_edge_only_observes(self, path: DataPath, name: str) -> None:
        session = limited(path, name)
        packet = raw(syn(session, USUAL))
        path.tables.mode = abi.Mode.OBSERVE
        seen = path.run(packet)
        assert (seen.verdict, seen.action, seen.frame) == (Verdict.FORWARDED, Action.PASS, packet)

    def test_a_rescued_one_is_lowered_for_its_new_cdn(self, path: DataPath, name: str) -> None:
        session = Session(path, "www6" if "6" in name else "www")
        for cdn in ("aurora", "borealis", "corona"):
            path.change_health(cdn, session.pool, samples=20, baseline_us=1000)
        packet = syn(session, USUAL)
        session.went(path.run(raw(packet)))
        for cdn in {"aurora", "borealis", "corona"} - {session.cdn}:
            path.change_endpoint(cdn, session.pool, mss=MOST)
        session.age(300)
        seen = session.went(verdict_of(path.run(raw(packet)), Verdict.FORWARDED, Action.REDIRECT))
        assert promised(seen) == MOST

    def test_for_the_hosts_own_stack_nothing_is_changed(self, path: DataPath, name: str) -> None:
        session = limited(path, name)
        path.change_endpoint("aurora", session.pool, transport=Transport.PASS)
        packet = raw(syn(session, USUAL))
        assert verdict_of(path.run(packet), Verdict.HANDED, Action.PASS).frame == packet


def promised(seen: Seen) -> int:
    """The MSS of what went out."""
    return int(dict(Ether(seen.frame)[TCP].options)["MSS"])


@pytest.mark.parametrize("name", ["tcp4", "tcp6"])
@pytest.mark.parametrize("options", LOWERED.values(), ids=LOWERED)
def test_to_a_client(path: DataPath, name: str, options: Options) -> None:
    session = limited(path, name)
    session.syn()
    packet = from_cdn(session, "SA", seq=session.cdn_isn, ack=session.isn + 1, options=options)
    for _ in range(2):
        seen = verdict_of(path.run(raw(packet), LINK.name), Verdict.REPLIED, Action.REDIRECT)
        assert seen.frame == translated(lowered(packet), session.service, session.client, TO_CLIENTS), seen


TUNNELS = [
    (kind, name, transport, most)
    for kind, name, transport, most in (
        ("tcp4", "IPIP", Transport.IPIP, 1500 - 20 - 40),
        ("tcp4", "GUE", Transport.GUE, 1500 - 28 - 40),
        ("tcp6", "IPIP", Transport.IPIP, 1500 - 40 - 60),
        ("tcp6", "GUE", Transport.GUE, 1500 - 48 - 60),
    )
]


@pytest.mark.parametrize(
    ("kind", "name", "transport", "most"), TUNNELS, ids=[f"{n} {k}" for k, n, _, _ in TUNNELS]
)
def test_into_a_tunnel(path: DataPath, kind: str, name: str, transport: Transport, most: int) -> None:
    for configured, expected in ((0, most), (9000, most), (most, most), (MOST, MOST)):
        for offered in (1460, 9000, 1000):
            session = limited(path, kind, configured)
            path.change_endpoint("aurora", session.pool, transport=transport, tunnel_port=6080)
            packet = syn(session, [("MSS", offered), ("NOP", None)])
            seen = verdict_of(path.run(raw(packet)), Verdict.FORWARDED, Action.REDIRECT)
            inner = lowered(packet, expected)
            if kind == "tcp4":
                inner[IP].ttl -= 1
            else:
                inner[IPv6].hlim -= 1
            assert seen.frame.endswith(raw(inner)[14:]), seen
