"""Where something happened: what one jumps to in a recording."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from cdnctl.recording.tape import Stamp

KINDS = frozenset(
    {"step", "mark", "eject", "reopen", "command", "attach", "reload", "level", "attack", "shift", "ports"}
)
"""Events of these kinds begin a chapter; so does any alarm."""
ALWAYS = frozenset({"step", "mark"})
"""Somebody set these."""
APART_S = 2.0
"""What the edge says within so long of a chapter's beginning belongs to it."""


class Chapter(NamedTuple):
    """From an event to the next one that matters."""

    number: int
    """Of its first frame."""
    position_ns: int
    kind: str
    severity: str
    title: str


def chapters(stamps: Iterable[Stamp]) -> list[Chapter]:
    """The chapters of a tape, in order."""
    found: list[Chapter] = []
    for number, position_ns, event in stamps:
        if event.kind not in KINDS and event.severity != "alarm":
            continue
        if found and event.kind not in ALWAYS and position_ns - found[-1].position_ns < APART_S * 1e9:
            continue
        found.append(Chapter(number, position_ns, event.kind, event.severity, event.text))
    return found
