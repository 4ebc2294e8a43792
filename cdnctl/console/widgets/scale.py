"""Axes of a plot: from a value to a height, and which values to write at the side.

Traffic is drawn linear, from zero. Latency is drawn logarithmic: a CDN that answers in 160 ms must not
press three others, at 10 to 16 ms, into one flat line, for it is then that one looks at them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_LINEAR = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
_ENDS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
_DECADE = (1.0, 2.0, 5.0)
_AIR = 1.06
"""How far the scale ends above the highest value."""


@dataclass(frozen=True)
class Scale:
    """Maps `bottom` to 0 and `top` to 1."""

    bottom: float
    top: float
    logarithmic: bool = False

    def level(self, value: float) -> float:
        """The height of a value, kept within 0 and 1."""
        if self.logarithmic:
            value = max(value, self.bottom)
            height = math.log(value / self.bottom) / math.log(self.top / self.bottom)
        else:
            height = (value - self.bottom) / (self.top - self.bottom)
        return max(0.0, min(1.0, height))

    def ticks(self, rows: int) -> dict[int, float]:
        """Round values and the rows (from the top) nearest to them, none closer than two rows."""
        ticks: dict[int, float] = {0: self.top, rows - 1: self.bottom}
        for value in self._candidates(rows):
            row = round((1 - self.level(value)) * (rows - 1))
            if all(abs(row - taken) >= 2 for taken in ticks):
                ticks[row] = value
        return ticks

    def _candidates(self, rows: int) -> Iterable[float]:
        if self.logarithmic:
            inner = [
                value
                for value in _round_values(self.bottom, self.top, _DECADE)
                if self.bottom < value < self.top
            ]
            return sorted(inner, key=lambda value: _DECADE.index(_mantissa(value)))
        steps = next((steps for steps in (4, 3, 2) if rows > 2 * steps), 1)
        return [self.top * step / steps for step in range(steps - 1, 0, -1)]


def linear(values: Iterable[float], least_top: float) -> Scale:
    """From zero to a round number above all values, and at least `least_top`."""
    wanted = max(max(values, default=0.0) * _AIR, least_top)
    power = 10.0 ** math.floor(math.log10(wanted))
    return Scale(0.0, next(step * power for step in _LINEAR if step * power >= wanted * 0.999999))


def logarithmic(values: Iterable[float], least_top: float) -> Scale:
    """Round numbers around all values, at least a factor of 4 apart; the top is at least `least_top`."""
    known = [value for value in values if value > 0]
    highest = max(max(known, default=least_top) * _AIR, least_top)
    lowest = min(known, default=highest / 4) / _AIR
    around = _round_values(min(lowest, highest / 4) / 10, highest * 10, _ENDS)
    top = next(value for value in around if value >= highest * 0.999999)
    bottom = next(value for value in reversed(around) if value <= min(lowest, top / 4) * 1.000001)
    return Scale(bottom, top, logarithmic=True)


def _round_values(low: float, high: float, steps: tuple[float, ...]) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [step * 10.0**power for power in range(first, last + 1) for step in steps]


def _mantissa(value: float) -> float:
    return min(_DECADE, key=lambda step: abs(math.log10(value / step) - round(math.log10(value / step))))
