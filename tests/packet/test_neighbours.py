"""Next hops stay resolved, whatever links and routes do."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from cdnctl.datapath.neighbours import Neighbours
from cdnctl.lab import netns

NEAR, FAR = f"cdnctl-nb-{os.getpid()}", f"cdnctl-nb-far-{os.getpid()}"
ENDPOINTS = ["198.51.100.10", "198.51.100.20", "192.0.2.99"]
"""Two behind one gateway, one nowhere."""
FIRST, SECOND = "10.200.0.2", "10.200.0.3"


def ip(words: str) -> str:
    return subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def kept() -> Iterator[Neighbours]:
    """Inside a namespace with a gateway that answers for two addresses."""
    ip(f"netns add {NEAR}")
    ip(f"netns add {FAR}")
    try:
        ip(f"-n {NEAR} link add near0 type veth peer name far0 netns {FAR}")
        ip(f"-n {NEAR} addr add 10.200.0.1/24 dev near0")
        for address in (FIRST, SECOND):
            ip(f"-n {FAR} addr add {address}/24 dev far0")
        ip(f"-n {FAR} link set far0 up")
        ip(f"-n {NEAR} link set near0 up")
        ip(f"-n {NEAR} route add 198.51.100.0/24 via {FIRST}")
        with netns.entered(NEAR):
            neighbours = Neighbours(ENDPOINTS)
            yield neighbours
            neighbours.close()
    finally:
        ip(f"netns del {NEAR}")
        ip(f"netns del {FAR}")


def resolved() -> dict[str, str]:
    """Neighbours of the test's namespace that have an address, with their state."""
    found = json.loads(ip(f"-j -n {NEAR} neigh show"))
    return {each["dst"]: each["state"][0] for each in found if "lladdr" in each}


def soon(what: Callable[[], bool], seconds: float = 3.0) -> bool:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_the_next_hop_is_resolved_without_a_packet(kept: Neighbours) -> None:
    kept.keep()
    assert soon(lambda: FIRST in resolved())
    assert [change.lost for change in kept.changes()] == [True]


def test_it_works_under_a_running_event_loop(kept: Neighbours) -> None:
    async def inside() -> None:
        kept.keep()

    asyncio.run(inside())
    assert soon(lambda: FIRST in resolved())


def test_asserting_again_changes_nothing_and_says_nothing(kept: Neighbours) -> None:
    kept.keep()
    assert soon(lambda: FIRST in resolved())
    kept.changes()
    before = resolved()
    for _ in range(20):
        kept.keep()
        assert resolved().keys() == before.keys(), "not even for a moment without its address"
    assert kept.changes() == []


def test_a_link_flap_is_mended_and_told(kept: Neighbours) -> None:
    kept.keep()
    assert soon(lambda: FIRST in resolved())
    kept.changes()
    ip(f"-n {NEAR} link set near0 down")
    assert not resolved()
    kept.keep()
    kept.keep()
    assert [change.lost for change in kept.changes()] == [True, True], "once for each endpoint"
    ip(f"-n {NEAR} link set near0 up")
    ip(f"-n {NEAR} route add 198.51.100.0/24 via {FIRST}")
    kept.keep()
    assert [change.lost for change in kept.changes()] == [False, False]
    assert soon(lambda: FIRST in resolved())


def test_a_flap_that_leaves_the_route_is_mended_by_the_frames(
    kept: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdnctl.datapath.neighbours.INTERVAL_S", 0.1)
    kept.keep()
    assert soon(lambda: FIRST in resolved())
    ip(f"-n {NEAR} neigh flush dev near0")

    def frame() -> bool:
        began = time.monotonic()
        kept.keep_on()
        assert time.monotonic() - began < 0.05
        return FIRST in resolved()

    assert soon(frame)


def test_a_new_gateway_is_followed_and_the_old_one_let_go(kept: Neighbours) -> None:
    kept.keep()
    assert soon(lambda: FIRST in resolved())
    ip(f"-n {NEAR} route replace 198.51.100.0/24 via {SECOND}")
    kept.keep()
    assert soon(lambda: SECOND in resolved())
    assert FIRST not in resolved()


def test_nothing_managed_is_left_behind(kept: Neighbours) -> None:
    kept.keep()
    assert soon(lambda: FIRST in resolved())
    kept.release()
    assert not resolved()


def test_an_operators_permanent_neighbour_stays_as_it_is(kept: Neighbours) -> None:
    ip(f"-n {NEAR} neigh replace {FIRST} lladdr 02:00:00:00:00:01 nud permanent dev near0")
    kept.keep()
    assert resolved() == {FIRST: "PERMANENT"}
    kept.release()
    assert resolved() == {FIRST: "PERMANENT"}
