"""A moment in which no flow begins, changes or ends, so that they can be moved: `is_held` in bpf/flow.h.

Steady flows go on; what would change one is dropped, and sent again. The kernel ends the moment by itself
after HELD_S: whoever is killed meanwhile leaves an edge that takes flows.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from pathlib import Path

from cdnctl.datapath import abi
from cdnctl.datapath.kernel import Map

HELD_S = 1.0
"""How long it lasts when nobody ends or extends it."""
SETTLED_S = 0.02
"""A packet that a CPU has begun with is done with after so long."""
_MARGIN_NS = 50_000_000
"""The kernel goes by a coarse clock."""


class Hold:
    """Of the tables in all of these places at once."""

    def __init__(self, homes: Sequence[Path]) -> None:
        self._tables = {home: Map.pinned(home / "held_until") for home in homes}
        self._until_ns = 0

    def begin(self) -> None:
        """From the return on nothing changes."""
        self.extend()
        time.sleep(SETTLED_S)

    def extend(self) -> None:
        """As long again from now."""
        self._until_ns = time.monotonic_ns() + int(HELD_S * 1e9)
        for table in self._tables.values():
            table.put(abi.key(0), struct.pack("Q", self._until_ns))

    @property
    def has_lapsed(self) -> bool:
        """Flows may have changed already."""
        return time.monotonic_ns() > self._until_ns - _MARGIN_NS

    def end(self, home: Path) -> None:
        """In these tables flows begin and end again; the others are done with."""
        self._tables[home].put(abi.key(0), bytes(8))
