"""Lists that are blocked as one change: in the kernel, confirmed, undone, across an agent's death."""

from __future__ import annotations

import json
import re
import time
from ipaddress import IPv4Address
from typing import Any

import pytest
from blocking import is_blocked
from changing import do, held_blocks, successor
from harness import DataPath
from msgspec.structs import replace

from cdnctl.cli import block_list
from cdnctl.datapath.blocks import KernelBlocks
from cdnctl.defence import codes, protected
from cdnctl.defence.blocklist import parse_code
from cdnctl.engine.engine import Engine
from cdnctl.model import BlockList, BlockPrefix, Confirm, ListPart, Revert, Unblock, Undo

PREFIXES = ["10.1.2.3", "10.1.3.0/24", "10.66.0.0/16", "2001:db8:66::/48", "2001:db8:67::7"]
INSIDE = ["10.1.2.3", "10.1.3.9", "10.66.7.8", "2001:db8:66::9", "2001:db8:67::7"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is logged in on this box is not what is tested here."""
    monkeypatch.setattr(protected, "surroundings", protected.Surroundings)


def send(engine: Engine, prefixes: list[str], token: str = "x") -> BlockList:
    """All parts of a list."""
    for part in block_list._parts(token, [parse_code(prefix) for prefix in prefixes]):
        assert do(engine, part).ok
    return BlockList(list=token, count=len(prefixes), name="list.txt", lifetime_s=3600)


def blocked(path: DataPath) -> list[bool]:
    return [is_blocked(path, source) for source in INSIDE]


def lines(engine: Engine) -> list[dict[str, Any]]:
    return [json.loads(line) for line in engine.journal.path.read_bytes().splitlines()]


def test_a_list_is_one_change_and_undone_as_one(engine: Engine, path: DataPath) -> None:
    assert do(engine, BlockPrefix(prefix="10.66.0.0/16", lifetime_s=None)).ok
    command = send(engine, PREFIXES)
    planned = do(engine, replace(command, dry_run=True)).text
    assert planned.startswith("would block 5 prefixes of list.txt for 1h; matches ")
    assert blocked(path) == [False, False, True, False, False]
    done = do(engine, command).text
    assert re.fullmatch(r"blocked 5 prefixes of list.txt for 1h, as list \d+", done)
    assert {each.source for each in engine.blocks.wanted} == {"manual", done.partition(", as ")[2]}
    assert blocked(path) == [True] * 5
    entry = lines(engine)[-1]
    assert entry["cli"] == "cdnctl block --file list.txt --for 1h"
    assert list(entry["changes"].values()) == [[None, {"count": 5}]]
    assert len(lines(engine)) == 2, "parts are in no journal"
    refused = do(engine, Unblock(prefix="10.1.2.3")).text
    assert "not blocked by manual but by list" in refused
    assert "`cdnctl allow 10.1.2.3` lets it pass" in refused
    assert do(engine, Undo()).ok
    assert blocked(path) == [False, False, True, False, False], "the operator's own stays"
    again = do(engine, Undo(seq=lines(engine)[-1]["seq"]))
    assert not again.ok
    assert "cdnctl block --file" in again.remedy


def test_what_is_not_confirmed_is_reverted_and_what_is_stays(engine: Engine, path: DataPath) -> None:
    outcome = do(engine, replace(send(engine, PREFIXES), confirm_s=30))
    assert "reverts in 30s unless" in outcome.text
    assert all(blocked(path))
    assert do(engine, Revert()).ok
    assert not any(blocked(path))
    assert do(engine, replace(send(engine, PREFIXES), confirm_s=30)).ok
    after = successor(engine, path)
    assert all(blocked(path))
    after.transactions._due_ns = time.monotonic_ns()
    after.transactions.tick()
    assert not any(blocked(path))
    assert do(after, replace(send(after, PREFIXES), confirm_s=30)).ok
    assert do(after, Confirm()).ok
    assert held_blocks(path) == 5
    last = successor(after, path)
    assert all(blocked(path))
    assert not do(last, Undo(confirm_s=30)).ok
    assert do(last, Undo()).ok
    successor(last, path)
    assert not any(blocked(path))


def test_a_line_that_was_torn_leaves_nothing_of_the_list(engine: Engine, path: DataPath) -> None:
    assert do(engine, send(engine, PREFIXES)).ok
    log = engine.store.blocks.path
    data = log.read_bytes()
    assert data.startswith(b'{"blocks":2'), "an older cdnctl would leave it out"
    log.write_bytes(data[:-20])
    after = successor(engine, path)
    assert not any(blocked(path))
    assert len(after.blocks.wanted) == 0


def test_it_survives_being_written_anew(engine: Engine, path: DataPath) -> None:
    assert do(engine, BlockPrefix(prefix="10.9.9.9", lifetime_s=None)).ok
    assert do(engine, send(engine, PREFIXES)).ok
    engine.store.blocks.rewrite(list(engine.blocks.wanted), engine.state.revision)
    assert len(engine.store.blocks.path.read_bytes().splitlines()) == 3
    after = successor(engine, path)
    assert all(blocked(path))
    assert do(after, Undo(seq=2)).ok
    assert [each.prefix for each in after.blocks.wanted] == ["10.9.9.9"]


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ("203.0.113.80", "the VIP of service"),
        ("192.0.2.0/25", "a management prefix"),
        ("192.0.0.0/16", "covers 192.0.2.0/24, a management prefix"),
        ("198.51.0.0/16", "an endpoint of aurora"),
    ],
)
def test_one_that_covers_what_must_be_reached_is_refused_as_a_whole(
    engine: Engine, path: DataPath, extra: str, why: str
) -> None:
    refused = do(engine, send(engine, [*PREFIXES, extra]))
    assert not refused.ok
    assert why in refused.text
    assert extra in refused.text
    assert not any(blocked(path))


def test_what_is_missing_or_means_nothing_is_refused(engine: Engine, path: DataPath) -> None:
    command = send(engine, PREFIXES)
    assert "of 6 prefixes of list.txt 5 have come" in do(engine, replace(command, count=6)).text
    assert "0 have come" in do(engine, replace(command, list="another")).text
    assert not do(engine, ListPart(list="x", four=b"1234")).ok
    for number, four in enumerate((b"\x0a\x00\x00\x01\x18", b"\x0a\x00\x00\x00\x07")):
        name = f"10.0.0.1/24 or 10.0.0.0/7: {number}"
        assert do(engine, ListPart(list=name, four=four)).ok
        assert not do(engine, BlockList(list=name, count=1, name="y")).ok
    many, _ = codes.pack(number << 6 | 32 for number in range(1 << 24, (1 << 24) + 250_001))
    assert "more than 250,000" in do(engine, ListPart(list="z", four=many)).text
    assert "has room for 4,096 more" in do(engine, send(engine, addresses(4097), "w")).text
    assert not any(blocked(path))


def addresses(count: int) -> list[str]:
    return [str(IPv4Address((10 << 24) + 7 * number)) for number in range(count)]


def test_many_meet_packets_as_one_by_one(engine: Engine, path: DataPath) -> None:
    """Lines that overflow among them; and what the kernel holds is what is wanted, before and after."""
    many = addresses(3000)
    assert do(engine, BlockPrefix(prefix=many[5], lifetime_s=60)).ok
    assert do(engine, send(engine, many)).ok
    view = engine.blocks.wanted.kernel_view()
    assert not any(KernelBlocks(path.program.pins).differences(view))
    assert all(is_blocked(path, source) for source in many[::50])
    assert engine.blocks.enforced == 3000
    assert do(engine, Undo()).ok
    assert held_blocks(path) == 1
    assert is_blocked(path, many[5])
    assert engine.blocks.enforced == 1
