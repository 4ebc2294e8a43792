"""The generator's packets, read by scapy."""

from __future__ import annotations

import ipaddress

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from cdnctl.lab import flood

LINK = bytes(range(12)) + b"\x08\x00"
TARGET = ipaddress.ip_address("203.0.113.80").packed, 80


def frames(source: flood.SynFlood | flood.Senders, count: int) -> list[bytes]:
    data, length = source.frames.memory.tobytes(), source.frames.length
    return [data[i * length : (i + 1) * length] for i in range(count)]


def right(frame: bytes) -> bool:
    """Are all checksums what scapy would put there?"""
    packet = Ether(frame)
    again = packet.copy()
    del again[IP].chksum
    if TCP in packet:
        del again[TCP].chksum
    return bytes(Ether(bytes(again))) == frame


@pytest.fixture(scope="module")
def syns() -> flood.SynFlood:
    return flood.SynFlood(LINK, TARGET, "10.66.0.0/16")


def test_a_flood_is_of_valid_opening_segments(syns: flood.SynFlood) -> None:
    seen = set()
    for frame in frames(syns, 200):
        packet = Ether(frame)
        assert right(frame)
        assert ipaddress.ip_address(packet[IP].src) in ipaddress.ip_network("10.66.0.0/16")
        assert (packet[IP].dst, packet[TCP].dport) == ("203.0.113.80", 80)
        assert packet[TCP].flags == "S"
        assert packet[TCP].window == flood.WINDOW
        seen.add((packet[IP].src, packet[TCP].sport, packet[TCP].seq))
    assert len(seen) == 200


def test_each_round_brings_other_connections_with_right_checksums(syns: flood.SynFlood) -> None:
    rounds = []
    for _ in range(6):
        rounds.append([(p[TCP].sport, p[TCP].seq) for p in map(Ether, frames(syns, 50))])
        assert all(right(frame) for frame in frames(syns, 50))
        syns._renew()
    for i in range(50):
        assert len({each[i] for each in rounds}) == 6
    assert [(p[TCP].sport, p[TCP].seq) for p in map(Ether, frames(syns, 50))] == rounds[0]


@pytest.mark.parametrize("kind", ["ack", "udp"])
@pytest.mark.parametrize("size", [60, 61, 1000])
def test_senders_make_valid_packets_in_proportion(kind: str, size: int) -> None:
    senders = flood.Senders(LINK, TARGET, {"10.1.5.9": 30, "10.2.0.1": 10}, kind, size)
    made = frames(senders, senders.frames.count)
    assert len(made) == 40
    assert {len(frame) for frame in made} == {max(60, size)}
    assert sum(Ether(frame)[IP].src == "10.1.5.9" for frame in made) == 30
    assert all(right(frame) for frame in made)
    assert all((TCP if kind == "ack" else UDP) in Ether(frame) for frame in made)


def test_senders_without_a_rate_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        flood.Senders(LINK, TARGET, {"10.1.5.9": 0}, "ack", 60)
