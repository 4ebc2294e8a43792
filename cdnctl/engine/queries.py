"""Questions with long answers, a page at a time: the agent must not be busy with one for long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from cdnctl.defence import codes
from cdnctl.defence.blocklist import Network, parse_prefix
from cdnctl.model import (
    PAGE_LIMIT,
    Block,
    FindBlocks,
    ListBlocks,
    ListTalkers,
    Outcome,
    Page,
    ReadJournal,
)

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

LOOKED_AT = 4_000
"""Blocks that are looked at for one page: some 10 ms."""
FRESH_S = 2.0
"""The order of the list is kept so long while it changes, so that pages fit together."""
MOST_TALKERS = 500


class Queries:
    """Answers them from an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._order: list[int] = []
        self._ordered_s = -FRESH_S
        self.table: dict[type[Any], Callable[[Any], Outcome]] = {
            FindBlocks: self._blocks,
            ListBlocks: self._first_blocks,
            ReadJournal: self._journal,
            ListTalkers: self._talkers,
        }

    def _blocks(self, command: FindBlocks) -> Outcome:
        """The newest first. A cursor is how many of the order, from its beginning, are still to come."""
        wanted = self._engine.blocks.wanted
        limit = max(1, min(command.limit, PAGE_LIMIT))
        if command.cursor is None or not self._order:
            now_s = time.monotonic()
            if now_s - self._ordered_s >= FRESH_S or command.cursor is None:
                self._order, self._ordered_s = wanted.prefixes(), now_s
        left = len(self._order) if command.cursor is None else max(0, min(command.cursor, len(self._order)))
        keeps = _test(command.text)
        found: list[Block] = []
        looked_at = 0
        while left and len(found) < limit and looked_at < LOOKED_AT:
            left -= 1
            looked_at += 1
            code = self._order[left]
            if blocks := wanted.at(code):
                network = codes.network(code)
                found += [block for block in blocks if keeps(network, block)]
        page = Page(next=left or None, looked_at=looked_at, total=len(wanted))
        return Outcome(ok=True, text="", blocks=self._engine.blocks.shown(found), page=page)

    def _first_blocks(self, _command: ListBlocks) -> Outcome:
        """For clients of earlier versions, which ask for all at once."""
        outcome = self._blocks(FindBlocks(limit=PAGE_LIMIT))
        if outcome.page is None or outcome.page.next is None:
            return outcome
        short = f"the newest {len(outcome.blocks or ())} of {outcome.page.total} blocks; ask by pages for all"
        return replace(outcome, warnings=[short])

    def _journal(self, command: ReadJournal) -> Outcome:
        limit = max(1, min(command.limit, PAGE_LIMIT))
        entries, following = self._engine.journal.page(command.cursor, limit)
        return Outcome(ok=True, text="", journal=entries, page=Page(next=following, looked_at=len(entries)))

    def _talkers(self, command: ListTalkers) -> Outcome:
        observer = self._engine.observer
        most = max(1, min(command.limit, MOST_TALKERS))
        return Outcome(ok=True, text="", talkers=observer.talkers.top(most, observer.talker_names()))


def _test(text: str) -> Callable[[Network, Block], bool]:
    """Whether a block has all the words."""
    tests = list(_word_tests(text))
    return lambda network, block: all(test(network, block) for test in tests)


def _word_tests(text: str) -> Iterator[Callable[[Network, Block], bool]]:
    for word in text.lower().split():
        inverted, plain = word.startswith("!"), word.removeprefix("!")
        if not plain:
            continue
        try:
            yield _overlaps(parse_prefix(plain), inverted)
        except ValueError:
            yield _says(plain, inverted)


def _overlaps(meant: Network, inverted: bool) -> Callable[[Network, Block], bool]:
    """Whether one covers the other; by numbers, as it is asked a million times."""
    wanted, length, bits = int(meant.network_address), meant.prefixlen, meant.max_prefixlen

    def test(network: Network, _block: Block) -> bool:
        if network.max_prefixlen != bits:
            return inverted
        shift = bits - min(length, network.prefixlen)
        return (int(network.network_address) >> shift == wanted >> shift) != inverted

    return test


def _says(word: str, inverted: bool) -> Callable[[Network, Block], bool]:
    def test(_network: Network, block: Block) -> bool:
        said = word in block.reason.lower() or word in block.prefix or word in block.source
        return said != inverted

    return test
