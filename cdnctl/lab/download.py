"""One long answer, read at a pace of one's own while things happen to the edge, and summed up."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from typing import NamedTuple

from cdnctl.lab.processes import LabError

_CHUNK = 1 << 16
_BUFFER = 1 << 19
"""Of the socket: what is not read yet stays at the CDN."""
_LAST = 2 << 20
"""So many bytes at the end are not read at leisure: it lasts until it is told to hurry."""


class Fetched(NamedTuple):
    """What came."""

    cdn: str
    """Who served it, by its own word."""
    bytes: int
    sha256: str
    seconds: float


class Download:
    """Fetches a path in a thread of its own, by a client's socket; with `mbit` at that pace, and to its end
    only when told to hurry.
    """

    def __init__(
        self, client: socket.socket, target: tuple[str, int], path: str, mbit: float | None = None
    ) -> None:
        self.bytes = 0
        """Of the body, so far."""
        self._target, self._path = target, path
        self._ns_per_byte = 8e3 / mbit if mbit else 0.0
        self._hurry = threading.Event()
        self._over: Fetched | OSError | LabError | None = None
        self._socket = client
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._thread = threading.Thread(target=self._run, name="lab-download", daemon=True)
        self._thread.start()

    def hurry(self) -> None:
        """From now on as fast as it can."""
        self._hurry.set()

    def result(self, timeout_s: float = 60.0) -> Fetched:
        """Hurry, and wait for its end. LabError when it failed."""
        self.hurry()
        self._thread.join(timeout_s)
        if isinstance(self._over, Fetched):
            return self._over
        self.close()
        raise LabError(f"a download ended after {self.bytes:,} bytes: {self._over or 'it takes too long'}")

    def close(self) -> None:
        """Give it up, if it is not over."""
        self.hurry()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(2.0)

    def _run(self) -> None:
        with self._socket:
            try:
                self._socket.connect(self._target)
                self._over = self._fetch()
            except (OSError, LabError) as error:
                self._over = error

    def _fetch(self) -> Fetched:
        begun = time.monotonic()
        ask = f"GET /{self._path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
        self._socket.sendall(ask.encode())
        with self._socket.makefile("rb") as answer:
            status = answer.readline().decode().strip()
            if " 200 " not in status:
                raise LabError(status or "no answer")
            headers = {}
            while line := answer.readline().decode().strip():
                name, _, value = line.partition(": ")
                headers[name.lower()] = value
            whole, size = hashlib.sha256(), int(headers["content-length"])
            while chunk := answer.read1(_CHUNK):
                whole.update(chunk)
                self.bytes += len(chunk)
                if self._ns_per_byte:
                    due = begun + self.bytes * self._ns_per_byte / 1e9
                    enough = self.bytes > size - _LAST
                    if self._hurry.wait(None if enough else max(0.0, due - time.monotonic())):
                        self._ns_per_byte = 0.0
        if self.bytes != size:
            raise LabError(f"the connection ended before all {size:,} bytes came")
        return Fetched(headers["x-cdn"], self.bytes, whole.hexdigest(), time.monotonic() - begun)
