"""Where an edge lives: its network namespace, which `trace` and `doctor` look at from within."""

from __future__ import annotations

from cdnctl.agent.process import enter_netns
from cdnctl.datapath import attach, elsewhere
from cdnctl.datapath.program import Program


def go_to(edge: str, netns: str | None) -> bool:
    """Into the namespace that was named, else where the edge is attached; whether it is attached there.

    Needs root. Raises OSError when the edge has no pins.
    """
    if netns:
        enter_netns(netns)
    maps = Program(edge).maps()
    if attach.attached_to(maps):
        return True
    other = None if netns else elsewhere.attached_elsewhere(maps)
    if other is None:
        return False
    enter_netns(str(other))
    return True
