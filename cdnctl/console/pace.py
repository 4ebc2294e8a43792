"""When to draw what comes in.

A frame is drawn at once. Where many come one after the other, as those that an agent sends of the past to
whoever connects, only the last of them is worth the drawing: it is waited for until none follows.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

QUICK_S = 0.1
"""Frames that follow each other within this belong together."""
SETTLE_S = 0.015
MOST_S = 0.3
"""So long at most is nothing drawn, however many come."""


class Pace:
    """Calls `draw` for the news; it must not be told of any before the loop runs."""

    def __init__(self, draw: Callable[[], None]) -> None:
        self._draw = draw
        self._last_s = math.inf  # the first is one of many
        self._since_s = 0.0
        """When what is not drawn yet began to come; 0: all is drawn."""

    @property
    def is_due(self) -> bool:
        """Whether something is still to be drawn."""
        return bool(self._since_s)

    def news(self) -> None:
        """Something came in."""
        now_s = time.monotonic()
        quick, self._last_s = now_s - self._last_s < QUICK_S, now_s
        if self._since_s:
            return
        self._since_s = now_s
        asyncio.get_running_loop().call_later(SETTLE_S if quick else 0.0, self._look)

    def draw_now(self) -> None:
        """Draw what is due without waiting for more: a cast knows that none follows."""
        if self._since_s:
            self._since_s = 0.0
            self._draw()

    def _look(self) -> None:
        if not self._since_s:
            return  # drawn meanwhile
        now_s = time.monotonic()
        if (
            now_s - self._last_s < SETTLE_S
            and now_s - self._since_s < MOST_S
            and self._since_s != self._last_s
        ):
            asyncio.get_running_loop().call_later(SETTLE_S, self._look)
            return
        self._since_s = 0.0
        self._draw()
