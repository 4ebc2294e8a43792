"""The packets of every flood, as its generator writes them: read by scapy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from cdnctl.datapath import kernel
from cdnctl.lab.attacks.assault import generator as pinned
from cdnctl.lab.attacks.frames import Frames
from cdnctl.lab.attacks.kinds import ATTACKS, NTP
from cdnctl.lab.attacks.live import FUNCTION, MAPS, PLANS
from cdnctl.lab.flood import WINDOW
from cdnctl.lab.record import TAPS

OURS, THEIRS = bytes(range(2, 8)), bytes(range(8, 14))
XDP_TX = 3
SOME = 60
LIVE = {name: attack.load for name, attack in ATTACKS.items() if isinstance(attack.load, Frames)}


class Generator:
    """The program, run a packet at a time."""

    def __init__(self) -> None:
        self.pins = pinned(TAPS / f"t-frames-{os.getpid()}")
        self.program = kernel.obj_get(self.pins / FUNCTION)

    def packets(self, frames: Frames, count: int = SOME) -> list[Ether]:
        plan, frame = frames.pack(OURS, THEIRS)
        kernel.Map.pinned(self.pins / PLANS).put(bytes(4), plan)
        made = []
        for _ in range(count):
            # what the edge has left of a frame does not matter
            ran = kernel.test_run(self.program, b"\xa5" * 64 + frame[64:])
            assert ran.action == XDP_TX
            made.append(Ether(ran.frame))
        return made


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    made = Generator()
    yield made
    for name in (FUNCTION, *MAPS):
        (made.pins / name).unlink()
    made.pins.rmdir()


@pytest.mark.parametrize("name", LIVE)
def test_they_are_what_the_attack_says(generator: Generator, name: str) -> None:
    frames, sources = LIVE[name], ip_network(ATTACKS[name].prefix)
    packets = generator.packets(Frames.of(frames.order()))
    for packet in packets:
        assert (packet.src, packet.dst) == ("02:03:04:05:06:07", "08:09:0a:0b:0c:0d")
        assert ip_address(packet[IP].src) in sources
        assert ip_address(packet[IP].dst) in ip_network(frames.targets)
        assert (len(packet), packet[IP].proto) == (frames.size, frames.protocol)
        again = packet.copy()
        del again[IP].chksum
        if TCP in packet:
            del again[TCP].chksum
        assert bytes(Ether(bytes(again))) == bytes(packet), "checksums are what scapy would put there"
    assert len({packet[IP].src for packet in packets}) > SOME * 0.6
    assert len({packet[IP].id for packet in packets}) > SOME * 0.9


def test_segments_differ_in_port_and_number(generator: Generator) -> None:
    syns, acks = (generator.packets(LIVE[name]) for name in ("syn-flood", "ack-flood"))
    for packets in (syns, acks):
        assert len({(packet[TCP].sport, packet[TCP].seq) for packet in packets}) == SOME
        assert all(packet[TCP].dport == 80 and packet[TCP].window == WINDOW for packet in packets)
        assert min(packet[TCP].sport for packet in packets) >= 0x8000
    assert {str(packet[TCP].flags) for packet in syns} == {"S"}
    assert {str(packet[TCP].flags) for packet in acks} == {"A"}
    assert all(packet[TCP].ack == 0 for packet in syns)
    assert len({packet[TCP].ack for packet in acks}) > SOME * 0.9


def test_fragments_are_in_many_places_and_never_the_last(generator: Generator) -> None:
    packets = generator.packets(LIVE["fragment-flood"], 300)
    assert all(packet[IP].flags == "MF" for packet in packets)
    assert {packet[IP].frag for packet in packets} == set(range(32))
    assert all(UDP in packet for packet in packets if packet[IP].frag == 0)


def test_reflected_answers_are_from_one_port_and_the_carpet_is_everywhere(generator: Generator) -> None:
    assert {packet[UDP].sport for packet in generator.packets(LIVE["reflection"])} == {NTP}
    carpet = generator.packets(LIVE["carpet-bombing"])
    assert len({packet[IP].dst for packet in carpet}) > SOME / 2
    assert len({packet[UDP].dport for packet in carpet}) > SOME * 0.9


@pytest.mark.parametrize(
    "wrong", [{"size": 63}, {"size": 1515}, {"protocol": 1}, {"source_port": [1, 1]}, {"fragment": [8, 0x1F]}]
)
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"frames are|either fixed or drawn"):
        Frames.of({**LIVE["syn-flood"].order(), **wrong})
