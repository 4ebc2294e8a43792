"""Textual's strips without the cycles.

A strip remembers what was made of it (`Strip.divide`, `Strip.crop_extend`), and that is often the strip
itself: then it refers to itself, and only a round of the collector frees it. A picture has hundreds of them,
twice a second; they were most of what rounds had to find. Who asks for the whole of a strip gets it without a
note here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.style import Style
from textual.strip import Strip

_divide, _crop_extend = Strip.divide, Strip.crop_extend


def _divided(self: Strip, cuts: Iterable[int]) -> Sequence[Strip]:
    length = self.cell_length
    within = [cut for cut in cuts if cut <= length]
    return [self] if within == [length] else _divide(self, within)


def _cropped(self: Strip, start: int, end: int, style: Style | None) -> Strip:
    return self if start == 0 and end == self.cell_length else _crop_extend(self, start, end, style)


def prepare() -> None:
    """For the whole process; again costs nothing."""
    Strip.divide, Strip.crop_extend = _divided, _cropped  # type: ignore[method-assign]
