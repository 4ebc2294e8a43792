"""The ways out: by the kernel's routes for whoever sends, and by links that are there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from harness import AURORA, ENDPOINTS, SNAT, DataPath
from segments import Ends, Flag
from session import Session

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict

BY_CORONA, BY_BOREALIS = "172.16.3.2", "172.16.2.2"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def by_source(path: DataPath) -> Iterator[None]:
    """Routes to a CDN that depend on who sends: each SNAT address has its own, a client none."""
    rules = dict(zip((*SNAT, Session(path).client[0]), ("100", "101", "102"), strict=True))
    ways = {"100": BY_BOREALIS, "101": BY_CORONA}
    for source, table in rules.items():
        ip("rule", "add", "from", source, "lookup", table)
    for table, way in ways.items():
        ip("route", "add", ENDPOINTS[AURORA][0], "via", way, "table", table)
    ip("route", "add", "blackhole", ENDPOINTS[AURORA][0], "table", "102")
    yield
    for source, table in rules.items():
        ip("route", "flush", "table", table)
        ip("rule", "del", "from", source)


def test_the_way_is_that_of_the_address_it_leaves_with(path: DataPath, by_source: None) -> None:
    """And not the client's, which nobody behind the edge sees."""
    hops = {}
    for number in range(200):
        session = Session(path, "solo", port=30_000 + number)
        seen = session.syn()
        assert seen.verdict is Verdict.FORWARDED
        hops.setdefault(Ends(seen.frame).source[0], set()).add(seen.frame[:6])
    assert set(hops) == set(SNAT)
    assert [len(ways) for ways in hops.values()] == [1, 1]
    assert not set.intersection(*hops.values())


@pytest.mark.parametrize("up", [True, False], ids=["to the CDN", "to the client"])
def test_nothing_is_sent_to_a_link_that_is_gone(path: DataPath, opened: Session, up: bool) -> None:
    links = path.tables.links()
    went_by = {number for number in links if number != opened.slot.link} if up else {opened.slot.link}
    held = {number: path.tables.link(number) for number in went_by}
    try:
        for number in went_by:
            path.tables.put_link(number, abi.Link())
        send = opened.up if up else opened.down
        seen = send(Flag.ACK | Flag.PSH, payload=b"x")
    finally:
        for number, link in held.items():
            path.tables.put_link(number, link)
    assert seen.verdict is Verdict.NO_LINK
    assert send(Flag.ACK | Flag.PSH, payload=b"x").verdict in (Verdict.FORWARDED, Verdict.REPLIED)
