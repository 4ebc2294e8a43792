"""Long lists a page at a time: nothing twice, nothing left out, never much looked at in one go."""

from __future__ import annotations

import contextlib
import time
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine_double import serving
from hypothesis import given
from hypothesis import strategies as st

from cdnctl.agent.blocking import Client
from cdnctl.cli import pages
from cdnctl.defence.blocklist import Blocklist
from cdnctl.engine import queries
from cdnctl.engine.journal import Journal
from cdnctl.engine.queries import Queries
from cdnctl.model import Actor, AnyQuery, Block, Drain, FindBlocks, ListBlocks, Outcome, Page, ReadJournal

ACTOR = Actor(user="alice", uid=0, pid=1)


def engine_with(blocks: list[Block]) -> Any:
    wanted = Blocklist()
    for block in blocks:
        wanted.add(block)
    return SimpleNamespace(blocks=SimpleNamespace(wanted=wanted, shown=list))


def found(engine: Any, text: str = "", limit: int = 100) -> tuple[list[str], int]:
    """All pages: the prefixes, and the most that was looked at for one of them."""
    ask = Queries(engine).table[FindBlocks]
    prefixes: list[str] = []
    most, cursor = 0, None
    while True:
        outcome = ask(FindBlocks(text=text, cursor=cursor, limit=limit))
        prefixes += [block.prefix for block in outcome.blocks]
        assert len(outcome.blocks) <= limit + 1
        assert outcome.page.total == len(engine.blocks.wanted)
        most = max(most, outcome.page.looked_at)
        cursor = outcome.page.next
        if cursor is None:
            return prefixes, most


BLOCKS = [
    Block(prefix="10.66.0.0/16", reason="SYN flood", created_ns=1),
    Block(prefix="192.0.2.7", reason="scraper", created_ns=2),
    Block(prefix="192.0.2.7", reason="on a list", source="feed-a", created_ns=3),
    Block(prefix="2001:db8:66::/48", reason="scraper, v6", created_ns=4),
]


@pytest.mark.parametrize(
    ("text", "prefixes"),
    [
        ("", ["2001:db8:66::/48", "192.0.2.7", "192.0.2.7", "10.66.0.0/16"]),
        ("SCRAPER", ["2001:db8:66::/48", "192.0.2.7"]),
        ("scraper !v6", ["192.0.2.7"]),
        ("10.66.3.9", ["10.66.0.0/16"]),
        ("192.0.2.0/24", ["192.0.2.7", "192.0.2.7"]),
        ("192.0.2.0/24 !feed-a", ["192.0.2.7"]),
        ("!192.0.2.0/24 !10.0.0.0/8", ["2001:db8:66::/48"]),
        ("192.0.2", ["192.0.2.7", "192.0.2.7"]),
        ("nothing", []),
        ("!", ["2001:db8:66::/48", "192.0.2.7", "192.0.2.7", "10.66.0.0/16"]),
    ],
)
def test_blocks_are_found_by_words_and_by_what_covers_an_address(text: str, prefixes: list[str]) -> None:
    assert found(engine_with(BLOCKS), text)[0] == prefixes


@given(count=st.integers(0, 60), limit=st.integers(1, 20), room=st.integers(1, 30))
def test_pages_have_every_block_once(count: int, limit: int, room: int) -> None:
    before, queries.LOOKED_AT = queries.LOOKED_AT, room
    try:
        blocks = [Block(prefix=f"192.0.2.{at}", reason=("a", "b")[at % 2]) for at in range(count)]
        prefixes, most = found(engine_with(blocks), "b", limit)
    finally:
        queries.LOOKED_AT = before
    assert prefixes == [block.prefix for block in reversed(blocks) if block.reason == "b"]
    assert most <= room


def test_a_list_that_changes_meanwhile_breaks_no_page() -> None:
    engine = engine_with([Block(prefix=f"192.0.2.{at}") for at in range(50)])
    ask = Queries(engine).table[FindBlocks]
    first = ask(FindBlocks(limit=10))
    for at in range(30, 45):
        engine.blocks.wanted.remove(f"192.0.2.{at}", "manual")
    second = ask(FindBlocks(limit=10, cursor=first.page.next))
    assert [block.prefix for block in second.blocks] == [f"192.0.2.{at}" for at in range(29, 19, -1)]
    assert ask(FindBlocks(limit=10, cursor=10**9)).ok


def test_thirty_thousand_are_looked_through_in_small_bites() -> None:
    blocks = [Block(prefix=f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}") for at in range(30_000)]
    engine = engine_with(blocks)
    began_s = time.process_time()
    prefixes, most = found(engine, "10.0.78.31", 200)
    assert prefixes == ["10.0.78.31"]
    assert most <= queries.LOOKED_AT
    assert time.process_time() - began_s < 5


def test_who_asks_for_all_at_once_gets_a_page_and_is_told() -> None:
    many = [Block(prefix=f"10.1.{at >> 8}.{at & 255}") for at in range(2_000)]
    outcome = Queries(engine_with(many)).table[ListBlocks](ListBlocks())
    assert [block.prefix for block in outcome.blocks or ()] == [each.prefix for each in many[:1499:-1]]
    assert outcome.warnings == ["the newest 500 of 2000 blocks; ask by pages for all"]
    few = Queries(engine_with(many[:500])).table[ListBlocks](ListBlocks())
    assert (len(few.blocks or ()), few.warnings) == (500, [])


# --- all pages, as the command line asks for them ------------------------------------------------------


def test_all_pages_come_as_fast_as_an_agent_lets_one_client(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PAGE_LIMIT", 2)
    blocks = [Block(prefix=f"10.1.{at >> 8}.{at & 255}", hits=at) for at in range(260)]
    table = Queries(engine_with(blocks)).table
    with serving() as served, Client(served.view_path) as client:
        monkeypatch.setattr(served.engine, "execute", lambda query, _actor: table[type(query)](query))
        asked: list[Outcome] = []

        def request(query: AnyQuery) -> Outcome:
            asked.append(client.request(query))
            return asked[-1]

        outcome = pages.blocks(request)
    assert outcome.blocks == blocks[::-1]
    assert len(asked) >= 130
    assert all(each.ok for each in asked), "no faster than is allowed"


def test_a_page_that_is_refused_for_now_is_asked_for_again() -> None:
    busy = Outcome(ok=False, text="too many requests", remedy="try again in 0.1 s")
    page = Outcome(ok=True, text="", blocks=BLOCKS[:1], page=Page(total=1))
    answers = [busy, busy, page]
    assert pages.blocks(lambda _query: answers.pop(0)).blocks == BLOCKS[:1]
    assert pages.blocks(lambda _query: Outcome(ok=False, text="no")).text == "no"


def test_blocks_that_others_remove_meanwhile_bring_none_twice() -> None:
    engine = engine_with([Block(prefix=f"10.1.{at >> 8}.{at & 255}") for at in range(1_200)])
    table = Queries(engine).table

    def request(query: AnyQuery) -> Outcome:
        outcome = table[type(query)](query)
        for at in range(100):
            with contextlib.suppress(ValueError):
                engine.blocks.wanted.remove(f"10.1.0.{at}", "manual")
        table[FindBlocks](FindBlocks())  # another client's first page: the order is made anew
        return outcome

    prefixes = [block.prefix for block in pages.blocks(request).blocks or ()]
    assert len(set(prefixes)) == len(prefixes) == 1_100


# --- the journal ------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_the_journal_backwards_by_pages(tmp_path: Path, limit: int) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for at in range(30):
        journal.append(ACTOR, Drain(cdn=f"cdn-{at}"), Outcome(ok=True, text="x" * (at * 400)))
    with journal.path.open("ab") as file:
        file.write(b"garbage\n{torn")
    ask = Queries(SimpleNamespace(journal=journal)).table[ReadJournal]  # type: ignore[arg-type]
    numbers, cursor = [], None
    while True:
        outcome = ask(ReadJournal(cursor=cursor, limit=limit))
        numbers += [entry.seq for entry in outcome.journal]
        cursor = outcome.page.next
        if cursor is None:
            break
    assert numbers == list(range(30, 0, -1))


def test_a_journal_that_is_not_there_yet(tmp_path: Path) -> None:
    assert Journal(tmp_path / "none.jsonl").page(None, 10) == ([], None)


@given(st.sets(st.tuples(st.integers(0, 255), st.integers(8, 32)), max_size=40), st.integers(0, 255))
def test_what_covers_an_address_is_what_a_look_at_all_of_them_finds(
    made: set[tuple[int, int]], last: int
) -> None:
    """By the quick way, and by one that has a second word, which all blocks have, and so looks at each."""
    blocks = [
        Block(
            prefix=str(ip_network(f"192.0.{number}.{255 - number}/{length}", strict=False)),
            reason="all",
            created_ns=at,
        )
        for at, (number, length) in enumerate(sorted(made), 1)
    ]
    engine = engine_with(blocks)
    address = f"192.0.{last}.{255 - last}"
    quick, looked_at = found(engine, address)
    assert looked_at == 33
    assert sorted(quick) == sorted(found(engine, f"{address} all")[0])
