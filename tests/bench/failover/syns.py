"""Opening segments that leave an edge towards a CDN, by the kernel's own stamps.

A raw socket at the far end of the edge's cable sees them before the wire can lose or delay them. So an edge
in the kernel and a proxy are looked at by the same eye.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from typing import NamedTuple

from cdnctl.lab import netns
from cdnctl.lab.topology import PORT
from tests.bench.results import Unsound

_ETH_P_ALL = 3
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 26, 33, 35
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING = 263, 6, 23
_BUFFER_BYTES = 32 << 20
"""Minutes of opening segments: nobody reads them before a trial is over."""
_FRAME_BYTES = 96
_TIMESPEC = struct.Struct("=qq")

# Classic BPF, for TCP of either family: SYN without ACK, to the port that services have.
_LDH, _LDB, _LDXB, _LDH_X, _LDB_X, _JA, _JEQ, _AND, _RET = 0x28, 0x30, 0xB1, 0x48, 0x50, 5, 0x15, 0x54, 6
_FILTER = (
    (_LDH, 0, 0, 12),
    (_JEQ, 0, 7, 0x0800),
    (_LDB, 0, 0, 23),
    (_JEQ, 0, 14, socket.IPPROTO_TCP),
    (_LDXB, 0, 0, 14),  # X: bytes of the IPv4 header
    (_LDH_X, 0, 0, 16),
    (_JEQ, 0, 11, PORT),
    (_LDB_X, 0, 0, 27),
    (_JA, 0, 0, 6),
    (_JEQ, 0, 8, 0x86DD),
    (_LDB, 0, 0, 20),
    (_JEQ, 0, 6, socket.IPPROTO_TCP),
    (_LDH, 0, 0, 56),
    (_JEQ, 0, 4, PORT),
    (_LDB, 0, 0, 67),
    (_AND, 0, 0, 0x12),
    (_JEQ, 0, 1, 0x02),
    (_RET, 0, 0, _FRAME_BYTES),
    (_RET, 0, 0, 0),
)


class Syn(NamedTuple):
    """One new connection: its first opening segment."""

    at_ns: int
    """CLOCK_MONOTONIC."""
    family: int
    """4 or 6."""


class Syns:
    """What was seen at one cable since `begin`."""

    def __init__(self, namespace: str, device: str) -> None:
        with netns.entered(namespace):
            self._raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        only_syns(self._raw)
        self._raw.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self._raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._raw.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._raw.bind((device, _ETH_P_ALL))
        self._known: set[bytes] = set()
        self._seen: list[Syn] = []

    def close(self) -> None:
        """The socket."""
        self._raw.close()

    def begin(self) -> None:
        """Forget what was."""
        self._drain()
        self._known.clear()
        self._seen.clear()

    def seen(self, since_ns: int, until_ns: int | None = None, *, family: int = 4) -> list[int]:
        """When connections were opened in [since, until), without repeats. Unsound when some were missed."""
        until = until_ns if until_ns is not None else time.monotonic_ns()
        self._drain()
        return [syn.at_ns for syn in self._seen if syn.family == family and since_ns <= syn.at_ns < until]

    def _drain(self) -> None:
        epoch_ns = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.monotonic_ns()
        while True:
            try:
                frame, extra, _, _ = self._raw.recvmsg(_FRAME_BYTES, 64)
            except BlockingIOError:
                break
            seconds, rest_ns = _TIMESPEC.unpack(extra[0][2])
            self._note(frame, seconds * 1_000_000_000 + rest_ns - epoch_ns)
        _, dropped = struct.unpack("II", self._raw.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        if dropped:
            raise Unsound(f"{dropped} opening segments were not seen")

    def _note(self, frame: bytes, at_ns: int) -> None:
        if (who := sender(frame)) not in self._known:
            self._known.add(who)
            self._seen.append(Syn(at_ns, 4 if frame[12:14] == b"\x08\x00" else 6))


def only_syns(taker: socket.socket) -> None:
    """Let the kernel drop whatever else comes to a socket that takes frames."""
    code = b"".join(struct.pack("=HBBI", *line) for line in _FILTER)
    kept = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(_FILTER), ctypes.addressof(kept))
    taker.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def sender(frame: bytes) -> bytes:
    """Address, port and first sequence number: the same in a repeat, and in nothing else for a while."""
    if frame[12:14] == b"\x08\x00":
        tcp = 14 + (frame[14] & 15) * 4
        return frame[26:30] + frame[tcp : tcp + 2] + frame[tcp + 4 : tcp + 8]
    return frame[22:38] + frame[54:56] + frame[58:62]
