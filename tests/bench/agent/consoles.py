"""Many consoles at one agent, as far as the agent can tell."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from cdnctl.agent import protocol
from cdnctl.model import FRAMES_KEPT
from tests.bench.results import Unsound

_HELLO = protocol.encode(protocol.ClientHello(client="console", frames=True, history=FRAMES_KEPT))


class _Stamp(msgspec.Struct):
    seq: int
    at_ns: int


class _Stamped(msgspec.Struct):
    """As much of a frame's message as is looked at."""

    type: str
    frame: _Stamp | None = None


class Reader:
    """Takes whole messages out of one connection."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(path))
        self.sock.sendall(_HELLO)
        self._data = bytearray()
        self.newest = 0
        self.late_ms: list[float] = []

    def read(self) -> None:
        """What is there now."""
        self._data += self.sock.recv(1 << 18)
        now_ns = time.time_ns()
        while len(self._data) >= protocol.HEADER:
            size = int.from_bytes(self._data[: protocol.HEADER], "big")
            if len(self._data) < protocol.HEADER + size:
                return
            body = bytes(self._data[protocol.HEADER : protocol.HEADER + size])
            del self._data[: protocol.HEADER + size]
            told = msgspec.msgpack.decode(body, type=_Stamped)
            if told.type == "refused":
                raise Unsound("the agent hung up on a console")
            if told.frame:
                self.newest = told.frame.seq
                self.late_ms.append((now_ns - told.frame.at_ns) / 1e6)


@contextlib.contextmanager
def watching(path: Path, count: int, stalled: int) -> Iterator[list[Reader]]:
    """So many that read, and some that do not; gives those that do."""
    readers = [Reader(path) for _ in range(count)]
    silent = [Reader(path) for _ in range(stalled)]
    ending = threading.Event()

    def read() -> None:
        with selectors.DefaultSelector() as selector:
            for reader in readers:
                selector.register(reader.sock, selectors.EVENT_READ, reader)
            while not ending.is_set():
                for key, _ in selector.select(0.1):
                    key.data.read()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield readers
    finally:
        ending.set()
        thread.join()
        for reader in (*readers, *silent):
            reader.sock.close()
