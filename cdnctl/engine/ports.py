"""How long the SNAT ports towards each endpoint will last, from the collector's census."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

_MEMORY_S = 300.0
"""Growth is measured over the last minutes."""
_YOUNG_S = 45.0
"""Over less than this it says nothing."""
_HORIZON_S = 20 * 60.0
"""An end further away is none: traffic has its hours."""
_WORTH_TELLING = 0.25
"""Of few ports held, the end is told by nobody."""
_AGAIN_S = 300.0


class Outlook(NamedTuple):
    """Of the ports towards an endpoint."""

    held: float = 0.0
    """Their share, 0 to 1."""
    gone_in_s: float | None = None
    """When none is free, if it goes on like this."""


class Ports:
    """Remembers the last censuses."""

    def __init__(self, room: Mapping[int, int]) -> None:
        self.follow(room)
        self._past: deque[tuple[float, dict[int, int]]] = deque()
        self._told_s: dict[int, float] = {}

    def follow(self, room: Mapping[int, int]) -> None:
        """How many ports there are towards each endpoint from now on; those without need none."""
        self._room = {endpoint: ports for endpoint, ports in room.items() if ports}

    def note(self, held: Mapping[int, int], at_s: float) -> None:
        """A census: how many ports each endpoint's flows hold."""
        self._past.append((at_s, dict(held)))
        while len(self._past) > 2 and self._past[1][0] <= at_s - _MEMORY_S:
            self._past.popleft()

    def outlook(self, endpoint: int) -> Outlook:
        """As of the last census."""
        room = self._room.get(endpoint, 0)
        if not room or not self._past:
            return Outlook()
        (began_s, before), (at_s, newest) = self._past[0], self._past[-1]
        held = newest.get(endpoint, 0)
        grown, span_s = held - before.get(endpoint, 0), at_s - began_s
        gone_in_s = None
        if span_s >= _YOUNG_S and grown > 0:
            left_s = max(0, room - held) * span_s / grown
            gone_in_s = left_s if left_s <= _HORIZON_S else None
        return Outlook(min(1.0, held / room), gone_in_s)

    @property
    def tightest(self) -> float:
        """The largest share held towards any endpoint."""
        return max((self.outlook(endpoint).held for endpoint in self._room), default=0.0)

    def foretold(self, now_s: float) -> list[tuple[int, Outlook]]:
        """Endpoints whose ports run out soon; each again only after minutes."""
        found = []
        for endpoint in self._room:
            outlook = self.outlook(endpoint)
            if outlook.gone_in_s is None or outlook.held < _WORTH_TELLING:
                continue
            if now_s - self._told_s.get(endpoint, -_AGAIN_S) >= _AGAIN_S:
                self._told_s[endpoint] = now_s
                found.append((endpoint, outlook))
        return found
