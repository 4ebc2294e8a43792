"""What the planner keeps over restarts, on disk: its memory, what CDNs cost so far, forecasts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from cdnctl.engine.plan_cells import KeptCell
from cdnctl.state import files
from cdnctl.steering.forecast import Foresight
from cdnctl.steering.planner import Memory, Usage

S = TypeVar("S", bound=Struct)

SAVED_EVERY_S = 60.0
FORESIGHT_EVERY_S = 300.0
"""It is larger."""


class Kept(Struct, kw_only=True):
    """Small, and written at each shift."""

    clock_s: float = 0.0
    """The steady clock when it was written: after a boot that begins anew."""
    acted: bool = False
    """Whether it moved weights then; if not, it begins afresh."""
    memory: dict[str, Memory] = field(default_factory=dict)
    cells: list[KeptCell] = field(default_factory=list)
    """Regions and classes in which anything is held against anybody."""
    usage: dict[str, Usage] = field(default_factory=dict)
    """By CDN with a tariff."""
    shifts_total: int = 0


class PlanStore:
    """In the directory of an edge's state."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "planner.json"
        self._foresight_path = directory / "forecast.json"
        self._saved_s = self._foresight_s = time.monotonic()
        self.warnings: list[str] = []

    def load(self) -> tuple[Kept, Foresight]:
        """What was kept; what cannot be read is begun afresh, with a warning."""
        kept = self._read(self._path, Kept())
        return _on_this_clock(kept, time.monotonic()), self._read(self._foresight_path, Foresight())

    def _read(self, path: Path, fresh: S) -> S:
        try:
            return msgspec.json.decode(path.read_bytes(), type=type(fresh))
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError) as error:
            self.warnings.append(f"{path} cannot be read ({error}): the planner begins without it")
        return fresh

    def save(self, kept: Kept, foresight: Foresight, *, at_once: bool = False) -> None:
        """Write what is due, or all of it. Raises OSError."""
        now_s = time.monotonic()
        if at_once or now_s - self._saved_s >= SAVED_EVERY_S:
            self._saved_s = now_s
            kept.clock_s = now_s
            _write(self._path, kept)
        if now_s - self._foresight_s >= FORESIGHT_EVERY_S:
            self.save_foresight(foresight)

    def save_foresight(self, foresight: Foresight) -> None:
        """Write the forecasts. Raises OSError."""
        self._foresight_s = time.monotonic()
        _write(self._foresight_path, foresight)


def _write(path: Path, what: Struct) -> None:
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    files.replace(path, msgspec.json.encode(what) + b"\n")


def _on_this_clock(kept: Kept, now_s: float) -> Kept:
    """Times of a clock that was ahead of this one: there was a boot in between."""
    if kept.clock_s <= now_s:
        return kept
    back_s = kept.clock_s - now_s
    kept.memory = _earlier(kept.memory, back_s)
    for cell in kept.cells:
        cell.memory = _earlier(cell.memory, back_s)
    return kept


def _earlier(memory: dict[str, Memory], back_s: float) -> dict[str, Memory]:
    return {
        cdn: replace(
            each,
            moved_at_s=each.moved_at_s - back_s,
            penalty_at_s=each.penalty_at_s - back_s,
            ceiling_at_s=each.ceiling_at_s - back_s,
        )
        for cdn, each in memory.items()
    }
