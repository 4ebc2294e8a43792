"""Whatever comes in ends in exactly one counted verdict, and in an action in keeping with it."""

from __future__ import annotations

import copy
import random
from ipaddress import IPv4Network

import pytest
from harness import VIP, Action, DataPath, owner_word, seed_of_the_run
from netbox import CLIENTS, LINKS
from scapy.compat import raw
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from segments import Flag, datagram, segment, told
from session import Datagrams, Session, macs_from, reply_frame
from test_one_packet import DROPPED, TO_VIP, TO_VIP6, UNTOUCHED

from cdnctl.datapath import abi, kernel
from cdnctl.datapath.abi import Verdict

PACKETS = 10_000
PASSES = {Verdict.PASSED, Verdict.BYPASSED}
SENT_ON = {
    Verdict.FORWARDED,
    Verdict.REPLIED,
    Verdict.RESET_CLIENT,
    Verdict.RESET_CDN,
    Verdict.ECHOED,
    Verdict.SAID_TOO_BIG,
    Verdict.SAID_TOO_LATE,
}
ODD = (
    TO_VIP / ICMP() / b"ping",
    TO_VIP6 / ICMPv6EchoRequest(data=b"ping"),
    TO_VIP6 / IPv6ExtHdrFragment(id=7, m=1, nh=17) / UDP(sport=4, dport=443) / bytes(40),
    TO_VIP6 / IPv6ExtHdrDestOpt() / TCP(dport=80, flags="S"),
    TO_VIP / ICMP(type=3, code=4) / IP(src="203.0.113.80", dst="10.1.0.7") / TCP(sport=80, dport=40001),
)
LENGTHS_AND_FLAGS = (12, 13, 14, 16, 17, 20, 21, 22, 23, 46, 47)
"""Where a changed byte changes most: type, header lengths, total length, fragment, TTL, protocol, flags."""


def sessions(path: DataPath) -> list[Session]:
    """One in each state there is."""
    new, half, answered, live, closed, moved = (Session(path, "www", client=f"10.1.{n}.7") for n in range(6))
    half.syn()
    answered.syn()
    answered.syn_ack()
    live.open()
    closed.open().close()
    for cdn in ("aurora", "borealis", "corona"):
        path.change_health(cdn, samples=20, baseline_us=1000)
    moved.syn()
    moved.age(300)
    buried = copy.copy(moved)
    moved.syn()
    blocked = Session(path, "www", client="10.2.0.7").open()
    path.blocks.put(IPv4Network("10.2.0.0/24"), 0)
    path.tables.bump_generation()
    new.cdn, new.snat = live.cdn, live.snat
    six = Session(path, "www6").open()
    return [new, half, answered, live, closed, moved, buried, blocked, six]


def datagrams(path: DataPath) -> list[bytes]:
    """What UDP flows may say next, of both families, in both directions."""
    frames = []
    for service in ("quic", "dns", "quic6", "dns6"):
        flow = Datagrams(path, service).open()
        frames.append(datagram(flow.client, flow.service, b"x" * 40))
        frames.append(datagram(flow.endpoint, flow.snat, b"y" * 40, macs=macs_from(flow.cdn)))
    return frames


def originals(path: DataPath) -> list[bytes]:
    """Frames to start from: what the sessions may say next, in both directions, and all the odd ones."""
    frames = [raw(packet) for packet in (*(case.packet for case in (*DROPPED, *UNTOUCHED)), *ODD)]
    for session in sessions(path):
        for flags in (
            Flag.SYN,
            Flag.ACK,
            Flag.PSH | Flag.ACK,
            Flag.FIN | Flag.ACK,
            Flag.RST,
            Flag.SYN | Flag.ACK,
        ):
            payload = b"x" * 40 if Flag.PSH in flags else b""
            up, down = session.isn + 1, session.cdn_isn + 1
            frames.append(segment(session.client, session.service, flags, seq=up, ack=down, payload=payload))
            frames.append(reply_frame(session, flags, down, up, payload))
    return frames + datagrams(path)


def mutated(chance: random.Random, frame: bytes, others: list[bytes]) -> bytes:
    """The frame, more or less."""
    data = bytearray(frame)
    for _ in range(chance.choice((0, 1, 1, 2, 3, 8))):
        places = [place for place in LENGTHS_AND_FLAGS if place < len(data)]
        place = chance.choice(places) if places and chance.random() < 0.5 else chance.randrange(len(data))
        data[place] = chance.choice(
            (0, 1, 4, 5, 6, 0x45, 0x46, 0x4F, 0x7F, 0x80, 0xFF, chance.randrange(256))
        )
    match chance.randrange(10):
        case 0:
            del data[chance.randrange(14, len(data) + 1) :]
        case 1:
            data += chance.randbytes(chance.choice((1, 6, 40, 1000)))
        case 2:
            other = chance.choice(others)
            cut = chance.randrange(14, 60)
            data = bytearray(data[:cut] + other[cut:])
        case 3:
            data[30:34] = bytes(map(int, VIP.split(".")))
    return bytes(data).ljust(14, b"\0")


@pytest.mark.parametrize(
    "mode", [abi.Mode(0), abi.Mode.DISARMED, abi.Mode.BYPASS], ids=["armed", "disarmed", "bypassed"]
)
def test_any_packet_ends_in_exactly_one_counted_verdict(path: DataPath, mode: abi.Mode) -> None:
    seed = seed_of_the_run()
    print(f"CDNCTL_TEST_SEED={seed}")
    chance = random.Random(seed)
    frames = originals(path)
    path.change(sample_one_in=3)
    path.tables.mode = mode
    devices = [CLIENTS, *(link.name for link in LINKS)]
    reached = set()
    for _ in range(PACKETS if mode is abi.Mode(0) else PACKETS // 8):
        frame = mutated(chance, chance.choice(frames), frames)
        seen = path.run(frame, chance.choice(devices))  # asserts that it was counted, once, whole
        reached.add(seen.verdict)
        if seen.verdict in PASSES:
            assert seen.action is Action.PASS, seen
            assert seen.frame == frame, seen
        elif seen.verdict in SENT_ON:
            assert seen.action in (Action.TX, Action.REDIRECT), seen
        else:
            assert seen.action is Action.DROP, seen
    if mode is abi.Mode(0):
        assert len(reached) >= 15, f"only {sorted(reached)}: these mutations test too little"
    forward_entries_own_their_slots(path)


def forward_entries_own_their_slots(path: DataPath) -> None:
    """The invariant of slot.h, after all that."""
    for table in (path.tables.half_open, path.tables.established):
        for key, value in table.items():
            flow_key, flow = abi.FlowKey.from_buffer_copy(key), abi.Flow.from_buffer_copy(value)
            assert path.slot(flow.slot).owner == owner_word(flow_key, flow)


@pytest.mark.parametrize("length", [14, 33, 34, 53, 54, 60, 1514, 3000])
def test_any_bytes_at_all(path: DataPath, length: int) -> None:
    chance = random.Random(length)
    before = sum(packets for _, packets, _ in path.tables.counters.verdicts())
    for count in range(1, 101):
        kind = chance.choice((b"\x08\x00", b"\x86\xdd", b"\x81\x00"))
        frame = chance.randbytes(12) + kind + chance.randbytes(length - 14)
        ran = kernel.test_run(path.fd, frame, ifindex=path.indexes[CLIENTS])
        assert ran.action != Action.ABORTED, told(frame)
        assert sum(packets for _, packets, _ in path.tables.counters.verdicts()) == before + count, told(
            frame
        )
