"""How full the tables are that the kernel fills by itself: counted a batch at a time, round after round.

A table of a million flows is 80 MB to look through; a round may take its time, a frame may not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from cdnctl.datapath.kernel import Map
from cdnctl.datapath.tables import Tables
from cdnctl.model import MapFill

BUDGET_S = 0.001
"""Of a frame's time; a batch that was begun is finished."""
EVERY_S = 5.0
"""A round begins no sooner after the last one began."""


class Fills:
    """Of one edge; `tick` once a frame."""

    def __init__(self) -> None:
        self._tables: Tables | None = None
        self._round: Iterator[None] | None = None
        self._began_s = -EVERY_S
        self._counted: dict[str, MapFill] = {}

    def tick(self, tables: Tables) -> list[MapFill]:
        """Go on counting; what was found in the last round. A reload may come with other tables."""
        if tables is not self._tables:
            self._tables, self._round, self._began_s = tables, None, -EVERY_S
            self._counted.clear()
        now_s = time.monotonic()
        if self._round is None and now_s - self._began_s >= EVERY_S:
            self._round, self._began_s = self._count(tables), now_s
        while self._round is not None:
            if next(self._round, _OVER) is _OVER:
                self._round = None
            if time.monotonic() - now_s >= BUDGET_S:  # only now: also a tick that comes late gets on
                break
        return list(self._counted.values())

    def _count(self, tables: Tables) -> Iterator[None]:
        """A round, which rests after each batch."""
        for name, table in tables.filled_by_kernel().items():
            entries = 0
            try:
                for count, _, _ in table.batches():
                    entries += count
                    yield
            except OSError:
                continue  # a bucket larger than a batch, or a kernel without: what was known stays
            self._counted[name] = _fill(name, entries, table)


def _fill(name: str, entries: int, table: Map) -> MapFill:
    return MapFill(name=name, entries=entries, room=table.info.max_entries)


_OVER = object()
