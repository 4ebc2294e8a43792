"""Traffic to come, by time of day and week, and how far such forecasts have been off.

The week has slots of a quarter of an hour. A slot's mean follows its weeks; the *level*, how the last hours
stood to their slots, corrects it: on a day with a third more traffic than usual, the evening will have more,
too. Every hour-ahead forecast is compared with what came, and so is the plainest one there is, *as a week
ago*: a forecast is worth only what it does better than that.

Pure: the caller tells the time, in seconds of Unix time, and keeps the Struct over restarts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct, field

SLOT_S = 900
DAY = 86400 // SLOT_S
"""Slots."""
WEEK = 7 * DAY
AHEAD = 3600 // SLOT_S
"""Slots ahead that errors are told of."""
_WEEKS = 4
"""A slot's mean forgets older ones."""
_LEVEL_GAIN = 0.12
_LEVEL_LASTS_S = 8 * 3600.0
"""A level has halved its distance from 1 after this."""
_LEVEL_MOST = 4.0
_ERROR_GAIN = 1 / DAY
_LEAST_ERRORS = DAY
"""So many compared forecasts before an error is told."""
_SURPRISE = 4.0
"""Times the usual error: this far off twice in a row is one."""
_LEAST_ERROR = 0.02
_THURSDAY = 3
"""The day of the week on which Unix time begins, from Monday on: a week begins on Monday."""


class Errors(Struct, kw_only=True):
    """Mean absolute errors, relative to the traffic; of the last day mostly."""

    own: float = 0.0
    naive: float = 0.0
    """Of `as a week ago`."""
    count: int = 0

    def add(self, own: float, naive: float) -> None:
        """One more forecast compared."""
        self.count += 1
        gain = max(_ERROR_GAIN, 1 / self.count)
        self.own += gain * (own - self.own)
        self.naive += gain * (naive - self.naive)


class Surprise(NamedTuple):
    """Traffic that nobody expected."""

    at_s: float
    expected: float
    came: float


class Peak(NamedTuple):
    """The most that is expected within some time."""

    at_s: float
    value: float


class Series(Struct, kw_only=True):
    """The traffic of one CDN, service or edge, in any unit; all of it is kept over restarts."""

    means: list[float | None] = field(default_factory=lambda: [None] * WEEK)
    weeks: list[int] = field(default_factory=lambda: [0] * WEEK)
    """By slot, how many weeks its mean has seen, up to some."""
    last_week: list[float | None] = field(default_factory=lambda: [None] * WEEK)
    level: float = 1.0
    slot: int = -1
    """The one under way, counted from 1970."""
    sum: float = 0.0
    seconds: float = 0.0
    pending: dict[int, float] = field(default_factory=dict)
    """Forecasts that were made, by slot, until it has come."""
    errors: Errors = field(default_factory=Errors)
    off: int = 0
    """Slots in a row that were a surprise; below 0: less came than expected."""

    def add(self, at_s: float, value: float, seconds: float) -> list[Surprise]:
        """`value` was the traffic for `seconds` up to `at_s`; what was a surprise in slots that are over."""
        slot = int((at_s - seconds / 2) // SLOT_S)
        found = []
        if slot > self.slot:
            # Of a slot that was mostly missed (the agent was down) nothing is learnt.
            if self.slot >= 0 and self.seconds >= SLOT_S / 2:
                found = self._close(self.slot, self.sum / self.seconds)
            self.slot, self.sum, self.seconds = slot, 0.0, 0.0
        self.sum += value * seconds
        self.seconds += seconds
        return found

    def expected(self, at_s: float) -> float | None:
        """What is expected then; None while nothing is known of that time of day."""
        slot = int(at_s // SLOT_S)
        usual = self._usual(slot)
        if usual is None:
            return None
        ahead_s = max(0.0, (slot - self.slot) * SLOT_S)
        return usual * math.exp(math.log(self.level) * 0.5 ** (ahead_s / _LEVEL_LASTS_S))

    def band(self, at_s: float) -> tuple[float, float] | None:
        """Low and high, twice the usual error apart from what is expected; None while either is unknown."""
        usual = self.expected(at_s)
        if usual is None or self.errors.count < _LEAST_ERRORS:
            return None
        off = 2 * max(self.errors.own, _LEAST_ERROR)
        return max(0.0, usual * (1 - off)), usual * (1 + off)

    def peak(self, now_s: float, horizon_s: float) -> Peak | None:
        """The highest slot from now to `horizon_s` later."""
        slots = range(int(now_s // SLOT_S), int((now_s + horizon_s) // SLOT_S) + 1)
        peaks = [
            Peak(max(now_s, float(slot * SLOT_S)), value)
            for slot in slots
            if (value := self.expected(slot * SLOT_S)) is not None
        ]
        return max(peaks, key=lambda peak: peak.value, default=None)

    def is_worth_it(self) -> bool:
        """Whether it has been compared for a day, and was better than `as a week ago`, or good at all."""
        known = self.errors.count >= _LEAST_ERRORS
        return known and (self.errors.own <= self.errors.naive or self.errors.own < _GOOD_ENOUGH)

    def _close(self, slot: int, came: float) -> list[Surprise]:
        found = self._compare(slot, came)
        usual, at = self._usual(slot), _in_week(slot)
        if usual and came > 0:
            ratio = min(_LEVEL_MOST, max(1 / _LEVEL_MOST, came / usual))
            self.level = math.exp((1 - _LEVEL_GAIN) * math.log(self.level) + _LEVEL_GAIN * math.log(ratio))
        self.weeks[at] = min(_WEEKS, self.weeks[at] + 1)
        before = self.means[at]
        self.means[at] = came if before is None else before + (came - before) / self.weeks[at]
        self.last_week[at] = came
        ahead = self.expected((slot + AHEAD) * SLOT_S)
        if ahead is not None:
            self.pending[slot + AHEAD] = ahead
        return found

    def _compare(self, slot: int, came: float) -> list[Surprise]:
        made = self.pending.pop(slot, None)
        for old in [each for each in self.pending if each < slot]:
            del self.pending[old]
        naive = self.last_week[_in_week(slot)]
        if made is None or came <= 0:
            return []
        error = abs(made - came) / came
        is_far = self.errors.count >= _LEAST_ERRORS and error > _SURPRISE * max(self.errors.own, _LEAST_ERROR)
        sign = 1 if came > made else -1
        self.off = (self.off + sign if self.off * sign > 0 else sign) if is_far else 0
        if naive is not None:
            self.errors.add(error, abs(naive - came) / came)
        return [Surprise(slot * SLOT_S, made, came)] if abs(self.off) == 2 else []

    def _usual(self, slot: int) -> float | None:
        """The slot's mean; of one that was never seen, that of the same time on other days."""
        at = _in_week(slot)
        if self.means[at] is not None:
            return self.means[at]
        others = [mean for mean in self.means[at % DAY :: DAY] if mean is not None]
        return sum(others) / len(others) if others else None


_GOOD_ENOUGH = 0.1


def _in_week(slot: int) -> int:
    return (slot + _THURSDAY * DAY) % WEEK


class Foresight(Struct, kw_only=True):
    """The series of an edge, by name, as `cdn aurora` and `service www`."""

    series: dict[str, Series] = field(default_factory=dict)

    def add(self, name: str, at_s: float, value: float, seconds: float) -> list[Surprise]:
        """See `Series.add`."""
        return self.series.setdefault(name, Series()).add(at_s, value, seconds)

    def keep(self, names: Iterable[str]) -> None:
        """Forget all others: they have left the configuration."""
        wanted = set(names)
        self.series = {name: each for name, each in self.series.items() if name in wanted}

    def growth(self, name: str, now_s: float, value: float, horizon_s: float) -> float:
        """The most that is expected within `horizon_s` over `value`, which is now; at least 1, and 1 of a
        series that is unknown or has forecast badly."""
        series = self.series.get(name)
        if series is None or value <= 0 or not series.is_worth_it():
            return 1.0
        peak = series.peak(now_s, horizon_s)
        return max(1.0, peak.value / value) if peak is not None else 1.0
