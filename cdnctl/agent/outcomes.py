"""What became of requests, for those who ask again because they lost the answer.

Bounded in time and number; what had to go early is known to be missing, so that a request is never carried
out twice for want of room here.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from cdnctl.model import AnyChange, Outcome

KEPT_S = 300.0
"""Longer than any client goes on asking."""
KEPT = 4096


class Key(NamedTuple):
    """One request of one client, over all its connections."""

    uid: int
    session: str
    number: int


class First(NamedTuple):
    """The first time that it was asked."""

    at_s: float
    digest: bytes
    """Of the command, which may be long."""
    outcome: Outcome | asyncio.Task[Outcome]
    """A task: it is under way."""

    def is_of(self, command: AnyChange) -> bool:
        """Whether it is what was asked then."""
        return self.digest == _digest(command)

    async def wait(self) -> Outcome:
        """The outcome; whoever waits and goes away ends nothing."""
        if isinstance(self.outcome, Outcome):
            return self.outcome
        return await asyncio.shield(self.outcome)


class Outcomes:
    """By request, the oldest first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: OrderedDict[Key, First] = OrderedDict()
        self._forgotten_s = -KEPT_S
        """When the last one went before its time."""

    def find(self, key: Key) -> First | None:
        """The first time, if it is known."""
        self._expire()
        return self._first.get(key)

    def keep(self, key: Key, command: AnyChange, outcome: Outcome | asyncio.Task[Outcome]) -> First:
        """Note it, in place of what was under way."""
        self._expire()
        first = self._first[key] = First(self._clock(), _digest(command), outcome)
        if len(self._first) > KEPT:
            self._first.popitem(last=False)
            self._forgotten_s = self._clock()
        return first

    @property
    def is_whole(self) -> bool:
        """Whether a request that is not here has not been carried out in the last `KEPT_S`."""
        return self._clock() - self._forgotten_s >= KEPT_S

    def _expire(self) -> None:
        oldest_s = self._clock() - KEPT_S
        while self._first:
            key = next(iter(self._first))
            if self._first[key].at_s > oldest_s:
                return
            del self._first[key]


def _digest(command: AnyChange) -> bytes:
    return hashlib.blake2b(msgspec.msgpack.encode(command), digest_size=16).digest()
