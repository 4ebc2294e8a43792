"""An engine on the shared data path, and another one in its place: as after a restart of the agent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import DataPath

from cdnctl.datapath.blocks import KernelBlocks
from cdnctl.datapath.neighbours import Neighbours
from cdnctl.engine import recovery
from cdnctl.engine.engine import Engine
from cdnctl.model import Actor, AnyCommand, Outcome

OPERATOR = Actor(user="root", uid=0, pid=1, role="operate")
BOB = Actor(user="bob", uid=1001, pid=2, role="operate")


@pytest.fixture
def engine(path: DataPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """One that was started on the shared data path."""
    monkeypatch.setenv("CDNCTL_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("CDNCTL_RUN_DIR", str(tmp_path))
    # the other tests' neighbours are permanent ones, and stay
    monkeypatch.setattr(Neighbours, "keep", lambda self: None)
    monkeypatch.setattr(Neighbours, "release", lambda self: None)
    engine = Engine(path.config)
    engine.use(path.tables, path.blocks)
    engine.layout = path.layout
    engine.put_shield()
    try:
        yield engine
    finally:
        if engine.attachment.attached:  # a repair attaches; others of this worker want these interfaces
            engine.detach_all()
        path.tables.clients.load({})
        path.tables.clients.set_limits({})
        path.tables.shield.set_amplifiers(())
        engine.close()


def do(engine: Engine, command: AnyCommand, actor: Actor = OPERATOR) -> Outcome:
    return engine.execute(command, actor)


def successor(engine: Engine, path: DataPath) -> Engine:
    """Another agent's engine takes over what the first one left in the kernel and on the disk.

    By the engine's own steps, in its own order; only the tables and what is attached are the tests'.
    """
    after = Engine(path.config)
    after._read_state()
    after.planning.start()
    after.use(path.tables, path.blocks)
    after.layout = path.layout
    after._take_over_mode()
    after.put_shield()
    after._put_blocks()
    after.write_clients()
    after.steer()
    after._settle_state()
    recovery.recover(after)
    return after


def weight_in_force(path: DataPath, cdn: str) -> int:
    """What the kernel has of a CDN's first endpoint."""
    (place, *_) = path.layout.endpoints_of(cdn)
    return int(path.tables.choice.endpoint(place.id).weight)


def held_blocks(path: DataPath) -> int:
    """Prefixes in the kernel's tables themselves."""
    excess = KernelBlocks(path.program.pins).differences({}).excess
    return len(excess)
