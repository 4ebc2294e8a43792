"""What the host forgets by itself, asserted again and again over netlink.

All netlink is spoken in a thread of its own, since pyroute2 refuses to work under a running event
loop. The thread is in the network namespace of the one that asks first, and idles in between.
"""

from __future__ import annotations

import abc
import contextlib
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from pyroute2 import IPRoute

INTERVAL_S = 2.0
_WAIT_S = 5.0


class Change(NamedTuple):
    """What became of something that is kept."""

    text: str
    lost: bool


class Keeper(abc.ABC):
    """Has `_assert` done in a thread, at once or when it is due."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name)
        self._netlink: IPRoute | None = None
        self._faults: dict[str, str] = {}
        self._changes: deque[Change] = deque()
        self._asked_s = 0.0
        self._round: Future[None] | None = None

    def keep(self) -> None:
        """Assert it now; on return it is done, unless the kernel takes very long."""
        with contextlib.suppress(TimeoutError):
            self._ask().result(_WAIT_S)

    def keep_on(self) -> None:
        """Assert it if that is due. Returns at once: for every frame."""
        if time.monotonic() - self._asked_s >= self._interval_s() and (
            self._round is None or self._round.done()
        ):
            self._ask()

    def changes(self) -> list[Change]:
        """What was lost or is there again since the last call."""
        return [self._changes.popleft() for _ in range(len(self._changes))]

    def close(self) -> None:
        """End the thread; what was asserted stays."""
        with contextlib.suppress(RuntimeError):  # closed already
            self._pool.submit(self._hang_up)
        self._pool.shutdown(wait=False)

    def _ask(self) -> Future[None]:
        self._asked_s = time.monotonic()
        self._round = self._pool.submit(self._assert)
        return self._round

    def _wait_for(self, work: Callable[[], None]) -> None:
        with contextlib.suppress(TimeoutError):
            self._pool.submit(work).result(_WAIT_S)

    def _interval_s(self) -> float:
        return INTERVAL_S

    # -- in the thread --

    @abc.abstractmethod
    def _assert(self) -> None:
        """Have it so; raises nothing that can be foreseen, but takes a note."""

    def _note(self, what: str, fault: str, lost: str, again: str) -> None:
        """There is a fault with `what`, or none; told when that was otherwise before."""
        if fault and what not in self._faults:
            self._changes.append(Change(lost, True))
        elif not fault and what in self._faults:
            self._changes.append(Change(again, False))
        if fault:
            self._faults[what] = fault
        else:
            self._faults.pop(what, None)

    def _note_only(self, kept: Collection[str]) -> None:
        """Nothing is noted of anything else."""
        for what in self._faults.keys() - set(kept):
            del self._faults[what]

    def _socket(self) -> IPRoute:
        if self._netlink is None:
            self._netlink = IPRoute()
        return self._netlink

    def _hang_up(self) -> None:
        if self._netlink is not None:
            with contextlib.suppress(OSError):
                self._netlink.close()
            self._netlink = None
