"""The suite: rows measured on rigs of its own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from tests.bench.decisions import loading, refused, rows
from tests.bench.decisions.rig import MILLION, Rig, uncollected
from tests.bench.decisions.rounds import Plan, measure
from tests.bench.results import Result

FULL, QUICK = Plan(rounds=51, seconds=120.0), Plan(rounds=9, seconds=6.0, at_least=3)
SHORT = Plan(rounds=15, seconds=20.0)
"""What is only looked at."""


def results(*, quick: bool, say: Callable[[str], None]) -> list[Result]:
    """All rows. Raises Unsound, CdnctlError."""
    with Rig() as rig:
        say("an edge with its flows and blocks")
        with uncollected():
            bench = rows.Bench(rig)
            usual = [
                row for row in bench.rows() if row.bound is not None or row.aim_ns is not None or not quick
            ]
        with _on_one_cpu():
            measured = measure(rig, usual, QUICK if quick else FULL, say)
            if not quick:
                measured += measure(rig, list(bench.rest()), SHORT, say)
                measured += measure(rig, list(refused.rows(rig, bench)), SHORT, say)
                for count in rows.SHORTER_LISTS:
                    measured += measure(rig, list(bench.blocked(count)), SHORT, say)
        if rig.engine.program.built:
            measured += loading.results(rig.engine.program.built)
    if not quick:
        say("a million flows")
        with Rig(MILLION) as rig, uncollected(), _on_one_cpu():
            measured += measure(rig, list(rows.of_a_million(rig)), SHORT, say)
    return measured


@contextlib.contextmanager
def _on_one_cpu() -> Iterator[None]:
    """The last one, which the fewest interrupts come to."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
