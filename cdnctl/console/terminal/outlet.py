"""What goes to the terminal, written by a thread of its own."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable

_AT_ONCE = 16 << 10
"""Bytes handed to the kernel at a time: what is under way is known to about that."""


class Outlet:
    """Takes text at once, whatever the terminal does; `waiting` tells how much of it has not left yet.

    Only whole texts are ever thrown away, so no escape sequence is cut in two.
    """

    def __init__(
        self, fd: int, encoding: str, *, on_empty: Callable[[], None], on_gone: Callable[[], None]
    ) -> None:
        """Both are called in the thread: after all has left, and when nobody is there to write to."""
        self._fd = fd
        self._encoding = encoding
        self._on_empty, self._on_gone = on_empty, on_gone
        self._texts: deque[bytes] = deque()
        self._waiting = 0
        self._ending = self._gone = self._ended = False
        self._news = threading.Condition()
        # a daemon: a write to a terminal that has stopped may never return
        self._thread = threading.Thread(target=self._run, name="console-output", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._waiting

    def write(self, text: str) -> None:
        """Have it written in its turn."""
        data = text.encode(self._encoding, "replace")
        with self._news:
            if data and not self._gone and not self._ending:
                self._texts.append(data)
                self._waiting += len(data)
                self._news.notify()

    def discard(self) -> None:
        """Forget what was not begun yet."""
        with self._news:
            self._waiting -= sum(map(len, self._texts))
            self._texts.clear()

    def end(self, within_s: float) -> bool:
        """Write what is left, for so long; whether all has left."""
        with self._news:
            self._ending = True
            self._news.notify()
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def go_on(self) -> bool:
        """Take text again after an end that has not come yet, behind what is under way; whether it does."""
        with self._news:
            self._ending = False
        self.discard()
        return not self._ended

    def _next(self) -> bytes:
        """The next text; empty at the end."""
        with self._news:
            while not self._texts and not self._ending:
                self._news.wait()
            self._ended = not self._texts
            return self._texts.popleft() if self._texts else b""

    def _run(self) -> None:
        try:
            while text := self._next():
                for start in range(0, len(text), _AT_ONCE):
                    self._write(text[start : start + _AT_ONCE])
                if not self._waiting:
                    self._on_empty()
        except OSError:
            with self._news:
                self._gone = self._ended = True
                self._texts.clear()
                self._waiting = 0
            self._on_gone()

    def _write(self, part: bytes) -> None:
        while part:
            taken = os.write(self._fd, part)
            part = part[taken:]
            with self._news:
                self._waiting -= taken
