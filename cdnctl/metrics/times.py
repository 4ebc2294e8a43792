"""How long things took, as the kernel counts them: what a frame is too small for.

Apart from what makes metrics of it, so that an agent that nobody scrapes does not load Prometheus' library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Histogram(NamedTuple):
    """How often what took how long, since the program was loaded."""

    limits_us: Sequence[tuple[float, float]]
    """From and below, of each bucket, in order."""
    counts: Sequence[int]


class Times(NamedTuple):
    """What was timed of a CDN."""

    handshakes: Histogram
    first_bytes: Histogram
