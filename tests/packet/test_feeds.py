"""Feeds in an engine on the real data path: what has changed, and nothing that is protected, is blocked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from changing import do, held_blocks
from harness import DataPath
from msgspec.structs import replace

from cdnctl.config import FeedConfig
from cdnctl.engine import blocks as engine_blocks
from cdnctl.engine.engine import Engine
from cdnctl.engine.feeding import Feeding
from cdnctl.model import BlockPrefix, FeedPicture, Unblock

LIST = "45.10.0.0/24\n45.20.0.7\n2a00:bad::/48\n"


class Feeds:
    """Files that are fed, and looks at them whenever a test wants."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine, self.directory = engine, directory
        self.feeding = Feeding(engine)

    def write(self, name: str, text: str) -> None:
        (self.directory / f"{name}.txt").write_text(text)

    def configure(self, *names: str, ranges: str = "") -> None:
        feeds = [FeedConfig(name=name, source=str(self.directory / f"{name}.txt")) for name in names]
        if ranges:
            source = str(self.directory / f"{ranges}.txt")
            feeds.append(FeedConfig(name=ranges, source=source, kind="ranges", cdn="corona"))
        self.engine.config = replace(self.engine.config, feeds=tuple(feeds))
        self.feeding.follow(self.engine.config)

    def look(self) -> dict[str, FeedPicture]:
        """As when all are due."""
        for feed in self.feeding._feeds.values():
            feed.due = feed.due._replace(at_s=0.0)
        asyncio.run(self.feeding.look())
        return {each.name: each for each in self.engine.planning.pictures.feeds}


@pytest.fixture
def feeds(engine: Engine, tmp_path: Path) -> Iterator[Feeds]:
    before = engine.config
    yield Feeds(engine, tmp_path)
    for name in list(engine.blocks.listed.by_feed()):
        engine.blocks.enlist(name, {})
    engine.config = before


def agree(engine: Engine, path: DataPath) -> int:
    """What is wanted, counted and held by the kernel's own tables is the same."""
    found = engine.blocks.differences()
    assert found == ([], [], [])
    held = held_blocks(path)
    assert held == engine.blocks.enforced == engine.blocks.prefix_count
    return held


@pytest.mark.parametrize("at_once", [0, 20_000], ids=["as a whole", "one by one"])
def test_a_list_comes_and_changes_and_goes(
    engine: Engine, path: DataPath, feeds: Feeds, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(engine_blocks, "AT_ONCE", at_once)
    assert do(engine, BlockPrefix(prefix="45.20.0.7", lifetime_s=60)).ok
    feeds.write("drop", LIST)
    feeds.write("more", "45.20.0.7\n45.30.0.0/28\n")
    feeds.configure("drop", "more")
    found = feeds.look()
    assert (found["drop"].prefixes, found["more"].prefixes, found["drop"].trouble) == (3, 2, "")
    assert agree(engine, path) == 4
    feeds.write("drop", LIST.replace("45.20.0.7", "45.20.0.8"))
    found = feeds.look()
    assert (found["drop"].added, found["drop"].removed) == (1, 1)
    assert agree(engine, path) == 5
    feeds.configure("more")
    assert agree(engine, path) == 2
    assert do(engine, Unblock(prefix="45.20.0.7")).ok
    assert agree(engine, path) == 2, "the other feed still wants it"
    refused = do(engine, Unblock(prefix="45.20.0.7"))
    assert "by feed more" in refused.text
    assert "cdnctl allow" in refused.text
    feeds.configure()
    assert agree(engine, path) == 0
    users = {entry.user for entry in engine.journal.read()}
    assert {"feed drop", "feed more"} <= users


def test_what_is_protected_is_left_out_and_said(engine: Engine, path: DataPath, feeds: Feeds) -> None:
    vip = engine.config.services[0].vip
    endpoint = engine.config.cdns[0].endpoints[0].host
    feeds.write("own", "45.40.0.128/25\n")
    feeds.write("drop", f"45.10.0.0/24\n0.0.0.0/0\n{vip}\n{endpoint}\n127.0.0.1\n45.40.0.129\n10.0.0.0/8\n")
    feeds.configure("drop", ranges="own")
    found = feeds.look()
    assert (found["drop"].prefixes, found["drop"].skipped) == (1, 6)
    assert any("corona" in each for each in found["drop"].skipped_shown)
    assert agree(engine, path) == 1


def test_rubbish_changes_nothing_and_is_said_with_its_line(
    engine: Engine, path: DataPath, feeds: Feeds
) -> None:
    feeds.write("drop", LIST)
    feeds.configure("drop")
    feeds.look()
    for rubbish, said in (
        ("45.10.0.0/24\nhello\n", "line 2"),
        ("<html>moved</html>", "HTML"),
        ("", "empty"),
    ):
        feeds.write("drop", rubbish)
        found = feeds.look()["drop"]
        assert said in found.trouble
        assert found.failures > 0
        assert agree(engine, path) == 3
    feeds.write("drop", LIST)
    assert feeds.look()["drop"].trouble == ""


def test_the_last_good_version_is_in_force_before_its_publisher_is_asked(
    engine: Engine, path: DataPath, feeds: Feeds
) -> None:
    feeds.write("drop", LIST)
    feeds.configure("drop")
    feeds.look()
    (feeds.directory / "drop.txt").unlink()
    engine.blocks.load([], keep=True)
    assert held_blocks(path) == 3, "while nobody has looked, nothing that feeds brought is let go"
    engine.blocks.listed.replace("drop", {})
    again = Feeds(engine, feeds.directory)
    again.configure("drop")
    found = again.look()["drop"]
    assert found.prefixes == 3
    assert "cannot read" in found.trouble
    assert agree(engine, path) == 3


def test_a_list_longer_than_there_is_room_is_refused(engine: Engine, path: DataPath, feeds: Feeds) -> None:
    room = engine.config.limits.block_entries
    feeds.write(
        "drop",
        "".join(f"45.{18 + n // 65536}.{n // 256 % 256}.{n % 256}\n" for n in range(0, 2 * room + 2, 2)),
    )
    feeds.configure("drop")
    found = feeds.look()["drop"]
    assert f"room for {room:,}" in found.trouble
    assert agree(engine, path) == 0


def test_an_operator_who_logs_in_from_a_listed_place_is_let_in(
    engine: Engine, path: DataPath, feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cdnctl.defence.protected import Protected
    from cdnctl.engine import feeding

    feeds.write("drop", LIST)
    feeds.configure("drop")
    feeds.look()
    whole = feeding.protected
    operator = Protected(ip_network("45.20.0.7/32"), "an operator logged in over SSH")
    monkeypatch.setattr(feeding, "protected", lambda *arguments: [operator, *whole(*arguments)])
    feeds.feeding._guarded_s = -1e9
    asyncio.run(feeds.feeding._look_around())
    assert agree(engine, path) == 2
