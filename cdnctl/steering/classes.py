"""Video leaves a CDN whose latency, jitter or loss has become bad, while bulk stays.

A round judges each CDN against the median of its peers. One that is bad for some rounds in a row loses
part of its weight for video, round after round; one that is good for many gets it back. In between lies
a band where nothing moves, so that nothing swings. What is moved away is never more than half of all
weight, and a CDN keeps a little of its own, or nobody would learn that it has recovered.

All of it is a pure function of what was measured and of what it remembers.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

BAD_FACTOR, BAD_MS = 1.5, 20.0
"""Bad: over both, times the peers' median and so many milliseconds above it."""
GOOD_FACTOR, GOOD_MS = 1.2, 8.0
"""Good: under one of both. Of a few milliseconds, a fifth is noise."""
BAD_LOSS, BAD_LOSS_FACTOR = 0.02, 2.0
"""Bad: over both."""
GOOD_LOSS = 0.01
BAD_ROUNDS = 3
GOOD_ROUNDS = 10
MIN_SAMPLES = 20
MIN_SEGMENTS = 200
STEP = 0.1
"""Of all weight, at most so much moves in a round."""
FLOOR = 0.1
"""What a CDN keeps of its own weight."""
_MOST_MOVED = 0.5
_TRIFLE = 0.005
"""Less than this, of all weight, is not worth a shift."""


class Latency(NamedTuple):
    """Of the last seconds."""

    p50_ms: float
    p95_ms: float
    samples: int


class Measured(NamedTuple):
    """What is known of a CDN in a round."""

    first_byte: Latency | None = None
    """Of video."""
    handshake: Latency | None = None
    loss: float = 0.0
    """Share of the segments that were sent again."""
    segments: int = 0
    total: int = 0
    """Samples of latency ever: a round is one only with enough new ones."""


class Memory(NamedTuple):
    """What is remembered of a CDN."""

    kept: float = 1.0
    """The part of its weight that it has for video."""
    bad: int = 0
    """Rounds in a row."""
    good: int = 0
    total: int = 0
    """Samples at the last round."""


class Shift(NamedTuple):
    """A change of what a CDN keeps, and why."""

    cdn: str
    before: float
    after: float
    reason: str


class Plan(NamedTuple):
    """What a round leads to."""

    memory: dict[str, Memory]
    shifts: list[Shift]

    @property
    def kept(self) -> dict[str, float]:
        """The CDNs that do not keep all."""
        return {cdn: each.kept for cdn, each in self.memory.items() if each.kept < 1}


def plan(memory: Mapping[str, Memory], measured: Mapping[str, Measured], weights: Mapping[str, int]) -> Plan:
    """One round. `weights` are those in force: CDNs without one are out of it, and begin afresh later."""
    total = sum(weights.values())
    now = {cdn: memory.get(cdn, Memory()) for cdn, weight in weights.items() if weight > 0}
    kept = bounded(weights, {cdn: each.kept for cdn, each in now.items()})
    now = {cdn: each._replace(kept=kept[cdn]) for cdn, each in now.items()}
    shifts: list[Shift] = []
    for cdn, before in now.items():
        own = measured.get(cdn)
        if own is None or own.total - before.total < MIN_SAMPLES:
            continue
        peers = [measured[other] for other in now if other != cdn and other in measured]
        fault, good = _judge(own, peers)
        after = Memory(before.kept, before.bad + 1 if fault else 0, before.good + 1 if good else 0, own.total)
        if after.bad >= BAD_ROUNDS:
            room = _MOST_MOVED * total - _moved(weights, now)
            step = min(STEP * total, room, weights[cdn] * (before.kept - FLOOR))
            if step >= _TRIFLE * total:
                after = after._replace(kept=max(FLOOR, before.kept - step / weights[cdn]))
        elif after.good >= GOOD_ROUNDS:
            after = after._replace(kept=min(1.0, before.kept + STEP * total / weights[cdn]))
        if after.kept != before.kept:
            reason = fault or "as good as its peers again"
            shifts.append(Shift(cdn, before.kept, after.kept, reason))
        now[cdn] = after
    return Plan(now, shifts)


def bounded(weights: Mapping[str, int], kept: Mapping[str, float]) -> dict[str, float]:
    """`kept`, or so much more of it that no more than half of these weights is moved away."""
    total = sum(weights.values())
    moved = sum(weight * (1 - kept.get(cdn, 1.0)) for cdn, weight in weights.items())
    factor = min(1.0, _MOST_MOVED * total / moved) if moved else 1.0
    return {cdn: 1 - (1 - part) * factor for cdn, part in kept.items()}


def _moved(weights: Mapping[str, int], memory: Mapping[str, Memory]) -> float:
    return sum(weights[cdn] * (1 - each.kept) for cdn, each in memory.items())


def _judge(own: Measured, peers: list[Measured]) -> tuple[str, bool]:
    """What is bad about it, if anything is, and whether it is good. Neither when it cannot be compared."""
    faults: list[str] = []
    verdicts: list[bool] = []
    for what, mine, theirs in _comparable(own, peers):
        for name, value, others in (
            (f"p95 of {what}", mine.p95_ms, [each.p95_ms for each in theirs]),
            (f"jitter of {what}", _jitter(mine), [_jitter(each) for each in theirs]),
        ):
            usual = median(others)
            if value > max(BAD_FACTOR * usual, usual + BAD_MS):
                faults.append(f"{name} is {value:.0f} ms, its peers' {usual:.0f} ms")
            verdicts.append(value < max(GOOD_FACTOR * usual, usual + GOOD_MS))
        break  # handshakes only where first bytes cannot be compared
    losses = [each.loss for each in peers if each.segments >= MIN_SEGMENTS]
    if losses and own.segments >= MIN_SEGMENTS:
        usual = median(losses)
        if own.loss > max(BAD_LOSS, BAD_LOSS_FACTOR * usual):
            faults.append(f"{100 * own.loss:.1f} % of its segments are lost, its peers' {100 * usual:.1f} %")
        verdicts.append(own.loss < max(GOOD_LOSS, GOOD_FACTOR * usual))
    return "; ".join(faults), bool(verdicts) and all(verdicts)


def _comparable(own: Measured, peers: list[Measured]) -> list[tuple[str, Latency, list[Latency]]]:
    """What both it and a peer have enough samples of, the better measure first."""
    found = []
    for what, mine, theirs in (
        ("first bytes", own.first_byte, [each.first_byte for each in peers]),
        ("handshakes", own.handshake, [each.handshake for each in peers]),
    ):
        enough = [each for each in theirs if each is not None and each.samples >= MIN_SAMPLES]
        if mine is not None and mine.samples >= MIN_SAMPLES and enough:
            found.append((what, mine, enough))
    return found


def _jitter(latency: Latency) -> float:
    return latency.p95_ms - latency.p50_ms
