"""Packets lost while programs and settings are swapped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from itertools import count

from cdnctl.model import Actor, Reload
from tests.bench.control.steady import PER_S, Steady
from tests.bench.decisions import rig
from tests.bench.results import Result, Unsound, beside

_AROUND_S = 0.2
_ACTOR = Actor(user="root", uid=0, pid=os.getpid(), client="bench")


def rows(edge: rig.Rig, rounds: int) -> list[Result]:
    """Reloads of programs and of settings, `rounds` of each, under steady packets of established flows.

    Not of tables' sizes: while flows are moved, what begins or ends one is held, and sent again.
    Raises Unsound.
    """
    with contextlib.closing(Steady(edge)) as steady:
        with steady.sending():
            time.sleep(2 * _AROUND_S)
        if steady.lost:
            raise Unsound(f"of {steady.sent} packets {steady.lost} were lost before anything was reloaded")
        rows = []
        numbers = count(1)
        for name, program in (("programs", True), ("settings", False)):
            steady.sent = steady.lost = 0
            for _ in range(rounds):
                _write_config(edge, next(numbers))
                with steady.sending():
                    time.sleep(_AROUND_S)
                    _reload(edge, program=program)
                    time.sleep(_AROUND_S)
            rows.append(
                beside(
                    f"lost at {PER_S // 1000}k/s by new {name} / sent",
                    [steady.lost],
                    [steady.sent],
                    unit="packets",
                    bound=0.0,
                    gate=True,
                )
            )
    return rows


def _write_config(edge: rig.Rig, number: int) -> None:
    """With other settings than before: another weight, and another limit."""
    text = rig.config_of().replace("pps = 1e9", f"pps = {9e8 + number}")
    text = text.replace('name = "aurora"', f'name = "aurora"\nweight = {100 + number}')
    edge.engine.config.path.write_text(text)


def _reload(edge: rig.Rig, *, program: bool) -> None:
    outcome = asyncio.run(edge.engine.reload(Reload(program=program), _ACTOR))
    if not outcome.ok:
        raise Unsound(f"a reload was refused: {outcome.text}")
    if not program and not outcome.changed:
        raise Unsound("a reload changed nothing")
    edge.tables = edge.engine.tables
