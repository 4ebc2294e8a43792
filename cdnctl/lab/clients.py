"""Honest clients: real HTTP/1.1 over real sockets, from many addresses, at a fixed pace.

    python -m cdnctl.lab.clients  <  {"targets": [["203.0.113.80", 80], ["2001:db8:80::80", 80]],
                                      "sources": [["10.1.7.{}", ...], ["3fff:1:7::{:x}", ...]],
                                      "share6": 0.3, "rate": 260, "pool": 60}

Open loop: request i begins at start + i/rate whether or not earlier ones were answered, so a slow
edge meets the load a slow edge would meet. Every other request makes a new connection (and says
`Connection: close`), the rest take turns on a pool of keep-alive connections; with a pool of 0 every
request makes its own. A request has 3 s, and is never tried again. It is `ok` only when status, length,
every byte and the echoed number are right.
`share6` of the connections are of IPv6.

Standard output says what is over, one JSON object a line, ten a second: `done`, with an array for each
request in the order of `traffic.Request`; and `open_ns`, when the oldest that is not was begun (now, when
there is none). Later orders: `{"rate": 300}`; the program ends when standard input closes.
"""

from __future__ import annotations

import errno
import json
import os
import random
import select
import socket
import sys
import time
from collections import deque
from typing import Any

from cdnctl.lab.origin import SIZES, body

TIMEOUT_NS = 3_000_000_000
REPORT_NS = 100_000_000
"""Records leave this often."""
IP_BIND_ADDRESS_NO_PORT = 24
MAX_CONNECTIONS = 4096
"""More at once would mean that nothing is answered for many seconds; then requests are skipped."""

_monotonic = time.monotonic_ns
_OUTCOMES = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
}


class Connection:
    """One connection, and the request it carries now, if any."""

    __slots__ = (
        "answer", "ask", "connect_ns", "connected", "keep", "number", "opened_ns",
        "serial", "six", "size", "sock", "source", "start_ns",
    )  # fmt: skip

    def __init__(self, number: int, source: str, six: bool, keep: bool) -> None:
        self.number, self.source, self.six, self.keep = number, source, six, keep
        family = socket.AF_INET6 if six else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.opened_ns = self.start_ns = _monotonic()
        self.connect_ns = 0
        self.connected = False
        self.serial = 0
        """Which request of this connection; a deadline of an earlier one is void."""
        self.ask = 0
        """Number of the request under way; 0 when idle."""
        self.size = 0
        self.answer = b""


class Clients:
    """The event loop."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.targets = [(str(host), int(port)) for host, port in order["targets"]]
        self.hosts = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.targets]
        self.sources: list[list[str]] = order["sources"]
        self.share6 = float(order["share6"])
        self.rate = 0.0
        self.pool_size = int(order.get("pool", 60))
        self.poll = select.epoll()
        self.poll.register(0, select.EPOLLIN)
        self.by_fd: dict[int, Connection] = {}
        self.idle: deque[Connection] = deque()
        self.kept = 0
        self.deadlines: deque[tuple[int, Connection, int]] = deque()
        self.records: list[tuple[object, ...]] = []
        self.connections = self.asked = 0
        self.made = [0, 0]
        """Connections for one request, and those that are kept: of both, as many are of IPv6."""
        self.orders = b""
        self.set_rate(float(order["rate"]))

    def set_rate(self, rate: float) -> None:
        self.rate = rate
        self.interval_ns = int(1e9 / rate) if rate > 0 else 0
        self.next_ns = _monotonic()

    def run(self) -> None:
        report_ns = _monotonic() + REPORT_NS
        while True:
            now = _monotonic()
            while self.interval_ns and self.next_ns <= now:
                self.next_ns += self.interval_ns
                self.begin()
            self.expire(now)
            if now >= report_ns:
                report_ns = now + REPORT_NS
                self.report()
            wake = min(report_ns, self.next_ns if self.interval_ns else report_ns)
            for fd, events in self.poll.poll(max(0.0, (wake - _monotonic()) / 1e9)):
                if fd == 0:
                    if not self.obey():
                        return
                elif connection := self.by_fd.get(fd):
                    self.serve(connection, events)

    def obey(self) -> bool:
        data = os.read(0, 65536)
        *lines, self.orders = (self.orders + data).split(b"\n")
        for line in lines:
            self.set_rate(float(json.loads(line)["rate"]))
        return bool(data)

    def report(self) -> None:
        batch, self.records = self.records, []
        said = {"open_ns": self.oldest(), "done": batch}
        os.write(1, json.dumps(said, separators=(",", ":")).encode() + b"\n")

    def oldest(self) -> int:
        """When the oldest request was begun that is not over; now, when there is none."""
        deadlines = self.deadlines
        while deadlines and not self.waits(deadlines[0]):
            deadlines.popleft()
        return deadlines[0][0] - TIMEOUT_NS if deadlines else _monotonic()

    @staticmethod
    def waits(entry: tuple[int, Connection, int]) -> bool:
        """Is the request under way still that this deadline is for?"""
        _, connection, serial = entry
        return bool(connection.ask) and connection.serial == serial

    # --- one request ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the next request, on a new connection or on one that waits in the pool."""
        self.asked += 1
        keep = self.pool_size > 0 and self.asked % 2 == 0
        # The pool first grows to its size, then its idle connections take turns.
        grown = keep and self.idle and self.kept >= self.pool_size
        connection = self.idle.popleft() if grown else None
        if connection is None:
            if len(self.by_fd) >= MAX_CONNECTIONS:
                return
            connection = self.connect(keep)
        connection.ask = self.asked
        connection.size = SIZES[self.asked // 2 % len(SIZES)]
        connection.serial += 1
        connection.answer = b""
        connection.start_ns = _monotonic() if connection.connected else connection.opened_ns
        self.deadlines.append((connection.start_ns + TIMEOUT_NS, connection, connection.serial))
        if connection.connected:
            self.send(connection)
        else:
            error = connection.sock.connect_ex(self.targets[connection.six])
            if error not in (0, errno.EINPROGRESS):
                self.fail(connection, error)

    def connect(self, keep: bool) -> Connection:
        self.connections += 1
        number = self.connections
        self.made[keep] += 1
        six = int(self.made[keep] * self.share6) > int((self.made[keep] - 1) * self.share6)
        sources = self.sources[six]
        source = sources[number % len(sources)].format(random.randint(1, 254))
        connection = Connection(number, source, six, keep)
        # Without it every connection would take a port of its own at bind, not a pair at connect.
        connection.sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        connection.sock.bind((connection.source, 0))
        self.by_fd[connection.sock.fileno()] = connection
        self.poll.register(connection.sock.fileno(), select.EPOLLOUT)
        self.kept += keep
        return connection

    def send(self, connection: Connection) -> None:
        close = "" if connection.keep else "Connection: close\r\n"
        host = self.hosts[connection.six]
        request = f"GET /{connection.size}?n={connection.ask} HTTP/1.1\r\nHost: {host}\r\n{close}\r\n"
        try:
            connection.sock.send(request.encode())
        except OSError as error:
            self.fail(connection, error.errno or 0)

    def serve(self, connection: Connection, events: int) -> None:
        """Something happened on a socket: connected, data, reset or end."""
        if not connection.connected:
            error = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self.fail(connection, error)
                return
            if not events & select.EPOLLOUT:
                return
            connection.connected = True
            connection.connect_ns = _monotonic()
            self.poll.modify(connection.sock.fileno(), select.EPOLLIN)
            self.send(connection)
            return
        try:
            data = connection.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(connection, error.errno or 0)
            return
        if not connection.ask:
            self.drop(connection)  # ended, or spoke, while idle: no request is lost by it
        elif not data:
            self.finish(connection, "badbody" if connection.answer else "reset", "")
        else:
            connection.answer += data
            self.look(connection)

    def look(self, connection: Connection) -> None:
        """Is the answer complete, and right?"""
        head, found, content = connection.answer.partition(b"\r\n\r\n")
        if not found:
            return
        if len(content) < connection.size and head.startswith(b"HTTP/1.1 200"):
            return
        cdn = content.partition(b"\n")[0].decode("ascii", "replace")
        right = (
            content == body(cdn, connection.size)
            and f"\r\nContent-Length: {connection.size}\r\n".encode() in head
            and f"\r\nX-Ask: {connection.ask}\r\n".encode() in head + b"\r\n"
        )
        self.finish(connection, "ok" if right else "badbody", cdn if right else "")

    def expire(self, now: int) -> None:
        deadlines = self.deadlines
        while deadlines and deadlines[0][0] <= now:
            entry = deadlines.popleft()
            if self.waits(entry):
                self.finish(entry[1], "timeout", "")

    def fail(self, connection: Connection, error: int) -> None:
        if connection.ask:
            self.finish(connection, _OUTCOMES.get(error, f"error {error}"), "")
        else:
            self.drop(connection)

    def finish(self, connection: Connection, outcome: str, cdn: str) -> None:
        """The request is over: write it down, keep or close its connection."""
        now = _monotonic()
        connect_ms = (connection.connect_ns - connection.opened_ns) / 1e6 if connection.connect_ns else None
        self.records.append(
            (
                connection.start_ns,
                "keepalive" if connection.keep else "new",
                connection.opened_ns,
                connection.number,
                connect_ms,
                (now - connection.start_ns) / 1e6,
                outcome,
                cdn,
                connection.source,
            )
        )
        connection.ask = 0
        if outcome == "ok" and connection.keep:
            self.idle.append(connection)
        else:
            self.drop(connection)

    def drop(self, connection: Connection) -> None:
        """Close a connection and forget it."""
        if self.by_fd.pop(connection.sock.fileno(), None) is None:
            return
        self.kept -= connection.keep
        if connection in self.idle:
            self.idle.remove(connection)
        self.poll.unregister(connection.sock.fileno())
        connection.sock.close()


def main() -> int:
    """Read the order, then run until standard input closes."""
    order = b""
    while not order.endswith(b"\n"):
        data = os.read(0, 1)
        if not data:
            return 0
        order += data
    try:
        Clients(json.loads(order)).run()
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
