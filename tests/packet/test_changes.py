"""Commands on a real data path: carried out whole, or refused with everything as it was."""

from __future__ import annotations

import errno
import os
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest
from changing import do
from harness import AURORA, DataPath
from msgspec.structs import replace

from cdnctl.config import CustomerConfig
from cdnctl.datapath import abi
from cdnctl.datapath.attach import Attached
from cdnctl.datapath.choice import Choice
from cdnctl.datapath.clients import Client
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.program import Program
from cdnctl.datapath.tables import FlowCount, Tables
from cdnctl.engine.engine import Engine
from cdnctl.errors import CdnctlError
from cdnctl.model import (
    Allow,
    AnyCommand,
    Arm,
    Attach,
    BlockPrefix,
    Bypass,
    Detach,
    Disallow,
    Disarm,
    Drain,
    SetLimit,
    SetMode,
    SetWeights,
    Stop,
    Unblock,
)
from cdnctl.state import CustomerLimit, State

PREFIX = "10.1.2.0/24"


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
        assert not list(engine.blocks.wanted)
        assert not engine.state.blocks
    full.over = True
    assert do(engine, BlockPrefix(prefix=PREFIX, lifetime_s=60)).ok
    assert engine.blocks.enforced == 1


def test_a_renewal_that_the_kernel_refuses_leaves_the_old_end(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(engine, BlockPrefix(prefix=PREFIX, lifetime_s=60))
    (before,) = engine.blocks.wanted
    full = Failing(monkeypatch)
    assert not do(engine, BlockPrefix(prefix=PREFIX, lifetime_s=6000)).ok
    full.over = True
    assert list(engine.blocks.wanted) == [before]
    assert engine.blocks.enforced == 1


def test_an_unblock_that_the_kernel_refuses_leaves_it_blocked(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(engine, BlockPrefix(prefix=PREFIX, lifetime_s=60))

    def refuse(table: Map, key: bytes) -> bool:
        raise OSError(errno.EBUSY, "bpf_map_delete_elem")

    with monkeypatch.context() as patched:
        patched.setattr(Map, "delete", refuse)
        assert not do(engine, Unblock(prefix=PREFIX)).ok
    assert [block.prefix for block in engine.blocks.wanted] == [PREFIX]
    assert engine.blocks.enforced == 1
    assert do(engine, Unblock(prefix=PREFIX)).ok
    assert engine.blocks.enforced == 0


def test_weights_and_drains_that_the_kernel_refuses_are_not_wanted(
    engine: Engine, path: DataPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = path.tables.choice.endpoint(path.endpoint_id(AURORA)).weight
    whole, calls = Choice.put_service, 0

    def fail_once(choice: Choice, *arguments: Any, **named: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError(errno.ENOMEM, "bpf_map_update_elem")
        whole(choice, *arguments, **named)

    monkeypatch.setattr(Choice, "put_service", fail_once)
    assert not do(engine, SetWeights(weights={AURORA: 7})).ok
    assert engine.state == State()
    assert path.tables.choice.endpoint(path.endpoint_id(AURORA)).weight == weight, "part of it was in force"
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
    monkeypatch.setattr(Engine, "detach_all", lambda self: self.attachment.attached.clear())
    engine.attachment.attached["clients"] = Attached("clients", "native")
    monkeypatch.setattr(Engine, "attach_all", lambda self: None)
    assert do(engine, Detach(dry_run=True)).ok
    assert not engine.store.load().detached
    assert do(engine, Detach()).text.startswith("detached from clients; ")
    assert engine.store.load().detached
    for again in (Detach(dry_run=True), Detach()):
        assert do(engine, again).text.startswith("detached already")
    (warning,) = do(engine, BlockPrefix(prefix=PREFIX)).warnings
    assert "the edge is detached" in warning
    assert do(engine, Attach(dry_run=True)).ok
    assert engine.store.load().detached
    assert do(engine, Attach()).ok
    assert not engine.store.load().detached


def test_what_is_not_loaded_is_not_changed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "exists", lambda self: False)
    for command in (Disarm(), Arm(), Attach(), Detach(), BlockPrefix(prefix=PREFIX), Drain(cdn="aurora")):
        outcome = do(engine, command)
        assert not outcome.ok
        assert "unloaded past this agent" in outcome.text
        assert f"kill {os.getpid()}" in outcome.remedy
    assert engine.state == State()
    assert do(engine, Stop(detach=True)).ok


def test_an_attach_that_fails_leaves_it_detached(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Engine) -> None:
        raise CdnctlError("no", "none")

    engine.state.detached = True
    monkeypatch.setattr(Engine, "attach_all", refuse)
    assert not do(engine, Attach()).ok
    assert engine.state.detached


def test_ends_that_the_kernel_came_to_first_are_asked_again(engine: Engine, path: DataPath) -> None:
    do(engine, BlockPrefix(prefix=PREFIX, lifetime_s=3600))
    path.blocks.put(IPv4Network(PREFIX), 1)  # over, for the kernel
    before = engine.tables.settings.generation
    do(engine, BlockPrefix(prefix=PREFIX, lifetime_s=7200))
    assert engine.tables.settings.generation != before
    before = engine.tables.settings.generation
    do(engine, BlockPrefix(prefix=PREFIX, lifetime_s=9000))
    assert engine.tables.settings.generation == before, "an ordinary renewal costs live flows nothing"


@pytest.fixture
def acme(engine: Engine) -> str:
    """A customer of the edge's, and its prefix in force."""
    customer = CustomerConfig(name="acme", prefixes=("10.9.0.0/16",), pps=1000, burst_ms=10)
    engine.config = replace(engine.config, customers=(customer,))
    engine.layout = replace(engine.layout, customers={"acme": 3})
    engine.write_clients()
    return "acme"


def limit_in_force(engine: Engine) -> bytes:
    return Map.pinned(engine.program.pins / "customer_limits").get(abi.key(3)) or b""


def test_limits_are_set_in_part_cleared_and_survive(engine: Engine, acme: str) -> None:
    assert limit_in_force(engine) == bytes(abi.limit(pps=1000, burst_ms=10))
    outcome = do(engine, SetLimit(customer=acme, mbit=80))
    assert outcome.ok
    assert "1000 packets/s and 80 Mbit/s" in outcome.text
    assert limit_in_force(engine) == bytes(abi.limit(pps=1000, mbit=80, burst_ms=10))
    assert engine.store.load().limits == {acme: CustomerLimit(pps=1000, mbit=80)}
    assert do(engine, SetLimit(customer=acme, pps=0)).ok, "0 is no limit"
    assert limit_in_force(engine) == bytes(abi.limit(mbit=80, burst_ms=10))
    assert "would" in do(engine, SetLimit(customer=acme, clear=True, dry_run=True)).text
    assert limit_in_force(engine) == bytes(abi.limit(mbit=80, burst_ms=10))
    assert do(engine, SetLimit(customer=acme, clear=True)).ok
    assert limit_in_force(engine) == bytes(abi.limit(pps=1000, burst_ms=10))
    assert engine.store.load().limits == {}


def test_a_limit_of_a_customer_that_has_left_can_be_cleared(engine: Engine, acme: str) -> None:
    assert do(engine, SetLimit(customer=acme, mbit=80)).ok
    engine.config = replace(engine.config, customers=())
    engine.layout = replace(engine.layout, customers={})
    assert "there is no customer" in do(engine, SetLimit(customer=acme, mbit=90)).text
    assert do(engine, SetLimit(customer=acme, clear=True, dry_run=True)).text.startswith("would forget")
    assert acme in engine.state.limits
    outcome = do(engine, SetLimit(customer=acme, clear=True))
    assert outcome.ok
    assert (
        outcome.text
        == "forgot the limits of acme, which is no customer any more: 1000 packets/s and 80 Mbit/s"
    )
    assert engine.store.load().limits == {}
    assert not do(engine, SetLimit(customer=acme, clear=True)).ok, "nothing is left to clear"


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (SetLimit(customer="beta", pps=1), "there are acme"),
        (SetLimit(customer="acme"), "no limit given"),
        (SetLimit(customer="acme", pps=-1), "from 0"),
        (SetLimit(customer="acme", mbit=1e-12), "from 0.001"),
        (SetLimit(customer="acme", pps=float("nan")), "from 0"),
        (SetLimit(customer="acme", pps=1, clear=True), "leave one of them out"),
        (Allow(prefix="10.0.0.1/8"), "10.0.0.0/8"),
        (Disallow(prefix="10.0.0.0/8"), "not allowed by itself"),
    ],
)
def test_what_cannot_be_meant_is_refused(engine: Engine, acme: str, command: AnyCommand, word: str) -> None:
    outcome = do(engine, command)
    assert not outcome.ok
    assert word in outcome.text
    assert engine.state == State()


def test_allowed_prefixes_are_in_force_inherit_and_can_be_taken_back(engine: Engine, acme: str) -> None:
    clients, before = engine.tables.clients, engine.tables.settings.generation
    assert do(engine, Allow(prefix="10.9.1.0/24", reason="ours")).ok
    assert do(engine, Allow(prefix="2001:db8::/48")).ok
    assert clients.held() == {
        IPv4Network("10.9.0.0/16"): Client(3),
        IPv4Network("10.9.1.0/24"): Client(3, 0, abi.ClientFlag.ALLOWED),
        IPv6Network("2001:db8::/48"): Client(0, 0, abi.ClientFlag.ALLOWED),
    }
    assert engine.tables.settings.generation == before + 2, "live flows ask again"
    assert [each.prefix for each in engine.store.load().allowed] == ["10.9.1.0/24", "2001:db8::/48"]
    assert do(engine, Disallow(prefix="10.9.1.0/24")).ok
    assert IPv4Network("10.9.1.0/24") not in clients.held()
    assert [each.prefix for each in engine.store.load().allowed] == ["2001:db8::/48"]


def test_an_allowance_that_the_kernel_refuses_is_not_wanted(
    engine: Engine, acme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(table: Map, entries: object) -> None:
        raise OSError(errno.ENOMEM, "bpf_map_update_batch")

    with monkeypatch.context() as patched:
        patched.setattr(Map, "put_all", refuse)
        assert not do(engine, Allow(prefix="10.9.1.0/24")).ok
    assert engine.state.allowed == []
    assert engine.tables.clients.held().keys() == {IPv4Network("10.9.0.0/16")}


def test_observing_is_a_switch_of_its_own(engine: Engine) -> None:
    tables = engine.tables
    assert "cuts 0" in do(engine, SetMode(mode="observe", dry_run=True)).text
    assert tables.mode == abi.Mode(0)
    assert do(engine, SetMode(mode="observe")).ok
    assert "already" in do(engine, SetMode(mode="observe")).text
    assert do(engine, Disarm()).ok
    assert tables.mode == abi.Mode.OBSERVE | abi.Mode.DISARMED
    assert do(engine, Arm()).ok
    assert tables.mode == abi.Mode.OBSERVE, "armed, but it still only observes"
    assert engine.store.load().observing
    assert do(engine, SetMode(mode="active")).ok
    assert tables.mode == abi.Mode(0)
    assert not engine.store.load().observing


def test_the_journal_has_the_line_that_does_the_same(engine: Engine, acme: str) -> None:
    do(engine, SetLimit(customer=acme, pps=0, flows_per_s=2.5))
    do(engine, SetMode(mode="observe"))
    do(engine, Allow(prefix="10.9.1.0/24", reason="a partner"))
    assert [entry.cli for entry in engine.journal.read()] == [
        "cdnctl limit acme --pps none --flows-per-s 2.5",
        "cdnctl mode observe --yes",
        "cdnctl allow 10.9.1.0/24 --reason 'a partner'",
    ]
