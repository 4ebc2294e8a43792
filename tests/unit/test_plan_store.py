"""What the planner keeps of regions and classes on disk, also over a boot; and how a shell shows it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cdnctl.cli import planner as spoken
from cdnctl.engine import plan_store
from cdnctl.engine.plan_cells import CellPlanning
from cdnctl.engine.plan_store import Kept, PlanStore
from cdnctl.model import CdnPlan, CellPlan, PlannerPicture
from cdnctl.steering.forecast import Foresight
from cdnctl.steering.planner import Cell, Memory

EU = Cell("eu", "video")


def test_cells_are_kept_by_their_names(tmp_path: Path) -> None:
    cells = CellPlanning()
    cells.memory = {
        EU: {"aurora": Memory(kept=0.4, factor=0.4)},
        Cell("", "bulk"): {"borealis": Memory(bad=2)},
    }
    PlanStore(tmp_path).save(Kept(cells=cells.kept()), Foresight(), at_once=True)
    kept, _ = PlanStore(tmp_path).load()
    after = CellPlanning()
    after.take_up(kept.cells)
    assert after.memory == cells.memory


def test_after_a_boot_times_are_of_the_new_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = CellPlanning()
    cells.memory = {EU: {"aurora": Memory(moved_at_s=time.monotonic() - 7, penalty=900.0)}}
    PlanStore(tmp_path).save(Kept(cells=cells.kept()), Foresight(), at_once=True)
    now_s = 20.0
    monkeypatch.setattr(plan_store.time, "monotonic", lambda: now_s)
    kept, _ = PlanStore(tmp_path).load()
    (cell,) = kept.cells
    assert now_s - cell.memory["aurora"].moved_at_s == pytest.approx(7, abs=0.5)


def test_what_earlier_versions_kept_has_no_cells(tmp_path: Path) -> None:
    (tmp_path / "planner.json").write_text('{"acted": true, "memory": {"aurora": {"kept": 0.5}}}')
    kept, _ = PlanStore(tmp_path).load()
    assert (kept.cells, kept.memory["aurora"].kept) == ([], 0.5)


def test_a_shell_shows_them_below_their_cdn(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [CellPlan(region=region, traffic_class="video", factor=0.4, why="slow") for region in ("eu", "")]
    plans = {"aurora": CdnPlan(cells=cells), "borealis": CdnPlan()}
    spoken._show(PlannerPicture(mode="on", acts=True), plans)
    told = [line.strip() for line in capsys.readouterr().out.splitlines()]
    at = next(number for number, line in enumerate(told) if line.startswith("aurora"))
    assert told[at + 1].startswith("video from eu")
    assert "40%" in told[at + 1]
    assert "slow" in told[at + 1]
    assert told[at + 2].startswith("video from no region")
    assert told[at + 3].startswith("borealis")
