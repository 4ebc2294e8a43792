"""Commands on a real data path: carried out whole, or refused with everything as it was."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from harness import AURORA, DataPath

from cdnctl.datapath import abi
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.neighbours import Neighbours
from cdnctl.datapath.tables import FlowCount, Tables
from cdnctl.engine.engine import Engine
from cdnctl.errors import CdnctlError
from cdnctl.model import (
    Actor,
    AnyCommand,
    Attach,
    BlockPrefix,
    Bypass,
    Detach,
    Drain,
    Outcome,
    SetWeights,
    Unblock,
)
from cdnctl.state import State

OPERATOR = Actor(user="root", uid=0, pid=1, role="operate")
PREFIX = "10.1.2.0/24"


@pytest.fixture
def engine(path: DataPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """One that was started on the shared data path."""
    monkeypatch.setenv("CDNCTL_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("CDNCTL_RUN_DIR", str(tmp_path))
    # the other tests' neighbours are permanent ones, and stay
    monkeypatch.setattr(Neighbours, "keep", lambda self: None)
    monkeypatch.setattr(Neighbours, "release", lambda self: None)
    engine = Engine(path.config)
    engine.tables, engine.kernel_blocks, engine.layout = path.tables, path.blocks, path.layout
    yield engine
    engine.neighbours.close()


def do(engine: Engine, command: AnyCommand) -> Outcome:
    return engine.execute(command, OPERATOR)


class Failing:
    """Makes every write to a map fail until `over`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole, self.over = Map.put, False

        def put(table: Map, key: bytes, value: bytes) -> None:
            if not self.over:
                raise OSError(errno.E2BIG, "bpf_map_update_elem")
            whole(table, key, value)

        monkeypatch.setattr(Map, "put", put)


def test_a_block_that_the_kernel_refuses_is_not_wanted_and_can_be_tried_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Failing(monkeypatch)
    for _ in range(2):
        outcome = do(engine, BlockPrefix(prefix=PREFIX, lifetime_s=60))
        assert not outcome.ok
        assert not list(engine.blocklist)
        assert not engine.state.blocks
    full.over = True
    assert do(engine, BlockPrefix(prefix=PREFIX, lifetime_s=60)).ok
    assert engine.kernel_blocks.count() == 1


def test_a_renewal_that_the_kernel_refuses_leaves_the_old_end(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(engine, BlockPrefix(prefix=PREFIX, lifetime_s=60))
    (before,) = engine.blocklist
    full = Failing(monkeypatch)
    assert not do(engine, BlockPrefix(prefix=PREFIX, lifetime_s=6000)).ok
    full.over = True
    assert list(engine.blocklist) == [before]
    assert engine.kernel_blocks.count() == 1


def test_an_unblock_that_the_kernel_refuses_leaves_it_blocked(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(engine, BlockPrefix(prefix=PREFIX, lifetime_s=60))

    def refuse(table: Map, key: bytes) -> bool:
        raise OSError(errno.EBUSY, "bpf_map_delete_elem")

    with monkeypatch.context() as patched:
        patched.setattr(Map, "delete", refuse)
        assert not do(engine, Unblock(prefix=PREFIX)).ok
    assert [block.prefix for block in engine.blocklist] == [PREFIX]
    assert engine.kernel_blocks.count() == 1
    assert do(engine, Unblock(prefix=PREFIX)).ok
    assert engine.kernel_blocks.count() == 0


def test_weights_and_drains_that_the_kernel_refuses_are_not_wanted(
    engine: Engine, path: DataPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = path.tables.endpoint(path.endpoint_id(AURORA)).weight
    whole, calls = Tables.put_service, 0

    def fail_once(tables: Tables, *arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError(errno.ENOMEM, "bpf_map_update_elem")
        whole(tables, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Tables, "put_service", fail_once)
    assert not do(engine, SetWeights(weights={AURORA: 7})).ok
    assert engine.state == State()
    assert path.tables.endpoint(path.endpoint_id(AURORA)).weight == weight, "part of it was in force"
    calls = 0
    assert not do(engine, Drain(cdn="borealis")).ok
    assert engine.state.drained == []


def test_bypass_acts_first_and_counts_afterwards(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []

    def count(tables: Tables) -> FlowCount:
        modes.append(tables.mode)
        return FlowCount(812_000, about=True)

    monkeypatch.setattr(Tables, "live_flows", count)
    planned = do(engine, Bypass(dry_run=True))
    done = do(engine, Bypass())
    assert modes == [abi.Mode(0), abi.Mode.BYPASS]
    assert "about 812000 translated flows" in planned.text
    assert "about 812000 translated flows" in done.text


def test_an_operators_detach_is_remembered_until_an_attach(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "detach_all", lambda self: ["clients"])
    monkeypatch.setattr(Engine, "attach_all", lambda self: None)
    assert do(engine, Detach(dry_run=True)).ok
    assert not engine.store.load().detached
    assert do(engine, Detach()).ok
    assert engine.store.load().detached
    assert do(engine, Attach(dry_run=True)).ok
    assert engine.store.load().detached
    assert do(engine, Attach()).ok
    assert not engine.store.load().detached


def test_an_attach_that_fails_leaves_it_detached(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Engine) -> None:
        raise CdnctlError("no", "none")

    engine.state.detached = True
    monkeypatch.setattr(Engine, "attach_all", refuse)
    assert not do(engine, Attach()).ok
    assert engine.state.detached


def test_ends_that_the_kernel_came_to_first_are_asked_again(engine: Engine) -> None:
    do(engine, BlockPrefix(prefix=PREFIX, lifetime_s=3600))
    engine.kernel_blocks.put(IPv4Network(PREFIX), 1)  # over, for the kernel
    before = engine.tables.settings.generation
    do(engine, BlockPrefix(prefix=PREFIX, lifetime_s=7200))
    assert engine.tables.settings.generation != before
    before = engine.tables.settings.generation
    do(engine, BlockPrefix(prefix=PREFIX, lifetime_s=9000))
    assert engine.tables.settings.generation == before, "an ordinary renewal costs live flows nothing"
