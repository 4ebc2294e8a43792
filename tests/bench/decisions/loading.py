"""What the kernel has to do before the first packet: walk all programs, and translate them."""

from __future__ import annotations

from cdnctl.datapath.build import Built
from tests.bench.results import Result, within

MOST_INSTRUCTIONS = 200_000
MOST_S = 1.0


def results(built: Built) -> list[Result]:
    """Beside what they may be."""
    walked = sum(built.instructions.values())
    return [
        within("verified instructions / limit", [walked], MOST_INSTRUCTIONS, unit="insns", gate=True),
        within("verifying all programs / limit", [built.load_s], MOST_S, unit="s", gate=True),
    ]
