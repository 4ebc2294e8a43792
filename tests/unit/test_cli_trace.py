"""`cdnctl trace`: what it takes, and sampled packets from an agent, chosen, bounded and shown."""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from engine_double import EDGE, ServedDouble
from hypothesis import given
from hypothesis import strategies as st

from cdnctl.agent import protocol, server
from cdnctl.agent.blocking import Client
from cdnctl.cli import main, trace, watch
from cdnctl.datapath import abi, clients, packets
from cdnctl.datapath.packets import Flag, Packet
from cdnctl.datapath.perf import Sample
from cdnctl.engine import watching
from cdnctl.errors import CdnctlError, NoAgent, UsageError
from cdnctl.model import GetFrame, PacketFilter, Sampled, SampledPacket, Term

CDNS = {0: "aurora", 1: "borealis"}
PACKET = SampledPacket(
    source="10.1.0.7",
    target="203.0.113.80",
    source_port=40000,
    target_port=443,
    protocol="tcp",
    flags="S",
    length=74,
    verdict="blocked",
    drop=True,
    cdn="",
)


# --- what is asked ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("198.51.100.7", ("198.51.100.7", None)),
        ("198.51.100.7:40000", ("198.51.100.7", 40000)),
        ("2001:db8::7", ("2001:db8::7", None)),
        ("[2001:DB8:0::7]", ("2001:db8::7", None)),
        ("[2001:db8::7]:443", ("2001:db8::7", 443)),
    ],
)
def test_an_end_is_an_address_and_perhaps_a_port(text: str, end: tuple[str, int | None]) -> None:
    assert trace.parse_end(text) == end


@pytest.mark.parametrize(
    "text",
    ["", ":80", "[]", "host", "198.51.100", "198.51.100.7:", "198.51.100.7:0", "198.51.100.7:65536",
     "[198.51.100.7]:80", "2001:db8::7:443:x", "[2001:db8::7", "[2001:db8::7]443", "2001:db8::7]:443",
     "[fe80::1%lo]:5", "fe80::1%lo"],
)  # fmt: skip
def test_what_is_no_end_is_refused_with_how_to_write_it(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        trace.parse_end(text)
    assert refused.value.remedy


@given(st.text(max_size=40))
def test_no_text_breaks_an_end(text: str) -> None:
    try:
        address, port = trace.parse_end(text)
    except UsageError:
        return
    ipaddress.ip_address(address)
    assert port is None or 0 < port < 65536


def test_flags_by_name() -> None:
    assert trace.flags("syn") == Flag.SYN
    assert trace.flags("fin,ack") == trace.flags("FIN+ACK") == Flag.FIN | Flag.ACK
    for text in ("", "syn,", "sin", "syn ack"):
        with pytest.raises(argparse.ArgumentTypeError, match="fin, syn"):
            trace.flags(text)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("trace", "takes two addresses"),
        ("trace 198.51.100.7", "takes two addresses"),
        ("trace 198.51.100.7 203.0.113.80", "to which port?"),
        ("trace 198.51.100.7 [2001:db8::1]:443", "two families"),
        ("trace --proto icmp 198.51.100.7 203.0.113.80:443", "ICMP has no ports"),
        ("trace --proto udp --flags syn 198.51.100.7 203.0.113.80:443", "udp has no flags"),
        ("trace nowhere 203.0.113.80:443", "'nowhere' is no address"),
        ("trace --live --iface eth0", "--live takes a filter"),
        ("trace --live src", "a filter is a field and a value"),
        ("trace --live colour red", "a filter is a field and a value"),
        ("trace --live src 10.0.0.0/40", "no address or prefix"),
        ("trace --live port 65536", "no port"),
        ("trace --live src fe80::1%lo", "no address or prefix"),
        ("trace --live proto sctp", "no protocol"),
        ("trace --live proto ²", "no protocol"),
        ("trace --live proto 256", "no protocol"),
        (f"trace --live port {'9' * 5000}", "no port"),
        ("trace --count 3 198.51.100.7 203.0.113.80:443", "--count is for --live"),
        ("trace --live port 80 or", "nothing on one side of `or`"),
        ("trace --live and port 80", "nothing on one side of `and`"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_tried(
    run_dir: object, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    assert main(line.split()) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "-1", "²", "x"])
def test_count_is_a_number_from_one(capsys: pytest.CaptureFixture[str], count: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["trace", "--live", "--count", count])
    assert "expected a number of packets, from 1" in capsys.readouterr().err


def test_a_protocol_in_any_case() -> None:
    assert watch.parse(["proto", "TCP"]) == watch.parse(["proto", "tcp"])


def test_a_trace_of_an_edge_that_is_not_there(run_dir: object, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["trace", "198.51.100.7", "203.0.113.80:443", "--edge", "nowhere-at-all"])
    assert status == 1
    error = capsys.readouterr().err
    assert ("no data path of edge nowhere-at-all" if os.geteuid() == 0 else "sudo") in error


# --- the packet ---------------------------------------------------------------------------------------


def _scapy(packet: Packet, tags: Sequence[int]) -> bytes:
    from scapy.compat import raw
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
    from scapy.layers.l2 import Dot1Q, Ether

    made = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    for tag in tags:
        made /= Dot1Q(vlan=tag)
    six = packet.family == 6
    made /= (
        IPv6(src=packet.source, dst=packet.target)
        if six
        else IP(src=packet.source, dst=packet.target, flags="DF")
    )
    if packet.protocol == "tcp":
        made /= TCP(
            sport=packet.source_port,
            dport=packet.target_port,
            flags=int(packet.flags),
            seq=packet.sequence,
            ack=packet.acknowledged,
            window=packets.WINDOW,
        )
    elif packet.protocol == "udp":
        made /= UDP(sport=packet.source_port, dport=packet.target_port)
    else:
        made /= ICMPv6EchoRequest(id=1, seq=1) if six else ICMP(id=1, seq=1)
    return bytes(raw(made / packet.payload))


@given(
    protocol=st.sampled_from(["tcp", "udp", "icmp"]),
    six=st.booleans(),
    port=st.integers(1, 65535),
    flags=st.integers(0, 255),
    payload=st.binary(max_size=33),
    tags=st.lists(st.integers(1, 4094), max_size=2),
)
def test_scapy_has_the_same_bytes(
    protocol: packets.Protocol, six: bool, port: int, flags: int, payload: bytes, tags: list[int]
) -> None:
    ends = ("2001:db8::7", "2001:db8:1::80") if six else ("198.51.100.7", "203.0.113.80")
    made = Packet(
        source=ends[0],
        target=ends[1],
        protocol=protocol,
        source_port=port,
        target_port=443,
        flags=Flag(flags),
        sequence=0xFFFF_FFF0,
        acknowledged=7,
        payload=payload,
    )
    header = packets.Header(
        source=bytes.fromhex("020000000001"),
        target=bytes.fromhex("020000000002"),
        tags=tuple((packets.ETHER_VLAN, tag) for tag in tags),
    )
    frame = packets.frame(made, header)
    assert frame == _scapy(made, tags)
    read = packets.read(frame)
    assert read is not None
    assert (read.source, read.target, read.vlans, read.ttl) == (*ends, tuple(tags), packets.TTL)
    if protocol != "icmp":
        assert (read.source_port, read.target_port) == (port, 443)
    assert read.flags == (flags if protocol == "tcp" else 0)


@given(st.binary(max_size=80))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    packets.read(data)


# --- filters ------------------------------------------------------------------------------------------


def test_a_filter_is_words() -> None:
    assert watch.parse([]) == []
    assert watch.parse(["src", "10.0.0.0/8", "and", "not", "verdict", "no-service", "or", "port", "53"]) == [
        [Term("src", "10.0.0.0/8"), Term("verdict", "no_service", True)],
        [Term("port", "53")],
    ]
    assert watch.parse(["src 10.1.2.3 dport 443"]) == [[Term("src", "10.1.2.3/32"), Term("dport", "443")]]
    assert watch.parse(["host", "2001:DB8::/32"]) == [[Term("host", "2001:db8::/32")]]


def sample(
    source: str = "10.1.0.7",
    target: str = "203.0.113.80",
    sport: int = 40000,
    dport: int = 443,
    protocol: int = 6,
    verdict: abi.Verdict = abi.Verdict.FORWARDED,
    cdn: int = 0,
    flags: int = 0x18,
) -> Sample:
    ports = abi.port(sport), abi.port(dport)
    return Sample(abi.packed(source), abi.packed(target), *ports, 74, verdict, cdn, 4, protocol, flags)


SAMPLES = [
    sample(),
    sample(source="10.2.0.7", verdict=abi.Verdict.BLOCKED, cdn=abi.NO_CDN_ID, flags=2),
    sample(source="2001:db8::7", target="2001:db8:1::80", cdn=1),
    sample(protocol=17, dport=53),
    sample(source="198.51.100.10", target="203.0.113.10", sport=443, verdict=abi.Verdict.REPLIED),
    sample(protocol=1, sport=0, dport=0, verdict=abi.Verdict.ECHOED, cdn=abi.NO_CDN_ID),
]


def chosen(words: str) -> list[int]:
    found = watching.sampled(SAMPLES, watch.parse(words.split()), CDNS, one_in=4, lost=0).packets
    shown = [watching.sampled([each], [], CDNS, one_in=4, lost=0).packets[0] for each in SAMPLES]
    return [shown.index(packet) for packet in found]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ("", [0, 1, 2, 3, 4, 5]),
        ("src 10.0.0.0/8", [0, 1, 3, 5]),
        ("src 10.2.0.7", [1]),
        ("not src 10.0.0.0/8", [2, 4]),
        ("src ::/0", [2]),
        ("src 0.0.0.0/0", [0, 1, 3, 4, 5]),
        ("dst 2001:db8:1::/48", [2]),
        ("host 203.0.113.10", [4]),
        ("port 443", [0, 1, 2, 4]),
        ("sport 443", [4]),
        ("dport 53 and proto udp", [3]),
        ("proto icmp", [5]),
        ("proto 17", [3]),
        ("verdict blocked", [1]),
        ("verdict dropped", [1]),
        ("not verdict dropped and cdn aurora", [0, 3, 4]),
        ("cdn borealis or verdict echoed", [2, 5]),
        ("cdn nobody", []),
        ("src 10.0.0.0/8 verdict forwarded not port 53", [0]),
    ],
)
def test_a_filter_chooses(words: str, numbers: list[int]) -> None:
    assert chosen(words) == numbers


def test_a_sample_in_words() -> None:
    (blocked,) = watching.sampled([SAMPLES[1]], [], CDNS, one_in=4, lost=3).packets
    assert blocked == msgspec.structs.replace(PACKET, source="10.2.0.7")
    (first, six) = (watching.sampled([SAMPLES[n]], [], CDNS, one_in=4, lost=3).packets[0] for n in (0, 2))
    assert (first.flags, first.cdn, first.drop) == ("P.", "aurora", False)
    at_ns = 1_700_000_000_000_000_000
    clock = time.strftime("%H:%M:%S", time.localtime(at_ns / 1e9))
    line = f"{clock} tcp S  10.1.0.7:40000 > 203.0.113.80:443 74 B: blocked"
    assert watch.line(PACKET, at_ns) == line
    assert "[2001:db8::7]:40000 > [2001:db8:1::80]:443" in watch.line(six, at_ns)
    assert "\x1b[31mblocked" in watch.line(PACKET, at_ns, coloured=True)


def test_what_a_watcher_costs_is_bounded() -> None:
    many = [sample(sport=1024 + n % 60000) for n in range(watching.MOST_LOOKED_AT + 10)]
    found = watching.sampled(many, watch.parse(["dport", "443"]), CDNS, one_in=1, lost=0)
    assert len(found.packets) == watching.MOST_SHOWN
    assert len(found.packets) + found.missed == len(many)


@pytest.mark.parametrize(
    "term", [Term("src", "x"), Term("port", "70000"), Term("proto", "x"), Term("verdict", "x")]
)
def test_a_filter_that_means_nothing_is_a_value_error(term: Term) -> None:
    with pytest.raises(ValueError, match="."):
        watching.sampled([], [[term]], CDNS, one_in=1, lost=0)


# --- from the agent -----------------------------------------------------------------------------------


class Shop:
    """An engine's sampled packets: so many at each tick."""

    def __init__(self, served: ServedDouble, each: int = 2) -> None:
        self.each = each
        self.asked: list[PacketFilter] = []
        served.engine.sampled = self.sampled  # type: ignore[attr-defined]

    def sampled(self, wanted: PacketFilter) -> Sampled:
        self.asked.append(wanted)
        if wanted and wanted[0][0].value == "odd":
            raise ValueError("no such thing")
        return Sampled(at_ns=time.time_ns(), one_in=8, packets=[PACKET] * self.each, missed=1, lost_total=5)


def test_a_watcher_gets_packets_and_can_still_ask(served: ServedDouble) -> None:
    shop = Shop(served)
    wanted = [[Term("verdict", "dropped")]]
    with Client(served.view_path) as client:
        assert client.role == "view"
        batches = client.packets(wanted)
        first = next(batches)
        assert (first.one_in, first.packets, first.missed) == (8, [PACKET, PACKET], 1)
        assert next(batches).lost_total == 5
        assert client.request(GetFrame()).ok
        next(batches)
    assert {json.dumps(msgspec.to_builtins(each)) for each in shop.asked} == {
        json.dumps(msgspec.to_builtins(wanted))
    }


def test_nobody_pays_when_nobody_watches(served: ServedDouble) -> None:
    shop = Shop(served)
    with served.client(frames=True) as client:
        for frame in client.frames():
            if frame.seq > 5:
                break
    assert shop.asked == []


def test_whoever_is_slow_misses_packets_and_hears_how_many(served: ServedDouble) -> None:
    shop = Shop(served, each=400)
    with served.client() as client:
        batches = client.packets([])
        next(batches)
        time.sleep(0.6)  # some thirty ticks: more than the line holds
        made, got, missed = len(shop.asked), 0, 0
        for number, batch in enumerate(batches):
            got, missed = number, max(missed, batch.missed)
            if batch.missed > 1:
                break
        assert missed >= 400
        assert got < made


def test_a_fault_with_packets_does_not_stop_the_frames(served: ServedDouble) -> None:
    shop = Shop(served)
    with served.client(frames=True) as client:
        next(client.packets([[Term("src", "even")]]))
        served.engine.sampled = lambda _wanted: 1 / 0  # type: ignore[attr-defined]
        seen = [frame.seq for frame, _ in zip(client.frames(), range(20), strict=False)]
    assert seen[-1] - seen[0] >= 19
    assert shop.asked


@pytest.mark.parametrize(
    ("wanted", "said"),
    [([[Term("src", "odd")]], "no such thing"), ([[Term("port", "1")] * 65], "more than 64 conditions")],
)
def test_an_odd_filter_ends_the_connection_with_the_reason(
    served: ServedDouble, wanted: PacketFilter, said: str
) -> None:
    Shop(served)
    with served.client() as client, pytest.raises(NoAgent, match=said):
        next(client.packets(wanted))


def test_so_many_may_watch_and_no_more(served: ServedDouble) -> None:
    Shop(served)
    clients = [served.client() for _ in range(server.MAX_WATCHES + 1)]
    try:
        for client in clients[:-1]:
            next(client.packets([]))
        with pytest.raises(CdnctlError, match="watch packets already"):
            next(clients[-1].packets([]))
        next(clients[0].packets([[Term("port", "80")]]))  # who watches may choose anew
    finally:
        for client in clients:
            client.close()


def test_a_watch_goes_over_the_wire() -> None:
    message = protocol.Watch(filter=[[Term("src", "10.0.0.0/8", True)], [Term("port", "53")]])
    assert protocol.decode_up(protocol.encode(message)[4:]) == message
    down = protocol.SampledMessage(sampled=Sampled(at_ns=1, one_in=2, packets=[PACKET], missed=3))
    assert protocol.decode_down(protocol.encode(down)[4:]) == down


def test_a_filter_of_another_shape_is_refused(served: ServedDouble) -> None:
    Shop(served)
    body = msgspec.msgpack.encode({"type": "watch", "filter": [[["colour", "red"]]]})
    with served.raw() as sock:
        sock.sendall(protocol.encode(protocol.ClientHello()))
        sock.sendall(len(body).to_bytes(4, "big") + body)
        sock.shutdown(socket.SHUT_WR)
        data = b""
        while part := sock.recv(65536):
            data += part
    assert b"cannot be read" in data


# --- shown --------------------------------------------------------------------------------------------


def test_live_shows_lines_and_ends_by_itself(
    served: ServedDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    Shop(served)
    assert main(["trace", "--live", "--count", "3", "verdict", "dropped"]) == 0
    shown = capsys.readouterr()
    assert [line.partition(" ")[2] for line in shown.out.splitlines()] == [
        "tcp S  10.1.0.7:40000 > 203.0.113.80:443 74 B: blocked"
    ] * 3
    assert "observes" not in shown.err
    assert f"edge {EDGE}" in shown.err
    assert "1 packet in 8 is sampled" in shown.err
    assert "-- 3 shown; 1 more matched and were not" in shown.err


def test_live_on_an_edge_that_observes_says_that_packets_passed(
    served: ServedDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    Shop(served)
    frame = served.engine.frame
    served.engine.frame = lambda: msgspec.structs.replace(frame(), observing=True)  # type: ignore[method-assign]
    with Client(served.path, frames=True) as client:
        assert any(each.observing for each in client.frames())
    assert main(["trace", "--live", "--count", "1"]) == 0
    shown = capsys.readouterr()
    assert shown.out.rstrip().endswith("B: passed, else blocked")
    assert "it only observes: every packet passes" in shown.err.splitlines()[0]
    assert main(["trace", "--live", "--json", "--count", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["observing"] is True


def test_live_as_json_is_a_line_a_packet(served: ServedDouble, capsys: pytest.CaptureFixture[str]) -> None:
    Shop(served)
    assert main(["trace", "--live", "--json", "--count", "3"]) == 0
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert [line.get("verdict", "missed") for line in lines] == ["blocked", "blocked", "missed", "blocked"]
    assert lines[0]["one_in"] == 8
    assert lines[0]["source"] == "10.1.0.7"
    assert lines[2]["missed"] == 1
    assert shown.err == ""


@pytest.mark.parametrize(
    ("words", "there"), [("verdict melted", "dropped, blocked"), ("cdn corona", "aurora")]
)
def test_names_that_the_edge_does_not_have(
    served: ServedDouble, capsys: pytest.CaptureFixture[str], words: str, there: str
) -> None:
    Shop(served)
    with served.client(frames=True) as client:
        next(client.frames())
    assert main(["trace", "--live", *words.split()]) == 2
    error = capsys.readouterr().err
    assert f"is called '{words.split()[1]}'" in error
    assert there in error


def test_ctrl_c_ends_it_in_order(served: ServedDouble) -> None:
    Shop(served)
    command = [sys.executable, "-m", "cdnctl", "trace", "--live"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # what runs in a shell's background has it ignored, and hands that on
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as child:
        assert child.stdout is not None
        for _ in range(4):
            assert "blocked" in child.stdout.readline()
        child.send_signal(signal.SIGINT)
        _, error = child.communicate(timeout=10)
    assert child.returncode == 130
    assert "shown" in error.splitlines()[-1]
    assert "Traceback" not in error


def test_no_agent_is_said(run_dir: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "--live"]) == 1
    assert "no agent serves" in capsys.readouterr().err


# --- the rest of the way ------------------------------------------------------------------------------


class _Tables:
    """The links of an edge with a VLAN device (7) on a plain one (2), and the plain one itself."""

    def link_keys(self) -> dict[tuple[int, int, int], int]:
        return {(7, 0, 0): 1, (2, 100, 20): 1, (2, 0, 0): 0}

    def link(self, number: int) -> abi.Link:
        if not number:
            return abi.Link(ifindex=2, mac=(2, 0, 0, 0, 0, 9))
        return abi.Link(ifindex=2, outer=100, inner=20, tpid=abi.port(0x88A8), mac=(2, 0, 0, 0, 0, 9))


def test_a_packet_comes_in_as_its_link_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from cdnctl.engine import entries

    there = {2: "eth0", 7: "eth0.100"}
    monkeypatch.setattr(entries, "interface_name", lambda number: there.get(number, ""))
    monkeypatch.setattr(trace, "_towards", lambda _address, names: next(iter(names)))
    asked = Packet(source="198.51.100.7", target="203.0.113.80")
    plain = trace._way(asked, _Tables(), None)  # type: ignore[arg-type]
    assert (plain.name, plain.ifindex, plain.header.tags) == ("eth0", 2, ())
    tagged = trace._way(asked, _Tables(), "eth0.100")  # type: ignore[arg-type]
    assert (tagged.name, tagged.ifindex) == ("eth0.100", 2)
    assert tagged.header.tags == ((0x88A8, 100), (packets.ETHER_VLAN, 20))
    seen = packets.read(packets.frame(asked, tagged.header))
    assert seen is not None
    assert (seen.vlans, seen.target_mac) == ((100, 20), "02:00:00:00:00:09")
    with pytest.raises(UsageError, match="lo is no interface of the edge"):
        trace._way(asked, _Tables(), "lo")  # type: ignore[arg-type]
    del there[7]
    with pytest.raises(UsageError, match=r"eth0.100 does not exist .*namespace") as refused:
        trace._way(asked, _Tables(), "eth0.100")  # type: ignore[arg-type]
    assert refused.value.remedy == "the edge has eth0"
    del there[2]
    with pytest.raises(CdnctlError, match="interfaces are all gone"):
        trace._way(asked, _Tables(), None)  # type: ignore[arg-type]


def known() -> Any:
    """What an edge's tables know of two clients."""
    held = {
        ipaddress.ip_network("192.0.2.0/26"): clients.Client(customer=3),
        ipaddress.ip_network("10.0.0.0/8"): clients.Client(region=2),
    }
    choice = SimpleNamespace(endpoints=dict, endpoint_entries=dict, services=dict)
    return SimpleNamespace(settings=abi.Settings(), choice=choice, clients=SimpleNamespace(held=lambda: held))


def test_names_come_from_the_agent_and_numbers_stand_alone(served: ServedDouble) -> None:
    from cdnctl.engine import entries

    with served.client() as client:
        while client.request(GetFrame()).frame is None:
            time.sleep(0.01)
    tables = known()
    names = trace._names(argparse.Namespace(config=None), EDGE, tables)
    shown = entries.Entries(tables, names, 0)
    assert shown.customer(3) == "customer acme"
    assert shown.customer(4) == "customer 4"
    assert shown.customer(0) == "nobody in particular"
    assert shown.region(2) == "region 2"
    assert entries.Entries(tables, entries.Names(regions={2: "east"}), 0).region(2) == "region east"


def test_nobody_is_told_to_become_root(run_dir: object) -> None:
    if os.geteuid() != 0:
        pytest.skip("changes its user")
    command = [sys.executable, "-m", "cdnctl", "trace", "198.51.100.7", "203.0.113.80:443", "--edge", "ams1"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, user=65534, group=65534, extra_groups=[]
    )
    assert done.returncode == 1
    assert "needs root" in done.stderr
    sudo = next(line for line in done.stderr.splitlines() if line.strip().startswith("sudo"))
    assert sudo.endswith("trace 198.51.100.7 203.0.113.80:443 --edge ams1")
    assert "Traceback" not in done.stderr


def test_neither_bcc_nor_textual_nor_rich_is_loaded_to_trace() -> None:
    modules = (
        "cli.parser cli.trace cli.watch cli.doctor cli.place engine.tracing engine.probes datapath.tracer"
    )
    imports = "; ".join(f"import cdnctl.{name}" for name in modules.split())
    heavy = "{'bcc', 'textual', 'rich', 'pyroute2', 'asyncio'}"
    code = f"import sys; {imports}; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.25, "0.2 s"), (9.96, "10.0 s"), (12, "12 s"), (150, "2 min"), (7300, "2 h"), (200_000, "2 days")],
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    from cdnctl.engine.entries import duration

    assert duration(seconds) == said
