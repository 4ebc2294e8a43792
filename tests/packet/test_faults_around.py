"""What goes wrong around a change: roll-backs and reverts that fail, a full disk at a start, damage."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from changing import BOB, do, successor, weight_in_force
from harness import AURORA, DataPath

from cdnctl.datapath import abi
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.tables import Tables
from cdnctl.engine import transactions
from cdnctl.engine.engine import Engine
from cdnctl.engine.journal import Journal
from cdnctl.model import Bypass, Confirm, Disarm, Mark, SetWeights, Undo
from cdnctl.state import StateStore, files
from cdnctl.state.intents import RecordFile

WAITING = SetWeights(weights={AURORA: 7}, confirm_s=60)


def no_room(*_arguments: object, **_named: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def busy(*_arguments: object, **_named: object) -> None:
    raise OSError(errno.EBUSY, "bpf_map_update_elem")


def told(engine: Engine) -> str:
    return "\n".join(event.text for event in engine._ticker.take())


def later(engine: Engine, seconds: float) -> None:
    """Time goes by for what is pending."""
    engine.transactions._due_ns -= int(seconds * 1e9)


class Killed(BaseException):
    """The agent dies here."""


def dying(whole: Callable[..., object]) -> Callable[..., object]:
    """Does it, and dies."""

    def die(*arguments: object, **named: object) -> None:
        whole(*arguments, **named)
        raise Killed

    return die


# --- in the middle of a change -------------------------------------------------------------------------


def test_a_roll_back_that_fails_is_told(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    do(engine, Mark(text="before"))
    told(engine)
    with monkeypatch.context() as patch:
        patch.setattr(Map, "put", busy)
        outcome = do(engine, SetWeights(weights={AURORA: 7}))
    assert not outcome.ok
    assert "not all of it was taken back" in outcome.text
    assert "`cdnctl diff`" in outcome.remedy + outcome.text
    assert "cannot take back cdnctl weight" in told(engine)
    assert [entry.ok for entry in engine.journal.read()][-1:] == [False]


def test_what_cannot_be_counted_afterwards_is_in_force_all_the_same(
    engine: Engine, path: DataPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tables, "live_flows", busy)
    outcome = do(engine, Bypass())
    assert outcome.ok, outcome.text
    assert path.tables.mode == abi.Mode.BYPASS
    assert any("cannot be counted" in warning for warning in outcome.warnings)
    (entry,) = engine.journal.read()
    assert entry.ok
    assert entry.changes


def test_panic_that_waits_on_a_full_disk_says_what_it_lacks_and_reverts(
    engine: Engine, path: DataPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    for weight in (7, 8):
        do(engine, SetWeights(weights={AURORA: weight}))
    with monkeypatch.context() as patch:
        patch.setattr(StateStore, "save", lambda self, state: no_room_for_state())
        outcome = do(engine, Disarm(confirm_s=60))
    assert outcome.ok
    assert any("would not survive a restart" in warning for warning in outcome.warnings)
    assert not any("will not revert" in warning for warning in outcome.warnings)
    heir = successor(engine, path)
    assert heir.transactions.pending is not None, "it waits on, though the state has it not"
    later(heir, 61)
    heir.transactions.tick()
    assert path.tables.mode == abi.Mode(0)


def no_room_for_state() -> None:
    from cdnctl.state import StateError

    raise StateError("cannot write state.toml: No space left on device")


def test_panic_that_would_not_revert_after_a_kill_says_so(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = files.replace

    def write(path: Path, data: bytes, keep_as: Path | None = None) -> None:
        if path.name == "pending.json":
            no_room()
        whole(path, data, keep_as=keep_as)

    monkeypatch.setattr(files, "replace", write)
    outcome = do(engine, Disarm(confirm_s=60))
    assert outcome.ok
    assert any("will not revert if the agent ends" in warning for warning in outcome.warnings)
    assert not any("survive" in warning or "nothing was changed" in warning for warning in outcome.warnings)
    assert not StateStore(engine.store.directory).load().armed, "the state has it all the same"


def test_a_revert_that_fails_again_and_again_does_not_fill_the_journal(
    engine: Engine, path: DataPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(engine, WAITING)
    later(engine, 61)
    waits = []
    with monkeypatch.context() as patch:
        patch.setattr(Map, "put", busy)
        for _ in range(20):
            engine.transactions.tick()
            waits.append(engine.transactions.left_s)
            later(engine, transactions.SELDOM_S + 1)
    assert len(list(engine.journal.read())) == 2, "the change, and the first failure"
    assert waits[0] < 6
    assert waits[1] > 9
    assert max(waits) <= transactions.SELDOM_S
    engine.transactions.tick()
    assert engine.transactions.pending is None
    assert weight_in_force(path, AURORA) != 7


# --- at a start ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [(RecordFile, "clear"), (RecordFile, "write"), (Journal, "append")])
def test_a_disk_that_refuses_keeps_no_agent_from_starting_nor_from_reverting(
    engine: Engine, path: DataPath, monkeypatch: pytest.MonkeyPatch, fails: tuple[type, str]
) -> None:
    before = weight_in_force(path, AURORA)
    with monkeypatch.context() as patch:
        patch.setattr(engine.journal, "append", dying(lambda *_: None))  # killed before the journal has it
        with pytest.raises(Killed):
            do(engine, WAITING)
    engine.store.pending.clear()
    with monkeypatch.context() as patch:
        if fails == (Journal, "append"):
            patch.setattr(Journal, "append", no_room)
        elif fails[1] == "write":
            patch.setattr(files, "replace", no_room)
        else:
            patch.setattr(files, "remove", no_room)
        heir = successor(engine, path)
        assert "No space left" in told(heir)
        assert heir.transactions.pending is not None, "it is reverted in time all the same"
        assert heir.store.intent.path.exists() == (fails[1] in ("clear", "append"))
    if fails == (Journal, "append"):
        do(heir, Mark(text="no change"), BOB)
        assert successor(heir, path).transactions.pending is not None
        assert [(entry.ok, entry.revision) for entry in heir.journal.read() if entry.changes] == [(True, 1)]
        return
    later(heir, 61)
    heir.transactions.tick()
    assert weight_in_force(path, AURORA) == before


def test_a_line_that_is_owed_comes_before_the_next_change(
    engine: Engine, path: DataPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(engine.journal, "append", dying(lambda *_: None))
        with pytest.raises(Killed):
            do(engine, SetWeights(weights={AURORA: 7}))
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", no_room)
        heir = successor(engine, path)
    do(heir, SetWeights(weights={AURORA: 8}), BOB)
    assert [(entry.user, entry.ok) for entry in heir.journal.read()] == [("root", True), ("bob", True)]


@pytest.mark.parametrize("name", ["intent", "pending"])
def test_a_damaged_record_is_set_aside_and_told_once(engine: Engine, path: DataPath, name: str) -> None:
    do(engine, WAITING)
    file: RecordFile = getattr(engine.store, name)
    file.path.write_text("{damage")
    heir = successor(engine, path)
    assert "set aside as" in told(heir)
    (aside,) = file.path.parent.glob(f"{name}.json.damaged-*")
    assert aside.read_text() == "{damage"
    assert "damaged" not in told(successor(heir, path))


@pytest.mark.parametrize("moment", ["intent", "pending", "journal"])
def test_a_confirmation_has_its_line_wherever_it_was_killed(
    engine: Engine, path: DataPath, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    do(engine, WAITING)
    owner, called = {
        "intent": (engine.store.intent, "write"),
        "pending": (engine.store.pending, "clear"),
        "journal": (engine.journal, "append"),
    }[moment]
    with monkeypatch.context() as patch:
        patch.setattr(owner, called, dying(getattr(owner, called)))
        with pytest.raises(Killed):
            do(engine, Confirm())
    heir = successor(engine, path)
    kept = heir.transactions.pending is None
    assert kept == (moment != "intent")
    lines = [entry for entry in heir.journal.read() if entry.command["verb"] == "confirm"]
    assert [entry.ok for entry in lines] == [kept]
    assert not heir.store.intent.path.exists()


# --- past the agent --------------------------------------------------------------------------------------


def test_a_switch_thrown_past_the_agent_is_in_the_journal_and_can_be_undone(
    engine: Engine, path: DataPath
) -> None:
    do(engine, Mark(text="before"))
    path.tables.mode = abi.Mode.DISARMED
    engine._follow_mode()
    engine._follow_mode()
    path.tables.mode = abi.Mode.DISARMED | abi.Mode.OBSERVE
    heir = successor(engine, path)  # while no agent ran
    heir = successor(heir, path)
    lines = [entry for entry in heir.journal.read() if entry.changes]
    assert [(entry.user, entry.client, entry.cli) for entry in lines] == [
        ("root", "past the agent", "cdnctl disarm"),
        ("root", "past the agent", "cdnctl mode observe --yes"),
    ]
    assert [entry.revision for entry in lines] == sorted({entry.revision for entry in lines})
    for _ in lines:
        assert do(heir, Undo()).ok
    assert path.tables.mode == abi.Mode(0)


def test_a_switch_of_the_agents_own_is_not_taken_for_anybodys(
    engine: Engine, path: DataPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StateStore, "save", lambda self, state: no_room_for_state())
    assert do(engine, Disarm(), BOB).ok
    heir = successor(engine, path)
    assert [entry.user for entry in heir.journal.read() if entry.changes] == ["bob"]
    assert not heir.state.armed
