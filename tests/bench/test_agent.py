"""The suite of the agent's own cost: it has its rows, they hold, and nothing is left of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cdnctl.paths import pin_dir
from tests.bench.agent.suite import NAME

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0, reason="loads programs and makes network namespaces")
def test_twenty_consoles_cost_little(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "agent", "--quick"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = json.loads((tmp_path / "bench.json").read_text())
    assert [line["gate"] for line in lines] == [True, False, True]
    assert all(line["holds"] and line["ours"] > 0 for line in lines)
    assert not pin_dir(NAME).exists()
    assert list(Path("/run/netns").glob(f"cdnctl-{NAME}-*")) == []
