"""What the service manager is told, if there is one: that we serve, that we live, what we do.

The notice of life (`WATCHDOG=1`) goes out with a frame that was really made, never from a timer of its own:
an agent whose engine hangs, or makes no frames any more, falls silent, and is started again.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping

from cdnctl.model import Frame

STATUS_EVERY_S = 5.0
_PART = 4
"""At least so many notices of life in the time that the manager waits for one."""


def notify(*states: str) -> None:
    """Tell it `READY=1` and the like; without a manager nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.setblocking(False)  # a manager that does not read must not stop the agent
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.sendall("\n".join(states).encode())


def watchdog_s(environment: Mapping[str, str]) -> float:
    """How long the manager waits for a notice of life; 0: it does not."""
    wanted, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not wanted.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(wanted) / 1e6


class Manager:
    """Told of an agent's life by its server."""

    def __init__(
        self,
        tell: Callable[..., None] = notify,
        clock: Callable[[], float] = time.monotonic,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._tell, self._clock = tell, clock
        self._alive_every_s = watchdog_s(environment) / _PART
        self._watched = bool(self._alive_every_s)
        self._alive_s = self._status_s = -STATUS_EVERY_S
        self._status = ""

    def ready(self) -> None:
        """We serve, or do so again after a reload."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """The configuration is being read; `ready` ends it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def frame(self, frame: Frame) -> None:
        """A frame was made."""
        now_s, states = self._clock(), []
        if self._watched and now_s - self._alive_s >= self._alive_every_s:
            self._alive_s = now_s
            states.append("WATCHDOG=1")
        if now_s - self._status_s >= STATUS_EVERY_S and (status := words(frame)) != self._status:
            self._status_s, self._status = now_s, status
            states.append(f"STATUS={status}")
        if states:
            self._tell(*states)


def words(frame: Frame) -> str:
    """How the edge is, for `systemctl status`: what changes little, so that it is not told each time."""
    attached = [each.name for each in frame.interfaces if each.mode != "detached"]
    fit = sum(each.state in ("in", "partly") for each in frame.cdns)
    mode = "" if frame.armed else "disarmed, "
    mode = "bypassed, " if frame.bypassed else mode
    mode += "observing, " if frame.observing else ""
    where = ", ".join(attached) or "nothing"
    return f"edge {frame.edge}: {mode}{fit} of {len(frame.cdns)} CDNs in; attached to {where}"
