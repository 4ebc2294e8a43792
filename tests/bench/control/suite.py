"""The suite: lists and edits on a rig, starts on its namespaces, reloads under traffic."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.bench.control import a_million, blocks, reloads, starts
from tests.bench.decisions import rig
from tests.bench.results import Result


class _Plan(NamedTuple):
    loads: int
    edits: int
    starts: int
    reloads: int


_FULL, _QUICK = _Plan(5, 200, 5, 6), _Plan(1, 50, 1, 1)


def results(*, quick: bool, say: Callable[[str], None]) -> list[Result]:
    """All rows. Raises Unsound, CdnctlError."""
    plan = _QUICK if quick else _FULL
    with rig.Rig() as edge:
        say("reloads under traffic")
        found = reloads.rows(edge, plan.reloads)
        say("a million prefixes from a file")
        found = a_million.rows() + found
        say("a million blocks")
        found = blocks.rows(edge, plan.loads, plan.edits) + found
    say("starts")
    with rig.namespaces():
        return found + starts.rows(plan.starts)
