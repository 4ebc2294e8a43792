"""The suite `attacks`: what it states, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cdnctl.lab import record
from cdnctl.lab.attacks.assault import Evidence
from cdnctl.lab.attacks.claims import Honest
from cdnctl.lab.attacks.kinds import ATTACKS
from cdnctl.lab.loads import Offered
from tests.bench.attacks import suite
from tests.bench.attacks.suite import NAME
from tests.bench.results import Result, Unsound

ROOT = Path(__file__).resolve().parents[2]
S = 1_000_000_000


class Played:
    """An assault that is over."""

    def __init__(self, attack: str, evidence: Evidence) -> None:
        self.attack, self.evidence = ATTACKS[attack], evidence


def honest(served: int, kept: int, total_p95_ms: float = 50.0) -> Honest:
    return Honest(1000, served, 40, kept, 20.0, total_p95_ms)


def found(under: Honest, attack: str = "syn-flood", pps: float = 1e6) -> dict[str, Result]:
    offered = Offered(sent=9_000_000, begun_ns=0, at_ns=10 * S, done=True, by_source={})
    evidence = Evidence(offered=offered, received=8_990_000, ring_lost=10_000)
    made = suite.rows(Played(attack, evidence), honest(1000, 40), under, pps)  # type: ignore[arg-type]
    return {row.name.partition(": ")[2]: row for row in made}


@pytest.mark.parametrize(("served", "kept", "holds"), [(990, 40, True), (989, 40, False), (1000, 39, False)])
def test_one_in_a_hundred_new_requests_may_fail_and_no_connection(
    served: int, kept: int, holds: bool
) -> None:
    rows = found(honest(served, kept))
    gates = {name: row for name, row in rows.items() if row.gate}
    assert set(gates) == {"honest new requests served / 99 %", "established connections kept / all"}
    assert all(row.holds for row in gates.values()) is holds


def test_both_rates_what_was_lost_and_how_long_it_took_are_told() -> None:
    rows = found(honest(1000, 40, total_p95_ms=75.0))
    assert rows["request p95 / in calm"].ratio == 1.5
    rate = rows["offered / a program that only drops"]
    assert (rate.ours, rate.peer) == (0.9, 1.0)
    assert rows["lost in the ring / offered"].ratio == pytest.approx(10_000 / 9_000_000)
    assert not {"offered / a program that only drops"} & set(found(honest(1000, 40), "slow-sources"))


def test_of_an_attack_that_nobody_was_asked_in_nothing_is_stated() -> None:
    with pytest.raises(Unsound):
        found(Honest(0, 0, 0, 0, None, None))


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0, reason="loads programs and makes network namespaces")
def test_a_whole_run_holds_its_gates_and_leaves_nothing(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.bench", "attacks"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    lines: list[dict[str, Any]] = json.loads((tmp_path / "bench.json").read_text())
    assert {line["name"].partition(": ")[0] for line in lines} == set(ATTACKS)
    assert sum(line["gate"] for line in lines) == 2 * len(ATTACKS)
    assert record.load(NAME) is None
    assert list(Path("/run/netns").glob(f"cdnctl-{NAME}-*")) == []
