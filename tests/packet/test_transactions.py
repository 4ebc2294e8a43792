"""Changes that are confirmed, reverted, undone, refused; on a real data path, across an agent's death."""

from __future__ import annotations

import errno
import json
import os
import time
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from changing import BOB, OPERATOR, do, held_blocks, successor, weight_in_force
from harness import AURORA, BOREALIS, CORONA, DataPath
from msgspec.structs import replace

from cdnctl.datapath import abi
from cdnctl.datapath.blocks import KernelBlocks
from cdnctl.datapath.flows import FlowCount
from cdnctl.datapath.kernel import Map
from cdnctl.defence import protected
from cdnctl.engine import consequences, objects, risks
from cdnctl.engine.engine import Engine
from cdnctl.model import (
    Allow,
    AnyChange,
    Arm,
    BlockPrefix,
    Bypass,
    Confirm,
    Diff,
    Difference,
    Disarm,
    Drain,
    GetState,
    Outcome,
    Repair,
    Revert,
    SetAutoban,
    SetMode,
    SetShield,
    SetWeights,
    Unblock,
    Undo,
    Undrain,
)
from cdnctl.state import files

PREFIX = "10.1.2.0/24"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is logged in on this box is not what is tested here."""
    monkeypatch.setattr(protected, "surroundings", protected.Surroundings)


def later(engine: Engine, seconds: float) -> None:
    """Time goes by for what is pending."""
    engine.transactions._due_ns -= int(seconds * 1e9)


def differences(engine: Engine) -> list[Difference]:
    """Of what the shared data path can be expected to have right."""
    found = do(engine, Diff()).differences
    assert found is not None
    return [each for each in found if each.what not in ("interface", "neighbour")]


# --- confirm and revert ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        SetWeights(weights={AURORA: 7}, confirm_s=30),
        Drain(cdn=BOREALIS, confirm_s=30),
        BlockPrefix(prefix=PREFIX, confirm_s=30),
        Allow(prefix=PREFIX, confirm_s=30),
        SetMode(mode="observe", confirm_s=30),
        SetShield(level="siege", confirm_s=30),
        SetAutoban(mode="dry-run", confirm_s=30),
        Disarm(confirm_s=30),
        Bypass(confirm_s=30),
    ],
    ids=lambda change: type(change).__name__,
)
def test_what_nobody_confirms_is_as_before(engine: Engine, path: DataPath, change: AnyChange) -> None:
    before = picture(engine, path)
    outcome = do(engine, change)
    assert outcome.ok
    assert "reverts in 30s unless `cdnctl confirm` comes" in outcome.text
    waiting = engine.transactions.picture()
    assert waiting is not None
    assert (waiting.by, waiting.revision) == ("root", engine.state.revision)
    assert 29 < waiting.left_s <= 30
    assert picture(engine, path) != before
    later(engine, 29.5)
    engine.transactions.tick()
    assert engine.transactions.pending is not None, "not before its time"
    later(engine, 0.6)
    engine.transactions.tick()
    assert engine.transactions.pending is None
    assert picture(engine, path) == before
    assert not engine.store.pending.path.exists()
    assert not engine.store.intent.path.exists()
    last = list(engine.journal.read())[-1]
    assert (last.user, last.reason, last.ok) == ("the timer", "not confirmed in time", True)
    assert picture(successor(engine, path), path) == before


def picture(engine: Engine, path: DataPath) -> object:
    """What the kernel has, and what is wanted."""
    blocks = sorted(block.prefix for block in engine.blocks.wanted)
    weights = [weight_in_force(path, cdn) for cdn in path.layout.cdns]
    clients = sorted(map(str, path.tables.clients.held().items()))
    state = engine.state
    return (
        path.tables.mode, held_blocks(path), weights, clients, blocks, engine.weights(), engine.drained(),
        [each.prefix for each in state.allowed], state.armed, state.observing, state.shield, state.autoban,
    )  # fmt: skip


def test_a_confirmation_is_of_what_its_operator_saw(engine: Engine) -> None:
    do(engine, SetWeights(weights={AURORA: 7}, confirm_s=30))
    seen = engine.state.revision
    assert do(engine, Revert()).ok
    do(engine, Drain(cdn=BOREALIS, confirm_s=30), BOB)
    refused = do(engine, Confirm(expect=seen))
    assert not refused.ok
    assert "another change waits since this was planned: cdnctl drain" in refused.text
    assert engine.transactions.pending is not None
    assert do(engine, Confirm(expect=engine.state.revision)).ok


def test_what_is_confirmed_stays(engine: Engine, path: DataPath) -> None:
    do(engine, SetWeights(weights={AURORA: 7}, confirm_s=30))
    assert do(engine, Confirm(dry_run=True)).text.startswith("would keep: cdnctl weight")
    assert do(engine, Confirm(), BOB).ok
    later(engine, 60)
    engine.transactions.tick()
    assert engine.weights()[AURORA] == 7
    assert not do(engine, Confirm()).ok, "nothing waits any more"
    assert successor(engine, path).transactions.pending is None
    assert engine.weights()[AURORA] == 7


def test_a_revert_is_at_once(engine: Engine, path: DataPath) -> None:
    before = picture(engine, path)
    do(engine, Drain(cdn=BOREALIS, confirm_s=30))
    assert do(engine, Revert(dry_run=True)).text.startswith("would revert: cdnctl drain")
    outcome = do(engine, Revert(), BOB)
    assert outcome.text.startswith("reverted: cdnctl drain")
    assert outcome.applied_monotonic_ns
    assert picture(engine, path) == before
    assert not do(engine, Revert()).ok


def test_one_waits_at_a_time_and_says_whose_it_is(engine: Engine) -> None:
    do(engine, SetWeights(weights={AURORA: 7}, confirm_s=30), BOB)
    for other in (
        SetMode(mode="observe"),  # risky
        Drain(cdn=BOREALIS, confirm_s=10),  # would have to wait, too
        SetWeights(weights={AURORA: 8}),  # touches the same
    ):
        outcome = do(engine, other)
        assert not outcome.ok
        assert "bob" in outcome.text
        assert "30 s more" in outcome.text
        assert "`cdnctl confirm`" in outcome.remedy
    assert do(engine, Allow(prefix=PREFIX)).ok, "what has nothing to do with it goes on"
    assert do(engine, Disarm()).ok, "and panic always"
    assert do(engine, Arm()).ok
    do(engine, Revert())
    assert do(engine, Drain(cdn=BOREALIS, confirm_s=10)).ok


@pytest.mark.parametrize("panic", [Disarm(), Bypass()], ids=["disarm", "bypass"])
def test_panic_that_should_wait_goes_through_while_another_waits_and_stays(
    engine: Engine, path: DataPath, panic: AnyChange
) -> None:
    do(engine, Drain(cdn=BOREALIS, confirm_s=30), BOB)
    outcome = do(engine, replace(panic, confirm_s=120))
    assert outcome.ok
    assert "reverts in" not in outcome.text
    assert any(
        "it stays" in warning and "bob's does: cdnctl drain" in warning for warning in outcome.warnings
    )
    assert path.tables.mode in (abi.Mode.DISARMED, abi.Mode.BYPASS)
    waiting = engine.transactions.picture()
    assert waiting is not None
    assert waiting.by == "bob"
    later(engine, 31)
    engine.transactions.tick()
    assert BOREALIS not in engine.drained()
    assert path.tables.mode in (abi.Mode.DISARMED, abi.Mode.BYPASS), "nobody's timer takes panic back"


def test_a_plan_of_panic_says_that_it_would_stay(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(engine.tables), "live_flows", lambda self: 12)
    assert dry(engine, Bypass()).risk == "it cuts 12 translated flows"
    do(engine, Drain(cdn=BOREALIS, confirm_s=30), BOB)
    plan = dry(engine, Bypass())
    assert plan.ok
    assert not plan.risk, "a console or terminal would promise a revert for it"
    assert any("it stays" in warning for warning in plan.warnings)


def test_what_somebody_else_changed_meanwhile_is_left(engine: Engine, path: DataPath) -> None:
    """Panic is never refused, so it may come in between."""
    do(engine, Disarm(confirm_s=30))
    path.tables.mode = abi.Mode(0)  # root, past the agent
    later(engine, 31)
    engine.transactions.tick()
    assert engine.transactions.pending is None
    assert path.tables.mode == abi.Mode(0)


def test_a_dead_agents_change_reverts_at_the_start_when_overdue(engine: Engine, path: DataPath) -> None:
    before = picture(engine, path)
    do(engine, SetWeights(weights={AURORA: 7}, confirm_s=30))
    after = successor(engine, path)
    assert after.weights()[AURORA] == 7
    left_s = after.transactions.left_s
    assert 28 < left_s <= 30, "it goes on counting"
    rewrite(after, ends_at_ns=time.time_ns() - 1)
    late = successor(engine, path)
    assert late.transactions.pending is None
    assert picture(late, path) == before


def rewrite(engine: Engine, **fields: object) -> None:
    """The record of what waits, as if it had been written at another time."""
    path = engine.store.pending.path
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_clock_that_jumps_back_does_not_make_it_wait_for_ever(engine: Engine, path: DataPath) -> None:
    do(engine, SetWeights(weights={AURORA: 7}, confirm_s=30))
    rewrite(engine, ends_at_ns=time.time_ns() + 10**15)
    assert successor(engine, path).transactions.left_s <= 30


def test_a_revert_that_the_kernel_refuses_is_told_and_tried_again(
    engine: Engine, path: DataPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(engine, SetWeights(weights={AURORA: 7}, confirm_s=30))
    later(engine, 31)
    with monkeypatch.context() as patch:

        def refuse(table: Map, key: bytes, value: bytes) -> None:
            raise OSError(errno.EBUSY, "bpf_map_update_elem")

        patch.setattr(Map, "put", refuse)
        engine.transactions.tick()
        waiting = engine.transactions.picture()
        assert waiting is not None
        assert "kernel refused" in waiting.trouble
        engine.transactions.tick()
        assert len(list(engine.journal.read())) == 2, "not at every frame"
    later(engine, 10)
    engine.transactions.tick()
    assert engine.transactions.pending is None
    assert weight_in_force(path, AURORA) != 7


# --- all or nothing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        SetWeights(weights={AURORA: 7}),
        Drain(cdn=BOREALIS),
        BlockPrefix(prefix=PREFIX),
        Allow(prefix=PREFIX),
        SetMode(mode="observe"),
        Arm(),
    ],
    ids=lambda change: type(change).__name__,
)
def test_what_cannot_be_stored_is_not_in_force(
    engine: Engine, path: DataPath, monkeypatch: pytest.MonkeyPatch, change: AnyChange
) -> None:
    if isinstance(change, Arm):
        do(engine, Disarm())
    before, count = picture(engine, path), 0
    whole = os.fsync
    for nth in range(1, 12):
        calls = iter(range(1, 100))

        def fail(descriptor: int, calls: object = calls, nth: int = nth) -> None:
            if next(calls) == nth:  # type: ignore[call-overload]
                raise OSError(errno.ENOSPC, "No space left on device")
            whole(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            outcome = do(engine, change)
        if outcome.ok:
            break
        count += 1
        assert "No space left on device" in outcome.text
        assert picture(engine, path) == before
        assert picture(successor(engine, path), path) == before
    assert outcome.ok
    assert count >= 3, "the intent and the state, each with its directory; or a line"
    assert picture(engine, path) != before


@pytest.mark.parametrize("change", [Disarm(), Bypass()], ids=["disarm", "bypass"])
def test_panic_works_also_when_the_disk_is_full(
    engine: Engine, path: DataPath, monkeypatch: pytest.MonkeyPatch, change: AnyChange
) -> None:
    def full(path: Path, data: bytes, keep_as: Path | None = None) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "replace", full)
    outcome = do(engine, change)
    assert outcome.ok
    assert any("would not survive a restart" in warning for warning in outcome.warnings)
    assert path.tables.mode in (abi.Mode.DISARMED, abi.Mode.BYPASS)


# --- undo --------------------------------------------------------------------------------------------


def test_undo_takes_back_one_after_the_other(engine: Engine, path: DataPath) -> None:
    before = picture(engine, path)
    for change in (
        SetWeights(weights={AURORA: 7}),
        Drain(cdn=BOREALIS),
        BlockPrefix(prefix=PREFIX, lifetime_s=60),
        SetMode(mode="observe"),
        Allow(prefix=PREFIX),
    ):
        assert do(engine, change).ok
    assert do(engine, Undo(dry_run=True)).text == (
        "would undo number 5, of root: cdnctl allow 10.1.2.0/24 (what is allowed of 10.1.2.0/24: set -> none)"
    )
    said = [do(engine, Undo(), BOB).text for _ in range(5)]
    assert [text.partition("cdnctl ")[2].split()[0] for text in said] == [
        "allow", "mode", "block", "drain", "weight",
    ]  # fmt: skip
    assert picture(engine, path) == before
    assert "nothing to undo" in do(engine, Undo()).text
    assert picture(successor(engine, path), path) == before


def test_an_undo_can_be_undone_by_its_number(engine: Engine) -> None:
    do(engine, SetWeights(weights={AURORA: 7}))
    do(engine, Undo())
    assert list(engine.journal.read())[-1].cli == "cdnctl undo 1", "which one it was"
    assert engine.weights()[AURORA] != 7
    assert do(engine, Undo(seq=2)).ok
    assert engine.weights()[AURORA] == 7
    assert "was undone already" in do(engine, Undo(seq=1)).text


def test_what_stands_in_the_way_is_said(engine: Engine) -> None:
    do(engine, SetWeights(weights={AURORA: 7}))
    do(engine, SetWeights(weights={AURORA: 9}), BOB)
    outcome = do(engine, Undo(seq=1))
    assert not outcome.ok
    assert "the weight of " in outcome.text
    assert "changed since by bob: cdnctl weight" in outcome.text
    assert engine.weights()[AURORA] == 9
    for seq, why in ((99, "has no number 99"), (3, "changed nothing")):
        assert why in do(engine, Undo(seq=seq)).text


def test_what_has_ended_by_itself_is_in_nobodys_way(engine: Engine) -> None:
    """The last change that can be taken back is taken back, not one that time has taken back."""
    do(engine, SetWeights(weights={AURORA: 7}))
    do(engine, BlockPrefix(prefix=PREFIX, lifetime_s=1))
    do(engine, Unblock(prefix=PREFIX))
    time.sleep(1.1)
    outcome = do(engine, Undo())
    assert outcome.ok
    assert f"the weight of {AURORA}: 7 -> " in outcome.text


def test_who_says_again_what_waits_hears_that_it_waits(engine: Engine) -> None:
    assert do(engine, SetWeights(weights={AURORA: 7}, confirm_s=60)).ok
    outcome = do(engine, SetWeights(weights={AURORA: 7}), BOB)
    assert not outcome.ok
    assert "waits to be confirmed" in outcome.text


def test_a_plan_to_go_back_says_from_what_to_what(engine: Engine) -> None:
    do(engine, SetWeights(weights={AURORA: 7}))
    revision = engine.state.revision
    do(engine, SetWeights(weights={AURORA: 9}))
    do(engine, Disarm())
    text = do(engine, Undo(to=revision, dry_run=True)).text
    assert f"the weight of {AURORA}: 9 -> 7" in text
    assert "whether the edge is armed: no -> yes" in text


def test_an_undone_unblock_blocks_nobody_who_must_be_reached(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(engine, BlockPrefix(prefix=PREFIX))
    do(engine, Unblock(prefix=PREFIX))
    with monkeypatch.context() as patch:
        around = protected.Surroundings(ssh_peers=("10.1.2.3",))
        patch.setattr(protected, "surroundings", lambda: around)
        outcome = do(engine, Undo())
        assert not outcome.ok
        assert "an operator logged in over SSH" in outcome.text
    assert do(engine, Undo()).ok
    assert engine.blocks.enforced == 1


def test_back_to_a_kept_state(engine: Engine, path: DataPath) -> None:
    do(engine, SetWeights(weights={AURORA: 7}))
    do(engine, Drain(cdn=BOREALIS))
    wanted = engine.weights(), engine.drained()
    revision = engine.state.revision
    do(engine, BlockPrefix(prefix=PREFIX))
    do(engine, SetWeights(weights={AURORA: 8, BOREALIS: 3}))
    do(engine, Undrain(cdn=BOREALIS))
    assert revision in [each.number for each in do(engine, GetState()).revisions or []]
    assert f"{AURORA} = 7" in (do(engine, GetState(revision=revision)).state or "")
    assert do(engine, Undo(to=revision, dry_run=True)).text.startswith(
        f"would go back to revision {revision}"
    )
    assert do(engine, Undo(to=revision)).ok
    assert (engine.weights(), engine.drained()) == wanted
    assert engine.state.revision > revision
    assert engine.blocks.enforced == 1
    assert do(engine, Undo()).ok, "and that can be undone"
    assert engine.weights()[AURORA] == 8
    assert "there is no revision 99" in do(engine, Undo(to=99)).text


# --- two operators -----------------------------------------------------------------------------------


def test_who_planned_on_an_older_state_is_told_who_was_quicker(engine: Engine, path: DataPath) -> None:
    version = engine.state.revision
    assert do(engine, SetWeights(weights={AURORA: 7}, expect=version), BOB).ok
    for expected in (engine, successor(engine, path)):
        outcome = do(expected, SetWeights(weights={AURORA: 8}, expect=version))
        assert not outcome.ok
        assert "the weight of " in outcome.text
        assert "bob, " in outcome.text
        assert f" s ago: cdnctl weight {AURORA}=7" in outcome.text
        assert expected.weights()[AURORA] == 7
    assert do(engine, Drain(cdn=BOREALIS, expect=version)).ok, "another thing"
    plan = do(engine, SetWeights(weights={AURORA: 8}, dry_run=True))
    assert do(engine, SetWeights(weights={AURORA: 8}, expect=plan.state_version)).ok


# --- plans -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said", "risky"),
    [
        (BlockPrefix(prefix=PREFIX), "matches 0 live flows, 0 pps, no CDN, not you", False),
        (SetWeights(weights={AURORA: 1}), " % of new flows; live ones stay", False),
        (SetMode(mode="observe"), "cuts 0 translated flows", False),
        (Bypass(), "cuts 0 translated flows", False),
    ],
)
def test_a_plan_says_what_it_would_do(engine: Engine, change: AnyChange, said: str, risky: bool) -> None:
    plan = dry(engine, change)
    assert said in plan.text
    assert bool(plan.risk) == risky
    assert plan.state_version == engine.state.revision


def test_draining_all_but_one_is_risky(engine: Engine) -> None:
    assert not dry(engine, Drain(cdn=BOREALIS)).risk
    do(engine, Drain(cdn=BOREALIS))
    assert dry(engine, Drain(cdn=CORONA)).risk == f"only {AURORA} is left"
    do(engine, SetWeights(weights={AURORA: 1}))
    assert dry(engine, SetWeights(weights={AURORA: 1000, CORONA: 1})).risk == "it moves 99 % of new flows"


def test_an_undo_is_as_risky_as_what_it_does(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(engine.tables), "live_flows", lambda self: 12)
    do(engine, Drain(cdn=BOREALIS))
    do(engine, Drain(cdn=CORONA))
    assert not dry(engine, Undo()).risk, "it gives a third back"
    do(engine, Undrain(cdn=CORONA))
    assert dry(engine, Undo()).risk == f"only {AURORA} is left"
    assert dry(engine, Undo(to=1)).risk == ""
    do(engine, SetWeights(weights={AURORA: 1000}))
    do(engine, SetWeights(weights={AURORA: 1}))
    assert "of new flows" in dry(engine, Undo()).risk
    do(engine, SetMode(mode="observe"))
    assert dry(engine, Undo()).risk == "all new flows are translated that pass untouched now"
    do(engine, SetMode(mode="active"))
    assert dry(engine, Undo()).risk == "it cuts 12 translated flows"
    do(engine, Bypass())
    do(engine, Arm())
    assert dry(engine, Undo()).risk == "it cuts 12 translated flows"


def test_undo_of_attach_and_of_an_unblock_are_risky(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(engine.tables), "live_flows", lambda self: 12)
    after = {objects.ATTACHMENT: False}
    assert risks.of_values(engine, after) == "it cuts 12 translated flows"
    do(engine, BlockPrefix(prefix=PREFIX))
    do(engine, Unblock(prefix=PREFIX))
    busy = consequences.Matched(FlowCount(5000, about=False), 1e6, 0.2)
    monkeypatch.setattr(engine, "matched", lambda network: busy)
    assert dry(engine, Undo()).risk == "it cuts 5000 live flows"


def test_an_undo_that_nobody_confirms_can_be_made_again(engine: Engine) -> None:
    do(engine, Drain(cdn=BOREALIS))
    assert do(engine, Undo(confirm_s=30)).ok
    assert BOREALIS not in engine.drained()
    later(engine, 31)
    engine.transactions.tick()
    assert BOREALIS in engine.drained()
    said = f"undid number 1, of root: cdnctl drain {BOREALIS} (the drain of {BOREALIS}: yes -> no)"
    assert do(engine, Undo()).text == said


def dry(engine: Engine, change: AnyChange) -> Outcome:
    return do(engine, replace(change, dry_run=True))


# --- diff and repair ---------------------------------------------------------------------------------


def test_what_was_written_past_the_agent_is_found_and_repaired(engine: Engine, path: DataPath) -> None:
    do(engine, BlockPrefix(prefix=PREFIX))
    do(engine, BlockPrefix(prefix="10.1.3.7"))
    do(engine, SetWeights(weights={AURORA: 40}))
    do(engine, Repair())
    assert differences(engine) == []
    tables, pins = path.tables, path.program.pins
    (place, *_) = path.layout.endpoints_of(AURORA)
    tables.choice._endpoints.put(abi.key(place.id), bytes(entry_with(tables.choice.endpoint(place.id), 1)))
    KernelBlocks(pins).remove(IPv4Network("10.1.3.7"))
    path.blocks.put(IPv4Network("10.9.9.0/24"), 0)
    tables.mode = abi.Mode.DISARMED
    tables.shield.now = abi.Shield(level=abi.Level.SIEGE)
    service = path.layout.services[0]
    table = tables.choice.service(service.id).table[0][0]
    tables.choice._picks.put(abi.key(table), bytes(2 * abi.PICK_ROOM))
    found = {(each.what, each.name.split()[0]) for each in differences(engine)}
    assert {
        ("switch", "armed"), ("shield", "level"), ("block", "10.1.3.7"), ("block", "10.9.9.0/24"),
        ("service", service.name),
    } <= found  # fmt: skip
    assert any(what == "endpoint" for what, _ in found)
    plan = dry(engine, Repair())
    assert plan.text.startswith("would repair ")
    assert {(each.what, each.name.split()[0]) for each in differences(engine)} == found
    assert do(engine, Repair()).ok
    assert differences(engine) == []
    assert list(engine.journal.read())[-1].cli == "cdnctl repair"


def entry_with(entry: abi.Endpoint, weight: int) -> abi.Endpoint:
    entry.weight = weight
    return entry


def test_the_journal_says_what_each_change_was(engine: Engine) -> None:
    do(engine, SetWeights(weights={AURORA: 7}, confirm_s=60, reason="cheaper"))
    do(engine, Confirm())
    first, second = engine.journal.read()
    assert first.changes == {f"weight {AURORA}": (None, 7)}
    assert first.revision == engine.state.revision
    assert first.expires_ns > time.time_ns()
    assert first.cli == f"cdnctl weight {AURORA}=7 --confirm 60 --reason cheaper"
    assert (second.cli, second.changes) == ("cdnctl confirm", {})
    assert OPERATOR.user == first.user
