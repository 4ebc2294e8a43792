"""Where an edge lives: its network namespace, which `check`, `doctor` and `trace` look at from within."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from cdnctl.agent.edge import start_of
from cdnctl.agent.process import enter_netns, netns_name
from cdnctl.datapath import attach, elsewhere
from cdnctl.datapath.program import Program
from cdnctl.errors import CdnctlError


class Place(NamedTuple):
    """Where we are after `go_to`."""

    attached: bool = False
    """The edge is, in this namespace."""
    moved_to: Path | None = None
    """The namespace, when it is not that which we came from."""
    unseen: str = ""
    """Why the edge's namespace could not be entered: of this one nothing must be said then."""


def go_to(edge: str, netns: str | None) -> Place:
    """Into the namespace that was named, else where the edge is attached, else where its last agent was."""
    if netns:
        enter_netns(netns)
        return Place(_is_attached(edge), elsewhere.NAMED / netns)
    noted = _noted(edge)
    if os.geteuid() != 0:
        unseen = f"edge {edge} lives in network namespace {noted}, which only root can look into"
        return Place(unseen=unseen if noted else "")
    maps = _maps(edge)
    if maps and attach.attached_to(maps):
        return Place(attached=True)
    found = elsewhere.attached_elsewhere(maps) if maps else None
    if found:
        enter_netns(str(found))
        return Place(attached=True, moved_to=found)
    if not noted:
        return Place()
    if not (elsewhere.NAMED / noted).exists():
        return Place(unseen=f"network namespace {noted}, where edge {edge} was started, is gone")
    enter_netns(noted)
    return Place(moved_to=elsewhere.NAMED / noted)


def _noted(edge: str) -> str:
    """The namespace that its last agent was in, if it has a name and is not this one."""
    start = start_of(edge)
    return start.netns if start and start.netns != netns_name() else ""


def _is_attached(edge: str) -> bool:
    maps = _maps(edge)
    return bool(maps and attach.attached_to(maps))


def _maps(edge: str) -> frozenset[int]:
    """None when nothing is pinned, or this user cannot see it."""
    try:
        return Program(edge).maps()
    except (OSError, CdnctlError):  # libbpf may be missing, which doctor says
        return frozenset()
