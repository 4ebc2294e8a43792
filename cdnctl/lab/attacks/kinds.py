"""The attacks there are. `ATTACKS` is in the order in which they are told of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cdnctl.lab.attacks.frames import ACK, MORE_FRAGMENTS, UDP, Frames
from cdnctl.lab.topology import BOTS_PREFIX, SPOOFED_PREFIX, VIP, VIPS

NTP = 123
"""Of the services that floods are reflected by: the one that repeats most for a question."""
_UDP_TOO = {"protocol": ["tcp", "udp"]}
_FEW_BOTS = "10.16.1.0/24"
"""Of `BOTS_PREFIX`."""


@dataclass(frozen=True)
class Crowd:
    """Real connections: how many sources, how many at once, and how slowly each asks; 0: never."""

    sources: int
    most: int
    letters_s: float = 0.0


@dataclass(frozen=True)
class Attack:
    """One of them."""

    name: str
    summary: str
    """What comes, from where."""
    prefix: str
    """Every packet of it is from here, and no honest one."""
    load: Frames | Crowd
    rate: float
    """Packets a second, or connections: what `cdnctl demo` plays it at."""
    service: Mapping[str, Any] = field(default_factory=dict)
    """What the edge's services have to be like for it."""

    @property
    def is_live(self) -> bool:
        """Is it a flood of live frames?"""
        return isinstance(self.load, Frames)

    @property
    def unit(self) -> str:
        """Of `rate`."""
        return "packets" if self.is_live else "connections"


def _flood(name: str, summary: str, prefix: str, *, udp: bool = False, pps: float, **frames: Any) -> Attack:
    load = Frames(prefix, **{"targets": f"{VIP}/32", **frames})
    return Attack(name, summary, prefix, load, pps, _UDP_TOO if udp else {})


_ALL = (
    _flood(
        "syn-flood", "opening segments from addresses that are not the sender's", SPOOFED_PREFIX, pps=200_000
    ),
    _flood(
        "syn-flood-bots",
        "opening segments from 256 hosts' own addresses, whose stacks answer what comes back",
        _FEW_BOTS,
        pps=50_000,
    ),
    _flood(
        "ack-flood",
        "segments in the middle of connections that are none",
        SPOOFED_PREFIX,
        pps=200_000,
        flags=ACK,
    ),
    _flood(
        "udp-flood",
        "datagrams to a service of UDP, each as if from another client",
        SPOOFED_PREFIX,
        udp=True,
        pps=200_000,
        protocol=UDP,
        size=512,
    ),
    _flood(
        "fragment-flood",
        "pieces of datagrams that never become whole",
        SPOOFED_PREFIX,
        udp=True,
        pps=200_000,
        protocol=UDP,
        size=512,
        fragment=(MORE_FRAGMENTS, 0x1F),
    ),
    _flood(
        "reflection",
        "answers of time servers to questions that others asked in our name",
        SPOOFED_PREFIX,
        udp=True,
        pps=200_000,
        protocol=UDP,
        size=482,
        source_port=(NTP, 0),
    ),
    Attack(
        "connection-exhaustion",
        "64 hosts open connections as fast as they can, and hold them without a word",
        _FEW_BOTS,
        Crowd(sources=64, most=15_000),
        1_500,
    ),
    Attack(
        "slow-sources",
        "4,000 hosts, each with a connection every four seconds, and a letter of a request each second",
        BOTS_PREFIX,
        Crowd(sources=4_000, most=8_000, letters_s=1.0),
        1_000,
    ),
    _flood(
        "carpet-bombing",
        "datagrams to every port of every address of the /24 that our VIPs are in",
        SPOOFED_PREFIX,
        udp=True,
        pps=200_000,
        protocol=UDP,
        size=128,
        targets=VIPS,
        target_port=(0, 0xFFFF),
    ),
)
ATTACKS: Mapping[str, Attack] = {attack.name: attack for attack in _ALL}
