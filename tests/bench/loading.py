"""What the kernel has to do before the first packet: walk all programs, and translate them."""

from __future__ import annotations

from cdnctl.datapath.build import Built
from tests.bench.rounds import Result

MOST_INSTRUCTIONS = 200_000
MOST_S = 1.0


def results(built: Built) -> list[Result]:
    """Beside what they may be."""
    return [
        _result(
            "verified instructions / limit", sum(built.instructions.values()), MOST_INSTRUCTIONS, "insns"
        ),
        _result("load without compiling / limit", built.load_s, MOST_S, "s"),
    ]


def _result(name: str, ours: float, most: float, unit: str) -> Result:
    ratio = ours / most
    return Result(name, ours, most, ratio, ratio, ratio, bound=1.0, gate=True, unit=unit)
