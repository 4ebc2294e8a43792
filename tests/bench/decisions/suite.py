"""The suite: rows measured on a rig of its own."""

from __future__ import annotations

import os
from collections.abc import Callable

from tests.bench.decisions import loading
from tests.bench.decisions.rig import Rig
from tests.bench.decisions.rounds import Plan, measure
from tests.bench.decisions.rows import Bench
from tests.bench.results import Result

FULL, QUICK = Plan(rounds=101, seconds=200.0), Plan(rounds=15, seconds=30.0)


def results(*, quick: bool, say: Callable[[str], None]) -> list[Result]:
    """All rows. Raises Unsound, CdnctlError."""
    allowed = os.sched_getaffinity(0)
    with Rig() as rig:
        say("an edge with its flows and blocks")
        rows = Bench(rig).rows
        os.sched_setaffinity(0, {max(allowed)})
        try:
            measured = measure(rig, rows, QUICK if quick else FULL, say)
        finally:
            os.sched_setaffinity(0, allowed)
        return measured + (loading.results(rig.engine.program.built) if rig.engine.program.built else [])
