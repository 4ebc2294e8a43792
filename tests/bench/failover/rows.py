"""What the trials say, as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from tests.bench.failover.trial import (
    BUSY,
    DARK,
    HANDSHAKE_MS,
    HELD_UP_MS,
    LATE_MS,
    LOSSY,
    QUIET,
    Fault,
    Seen,
)
from tests.bench.results import Result, beside, within

EDGE, STOPPED, PROXY = "edge", "edge, agent stopped", "HAProxy"
"""Whose trials they are."""
FLOOR_MS, HANDSHAKES, INTERVALS = 100.0, 3, 6
"""A dark CDN gets its last new flow within so many handshakes, or the floor, and so many of its intervals."""
QUIET_FLOWS = 6
"""And so many flows at most, when they come so seldom that time says nothing."""

Trials = Mapping[str, Sequence[Seen]]
"""Trials of one fault by balancer; those of the same number were made one after the other."""


def allowed_ms(seen: Seen) -> float:
    """From the fault to the last new flow, at most."""
    return max(HANDSHAKES * HANDSHAKE_MS, FLOOR_MS) + INTERVALS * seen.interval_ms


def rows(fault: Fault, trials: Trials) -> Iterator[Result]:
    """All of one fault."""
    for who in (EDGE, STOPPED):
        if who in trials:
            yield from _of_dark(who, trials) if fault is DARK else _of_others(fault, who, trials)


def _of_dark(who: str, trials: Trials) -> Iterator[Result]:
    ours = trials[who]
    busy, quiet = (f"dark, {rate:g} flows/s{_how(who)}" for rate in (BUSY, QUIET))
    last = f"{busy}: fault to last new flow"
    yield beside(
        f"{last} / allowed",
        [seen.last_ms for seen in ours],
        [allowed_ms(seen) for seen in ours],
        unit="ms",
        bound=1.0,
        gate=True,
    )
    after = f"{quiet}: flows after the fault"
    yield within(
        f"{after} / {QUIET_FLOWS}", [s.quiet_flows for s in ours], QUIET_FLOWS, unit="flows", gate=True
    )
    yield _beside_proxy(last, ours, trials, lambda seen: seen.last_ms, "ms", bound=1.0)
    yield _beside_proxy(after, ours, trials, lambda seen: seen.quiet_flows, "flows")
    yield from _of_clients(busy, ours, trials)


def _of_others(fault: Fault, who: str, trials: Trials) -> Iterator[Result]:
    ours, name = trials[who], f"{fault.name}{_how(who)}"
    if fault.share_from_s:
        share = f"{name}: its share of new flows after {fault.share_from_s:g} s"
        yield _beside_proxy(share, ours, trials, lambda seen: 100 * seen.share, "%")
    if fault is not LOSSY:  # of which some flows are well worth while
        yield _beside_proxy(f"{name}: fault to last new flow", ours, trials, lambda seen: seen.last_ms, "ms")
    yield from _of_clients(name, ours, trials)


def _of_clients(name: str, ours: Sequence[Seen], trials: Trials) -> Iterator[Result]:
    for ms, count in ((LATE_MS, lambda seen: seen.late), (HELD_UP_MS, lambda seen: seen.held_up)):
        what = f"{name}: requests failed or over {ms / 1000:g} s"
        yield _beside_proxy(what, ours, trials, count, "")


def _beside_proxy(
    name: str,
    ours: Sequence[Seen],
    trials: Trials,
    figure: Callable[[Seen], float],
    unit: str,
    *,
    bound: float | None = None,
) -> Result:
    """HAProxy's nothing counts as one, or there would be no ratio."""
    theirs = trials[PROXY]
    least = ""
    if unit == "ms" and all(seen.goes_on for seen in theirs):
        least = f" (>= {min(seen.looked_ms for seen in theirs):,.0f} ms: it goes on)"
    return beside(
        f"{name} / HAProxy{least}",
        [figure(seen) for seen in ours],
        [max(1.0, figure(seen)) for seen in theirs],
        unit=unit,
        bound=bound,
    )


def _how(who: str) -> str:
    return who.removeprefix(EDGE)
