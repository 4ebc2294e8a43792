"""What a flood's packets have in common, and what is drawn for each: as generator.c has it."""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network
from typing import Any

from cdnctl.lab.flood import WINDOW
from cdnctl.lab.packets import ETHERNET, IPV4, TCP, words

UDP = 17
HEAD_BYTES = 64
"""Of a frame: what is written anew for each packet. None is smaller."""
SYN, ACK = 0x02, 0x10
HIGH_PORTS = (0x8000, 0x7FFF)
"""Where clients' own ports are; nobody's answers come from there."""
DONT_FRAGMENT, MORE_FRAGMENTS = 0x4000, 0x2000
_PLAN = struct.Struct("=64s4I8H2I")
_LATER_BYTES = 8
"""By which fragments' places are counted."""

Drawn = tuple[int, int]
"""A number, and which further bits of it are drawn for each packet."""


@dataclass(frozen=True)
class Frames:
    """Of one flood. Addresses are drawn of prefixes."""

    sources: str
    targets: str
    protocol: int = TCP
    source_port: Drawn = HIGH_PORTS
    target_port: Drawn = (80, 0)
    flags: int = SYN
    size: int = HEAD_BYTES
    """Bytes of a frame, Ethernet's header included."""
    fragment: Drawn = (DONT_FRAGMENT, 0)
    """Flags and place of fragments."""

    def order(self) -> dict[str, Any]:
        """As JSON carries it; `of` takes it back."""
        return asdict(self)

    @classmethod
    def of(cls, order: dict[str, Any]) -> Frames:
        """ValueError when it cannot be."""
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in order.items()
        }
        frames = cls(**fields)
        for what, (fixed, drawn) in {
            "source_port": frames.source_port,
            "target_port": frames.target_port,
            "fragment": frames.fragment,
        }.items():
            if fixed & drawn:
                raise ValueError(f"{what}: a bit is either fixed or drawn")
        if not HEAD_BYTES <= frames.size <= 1514 or frames.protocol not in (TCP, UDP):
            raise ValueError("frames are TCP or UDP, and have 64 to 1,514 bytes")
        return frames

    def pack(self, ours: bytes, theirs: bytes) -> tuple[bytes, bytes]:
        """A struct plan, and a frame to begin with: whole, and a byte more. The two are link addresses."""
        body = self.size - ETHERNET - 20
        ip = struct.pack(">BBHHHBB10x", 0x45, 0, 20 + body, 0, 0, 64, self.protocol)
        transport = self._tcp() if self.protocol == TCP else struct.pack(">HHHH", 0, 0, body, 0)
        head = (theirs + ours + IPV4 + ip + transport).ljust(self.size, b"\0")
        # What is behind the headers is zeros, which add nothing; but its length does.
        tcp_sum = words(transport) + TCP + body if self.protocol == TCP else 0
        sources, targets = IPv4Network(self.sources), IPv4Network(self.targets)
        plan = _PLAN.pack(
            head[:HEAD_BYTES],
            *(int(sources.network_address), int(sources.hostmask)),
            *(int(targets.network_address), int(targets.hostmask)),
            *self.source_port,
            *self.target_port,
            *self.fragment,
            bool(self.flags & ACK),
            self.protocol,
            words(ip),
            tcp_sum,
        )
        return plan, head + b"\0"

    def _tcp(self) -> bytes:
        return struct.pack(">HHIIBBHHH", 0, 0, 0, 0, 0x50, self.flags, WINDOW, 0, 0)
