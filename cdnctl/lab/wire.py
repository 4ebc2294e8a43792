"""A cable in user space: frames in at one end, out at the other, later, slower, or never.

One process serves all links of a lab. A link joins pairs of interfaces of the process's namespace (one
pair, or two with a way back of its own); each direction has a bounded queue, filled from one AF_PACKET
socket and emptied into another:

    python -m cdnctl.lab.wire  <  {"links": {"aurora": [["e-aurora", "o-aurora"]]}}
                               <  {"link": "aurora", "delay_ms": 80, "loss": 0.0, "rate_mbit": null}
                               <  {"link": "aurora", "mtu": 1280, "routers": ["100.64.1.9", "2001:db8::9"]}
                               <  {"stats": true}

One JSON object a line, one line of answer each, with the time (`at_ns`, CLOCK_MONOTONIC, the kernel
programs' clock) at which the change was in force. It ends when standard input closes.

- `delay_ms` holds for each way, so a round trip takes twice that.
- `loss` is the share of frames lost, each way; 1 is a black hole, which swallows what is in flight
  too. ARP and neighbour discovery are exempt: a fault stands for something beyond the next hop, which
  goes on answering.
- `rate_mbit` paces each way; None does not.
- `mtu` is that of a hop in the middle: what does not fit is answered as the router there would, from one
  of its addresses, with packet too big. None lets everything pass.
- Frames never overtake each other, also when the delay falls.
- A full queue, or a full socket buffer behind it, drops at the tail: a flood costs no memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import select
import socket
import sys
import time
from collections import deque
from ipaddress import ip_address

from cdnctl.lab.packets import ETHERNET, is_next_hop_talk, too_big

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_QDISC_BYPASS = 20
PACKET_IGNORE_OUTGOING = 23
SO_RCVBUFFORCE = 33

FRAME_BYTES = 2048
"""More than any frame of the lab: MTU 1500, no merging."""
BATCH = 64
"""Frames read from one socket before the others, and the queues, get their turn."""
QUEUE_FRAMES = 8192
"""In flight, each way: 80 ms at 100,000 frames/s."""
SOCKET_BYTES = 1 << 20
"""Some hundred frames: like a router's buffer, it costs milliseconds when the wire cannot keep up."""


class Direction:
    """One way of a link."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.queue: deque[tuple[int, bytes]] = deque()
        self.delay_ns = 0
        self.loss = 0.0
        self.ns_per_byte = 0.0
        self.free_ns = 0
        self.most_bytes = FRAME_BYTES
        self.routers = (b"", b"")
        self.received = self.sent = self.lost = self.overflowed = self.refused = self.too_big = 0

    def receive(self) -> None:
        """Take up to `BATCH` frames off the socket: lose, queue or send them."""
        now = time.monotonic_ns()
        queue, read, due = self.queue, self.source.recv, now + self.delay_ns
        for _ in range(BATCH):
            try:
                frame = read(FRAME_BYTES)
            except BlockingIOError:
                return
            except OSError:
                return  # the interface went down: the lab is being taken apart
            self.received += 1
            if self.loss and random.random() < self.loss and not is_next_hop_talk(frame):
                self.lost += 1
            elif len(frame) > self.most_bytes:
                self.answer(frame)
            elif len(queue) >= QUEUE_FRAMES:
                self.overflowed += 1
            elif self.ns_per_byte:
                self.free_ns = max(self.free_ns, now) + int(len(frame) * self.ns_per_byte)
                queue.append((self.free_ns + self.delay_ns, frame))
            elif self.delay_ns or queue:
                queue.append((due, frame))
            else:
                self.send(frame)

    def release(self, now: int) -> int:
        """Send what is due; return when the next one will be, or 0 when the queue is empty."""
        queue = self.queue
        while queue:
            due, frame = queue[0]
            if due > now:
                return due
            queue.popleft()
            self.send(frame)
        return 0

    def send(self, frame: bytes) -> None:
        try:
            self.sink.send(frame)
            self.sent += 1
        except OSError:  # the far end's ring is full, or its interface is down
            self.refused += 1

    def answer(self, frame: bytes) -> None:
        """Say back where it came from that it is too big."""
        self.too_big += 1
        if said := too_big(frame, self.most_bytes - ETHERNET, self.routers):
            with contextlib.suppress(OSError):
                self.source.send(said)

    def forget(self) -> None:
        """Lose what is in flight."""
        kept = [entry for entry in self.queue if is_next_hop_talk(entry[1])]
        self.lost += len(self.queue) - len(kept)
        self.queue = deque(kept)

    def counts(self) -> dict[str, int]:
        return {
            "received": self.received,
            "sent": self.sent,
            "lost": self.lost,
            "overflowed": self.overflowed,
            "refused": self.refused,
            "too_big": self.too_big,
            "queued": len(self.queue),
        }


class Cable:
    """All links, one event loop."""

    def __init__(self) -> None:
        self.links: dict[str, list[Direction]] = {}
        self.by_fd: dict[int, Direction] = {}
        self.timer = Timer()
        self.poll = select.epoll()
        self.poll.register(self.timer.fd, select.EPOLLIN)
        self.poll.register(0, select.EPOLLIN)
        self.orders = b""

    def run(self) -> None:
        """Carry frames until standard input closes."""
        directions: tuple[Direction, ...] = ()
        while True:
            for fd, _ in self.poll.poll():
                if fd == self.timer.fd:
                    self.timer.clear()
                elif fd == 0:
                    data = os.read(0, 65536)
                    if not data:
                        return
                    self.take_orders(data)
                    directions = tuple(self.by_fd.values())
                else:
                    self.by_fd[fd].receive()
            now = time.monotonic_ns()
            soonest = 0
            for direction in directions:
                if direction.queue and (due := direction.release(now)) and (not soonest or due < soonest):
                    soonest = due
            self.timer.set(soonest)

    def take_orders(self, data: bytes) -> None:
        *lines, self.orders = (self.orders + data).split(b"\n")
        for line in lines:
            try:
                answer = self.obey(json.loads(line))
            except (KeyError, TypeError, ValueError, OSError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            os.write(1, json.dumps(answer).encode() + b"\n")

    def obey(self, order: dict[str, object]) -> dict[str, object]:
        links = order.get("links")
        if isinstance(links, dict):
            for name, pairs in links.items():
                for left, right in pairs:
                    self.join(name, _open(left), _open(right))
        if "link" in order:
            for direction in self.links[str(order["link"])]:
                _change(direction, order)
        answer: dict[str, object] = {"at_ns": time.monotonic_ns()}
        if order.get("stats"):
            answer["stats"] = {name: [way.counts() for way in ways] for name, ways in self.links.items()}
        return answer

    def join(self, name: str, left: socket.socket, right: socket.socket) -> None:
        there, back = Direction(left, right), Direction(right, left)
        self.links.setdefault(name, []).extend((there, back))
        for direction in (there, back):
            self.by_fd[direction.source.fileno()] = direction
            self.poll.register(direction.source.fileno(), select.EPOLLIN)


def _change(direction: Direction, order: dict[str, object]) -> None:
    delay, loss, rate = order.get("delay_ms"), order.get("loss"), order.get("rate_mbit", 0)
    if isinstance(delay, int | float):
        direction.delay_ns = int(delay * 1e6)
    if isinstance(loss, int | float):
        direction.loss = float(loss)
        if loss >= 1:
            direction.forget()
    if "mtu" in order:
        mtu, routers = order["mtu"], order.get("routers")
        direction.most_bytes = ETHERNET + mtu if isinstance(mtu, int) else FRAME_BYTES
        if isinstance(routers, list):
            direction.routers = ip_address(routers[0]).packed, ip_address(routers[1]).packed
    if "rate_mbit" in order:
        direction.ns_per_byte = 8000 / rate if isinstance(rate, int | float) and rate > 0 else 0.0


def _open(device: str) -> socket.socket:
    """A raw socket on one interface that sees only what comes in."""
    # Bound to no protocol first: else it would collect from all interfaces until bound to its own.
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    raw.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    raw.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
    raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BYTES)
    raw.bind((device, ETH_P_ALL))
    return raw


class Timer:
    """A timerfd: epoll's own time-out knows only whole milliseconds."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = (ctypes.c_long * 4)()
        self._armed = 0

    def set(self, at_ns: int) -> None:
        """Wake at this CLOCK_MONOTONIC time; 0 for never. Costs nothing when unchanged."""
        if at_ns != self._armed:
            self._armed = at_ns
            self._spec[2], self._spec[3] = divmod(at_ns, 1_000_000_000)
            self._libc.timerfd_settime(self.fd, 1, self._spec, None)

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)
        self._armed = 0


if __name__ == "__main__":
    try:
        Cable().run()
    except KeyboardInterrupt:
        sys.exit(130)
