"""What operators changed, over restart after restart."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w
from changing import do, held_blocks, successor
from harness import DataPath
from msgspec.structs import asdict
from starting import started

from cdnctl.defence import protected
from cdnctl.engine.engine import Engine
from cdnctl.model import Block, BlockPrefix, Mark, SetWeights, Unblock
from cdnctl.state import blocks as blocks_file

PREFIX = "10.1.2.0/24"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is logged in on this box is not what is tested here."""
    monkeypatch.setattr(protected, "surroundings", protected.Surroundings)


@pytest.mark.parametrize("how", ["long", "damaged"])
def test_blocks_outlive_the_rewriting_of_their_file(
    engine: Engine, path: DataPath, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(blocks_file, "_SPARE", 4)
    do(engine, BlockPrefix(prefix=PREFIX))
    for _ in range(6 if how == "long" else 0):
        do(engine, BlockPrefix(prefix="10.1.3.7"))
        do(engine, Unblock(prefix="10.1.3.7"))
    if how == "damaged":
        with engine.store.blocks.path.open("ab") as file:
            file.write(b"{damage\n")
    size = engine.store.blocks.path.stat().st_size
    for _ in range(3):
        heir = successor(engine, path)
        assert [block.prefix for block in heir.blocks.wanted] == [PREFIX]
        assert held_blocks(path) == 1
    assert engine.store.blocks.path.stat().st_size < size, "it was written anew"


def test_blocks_of_an_earlier_version_outlive_the_first_stored_change(engine: Engine, path: DataPath) -> None:
    block = Block(prefix=PREFIX, source="manual", created_ns=1)
    engine.store.directory.mkdir(parents=True, exist_ok=True)
    engine.store.path.write_text(tomli_w.dumps({"version": 1, "blocks": [asdict(block)]}))
    heir = successor(engine, path)
    assert do(heir, SetWeights(weights={path.config.cdns[0].name: 7})).ok
    assert do(heir, Mark(text="stored")).ok
    for _ in range(2):
        heir = successor(heir, path)
        assert [each.prefix for each in heir.blocks.wanted] == [PREFIX]
        assert held_blocks(path) == 1


@pytest.mark.soak
def test_blocks_outlive_starts_of_the_whole_engine(
    inside: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`start` itself: nothing of it is left out here."""
    monkeypatch.setattr(blocks_file, "_SPARE", 2)
    with started(tmp_path, monkeypatch) as start:
        engine = start()
        do(engine, BlockPrefix(prefix=PREFIX))
        for _ in range(4):
            do(engine, BlockPrefix(prefix="10.1.3.7"))
            do(engine, Unblock(prefix="10.1.3.7"))
        for _ in range(2):
            engine = start()
            assert [block.prefix for block in engine.blocks.wanted] == [PREFIX]
            assert engine.blocks.enforced == 1
