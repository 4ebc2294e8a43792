"""What operators changed survives restarts, crashes and damage."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnctl.model import Allowed, Block
from cdnctl.state import CustomerLimit, State, StateError, StateStore

STATE = State(
    weights={"aurora": 60, "borealis": 0},
    drained=["cirrus"],
    blocks=[Block(prefix="198.51.100.0/24", reason='a "flood"\n[x]', created_ns=1, expires_ns=2**62)],
    armed=False,
    limits={"acme": CustomerLimit(pps=1000.0), "beta": CustomerLimit()},
    allowed=[Allowed(prefix="2001:db8::/32", reason="ours", created_ns=1)],
    observing=True,
)


def test_nothing_saved_is_an_empty_state(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "ams1")
    assert store.load() == State()
    assert not store.warnings
    assert not (tmp_path / "ams1").exists()


def test_saved_is_loaded(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "deep" / "ams1")
    store.save(STATE)
    assert StateStore(store.directory).load() == STATE
    assert [path.name for path in store.directory.iterdir()] == ["state.toml"]
    assert store.path.stat().st_mode & 0o007 == 0


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


@given(
    st.builds(
        State,
        weights=st.dictionaries(TEXT, st.integers(0, 1000)),
        drained=st.lists(TEXT),
        blocks=st.lists(st.builds(Block, prefix=TEXT, reason=TEXT, source=TEXT, hits=st.just(0))),
        armed=st.booleans(),
        limits=st.dictionaries(TEXT, st.builds(CustomerLimit, pps=st.none() | st.floats(0.5, 1e9))),
        allowed=st.lists(st.builds(Allowed, prefix=TEXT, reason=TEXT)),
    )
)
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, state: State) -> None:
    store = StateStore(tmp_path_factory.getbasetemp() / "any")
    store.save(state)
    assert store.load() == state


def test_hits_are_not_kept(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.save(State(blocks=[Block(prefix="198.51.100.7", hits=12)]))
    assert store.load().blocks == [Block(prefix="198.51.100.7")]


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
    assert len(list(tmp_path.iterdir())) == 2
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
    assert [path.name for path in tmp_path.iterdir()] == ["state.toml"]
