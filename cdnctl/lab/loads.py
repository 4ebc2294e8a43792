"""Running generators of packets: floods, and senders of known rates."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

from cdnctl.lab.processes import Generator, LabError


class Offered(NamedTuple):
    """What a generator has sent so far."""

    sent: int
    begun_ns: int
    at_ns: int
    done: bool
    by_source: dict[str, int]
    opened: int = 0
    """Of connections that were begun: those that came about, ..."""
    failed: int = 0
    """... that did not, or that somebody ended, ..."""
    held: int = 0
    """... and that are open still."""

    @property
    def pps(self) -> float:
        """Packets a second since it began."""
        return self.sent / max(1e-9, (self.at_ns - self.begun_ns) / 1e9)


class Load:
    """A running flood, or known senders."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self.pid = generator.process.pid
        self.offered = self._next()

    def _next(self) -> Offered:
        answer: dict[str, Any] = self._generator.answer(10.0)
        return Offered(**{"by_source": {}, **answer})

    def progress(self) -> Offered:
        """What was sent up to now (at most 0.2 s old)."""
        while not self.offered.done and self._generator.has_answer():
            self.offered = self._next()
        return self.offered

    def wait(self) -> Offered:
        """Wait for its end, which its own bound on time brings."""
        while not self.offered.done:
            self.offered = self._next()
        self._generator.end()
        return self.offered

    def stop(self) -> Offered:
        """End it now."""
        if not self.offered.done:
            with contextlib.suppress(LabError):
                self._generator.order(stop=True)
        return self.wait()
