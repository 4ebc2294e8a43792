"""The suite: rounds with and without consoles, in a lab of its own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from cdnctl import paths
from cdnctl.lab import processes
from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import LabError
from cdnctl.model import FRAME_INTERVAL_S
from tests.bench.agent.consoles import watching
from tests.bench.results import Result, Unsound, beside, within

NAME = "bench-agent"
LIMITS = {"endpoints": 12, "flows": 100_000, "block_entries": 10_000}
CONSOLES, STALLED = 20, 1
REQUESTS_PER_S = 260
CPU_LIMIT, LATE_LIMIT_MS = 10.0, 50.0
"""Percent of a core; and the 99th of 100 frames."""
_SETTLE_S, _ROUND_S = 3.0, 6.0


def results(*, quick: bool, say: Callable[[str], None]) -> list[Result]:
    """All rows. Raises Unsound, LabError."""
    alone, watched, late = list[float](), list[float](), list[float]()
    say("an edge, clients and CDNs")
    with Lab(NAME, limits=LIMITS, agent=True) as lab:
        traffic = lab.start_clients(rate=REQUESTS_PER_S)
        time.sleep(_SETTLE_S)
        for number in range(1 if quick else 4):
            say(f"{CONSOLES} consoles, round {number + 1}")
            alone.append(_cpu_percent(lab))
            with watching(paths.socket_path(lab.name), CONSOLES - STALLED, STALLED) as readers:
                time.sleep(_SETTLE_S)  # what is kept of the past is sent
                before = [(reader.newest, len(reader.late_ms)) for reader in readers]
                watched.append(_cpu_percent(lab))
                _check([reader.newest - seq for reader, (seq, _) in zip(readers, before, strict=True)])
                took = [
                    ms for reader, (_, n) in zip(readers, before, strict=True) for ms in reader.late_ms[n:]
                ]
                late.append(statistics.quantiles(took, n=100)[98])
        traffic.check()
    if lab.left:
        raise LabError(f"not to be removed: {', '.join(lab.left)}")
    return [
        within(f"agent, {CONSOLES} consoles, of a core / limit", watched, CPU_LIMIT, unit="%", gate=True),
        beside("the same / without consoles", watched, alone, unit="%"),
        within(
            f"frame with a console, p99, one of {CONSOLES} stalled / limit",
            late,
            LATE_LIMIT_MS,
            unit="ms",
            gate=True,
        ),
    ]


def _cpu_percent(lab: Lab) -> float:
    """What the agent takes of a core in a round."""
    if lab.agent is None or lab.agent.poll() is not None:
        raise Unsound("the agent has ended")
    began, before_s = time.monotonic(), processes.cpu_s(lab.agent.pid)
    time.sleep(_ROUND_S)
    return 100 * (processes.cpu_s(lab.agent.pid) - before_s) / (time.monotonic() - began)


def _check(frames: list[int]) -> None:
    """Every console had every frame."""
    wanted = _ROUND_S / FRAME_INTERVAL_S
    if min(frames) < wanted - 2:
        raise Unsound(f"a console got {min(frames)} frames of {wanted:.0f}")
