"""What operators changed survives restarts, crashes and damage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from cdnctl.errors import CdnctlError
from cdnctl.model import Allowed, Block
from cdnctl.state import KEPT, CustomerLimit, State, StateError, StateStore
from cdnctl.state import blocks as blocks_file
from cdnctl.state.blocks import BlockLog

STATE = State(
    weights={"aurora": 60, "borealis": 0},
    drained=["cirrus"],
    armed=False,
    limits={"acme": CustomerLimit(pps=1000.0), "beta": CustomerLimit()},
    allowed=[Allowed(prefix="2001:db8::/32", reason="ours", created_ns=1)],
    observing=True,
    revision=7,
)
BLOCK = Block(prefix="198.51.100.0/24", reason='a "flood"\n[x]', created_ns=1, expires_ns=2**62)


def test_nothing_saved_is_an_empty_state(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "ams1")
    assert store.load() == State()
    assert not store.warnings
    assert not (tmp_path / "ams1").exists()


def test_saved_is_loaded(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "deep" / "ams1")
    store.save(STATE)
    assert StateStore(store.directory).load() == STATE
    assert sorted(path.name for path in store.directory.iterdir()) == ["state", "state.toml"]
    assert store.path.stat().st_mode & 0o007 == 0


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


@given(
    st.builds(
        State,
        weights=st.dictionaries(TEXT, st.integers(0, 1000)),
        drained=st.lists(TEXT),
        armed=st.booleans(),
        limits=st.dictionaries(TEXT, st.builds(CustomerLimit, pps=st.none() | st.floats(0.5, 1e9))),
        allowed=st.lists(st.builds(Allowed, prefix=TEXT, reason=TEXT)),
    )
)
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, state: State) -> None:
    store = StateStore(tmp_path_factory.getbasetemp() / "any")
    store.save(state)
    assert store.load() == state


@pytest.mark.parametrize(
    "damage",
    [
        b"weights = {",
        b"\xff",
        b'weights = "x"',
        b"[[blocks]]\nreason = 'no prefix'\n",
        b"armed = 3",
        b"limits = 1",
    ],
)
def test_a_damaged_file_is_kept_and_told_until_a_state_is_stored(tmp_path: Path, damage: bytes) -> None:
    store = StateStore(tmp_path)
    store.path.write_bytes(damage)
    for _start in range(2):  # the first may be refused for another reason
        store = StateStore(tmp_path)
        assert store.load() == State()
        (warning,) = store.warnings
        assert str(store.path) in warning
        assert store.path.read_bytes() == damage
    store.save(STATE)
    (aside,) = tmp_path.glob("state.toml.damaged-*")
    assert aside.read_bytes() == damage
    store.save(STATE)
    assert len(list(tmp_path.glob("state.toml*"))) == 2
    assert store.load() == STATE
    assert not store.warnings


def test_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.path.write_text("version = 99\n")
    with pytest.raises(StateError, match="version 99"):
        store.load()
    assert store.path.read_text() == "version = 99\n"


def test_a_failed_save_keeps_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = StateStore(tmp_path)
    store.save(STATE)

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(StateError, match="No space left"):
            store.save(State())
    assert store.load() == STATE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "state.toml"]


# --- what was before -----------------------------------------------------------------------------


def test_the_last_twenty_are_kept_under_their_numbers(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    for revision in range(1, 31):
        store.save(State(weights={"aurora": revision}, revision=revision))
    assert [each.number for each in store.revisions()] == list(range(30, 30 - KEPT, -1))
    assert store.state_of(30).weights == {"aurora": 30}
    assert store.state_of(12).weights == {"aurora": 12}
    with pytest.raises(StateError, match="there is no revision 3 of the state"):
        store.state_of(3)
    assert len(list(tmp_path.rglob("*.toml"))) == KEPT
    again = StateStore(tmp_path)
    assert again.load().revision == 30
    again.save(State(revision=31))
    assert again.state_of(30).weights == {"aurora": 30}


def test_after_damage_numbers_go_on(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.save(State(revision=5))
    store.save(State(revision=6))
    store.path.write_text("damage")
    assert StateStore(tmp_path).load().revision == 5


def test_what_an_earlier_version_saved_is_moved_not_lost(tmp_path: Path) -> None:
    blocks = tomli_w.dumps({"version": 1, "weights": {"aurora": 3}, "blocks": [asdict(BLOCK)]})
    (tmp_path / "state.toml").write_text(blocks)
    store = StateStore(tmp_path)
    state = store.load()
    assert state.blocks == [BLOCK]
    assert not store.warnings
    store.settle(state, state.blocks)
    for _ in range(2):  # before its first save, and after
        store = StateStore(tmp_path)
        assert store.load() == State(weights={"aurora": 3}, blocks=[BLOCK], version=store.load().version)
        store.save(store.load())
    assert "198.51.100" not in store.path.read_text()


# --- blocks --------------------------------------------------------------------------------------


def log_in(directory: Path) -> BlockLog:
    return BlockLog(directory / "blocks.jsonl")


def test_blocks_are_kept_edit_by_edit(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    other = replace(BLOCK, prefix="198.51.100.7", hits=12)
    log.add(BLOCK, 1)
    log.add(other, 2)
    log.add(replace(BLOCK, reason="again"), 3)
    log.remove("198.51.100.7", "manual", 4)
    log.close()
    again = log_in(tmp_path)
    assert again.load() == [replace(BLOCK, reason="again")]
    assert again.revision == 4
    again.add(other, 5)
    assert log_in(tmp_path).load()[1] == replace(other, hits=0), "hits are an estimate of the running agent"


def test_blocks_that_have_ended_are_left_out(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.add(replace(BLOCK, expires_ns=1), 1)
    assert log_in(tmp_path).load() == []


@pytest.mark.parametrize("length", range(1, 60, 7))
def test_a_torn_edit_was_never_made_and_the_next_one_is(tmp_path: Path, length: int) -> None:
    log = log_in(tmp_path)
    log.add(BLOCK, 1)
    log.add(replace(BLOCK, prefix="198.51.100.9"), 2)
    log.close()
    data = log.path.read_bytes()
    log.path.write_bytes(data[:-length])
    log = log_in(tmp_path)
    assert log.load() == [BLOCK]
    log.remove(BLOCK.prefix, BLOCK.source, 3)
    assert log_in(tmp_path).load() == []
    assert not log.warnings


def test_damage_within_is_told_and_the_file_kept(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    for number in range(3):
        log.add(replace(BLOCK, prefix=f"198.51.100.{number}"), number)
    log.close()
    lines = log.path.read_bytes().split(b"\n")
    lines[2] = b"{damage"
    log.path.write_bytes(b"\n".join(lines))
    log = log_in(tmp_path)
    assert [block.prefix for block in log.load()] == ["198.51.100.0", "198.51.100.2"]
    (warning,) = log.warnings
    assert "1 of its lines cannot be read" in warning
    assert log.wants_rewriting(2)
    log.rewrite(log.load(), 3)
    (aside,) = tmp_path.glob("blocks.jsonl.damaged-*")
    assert b"{damage" in aside.read_bytes()
    assert len(log_in(tmp_path).load()) == 2


def test_a_file_that_says_little_for_its_size_is_written_anew(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(blocks_file, "_SPARE", 10)
    store = StateStore(tmp_path)
    for number in range(20):
        store.blocks.add(replace(BLOCK, reason=str(number)), number)
    before = store.blocks.path.stat().st_size
    state = store.load()
    store.settle(state, state.blocks)
    assert store.blocks.path.stat().st_size < before / 5
    assert [block.reason for block in StateStore(tmp_path).load().blocks] == ["19"]
    assert StateStore(tmp_path).load().revision == 19


def test_a_newer_blocks_file_is_left_alone(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.path.write_text('{"blocks": 99}\n')
    with pytest.raises(CdnctlError, match="version 99"):
        log.load()
