"""Is a CDN bad, good, or in the band between, beside its peers?

First bytes are judged by cell too, the clients of a region and a class of traffic, beside the peers' of that
cell. The whole is a mixture: one bad region in ten makes the p95 of everything bad, and a CDN with
more clients far away is slower than its peers without being worse to anybody. So who is sound in some cell
is not bad as a whole, as long as its cells explain what the whole looks like.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Literal, NamedTuple

from cdnctl.steering.planner.reading import Cell, Latency, Reading
from cdnctl.steering.planner.settings import Settings

Fault = Literal["", "failures", "loss", "first_byte", "handshake"]


_TAIL = 0.05
"""Fewer slow requests than this do not show in a p95."""


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
        found = _compared(what, mine, theirs, settings)
        if found is None:
            continue
        if what == "first_byte" and found.fault:
            found = _explained(found, own, judge_cells(own, peers, settings))
        if found.fault:
            faults.append(found)
        verdicts.append(found.is_good)
        break  # handshakes only where first bytes cannot be compared
    if faults:
        return faults[0]
    return Judgement(is_good=bool(verdicts) and all(verdicts))


def judge_cells(own: Reading, peers: Sequence[Reading], settings: Settings) -> dict[Cell, Judgement]:
    """By cell; those without samples enough, of `own` or of any peer, are not in it."""
    found = {
        cell: _compared(
            "first_byte",
            timed.latency,
            [each.cells[cell].latency for each in peers if cell in each.cells],
            settings,
        )
        for cell, timed in own.cells.items()
    }
    return {cell: each for cell, each in found.items() if each is not None}


def _compared(
    what: Fault, mine: Latency | None, theirs: Iterable[Latency | None], settings: Settings
) -> Judgement | None:
    """None: it cannot be, for want of samples."""
    enough = [each.p95_ms for each in theirs if each is not None and each.samples >= settings.min_samples]
    if mine is None or mine.samples < settings.min_samples or not enough:
        return None
    usual = median(enough)
    limit = max(settings.bad_factor * usual, usual + settings.bad_ms)
    is_good = mine.p95_ms < max(settings.good_factor * usual, usual + settings.good_ms)
    return Judgement(what if mine.p95_ms > limit else "", mine.p95_ms, usual, limit, is_good)


def _explained(whole: Judgement, own: Reading, cells: Mapping[Cell, Judgement]) -> Judgement:
    """The fault of the whole, or what its sound cells are where the others explain it."""
    sound = [each for each in cells.values() if not each.fault]
    if not sound:
        return whole
    requests = sum(timed.latency.samples for timed in own.cells.values())
    judged = sum(own.cells[cell].latency.samples for cell in cells)
    bad = sum(own.cells[cell].latency.samples for cell, each in cells.items() if each.fault)
    if bad < _TAIL * requests and requests - judged >= _TAIL * requests:
        return whole  # what is slow must be among those that cannot be judged
    return Judgement(is_good=all(each.is_good for each in sound))


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
