"""Whose each SNAT port was: a line for each flow that got under way, for who is asked about one later.

    2026-01-31T23:59:59.123Z tcp 192.0.2.7:40000 203.0.113.80:443 203.0.113.10:50123 198.51.100.10:443 aurora

are when, protocol, client, service, our address and port, endpoint and its CDN. A port is the next flow's a
minute after the last one at the earliest (ten seconds after a reset), so the last line before a moment says
whose it was. What is missing says so in a line of its own, `# N not logged`. A thread writes, so that a slow
disk delays no frame; lines are on the disk within a second.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cdnctl.config import Config, show_endpoint
from cdnctl.config.schema import Log
from cdnctl.datapath import abi
from cdnctl.datapath.perf import Binding
from cdnctl.engine.layout import Layout
from cdnctl.state import sharing

WAITING = 60
"""Batches, one a frame, that may wait for a slow disk: half a minute's."""
_PROTOCOLS = {number: name for name, number in abi.PROTOCOLS.items()}
_UNKNOWN = "-"
_NOT_LOGGED = "bindings of ports are not logged"

logger = logging.getLogger("cdnctl.engine")


class _Batch(NamedTuple):
    bindings: Sequence[Binding]
    missing: int
    config: Config
    layout: Layout


class NatLog:
    """Appends to `path`. Its thread begins with the first line, and ends with `close`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: queue.Queue[_Batch | None] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._lost_before = 0
        self._missing = 0
        """Not logged, and not told of yet."""
        self._trouble = ""
        """What the last batch met; set by the thread, and once it has written one, empty."""
        self._slow = False
        """A batch found no place."""
        self._told = ""

    def write(self, bindings: Sequence[Binding], lost: int, config: Config, layout: Layout) -> str:
        """Have these written; `lost` is how many the kernel could not tell so far.

        Returns what keeps it from being done, once each time that changes.
        """
        self._missing += lost - self._lost_before
        self._lost_before = lost
        if bindings or self._missing:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="nat-log", daemon=True)
                self._thread.start()
            try:
                self._waiting.put_nowait(_Batch(bindings, self._missing, config, layout))
                self._missing, self._slow = 0, False
            except queue.Full:
                self._missing += len(bindings)
                self._slow = True
        slow = f"{_NOT_LOGGED}: {self._path}: the disk is too slow" if self._slow else ""
        trouble = self._trouble or slow
        if trouble == self._told:
            return ""
        self._told = trouble
        return self._told

    def close(self) -> None:
        """What waits is written first; twice does no harm."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with contextlib.suppress(queue.Full):
                self._waiting.put(None, timeout=2)
            thread.join(timeout=2)

    def _run(self) -> None:
        missing = 0
        while (batch := self._waiting.get()) is not None:
            missing += batch.missing
            try:
                size = self._append(batch, missing)
            except Exception as error:  # the thread must go on: the next batch may be a better one
                missing += len(batch.bindings)
                trouble = f"{_NOT_LOGGED}: {self._path}: {_said(error)}"
                if trouble != self._trouble and not isinstance(error, OSError):
                    logger.error("internal error while logging bindings of ports", exc_info=error)
                self._trouble = trouble
                continue
            missing = 0
            self._trouble = self._rotate_if_full(size, batch.config.log)

    def _append(self, batch: _Batch, missing: int) -> int:
        """Write it, on the disk when this returns; the size of the file then."""
        said = f"# {missing} not logged\n" if missing else ""
        text = said + "".join(lines(batch.bindings, batch.config, batch.layout))
        descriptor = os.open(
            self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640
        )
        try:
            with contextlib.suppress(OSError):
                sharing.open_to_operators(descriptor)
            size = os.fstat(descriptor).st_size
            data = memoryview(text.encode())
            written = len(data)
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, size)  # half of a batch would be told of twice
                raise
            return size + written
        finally:
            with contextlib.suppress(OSError):  # what is on the disk stays there
                os.close(descriptor)

    def _rotate_if_full(self, size: int, log: Log) -> str:
        """What kept it from that, if anything did: the file then grows, and nothing is missing."""
        try:
            if size >= log.nat_mb << 20:
                self._rotate(log)
        except OSError as error:
            return f"the log of ports grows: {self._path} cannot be renamed: {error.strerror}"
        return ""

    def _rotate(self, log: Log) -> None:
        """The file becomes number 1, that one 2, and so on; the last goes."""
        for number in range(log.nat_files - 1, 0, -1):
            before = self._path if number == 1 else self._numbered(number - 1)
            with contextlib.suppress(FileNotFoundError):
                before.rename(self._numbered(number))
        if log.nat_files == 1:
            self._path.unlink()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"internal error: {type(error).__name__}: {error}; the agent's log has the details"


def lines(bindings: Sequence[Binding], config: Config, layout: Layout) -> list[str]:
    """One each. Numbers that have left the configuration meanwhile are a dash."""
    booted_ns = time.time_ns() - time.monotonic_ns()
    endpoints = layout.by_id()
    services = {place.id: show_endpoint(place.vip, place.port) for place in layout.services}
    ours = {family: config.edge.snat_of(family) for family in (4, 6)}
    found = []
    for each in bindings:
        seconds, rest = divmod(booted_ns + each.at_ns, 1_000_000_000)
        at = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1_000_000:03}Z"
        snat = ours[4 if abi.is_ipv4(each.client) else 6]
        place = endpoints.get(each.endpoint)
        words = (
            at,
            _PROTOCOLS.get(each.protocol, str(each.protocol)),
            show_endpoint(abi.show_address(each.client), abi.show_port(each.client_port)),
            services.get(each.service, _UNKNOWN),
            show_endpoint(snat[each.snat], abi.show_port(each.snat_port))
            if each.snat < len(snat)
            else _UNKNOWN,
            place.key if place else _UNKNOWN,
            place.cdn if place else _UNKNOWN,
        )
        found.append(" ".join(words) + "\n")
    return found
