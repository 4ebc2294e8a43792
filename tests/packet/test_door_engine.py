"""The door as an engine keeps it: it follows feeds and whoever must be reached, and shuts out nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from harness import ENDPOINTS, ENDPOINTS6, SNAT, SNAT6, DataPath
from msgspec.structs import replace
from netbox import LINKS
from segments import Flag, is_ipv6, segment

from cdnctl.config import FeedConfig
from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.kernel import Map
from cdnctl.defence.protected import Surroundings
from cdnctl.engine import door as module
from cdnctl.engine.door import Door
from cdnctl.engine.engine import Engine
from cdnctl.engine.feeding import Feeding

AROUND = Surroundings(
    ssh_peers=("45.99.0.1", "2a00:99::1"),
    gateways=("172.16.1.2", "fe80::1"),
    resolvers=("45.53.0.1", "127.0.0.53"),
    own=("203.0.113.10",),
)
ALSO = "45.70.0.0/24", "2a00:70::/32"
RANGES = "198.18.0.0/16\n2a00:6001::/32\n"
GUESTS = "198.18.7.7", "2a00:6001::7"
STRANGERS = "45.1.2.3", "2a00:bad::3"


class House:
    """An engine whose SNAT addresses are for providers; its surroundings are as a test says."""

    def __init__(self, engine: Engine, path: DataPath, directory: Path) -> None:
        self.engine, self.path, self.directory = engine, path, directory
        self.feeding = Feeding(engine)
        self.around = AROUND

    def configure(self, *feeds: str, snat_from: str = "providers") -> None:
        """As a reload does it."""
        made = tuple(
            FeedConfig(name=name, source=str(self.directory / f"{name}.txt"), kind="ranges") for name in feeds
        )
        edge = replace(self.engine.config.edge, snat_from=snat_from, snat_also_from=ALSO)
        self.engine.config = replace(self.engine.config, edge=edge, feeds=made)
        self.engine.door.use()
        self.feeding.follow(self.engine.config)

    def write(self, feed: str, text: str) -> None:
        (self.directory / f"{feed}.txt").write_text(text)

    def look(self) -> None:
        """As when all is due."""
        for feed in self.feeding._feeds.values():
            feed.due = feed.due._replace(at_s=0.0)
        self.engine.door._looked_s = -module.LOOK_S
        asyncio.run(self.feeding.look())

    def lets_in(self, *sources: str) -> list[bool]:
        return [self._said(source) is Verdict.PASSED for source in sources]

    def _said(self, source: str) -> Verdict:
        target = (SNAT6 if is_ipv6(source) else SNAT)[0]
        frame = segment((source, 40_001), (target, 22), Flag.SYN)
        return self.path.run(frame, LINKS[0].name).verdict

    @property
    def told(self) -> list[str]:
        return [event.text for event in self.engine._ticker.take() if event.kind == "door"]


@pytest.fixture
def house(engine: Engine, path: DataPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    before = engine.config
    house = House(engine, path, tmp_path)
    monkeypatch.setattr(module, "surroundings", lambda: house.around)
    yield house
    engine.config = before
    engine.door.use()


def test_it_is_open_until_the_ranges_are_read_and_then_shut_to_all_but_guests(house: House) -> None:
    house.write("ours", RANGES)
    house.configure("ours")
    assert house.lets_in(*STRANGERS) == [True, True]
    assert house.engine.door.picture().trouble == "feed ours has still to be read"
    assert "anybody may talk to SNAT addresses, for feed ours has still to be read" in (
        house.engine.door.warnings()
    )
    house.look()
    assert house.lets_in(*STRANGERS, *GUESTS) == [False, False, True, True]
    management = house.engine.config.edge.management[0]
    assert house.lets_in(str(ip_network(management)[9])) == [True]
    assert house.lets_in(*AROUND.ssh_peers, AROUND.gateways[0], AROUND.resolvers[0]) == [True] * 4
    assert house.lets_in("45.70.0.9", "2a00:70::9") == [True, True]
    ends = [where for table in (ENDPOINTS, ENDPOINTS6) for where, _ in table.values()]
    assert house.lets_in(*ends) == [True] * len(ends)
    assert house.lets_in("127.0.0.53", "203.0.113.10") == [False, False], "nobody sends from there"
    picture = house.engine.door.picture()
    assert (picture.wanted, picture.closed, picture.trouble) == ("providers", True, "")
    assert picture.prefixes == len(house.path.tables.invited())
    assert house.told == [f"{picture.prefixes} prefixes may talk to SNAT addresses, and nobody else"]


def test_nobody_is_shut_out_by_default(house: House) -> None:
    house.write("ours", RANGES)
    house.configure("ours", snat_from="anyone")
    house.look()
    assert house.lets_in(*STRANGERS) == [True, True]
    assert house.path.tables.invited() == set()
    assert house.told == []


def test_the_list_follows_its_feed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.write("ours", RANGES)
    house.configure("ours")
    house.look()
    steps = []
    for name in ("put_all", "delete_all"):
        write = getattr(Map, name)

        def noted(table: Map, entries: object, name: str = name, write: object = write) -> None:
            steps.append((name, house.lets_in("198.18.7.7", "198.51.7.7")))
            write(table, entries)  # type: ignore[operator]

        monkeypatch.setattr(Map, name, noted)
    house.write("ours", RANGES.replace("198.18.0.0/16", "198.51.0.0/16"))
    house.look()
    assert steps == [("put_all", [True, False]), ("delete_all", [True, True])], "the new ones come first"
    assert house.lets_in("198.18.7.7", "198.51.7.7") == [False, True]
    house.write("ours", "")
    house.look()
    assert house.lets_in(*STRANGERS, "198.51.7.7") == [False, False, True], "of rubbish nothing is taken"
    steps.clear()
    house.look()
    assert steps == [], "nothing is written that has not changed"


def test_a_feed_that_was_never_read_shuts_nobody_out(house: House) -> None:
    house.write("ours", RANGES)
    house.configure("ours", "theirs")
    house.look()
    assert house.lets_in(*STRANGERS) == [True, True]
    trouble = "feed theirs has never been read: `cdnctl planner` says why"
    assert house.engine.door.picture().trouble == trouble
    assert house.told == [f"anybody may talk to SNAT addresses, for {trouble}"]
    house.look()
    assert house.told == [], "that is said once"
    house.write("theirs", "45.80.0.0/16\n")
    house.look()
    assert house.lets_in(*STRANGERS, *GUESTS, "45.80.0.1") == [False, False, True, True, True]


def test_a_feed_that_comes_later_leaves_it_shut_until_it_was_tried(house: House) -> None:
    house.write("ours", RANGES)
    house.configure("ours")
    house.look()
    house.configure("ours", "theirs")
    assert house.lets_in(*STRANGERS, *GUESTS) == [False, False, True, True]
    house.look()
    assert house.lets_in(*STRANGERS) == [True, True]
    house.configure("ours")
    assert house.lets_in(*STRANGERS) == [False, False]


def test_taking_it_back_opens_it_at_once(house: House) -> None:
    house.write("ours", RANGES)
    house.configure("ours")
    house.look()
    house.configure("ours", snat_from="anyone")
    assert house.lets_in(*STRANGERS) == [True, True]
    assert house.path.tables.invited() == set()
    house.look()
    assert house.told[-1] == "anybody may talk to SNAT addresses"


def test_a_restart_neither_opens_nor_shuts_it(house: House) -> None:
    house.write("ours", RANGES)
    house.configure("ours")
    house.look()
    held = house.path.tables.invited()
    house.engine.door = Door(house.engine)
    house.feeding = Feeding(house.engine)
    house.configure("ours")
    assert house.path.tables.invited() == held
    assert house.lets_in(*STRANGERS, *GUESTS) == [False, False, True, True]
    (house.directory / "ours.txt").unlink()
    house.look()
    assert house.path.tables.invited() == held, "its last good version is on the disk"
    assert house.lets_in(*STRANGERS, *GUESTS) == [False, False, True, True]


def test_who_logs_in_is_let_in_and_who_was_logged_in_gets_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.write("ours", RANGES)
    house.configure("ours")
    house.look()
    house.around = AROUND._replace(ssh_peers=("45.99.0.2",))
    assert house.lets_in("45.99.0.1", "45.99.0.2") == [True, False]
    house.look()
    assert house.lets_in("45.99.0.1", "45.99.0.2") == [True, True]
    assert [each.split()[0] for each in house.engine.door.warnings()] == ["45.99.0.2"]
    now_s = module.time.monotonic() + 3600.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s)
    house.look()
    assert house.lets_in("45.99.0.1", "45.99.0.2") == [False, True]


def test_while_it_cannot_be_seen_who_is_logged_in_nobody_is_shut_out(house: House) -> None:
    blind = Surroundings(unread=("cannot find out who is logged in",))
    house.around = blind
    house.write("ours", RANGES)
    house.configure("ours")
    house.look()
    assert house.lets_in(*STRANGERS) == [True, True]
    assert house.engine.door.picture().trouble == blind.unread[0]
    house.around = AROUND
    house.look()
    assert house.lets_in(*STRANGERS, *AROUND.ssh_peers) == [False, False, True, True]
    house.around = blind
    house.look()
    assert house.lets_in(*STRANGERS, *AROUND.ssh_peers) == [False, False, True, True], "as it was"


def test_a_list_without_room_shuts_nobody_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_INVITED", 5)
    house.write("ours", RANGES)
    house.configure("ours")
    house.look()
    assert house.lets_in(*STRANGERS) == [True, True]
    assert "room for 5 prefixes" in house.engine.door.picture().trouble


def test_what_the_kernel_has_otherwise_is_told_and_mended(house: House) -> None:
    house.write("ours", RANGES)
    house.configure("ours")
    house.look()
    assert list(house.engine.door.differences()) == []
    keys = [abi.prefix_key(ip_network(each)) for each in ("198.18.0.0/16", "45.66.0.0/16")]
    house.path.tables._invited.delete(keys[0])
    house.path.tables._invited.put(keys[1], abi.key(1))
    house.path.tables.invited_only = False
    assert list(house.engine.door.differences()) == [
        ("snat_from", "providers", "anyone"),
        ("198.18.0.0/16", "may talk to SNAT addresses", "may not"),
        ("45.66.0.0/16", "may not", "may talk to SNAT addresses"),
    ]
    house.engine.door.use()
    assert list(house.engine.door.differences()) == []
    assert house.lets_in(*STRANGERS, *GUESTS, "45.66.0.1") == [False, False, True, True, False]


def test_a_list_that_the_kernel_refuses_is_said(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.write("ours", RANGES)
    house.configure("ours")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Map, "put_all", full)
        house.look()
        assert house.lets_in(*STRANGERS) == [True, True]
        assert "No space left" in house.engine.door.picture().trouble
    house.look()
    assert house.lets_in(*STRANGERS, *GUESTS) == [False, False, True, True]
    assert house.engine.door.picture().trouble == ""
