"""Disarm, arm, observe, bypass and detach by root's own hand, when no agent answers.

Each is one or two map writes on the pins, or the removal of the attachment: nothing here needs BCC,
the configuration, or the agent.
"""

from __future__ import annotations

import contextlib
import os

from cdnctl.datapath import abi, attach, elsewhere
from cdnctl.datapath.flows import FlowCount
from cdnctl.datapath.program import Program
from cdnctl.datapath.tables import Tables
from cdnctl.errors import CdnctlError
from cdnctl.paths import forwarding_path

_NONE = abi.Mode(0)


class _Edge(list[Tables]):
    """All tables of an edge, the first of those that hold.

    While flows move to others, or when an agent was killed meanwhile, both are in use.
    """

    def switch(self, *, on: abi.Mode = _NONE, off: abi.Mode = _NONE, checked: bool = False) -> None:
        """Change modes; with `checked` what was let through is to be checked again."""
        for tables in self:
            tables.mode = (tables.mode | on) & ~off
            if checked and tables.settings.generation:
                tables.bump_generation()

    def live_flows(self) -> FlowCount:
        """Those that move are in more than one."""
        return max(tables.live_flows() for tables in self)


def _tables(edge: str) -> _Edge:
    if os.geteuid() != 0:
        raise CdnctlError("the kernel's tables can only be changed by root", "use sudo")
    program, found = Program(edge), _Edge()
    try:
        found.append(Tables(program.pins))
    except OSError as error:
        raise CdnctlError(
            f"no data path of edge {edge!r} is loaded ({error.strerror or error})",
            "see `ls /sys/fs/bpf/cdnctl`",
        ) from error
    for home in program.homes():
        if home != program.pins:
            with contextlib.suppress(OSError):  # half-made still
                found.append(Tables(home))
    return found


def live_flows(edge: str) -> int | str:
    """Translated flows that a bypass or detach would cut; in words where tables are of another version."""
    try:
        return _tables(edge).live_flows()
    except (CdnctlError, OSError, ValueError):
        if os.geteuid() != 0 or not _maps(edge):
            raise
        return "an unknown number of"


def _maps(edge: str) -> frozenset[int]:
    """What tells an edge's programs; none where nothing is pinned."""
    try:
        return Program(edge).maps()
    except OSError:
        return frozenset()


def disarm(edge: str) -> str:
    """Drop, eject and rescue nothing; translation goes on by plain weights."""
    _tables(edge).switch(on=abi.Mode.DISARMED, off=abi.Mode.BYPASS)
    return f"{edge} is disarmed: nothing is dropped, shed or ejected until `cdnctl arm`"


def arm(edge: str) -> str:
    """Back to normal; what was let through meanwhile is checked again."""
    _tables(edge).switch(off=~abi.Mode.OBSERVE, checked=True)
    return f"{edge} is armed"


def observe(edge: str) -> str:
    """Decide and count, allocate and send nothing: every packet passes untouched."""
    tables = _tables(edge)
    tables.switch(on=abi.Mode.OBSERVE)  # before the count, which takes its time
    flows = tables.live_flows()
    return f"{edge} only observes: every packet passes untouched; {flows} translated flows were cut"


def act(edge: str) -> str:
    """No longer only observe."""
    _tables(edge).switch(off=abi.Mode.OBSERVE, checked=True)
    return f"{edge} acts on what it decides"


def bypass(edge: str) -> str:
    """Every packet passes untouched."""
    tables = _tables(edge)
    tables.switch(on=abi.Mode.BYPASS)  # before the count, which takes its time
    flows = tables.live_flows()
    return f"{edge} is bypassed: every packet passes untouched; {flows} translated flows were cut"


def detach(edge: str) -> str:
    """Take the program off every interface of this network namespace, and its pins away.

    Raises CdnctlError when it is attached in another namespace: without its pins nobody could tell it
    apart from a stranger's, or stop it.
    """
    program, maps = Program(edge), _maps(edge)
    if os.geteuid() != 0 or not maps:
        _tables(edge)  # says what is the matter
    names = [name for name, _ in attach.attached_to(maps)]
    for name in names:
        attach.detach(name, maps)
    flows = live_flows(edge) if names else 0
    if names:
        from cdnctl.datapath import network  # its netlink library would keep the other verbs waiting

        network.Forwarding(forwarding_path(edge)).restore(names)
    other = elsewhere.attached_elsewhere(maps)
    if other:
        done = f"detached from {', '.join(names)}" if names else "attached to nothing"
        raise CdnctlError(
            f"{edge}: {done} in this network namespace, but attached in another, so its pins stay",
            elsewhere.detach_line(edge, maps),
        )
    program.remove()
    return f"{edge}: detached from {', '.join(names) or 'nothing'}; {flows} translated flows were cut"
