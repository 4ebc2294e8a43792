"""Runs the collector of dead slots (bpf/sweep.h), a little at a time, and takes its census."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

from cdnctl.datapath import abi, kernel
from cdnctl.datapath.kernel import Map

BUDGET_S = 0.01
"""How long a step may take, about."""
_RUNS = 1024
"""Between two looks at the clock; a run looks at a handful of slots."""
_NO_FRAME = bytes(64)
_DONE = 2  # XDP_PASS: SWEEP_DONE in sweep.h
_ROW = struct.Struct(f"={abi.SLOT_STATES}Q")


class Sweep:
    """Goes over all slots, round after round. `program` is its descriptor, and closed with it."""

    def __init__(self, program: int, pins: Path) -> None:
        self._program = program
        self._progress = Map.pinned(pins / "sweeps")
        self._census = Map.pinned(pins / "census")
        self.rounds = 0
        """Those that were finished here."""
        self.open: dict[int, tuple[int, ...]] = {}
        """Slots by state (enum slot_state), for each endpoint that has any, as of the last round."""
        self._begin()

    def step(self, budget_s: float = BUDGET_S) -> bool:
        """Go on for so long; whether a round was finished. Raises OSError."""
        ends = time.monotonic() + budget_s
        while time.monotonic() < ends:
            if kernel.test_run(self._program, _NO_FRAME, repeat=_RUNS).action == _DONE:
                self.open = self._count()
                self.rounds += 1
                self._begin()
                return True
        return False

    @property
    def freed(self) -> int:
        """Slots that were collected since the tables were made."""
        return int(abi.Sweep.from_buffer_copy(self._progress.get(abi.key(0)) or b"").freed)

    def close(self) -> None:
        """Give the program back; twice does no harm."""
        program, self._program = self._program, -1
        if program >= 0:
            os.close(program)

    def _begin(self) -> None:
        self._census.put_all({abi.key(n): bytes(8) for n in range(self._census.info.max_entries)})
        self._progress.put(abi.key(0), bytes(abi.Sweep(next=0, freed=self.freed)))

    def _count(self) -> dict[int, tuple[int, ...]]:
        rows = _ROW.iter_unpack(b"".join(self._census.values()))
        return {endpoint: row for endpoint, row in enumerate(rows) if any(row)}
