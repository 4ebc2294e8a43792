"""Whatever is kept on the disk, interrupted at every system call: afterwards there is the old or the new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from interrupting import REFUSED, interrupted, needs_strace
from msgspec.structs import replace

from cdnctl.engine.journal import Journal
from cdnctl.errors import CdnctlError
from cdnctl.model import Actor, Block, Drain, Outcome
from cdnctl.state import State, StateStore
from cdnctl.state.intents import Record, RecordFile

ACTOR = Actor(user="alice", uid=1000, pid=42)
OLD, NEW, NEXT = "old", "new", "next"
BLOCK = Block(prefix="198.51.100.0/24", created_ns=1)


class Kept(NamedTuple):
    """Something on the disk: how it is saved, and how it is read after a crash."""

    save: Callable[[Path, str], None]
    read: Callable[[Path], Any]
    before: Any = OLD
    after: Any = NEW
    finally_: Any = NEXT


def _state(word: str) -> State:
    return State(drained=[word], revision={OLD: 1, NEW: 2, NEXT: 3}[word])


def _save_state(directory: Path, word: str) -> None:
    store = StateStore(directory)
    store.load()
    store.save(_state(word))


def _read_state(directory: Path) -> str:
    store = StateStore(directory)
    state = store.load()
    assert not store.warnings
    assert state == _state(*state.drained)
    assert all(store.state_of(each.number) for each in store.revisions())
    return state.drained[0]


def _save_block(directory: Path, word: str) -> None:
    store = StateStore(directory)
    store.load()
    store.blocks.add(replace(BLOCK, prefix=word), {OLD: 1, NEW: 2, NEXT: 3}[word])


def _read_blocks(directory: Path) -> list[str]:
    store = StateStore(directory)
    found = store.load().blocks
    assert not store.warnings
    return [block.prefix for block in found]


def _rewrite_blocks(directory: Path, word: str) -> None:
    store = StateStore(directory)
    store.load()
    store.blocks.rewrite([replace(BLOCK, prefix=f"{word}{number}") for number in range(50)], 1)


def _read_rewritten(directory: Path) -> str:
    (word, *others) = {prefix.rstrip("0123456789") for prefix in _read_blocks(directory)}
    assert not others
    assert len(_read_blocks(directory)) == 50
    return word


def _record(word: str) -> Record:
    return Record(revision=1, actor=ACTOR, cli=word, text=word, command={}, before={}, after={})


def _save_record(directory: Path, word: str) -> None:
    RecordFile(directory / "pending.json").write(_record(word))


def _read_record(directory: Path) -> str:
    file = RecordFile(directory / "pending.json")
    found = file.read()
    assert found is not None
    assert not file.warning
    return found.text


def _clear_record(directory: Path, word: str) -> None:
    if word == NEW:
        RecordFile(directory / "pending.json").clear()
    else:
        _save_record(directory, word)


def _read_cleared(directory: Path) -> str:
    found = RecordFile(directory / "pending.json").read()
    return NEW if found is None else found.text


def _save_line(directory: Path, word: str) -> None:
    Journal(directory / "journal.jsonl").append(ACTOR, Drain(cdn=word), Outcome(ok=True, text=word))


def _read_lines(directory: Path) -> list[str]:
    entries = list(Journal(directory / "journal.jsonl").read())
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    return [entry.text for entry in entries]


KEPT = {
    "state": Kept(_save_state, _read_state),
    "block": Kept(_save_block, _read_blocks, [OLD], [OLD, NEW], [OLD, NEXT]),
    "all blocks": Kept(_rewrite_blocks, _read_rewritten),
    "record": Kept(_save_record, _read_record),
    "no record": Kept(_clear_record, _read_cleared),
    "journal": Kept(_save_line, _read_lines, [OLD], [OLD, NEW], [OLD, NEXT]),
}


KILL, FULL, BROKEN = "signal=KILL", "error=ENOSPC", "error=EIO"
QUICK = {
    ("state", KILL),
    ("state", FULL),
    ("block", KILL),
    ("record", KILL),
    ("journal", KILL),
    ("journal", FULL),
}
"""The others run with the soak tests: each takes a second or two, and more on a busy box."""


@needs_strace
@pytest.mark.parametrize(
    ("what", "fault"),
    [
        pytest.param(what, fault, marks=() if (what, fault) in QUICK else pytest.mark.soak)
        for what in KEPT
        for fault in (KILL, FULL, BROKEN)
    ],
)
def test_afterwards_there_is_the_old_or_the_new(tmp_path: Path, what: str, fault: str) -> None:
    kept, number, seen, directory = KEPT[what], 0, set[str](), tmp_path

    def begin() -> None:
        nonlocal directory, number
        number += 1
        directory = tmp_path / str(number)
        directory.mkdir()
        kept.save(directory, OLD)

    def step() -> None:
        try:
            kept.save(directory, NEW)
        except OSError as error:  # the journal's, whose caller knows it
            raise CdnctlError(str(error)) from error

    for where, status in interrupted(begin, step, fault, failing="error" in fault):
        found = kept.read(directory)
        assert found in (kept.before, kept.after), where
        if status == 0:
            assert found == kept.after, (where, "it said that it was saved")
        if status == REFUSED:
            assert found == kept.before, (where, "it said that it was not saved")
        assert status in (None, 0, REFUSED), where
        seen.add(OLD if found == kept.before else NEW)
        kept.save(directory, NEXT)  # nothing that was left stands in its way
        after = kept.read(directory)
        assert after in (kept.finally_, [*kept.after, NEXT] if isinstance(kept.after, list) else NEXT)
    assert seen == {OLD, NEW}
    assert number > 5
