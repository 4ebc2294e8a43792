"""Is a CDN bad, good, or in the band between, beside its peers?"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Literal, NamedTuple

from cdnctl.steering.planner.reading import Latency, Reading
from cdnctl.steering.planner.settings import Settings

Fault = Literal["", "failures", "loss", "first_byte", "handshake"]


class Judgement(NamedTuple):
    """Of one CDN in one round."""

    fault: Fault = ""
    """The gravest thing that is bad; empty: nothing is."""
    own: float = 0.0
    peers: float = 0.0
    limit: float = 0.0
    """Milliseconds, or shares from 0 to 1."""
    is_good: bool = False
    """Neither bad nor good: in the band, or not comparable."""


def judge(own: Reading, peers: Sequence[Reading], settings: Settings) -> Judgement:
    """`own` beside its peers. A lone CDN, or one with few samples, is neither bad nor good."""
    faults: list[Judgement] = []
    verdicts: list[bool] = []
    _judge_share(
        "failures",
        (own.failures, own.attempts, settings.min_samples),
        [each.failures for each in peers if each.attempts >= settings.min_samples],
        (settings.bad_failures, settings.good_failures, settings),
        faults,
        verdicts,
    )
    _judge_share(
        "loss",
        (own.loss, own.segments, settings.min_segments),
        [each.loss for each in peers if each.segments >= settings.min_segments],
        (settings.bad_loss, settings.good_loss, settings),
        faults,
        verdicts,
    )
    pairs: tuple[tuple[Fault, Latency | None, list[Latency | None]], ...] = (
        ("first_byte", own.first_byte, [each.first_byte for each in peers]),
        ("handshake", own.handshake, [each.handshake for each in peers]),
    )
    for what, mine, theirs in pairs:
        enough = [each.p95_ms for each in theirs if each is not None and each.samples >= settings.min_samples]
        if mine is None or mine.samples < settings.min_samples or not enough:
            continue
        usual = median(enough)
        limit = max(settings.bad_factor * usual, usual + settings.bad_ms)
        if mine.p95_ms > limit:
            faults.append(Judgement(what, mine.p95_ms, usual, limit))
        verdicts.append(mine.p95_ms < max(settings.good_factor * usual, usual + settings.good_ms))
        break  # handshakes only where first bytes cannot be compared
    if faults:
        return faults[0]
    return Judgement(is_good=bool(verdicts) and all(verdicts))


def _judge_share(
    what: Fault,
    own: tuple[float, int, int],
    peers: list[float],
    bounds: tuple[float, float, Settings],
    faults: list[Judgement],
    verdicts: list[bool],
) -> None:
    value, count, least = own
    bad, good, settings = bounds
    if count < least or not peers:
        return
    usual = median(peers)
    limit = max(bad, settings.peers_factor * usual)
    if value > limit:
        faults.append(Judgement(what, value, usual, limit))
    verdicts.append(value < max(good, settings.good_factor * usual))
