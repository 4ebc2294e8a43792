"""Announced prefixes as an engine keeps them: what the host has of them goes with addresses and routes."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import DataPath
from msgspec.structs import replace
from segments import Flag, segment

from cdnctl.datapath.abi import Verdict
from cdnctl.engine import announced as module
from cdnctl.engine.engine import Engine

PREFIXES = "203.0.113.0/24", "2001:db8:5::/48"
CLIENT, CLIENT6 = "10.1.0.7", "3fff:1::7"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class Announcing:
    """An engine that announces two prefixes."""

    def __init__(self, engine: Engine, path: DataPath) -> None:
        self.engine, self.path = engine, path

    def announce(self, *prefixes: str) -> None:
        """As a reload does it."""
        edge = replace(self.engine.config.edge, announced=prefixes, management=())
        self.engine.config = replace(self.engine.config, edge=edge)
        self.engine.put_config()

    def look(self, seconds: float = 0.3) -> None:
        """As the agent's loop does meanwhile."""

        async def some_rounds() -> None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.engine.announced.run(), seconds)

        asyncio.run(some_rounds())

    def verdicts(self, *targets: str) -> list[Verdict]:
        sources = (CLIENT6 if ":" in each else CLIENT for each in targets)
        frames = (
            segment((source, 40_000), (target, 9), Flag.SYN)
            for source, target in zip(sources, targets, strict=True)
        )
        return [self.path.run(frame).verdict for frame in frames]


@pytest.fixture
def announcing(engine: Engine, path: DataPath, monkeypatch: pytest.MonkeyPatch) -> Iterator[Announcing]:
    before = engine.config
    monkeypatch.setattr(module, "LOOK_S", 0.02)
    ip("link", "add", "spare", "type", "veth", "peer", "name", "spare2")
    Path("/proc/sys/net/ipv6/conf/spare/disable_ipv6").write_text("0")
    for end in ("spare", "spare2"):
        ip("link", "set", end, "up")
    yield Announcing(engine, path)
    ip("link", "del", "spare")
    engine.config = before
    engine.put_config()


def test_an_address_that_the_host_gets_is_reached_and_one_that_it_loses_is_nobodys(
    announcing: Announcing,
) -> None:
    ends = "203.0.113.200", "2001:db8:5::200"
    announcing.announce(*PREFIXES)
    assert announcing.verdicts(*ends) == [Verdict.UNUSED] * 2
    ip("addr", "add", "203.0.113.200/32", "dev", "spare")
    ip("addr", "add", "2001:db8:5::200/128", "dev", "spare", "nodad")
    announcing.look()
    assert announcing.verdicts(*ends) == [Verdict.PASSED] * 2
    assert announcing.verdicts("203.0.113.201", "2001:db8:5::201") == [Verdict.UNUSED] * 2
    ip("addr", "del", "203.0.113.200/32", "dev", "spare")
    ip("addr", "del", "2001:db8:5::200/128", "dev", "spare")
    announcing.look()
    assert announcing.verdicts(*ends) == [Verdict.UNUSED] * 2
    announcing.announce()
    assert announcing.verdicts(*ends) == [Verdict.PASSED] * 2
    assert announcing.path.tables.announced() == {}


def test_networks_of_the_hosts_interfaces_and_what_it_answers_for_besides_are_its_own(
    announcing: Announcing,
) -> None:
    ip("addr", "add", "203.0.113.65/28", "dev", "spare")
    ip("route", "add", "local", "203.0.113.128/26", "dev", "lo")
    try:
        announcing.announce(*PREFIXES)
        assert announcing.verdicts("203.0.113.70", "203.0.113.150") == [Verdict.PASSED] * 2
        assert announcing.verdicts("203.0.113.90", "203.0.113.192") == [Verdict.UNUSED] * 2
    finally:
        ip("route", "del", "local", "203.0.113.128/26", "dev", "lo")


def test_what_cannot_be_looked_for_is_not_dropped(
    announcing: Announcing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden() -> set:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(module, "own_networks", forbidden)
    announcing.announce(*PREFIXES)
    assert announcing.verdicts("203.0.113.200") == [Verdict.PASSED]
    told = [event.text for event in announcing.engine._ticker.take()]
    assert any(
        "edge.announced is not in force: this box's own addresses cannot be read" in each for each in told
    )


def test_what_somebody_else_has_changed_is_found(announcing: Announcing) -> None:
    announcing.announce(*PREFIXES)
    assert list(announcing.engine.announced.differences()) == []
    announcing.path.tables.announce({})
    found = list(announcing.engine.announced.differences())
    assert (PREFIXES[0], "nobody's", "not announced") in found
    announcing.engine.announced.use()
    assert list(announcing.engine.announced.differences()) == []
