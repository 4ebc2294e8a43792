"""A move to other tables that somebody was killed in, finished.

The link still leads to the old tables, while some interfaces, or all, have the program on the new ones. Both
said the same when flows were held for the swap (moving.py), and that moment is noted. The hold has ended by
itself: since then flows began and ended on both sides. The program of the new tables goes where that of the
old ones is; then what has changed in the old ones is merged. From there on it is an edge like any, whatever
layout is wanted next.
"""

from __future__ import annotations

import os
from pathlib import Path

from cdnctl.datapath import attach, kernel, opening
from cdnctl.datapath.counters import Counters
from cdnctl.datapath.hold import Hold
from cdnctl.datapath.moving import let_go
from cdnctl.datapath.numbering import Numbering
from cdnctl.datapath.program import Program, maps_of, moved_ns
from cdnctl.datapath.tables import Tables
from cdnctl.datapath.transfer import Transfer


def finish(program: Program) -> str:
    """Have all flows in the new tables, if there are any; says so. Raises CdnctlError, OSError."""
    after = program.moving_to()
    if after is None:
        return ""
    before = program.pins
    transfer = Transfer(before, after, Numbering.between(Tables(before), Tables(after)))
    hold = Hold((before, after))
    hold.begin()
    try:
        _swap(before, after)
        hold.begin()  # anew: drivers take their time
        cut = transfer.merge(moved_ns(after))
    finally:
        let_go(hold, after)
    counters = Counters(after)
    counters.follow(Counters(before))
    cut.count(counters)
    program.keep_only(after)
    return f"a move to other tables that was broken off is finished; {cut.flows} flows were cut"


def _swap(before: Path, after: Path) -> None:
    """The program of the new tables, wherever that of the old ones is."""
    names = [name for name, _ in attach.attached_to(maps_of(before))]
    there = [name for name, _ in attach.attached_to(maps_of(after))]
    if not names:
        return
    program = opening.program_fd(kernel.xdp_program_id(attach.interface_index(there[0])))
    try:
        attach.attach_all(names, program, "auto", maps_of(before) | maps_of(after))
    finally:
        os.close(program)
