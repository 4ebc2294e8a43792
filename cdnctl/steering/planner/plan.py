"""One round: from readings to effective weights, with a reason for each that moves.

In this order, each bounded by the next:

1. *How good is it?* A CDN that is bad for some rounds keeps less of its weight, step by step; one that is
   good for many gets it back, more slowly, up to the load at which it went bad, and not while it flaps.
2. *What does it cost?*
3. *What does it take?* Nobody gets more than most of his room; the others take it up.
4. *How far in one round?* A tenth of everything, and nothing for a trifle.

Operators come before all that: a drained CDN has nothing, a pinned one exactly its weight, at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from cdnctl.steering.planner import shares
from cdnctl.steering.planner.cost import Costs, factors
from cdnctl.steering.planner.judge import Judgement, judge
from cdnctl.steering.planner.memory import Code, Memory
from cdnctl.steering.planner.reading import Cell, Reading
from cdnctl.steering.planner.settings import USUAL, Settings
from cdnctl.steering.planner.shares import Shares


class Wants(Struct, frozen=True, kw_only=True):
    """What operators and configuration ask for."""

    weights: dict[str, float]
    drained: Collection[str] = ()
    pinned: Collection[str] = ()
    """They keep exactly their weight relative to the others', whatever is measured."""
    costs: dict[str, Costs] = field(default_factory=dict)
    growth: float = 1.0
    """Traffic at the predicted peak over traffic now; 1 or less: none is expected."""


class Shift(Struct, frozen=True, kw_only=True):
    """A share that moved, and why."""

    cdn: str
    code: Code
    before: float
    after: float
    """Shares of all new flows, as asked of the kernel."""
    numbers: dict[str, float] = field(default_factory=dict)
    """What the reason rests on: `own`, `peers`, `limit` in ms or shares, `room` and `growth` in shares."""
    cell: Cell | None = None
    """Shares are of its new flows alone; None: of all."""


class Plan(NamedTuple):
    """What a round leads to."""

    memory: dict[str, Memory]
    weights: dict[str, float]
    """Effective ones: the operator's times what is kept."""
    shares: Shares
    shifts: list[Shift]


def plan(
    memory: Mapping[str, Memory],
    readings: Mapping[str, Reading],
    wants: Wants,
    now_s: float,
    settings: Settings = USUAL,
) -> Plan:
    """One round at `now_s`, seconds of a steady clock. Pure: the same arguments give the same plan."""
    weights = {cdn: 0.0 if cdn in wants.drained else weight for cdn, weight in wants.weights.items()}
    now = {cdn: memory.get(cdn, _FRESH) for cdn, weight in weights.items()}
    for cdn in weights:
        if cdn in wants.pinned or not weights[cdn]:
            now[cdn] = _FRESH  # begins afresh when it is let go
    before = _with_pins(shares.normal({cdn: weights[cdn] * now[cdn].factor for cdn in weights}), wants)
    _judge_all(now, readings, weights, wants, now_s, settings)
    target = _target(now, readings, weights, wants, settings)
    far = max((abs(target[cdn] - before[cdn]) for cdn in target), default=0.0)
    is_worth_it = far >= settings.sticky or (_is_home(now, weights, target) and far > 1e-9)
    after = shares.towards(before, target, settings.step) if is_worth_it else before
    shifts = _shifts(memory, now, before, after) if is_worth_it else []
    for cdn, factor in _factors(weights, after).items():
        if factor != now[cdn].factor:
            now[cdn] = replace(now[cdn], factor=factor)
    return Plan(now, {cdn: weights[cdn] * now[cdn].factor for cdn in weights}, after, shifts)


_FRESH = Memory()
_UPWARDS: tuple[Code, ...] = ("recovered", "roomy", "untested", "probed")
_FAULTS: tuple[Code, ...] = ("failures", "loss", "first_byte", "handshake")


def _judge_all(
    now: dict[str, Memory],
    readings: Mapping[str, Reading],
    weights: Mapping[str, float],
    wants: Wants,
    now_s: float,
    settings: Settings,
) -> None:
    """What each keeps for how good it is. Writes into `now`."""
    total = sum(weights.values())
    playing = [cdn for cdn in weights if weights[cdn] and cdn in readings and not readings[cdn].is_out]
    for cdn in playing:
        own, old = readings[cdn], now[cdn]
        if cdn in wants.pinned:
            continue
        if 0 <= own.samples_total - old.samples_total < settings.min_samples:
            now[cdn] = _unjudged(old, settings.back_step * total / weights[cdn], now_s, settings)
            continue
        verdict = judge(own, [readings[other] for other in playing if other != cdn], settings)
        new = replace(
            old,
            bad=old.bad + 1 if verdict.fault else 0,
            good=old.good + 1 if verdict.is_good else 0,
            samples_total=own.samples_total,
        )
        if verdict.fault and new.bad >= settings.bad_rounds and now_s - old.moved_at_s >= settings.settle_s:
            away = sum(weights[each] * (1 - now[each].kept) for each in weights)
            step = min(settings.step * total, settings.most_moved * total - away)
            new = _worse(new, verdict, step / weights[cdn], own.load, now_s, settings)
        elif verdict.is_good and new.good >= settings.good_rounds:
            new = _better(new, own, settings.back_step * total / weights[cdn], now_s, settings)
        now[cdn] = new


def _worse(
    old: Memory, verdict: Judgement, step: float, load: float, now_s: float, settings: Settings
) -> Memory:
    """A step down; the first of an episode is a turn for the worse."""
    is_failing = verdict.fault == "failures" and verdict.own > settings.failing
    kept = max(settings.floor_failing if is_failing else settings.floor, old.kept - step)
    if kept >= old.kept:
        return old
    new = replace(
        old,
        kept=kept,
        moved_at_s=now_s,
        code=verdict.fault,
        numbers={"own": verdict.own, "peers": verdict.peers, "limit": verdict.limit},
    )
    if old.code not in _FAULTS or old.kept == 1:
        penalty = min(settings.penalty_most, old.penalty_now(now_s, settings) + settings.penalty)
        is_suppressed = old.is_suppressed or penalty > settings.suppress
        new = replace(new, penalty=penalty, penalty_at_s=now_s, is_suppressed=is_suppressed)
        if load:  # which may be why: as much would bring the same again
            ceiling = min(old.ceiling or load, load) * settings.ceiling
            new = replace(new, ceiling=ceiling, ceiling_at_s=now_s)
    return new


def _unjudged(old: Memory, step: float, now_s: float, settings: Settings) -> Memory:
    """With too few flows to judge by, a little back now and then: else it would never have more."""
    if old.kept >= 1 or now_s - old.moved_at_s < settings.blind_s:
        return old
    return replace(old, kept=min(1.0, old.kept + step), moved_at_s=now_s, code="untested", numbers={})


def _better(old: Memory, own: Reading, step: float, now_s: float, settings: Settings) -> Memory:
    """A step back up, if it is time for one, and if that leads to no more than it has taken well."""
    new = old
    if old.ceiling is not None and now_s - old.ceiling_at_s >= settings.ceiling_s:
        new = replace(new, ceiling=None)
    elif old.ceiling is not None and own.load > old.ceiling / settings.ceiling:
        new = replace(new, ceiling=None)  # it is well with more than it went bad with
    if new.is_suppressed and new.penalty_now(now_s, settings) < settings.reuse:
        new = replace(new, is_suppressed=False)
    if new.kept >= 1:
        return new
    if new.is_suppressed or now_s - new.moved_at_s < settings.back_s:
        return new
    kept = min(1.0, new.kept + step, 2 * new.kept)
    # One step is tried now and then in any case, or who goes bad at every load would sink with each turn.
    is_tried = new.kept <= settings.floor and now_s - new.ceiling_at_s >= settings.try_s
    if new.ceiling is not None and own.load * kept / new.kept > new.ceiling and not is_tried:
        return new
    return replace(new, kept=kept, moved_at_s=now_s, code="recovered", numbers={})


def _target(
    now: dict[str, Memory],
    readings: Mapping[str, Reading],
    weights: Mapping[str, float],
    wants: Wants,
    settings: Settings,
) -> Shares:
    """The shares to aim for. Writes into `now` who is limited, and why."""
    kept = shares.bounded(weights, {cdn: now[cdn].kept for cdn in weights}, settings.most_moved)
    padded = factors(wants.costs, settings, max(1.0, wants.growth))
    free = [cdn for cdn in weights if cdn not in wants.pinned]
    wanted = shares.normal(
        {cdn: weights[cdn] * kept[cdn] * (padded.get(cdn, 1.0) if cdn in free else 1.0) for cdn in weights}
    )
    most: dict[str, float] = {}
    growth = max(1.0, wants.growth)
    for cdn in free:
        reading, old = readings.get(cdn), now[cdn]
        if reading is None or reading.room is None or reading.is_out:
            now[cdn] = replace(old, room=None, is_limited=False)
            continue
        # Traffic is never still; a limit that followed it closely would move shares all the time.
        room = reading.room / growth
        if old.room is None or abs(room / old.room - 1) > settings.room_band:
            old = replace(old, room=room)
        assert old.room is not None
        most[cdn] = settings.aim * old.room
        is_limited = wanted[cdn] > most[cdn]
        if is_limited and not old.is_limited:
            code: Code = "capacity" if wanted[cdn] > settings.aim * reading.room else "forecast"
            old = replace(old, code=code, numbers={"room": reading.room, "growth": growth})
        elif old.is_limited and not is_limited:
            old = replace(old, code="roomy", numbers={})
        now[cdn] = replace(old, is_limited=is_limited)
    return _with_pins(shares.fitted(wanted, most), wants)


def _with_pins(fitting: Shares, wants: Wants) -> Shares:
    """Pinned ones have exactly their share of the operators' own weights; the rest is the others'."""
    pinned = [cdn for cdn in wants.pinned if cdn in fitting and cdn not in wants.drained]
    if not pinned:
        return fitting
    asked = shares.normal({cdn: 0.0 if cdn in wants.drained else w for cdn, w in wants.weights.items()})
    left = 1 - sum(asked[cdn] for cdn in pinned)
    others = shares.normal({cdn: share for cdn, share in fitting.items() if cdn not in pinned})
    return {cdn: asked[cdn] if cdn in pinned else others[cdn] * left for cdn in fitting}


def _is_home(now: Mapping[str, Memory], weights: Mapping[str, float], target: Mapping[str, float]) -> bool:
    """Whether the target is what operators want: the last trifle is worth a shift then."""
    asked = shares.normal(weights)
    return all(abs(target[cdn] - asked[cdn]) < 1e-9 for cdn in weights)


def _shifts(
    was: Mapping[str, Memory],
    now: Mapping[str, Memory],
    before: Mapping[str, float],
    after: Mapping[str, float],
) -> list[Shift]:
    """For those whose own reason it is; who only takes up what others leave has none."""
    changes = {cdn: share - before[cdn] for cdn, share in after.items() if abs(share - before[cdn]) > 1e-6}
    own = {cdn: change for cdn, change in changes.items() if (now[cdn].code in _UPWARDS) == (change > 0)}
    own = {cdn: change for cdn, change in own.items() if now[cdn].code}
    fresh = [cdn for cdn in own if _is_new(was.get(cdn, _FRESH), now[cdn])]
    # Without a new reason, an old one goes on (a tenth of everything moves in a round), or what limits
    # somebody follows the traffic.
    chosen = fresh or sorted(own, key=lambda cdn: -abs(own[cdn]))[:1]
    if chosen:
        return [
            Shift(cdn=cdn, code=now[cdn].code, before=before[cdn], after=after[cdn], numbers=now[cdn].numbers)
            for cdn in chosen
        ]
    cdn = max(after, key=lambda each: abs(after[each] - before[each]))
    code: Code = "cost" if after[cdn] < before[cdn] else "roomy"
    return [Shift(cdn=cdn, code=code, before=before[cdn], after=after[cdn])]


def _is_new(was: Memory, now: Memory) -> bool:
    return (was.kept, was.is_limited, was.room) != (now.kept, now.is_limited, now.room)


def _factors(weights: Mapping[str, float], wanted: Mapping[str, float]) -> dict[str, float]:
    """What weights are multiplied by to give these shares; the greatest is 1."""
    ratios = {cdn: wanted[cdn] / weight for cdn, weight in weights.items() if weight}
    most = max(ratios.values(), default=0.0)
    return {cdn: round(ratio / most, 9) for cdn, ratio in ratios.items()} if most else {}
