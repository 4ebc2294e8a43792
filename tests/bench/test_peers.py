"""The suite that puts peers on the same links: what it reads, what it makes of it, what it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cdnctl.paths import pin_dir
from tests.bench.peers import load, place, suite
from tests.bench.peers.figures import Figures, added_us, quantile, rows
from tests.bench.peers.load import Cost
from tests.bench.peers.processors import Processors
from tests.bench.results import Result, Unsound, beside

ROOT = Path(__file__).parents[2]
SUMMARY = 'Running 1s test\nSUMMARY {"requests": 4000, "bytes": 2000000, "us": 1100000, "failed": 0}\n'


def test_cost_by_wrks_summary() -> None:
    cost = load.cost(SUMMARY, busy_s=2.0)
    assert cost.us_per_request == 500
    assert cost.ms_per_gigabyte == 1e6
    assert cost.requests_per_s == pytest.approx(4000 / 1.1)
    assert cost.without(1.0).busy_s == pytest.approx(0.9)


@pytest.mark.parametrize(
    "said",
    [
        "unable to connect to 203.0.113.80:80",
        SUMMARY.replace('"failed": 0', '"failed": 5'),
        SUMMARY.replace('"requests": 4000', '"requests": 0'),
    ],
)
def test_a_load_that_fails_is_no_measurement(said: str) -> None:
    with pytest.raises(Unsound):
        load.cost(said, busy_s=2.0)


def test_busy_is_what_is_neither_idle_nor_stolen() -> None:
    ticks = os.sysconf("SC_CLK_TCK")

    def stat(idle: int, waiting: int, stolen: int) -> str:
        total = f"cpu  7 7 7 {idle * ticks} {waiting * ticks} 7 7 {stolen * ticks} 0 0\n"
        return total + "cpu0 1\ncpu1 1\nintr 5\n"

    before = Processors.parse(stat(10, 1, 0), 100.0)
    later = Processors.parse(stat(12, 2, 1), 105.0)
    assert before.busy_until(later) == pytest.approx(2 * 5 - 4)


def test_quantiles() -> None:
    hundred = [float(each) for each in range(100, 0, -1)]
    assert quantile(hundred, 0.99) == 99
    assert quantile(hundred, 0.5) == 50
    assert quantile([7.0], 0.99) == 7


def test_added_is_never_less_than_nothing() -> None:
    assert added_us([310.0, 290.0], [300.0, 300.0]) == [10.0, 1.0]


def figures(us: float, own_us: float, times_us: list[float]) -> Figures:
    cost = Cost(requests=10_000, bytes=1, seconds=1.0, busy_s=us / 100)
    return Figures(new=[cost] * 3, own_us=[own_us] * 3, times_us=[times_us] * 3)


def found(ours: Figures, haproxy: Figures, routing: Figures) -> dict[str, Result]:
    made = rows({"routing": routing, "HAProxy": haproxy, "ours": ours}, run_us=[4.0])
    assert len({row.name for row in made}) == len(made)
    return {row.name: row for row in made}


def test_rows_and_their_gates() -> None:
    row = found(figures(90, 1, [300.0]), figures(180, 80, [500.0]), figures(80, 0, [280.0]))
    assert {name for name, each in row.items() if each.gate} == {
        "CPU of the box per new connection / HAProxy",
        "own share per new connection, program / HAProxy",
        "latency added, p99 / HAProxy",
    }
    assert all(each.holds for each in row.values())
    assert row["CPU of the box per new connection / HAProxy"].ratio == pytest.approx(0.5)
    assert row["own share per new connection, program / HAProxy"].ratio == pytest.approx(0.05)
    assert row["own share per new connection, program and agent / HAProxy"].ours == pytest.approx(5)
    assert row["latency added, p99 / HAProxy"].ratio == pytest.approx(20 / 220)


def test_as_slow_as_the_peer_is_a_miss() -> None:
    row = found(figures(90, 1, [500.0]), figures(180, 80, [500.0]), figures(80, 0, [280.0]))
    assert not row["latency added, p99 / HAProxy"].holds


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_rounds_go_on_while_a_gate_is_open() -> None:
    decided = beside("x", [1, 1, 1], [2, 2, 2], unit="us", bound=0.6, gate=True)
    still_open = beside("x", [1, 1.3, 1], [2, 2, 2], unit="us", bound=0.55, gate=True)
    aim = beside("x", [1, 1.3, 1], [2, 2, 2], unit="us", bound=0.55)
    assert len(list(suite._rounds(3, lambda: [decided, aim]))) == 3
    assert len(list(suite._rounds(3, lambda: [decided, still_open]))) == 6


@pytest.mark.soak
def test_whole_run_leaves_nothing(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench", "peers", "--quick"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    lines: list[dict[str, Any]] = json.loads((tmp_path / "bench.json").read_text())
    missed = [line["name"] for line in lines if line["gate"] and not line["holds"]]
    assert run.returncode == (1 if missed else 0)
    assert all(line["ours"] > 0 and line["peer"] > 0 for line in lines)
    left = [*Path("/run/netns").glob(f"{place.NAME}*"), place.HOME, pin_dir(place.NAME)]
    assert [path for path in left if path.exists()] == []
    commands = [path.read_bytes() for path in _command_lines()]
    assert not [command for command in commands if place.NAME.encode() in command]


def _command_lines() -> list[Path]:
    return [path for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
