"""Packets by the ten thousand, at a steady rate, past every socket: floods and known talkers.

    python -m cdnctl.lab.flood  <  {"device": "uplink", "mac": [ours, theirs], "target": [...],
                                    "syn": {"prefix": "10.66.0.0/16", "pps": 60000, "seconds": 30}}
                                <  {..., "senders": {"10.1.5.9": 2000}, "kind": "ack", "seconds": 5}

Frames are made beforehand and sent by `sendmmsg` on an AF_PACKET socket, in slices of a millisecond
or so. Each job is bounded by count and time, and stops at once when standard input closes or says
`{"stop": true}`. Answers, one JSON line each: one when the first packet is about to leave, then one
every 200 ms, the last with `"done": true`.

Every packet of a flood carries `WINDOW` as its TCP window, by which it is told from honest ones on
links where its source is translated.
"""

from __future__ import annotations

import array
import ctypes
import ipaddress
import json
import os
import random
import select
import socket
import struct
import sys
import time

from cdnctl.lab.packets import fold, ipv4, tcp, udp, words

WINDOW = 7658
"""TCP window of every flood packet; no honest client starts with it."""
FRAME_BYTES = 60
WORDS = FRAME_BYTES // 2
POOL_FRAMES = 131_072
"""Different flood packets made at first; each round through them, ports and numbers change places."""
BATCH = 64
SLICE_NS = 1_000_000
REPORT_NS = 200_000_000
MAX_SECONDS = 300
MAX_PACKETS = 50_000_000
SOL_PACKET = 263
PACKET_QDISC_BYPASS = 20
PACKET_TX_SOCKET_BYTES = 4 << 20
_PORT, _ISN_HIGH, _ISN_LOW = 17, 19, 20
"""Places of the source port and the sequence number in a frame, in 16-bit words."""


class Mmsghdr(ctypes.Structure):
    """struct mmsghdr of sendmmsg(2), 64-bit."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint32),
    )


class Iovec(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Frames:
    """Frames of equal length in one piece of memory, ready for sendmmsg."""

    def __init__(self, frames: list[bytes]) -> None:
        self.length = len(frames[0])
        self.count = len(frames)
        self.memory = array.array("H", b"".join(frames))
        self._libc = ctypes.CDLL(None, use_errno=True)
        base, _ = self.memory.buffer_info()
        self._iov = (Iovec * self.count)()
        self._messages = (Mmsghdr * self.count)()
        iov, step = ctypes.addressof(self._iov), ctypes.sizeof(Iovec)
        for i in range(self.count):
            self._iov[i].base, self._iov[i].length = base + i * self.length, self.length
            self._messages[i].iov, self._messages[i].iovlen = iov + i * step, 1
        self._start = ctypes.addressof(self._messages)

    def send(self, fd: int, first: int, count: int) -> int:
        """Send up to `count` frames from number `first`; return how many the kernel took."""
        count = min(count, self.count - first)
        at = ctypes.c_void_p(self._start + first * ctypes.sizeof(Mmsghdr))
        return max(0, int(self._libc.sendmmsg(fd, at, count, 0)))


class SynFlood:
    """Opening segments from random addresses of a prefix."""

    def __init__(self, link: bytes, target: tuple[bytes, int], prefix: str) -> None:
        network = ipaddress.ip_network(prefix)
        address, port = target
        frames = []
        # Only four words and two checksums differ from packet to packet; the rest is summed once.
        ip = ipv4(network.network_address.packed, address, 6, bytes(20))
        ip_sum, base = words(ip[:10] + ip[12:20]), int(network.network_address)
        base_sum = words(network.network_address.packed)
        tcp_sum = words(address) + 6 + 20 + port + 0x5002 + WINDOW
        tail = struct.pack(">HH", 0x5002, WINDOW)
        bits, size = random.getrandbits, network.num_addresses
        for _ in range(POOL_FRAMES):
            source = base + random.randrange(size)
            source_sum = (source >> 16) + (source & 0xFFFF)
            sport, isn = 1024 + bits(16) % 64512, bits(32)
            while len({sport, isn >> 16, isn & 0xFFFF}) < 3:  # or it would come again as it was: see _renew
                isn = bits(32)
            check = fold(tcp_sum + source_sum + sport + (isn >> 16) + (isn & 0xFFFF))
            frames.append(
                link + ip[:10] + struct.pack(">HI", fold(ip_sum - base_sum + source_sum), source) + address
                + struct.pack(">HHII", sport, port, isn, 0) + tail + struct.pack(">HH", check, 0)
                + b"\0" * 6
            )  # fmt: skip
        self.frames = Frames(frames)
        self._round = 0
        self._next = 0

    def send(self, fd: int, count: int) -> int:
        sent = self.frames.send(fd, self._next, min(count, BATCH))
        self._next += sent
        if self._next == self.frames.count:
            self._next = 0
            self._renew()
        return sent

    def _renew(self) -> None:
        """Other connections from the same frames: their sum, so their checksum, stays the same.

        Two neighbours of (port, high half, low half) change places, in turns: six orders, then again.
        """
        self._round += 1
        left, right = (_ISN_HIGH, _ISN_LOW) if self._round % 2 else (_PORT, _ISN_HIGH)
        memory = self.frames.memory
        memory[left::WORDS], memory[right::WORDS] = memory[right::WORDS], memory[left::WORDS]


class Senders:
    """Known sources, each with its exact share of the packets, evenly interleaved."""

    def __init__(
        self, link: bytes, target: tuple[bytes, int], rates: dict[str, float], kind: str, size: int
    ) -> None:
        address, port = target
        total = sum(rates.values())
        if not rates or min(rates.values()) <= 0:
            raise ValueError("senders need rates above 0")
        frames: list[tuple[float, str, bytes]] = []
        rng = random.Random(1)
        # A second's worth of packets in random order: a fixed rhythm could fall in step with 1-in-N.
        for source, rate in rates.items():
            packed = ipaddress.ip_address(source).packed
            ports = (20000 + rng.randrange(20000), port)
            payload = bytes(max(0, size - 54 if kind == "ack" else size - 42))
            numbers = (rng.getrandbits(32), rng.getrandbits(32))
            packet = (
                tcp(packed, address, ports, numbers, 0x10, 1024, payload)
                if kind == "ack"
                else udp(packed, address, ports, payload)
            )
            frame = (link + packet).ljust(FRAME_BYTES, b"\0")
            frames += [(rng.random(), source, frame) for _ in range(round(rate))]
        frames.sort(key=lambda entry: entry[0])
        self.total = total
        self.frames = Frames([frame for _, _, frame in frames])
        self.sources = [source for _, source, _ in frames]
        self.sent = dict.fromkeys(rates, 0)
        self._next = 0

    def send(self, fd: int, count: int) -> int:
        sent = self.frames.send(fd, self._next, min(count, BATCH))
        for source in self.sources[self._next : self._next + sent]:
            self.sent[source] += 1
        self._next = (self._next + sent) % self.frames.count
        return sent


def main() -> int:
    """Obey one order and report."""
    order = json.loads(sys.stdin.buffer.readline() or b"{}")
    if not order:
        return 0
    ours, theirs = (bytes.fromhex(mac.replace(":", "")) for mac in order["mac"])
    link = theirs + ours + b"\x08\x00"
    target = ipaddress.ip_address(order["target"][0]).packed, int(order["target"][1])
    seconds = min(float(order["seconds"]), MAX_SECONDS)
    source: SynFlood | Senders
    if "syn" in order:
        source, pps = SynFlood(link, target, order["syn"]["prefix"]), float(order["syn"]["pps"])
    else:
        source = Senders(link, target, order["senders"], order.get("kind", "ack"), order.get("size", 60))
        pps = source.total
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    raw.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PACKET_TX_SOCKET_BYTES)
    raw.bind((order["device"], 0))
    run(raw.fileno(), source, pps, seconds)
    return 0


def run(fd: int, source: SynFlood | Senders, pps: float, seconds: float) -> None:
    """Send at the rate until the time is over, the count is reached or the order comes to stop."""
    begun = reported = time.monotonic_ns()
    end = begun + int(seconds * 1e9)
    sent = skipped = 0
    late, catch_up = int(pps * 0.1), max(1, int(pps * 0.01))

    def report(done: bool) -> None:
        answer: dict[str, object] = {"at_ns": time.monotonic_ns(), "begun_ns": begun, "sent": sent}
        if isinstance(source, Senders):
            answer["by_source"] = source.sent
        os.write(1, json.dumps({**answer, "done": done}).encode() + b"\n")

    report(False)
    now = begun
    while now < end and sent < MAX_PACKETS:
        time.sleep(SLICE_NS / 1e9)
        now = time.monotonic_ns()
        due = int((min(now, end) - begun) * pps / 1e9) - skipped
        if due - sent > late:
            # Over 100 ms behind, since the machine was busy: a burst to make up for it would be another
            # flood than the one ordered. What is left out is not counted as sent.
            skipped += due - sent - catch_up
            due = sent + catch_up
        while sent < due and (took := source.send(fd, due - sent)):
            sent += took
        if now - reported >= REPORT_NS:
            reported = now
            report(False)
        if select.select([0], [], [], 0)[0]:
            break  # `stop`, or the lab is gone
    report(True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
