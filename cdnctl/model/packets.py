"""Sampled packets, and what a watcher asks to see of them."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from cdnctl.model.base import Base

FilterField = Literal["src", "dst", "host", "sport", "dport", "port", "proto", "verdict", "cdn"]


class Term(Struct, frozen=True, array_like=True, gc=False):
    """One condition on a packet: `src 10.0.0.0/8`, `not verdict blocked`."""

    field: FilterField
    value: str
    """`dropped` as a verdict is any drop."""
    negated: bool = False


PacketFilter = list[list[Term]]
"""Any of them, each of which is all of its terms; of none, every packet."""


class SampledPacket(Struct, frozen=True, array_like=True, gc=False):
    """One packet of the edge, and what became of it."""

    source: str
    target: str
    source_port: int
    target_port: int
    protocol: str
    """`tcp`, `udp`, `icmp`, `icmp6`, or a number."""
    flags: str
    """Of TCP, as tcpdump has them: `S`, `S.`, `P.`."""
    length: int
    """Of the frame as it came in."""
    verdict: str
    drop: bool
    cdn: str


class Sampled(Base, frozen=True, kw_only=True):
    """The sampled packets of one frame's time that a watcher asked for."""

    at_ns: int
    """When they were collected: within `FRAME_INTERVAL_S` of when they came."""
    one_in: int
    """So many packets stand behind each of them, on average."""
    packets: list[SampledPacket] = field(default_factory=list)
    missed: int = 0
    """More that matched, but were too many or too quick for this watcher."""
    lost_total: int = 0
    """Samples that the agent itself could not take up, so far."""
