"""A change killed at every system call, of kernel and disk: the next agent finishes it or takes it back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from changing import do, successor, weight_in_force
from harness import AURORA, BOREALIS, DataPath
from interrupting import interrupted, needs_strace

from cdnctl.datapath import abi
from cdnctl.defence import protected
from cdnctl.engine import objects
from cdnctl.engine.engine import Engine
from cdnctl.model import AnyChange, BlockPrefix, Confirm, Diff, Drain, Revert, SetMode, SetWeights, Undo

PREFIX = "10.1.2.0/24"
CHANGES: dict[str, tuple[AnyChange | None, AnyChange]] = {
    "weights": (None, SetWeights(weights={AURORA: 7})),
    "weights to be confirmed": (None, SetWeights(weights={AURORA: 7}, confirm_s=60)),
    "a block": (None, BlockPrefix(prefix=PREFIX)),
    "a switch to be confirmed": (None, SetMode(mode="observe", confirm_s=60)),
    "confirming": (SetWeights(weights={AURORA: 7}, confirm_s=60), Confirm()),
    "reverting": (SetWeights(weights={AURORA: 7}, confirm_s=60), Revert()),
    "undoing": (SetWeights(weights={AURORA: 7}), Undo()),
}


@needs_strace
@pytest.mark.parametrize("every", [23, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("what", CHANGES)
def test_the_next_agent_has_it_whole_or_not_at_all(
    engine: Engine, path: DataPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, every: int
) -> None:
    monkeypatch.setattr(protected, "surroundings", protected.Surroundings)
    first, change = CHANGES[what]
    now = engine
    touched = [objects.weight(AURORA), objects.block(PREFIX), objects.switch("observing")]

    def begin() -> None:
        """Everything as it was, and an agent that has just started."""
        nonlocal now
        shutil.rmtree(engine.store.directory, ignore_errors=True)
        path.tables.mode = abi.Mode(0)
        now = successor(engine, path)
        do(now, Drain(cdn=BOREALIS))
        if first is not None:
            do(now, first)

    def step() -> None:
        assert do(now, change).ok

    begin()
    before = [objects.read(now, each) for each in touched]
    step()
    after = [objects.read(now, each) for each in touched]
    seen = set()
    for where, status in interrupted(begin, step, "signal=KILL", every=every):
        heir = successor(engine, path)
        found = [_plain(objects.read(heir, each)) for each in touched]
        assert found in ([_plain(each) for each in before], [_plain(each) for each in after]), where
        is_new = found == [_plain(each) for each in after]
        assert status is None or is_new
        wanted = heir.weights()[AURORA]
        assert weight_in_force(path, AURORA) in (wanted, 100 * wanted), where
        differences = do(heir, Diff()).differences or []
        assert [each for each in differences if each.what not in ("interface", "neighbour")] == [], where
        assert not heir.store.intent.path.exists()
        journal = [
            entry for entry in heir.journal.read() if entry.command["verb"] == change.__struct_config__.tag
        ]
        if isinstance(change, Confirm):  # it changes nothing but that nobody waits any more
            assert heir.weights()[AURORA] == 7
            is_kept = heir.transactions.pending is None
            assert any(entry.ok for entry in journal) == is_kept, where
            seen.add(is_kept)
            continue
        if is_new:
            assert [entry.ok for entry in journal] == [True], where
        else:
            assert not any(entry.ok for entry in journal), where
        if change.confirm_s:
            assert (heir.transactions.pending is not None) == is_new, where
        if isinstance(change, Revert):
            assert (heir.transactions.pending is None) == is_new, where
        seen.add(is_new)
    assert seen == {True, False}


def _plain(value: object) -> object:
    """Without the time that it was made."""
    return {**value, "created_ns": 0, "expires_ns": 0} if isinstance(value, dict) else value
