"""Long lists, fetched from the agent a page at a time, at the pace that it allows a client."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

from cdnctl.agent.limits import CLIENT_BURST, CLIENT_RATE
from cdnctl.errors import CdnctlError
from cdnctl.model import (
    PAGE_LIMIT,
    AnyCommand,
    Block,
    FindBlocks,
    JournalEntry,
    Outcome,
    ReadJournal,
)

_AT_ONCE = round(0.8 * CLIENT_BURST)
"""Messages before there is any need to wait."""
_BETWEEN_S = 1.1 / CLIENT_RATE
_MOST_REFUSALS = 20
"""In a row: others of this user ask a lot, too."""
_AGAIN = re.compile(r"try again in (\d{1,3}\.\d+) s")


class Pace:
    """Asks one thing after another; what the agent turned away unseen, when it says that it may come."""

    def __init__(self, request: Callable[[AnyCommand], Outcome]) -> None:
        self._request = request
        self._asked = 0

    def ask(self, command: AnyCommand) -> Outcome:
        """The answer; a refusal too."""
        self._asked += 1
        if self._asked > _AT_ONCE:
            time.sleep(_BETWEEN_S)
        for _ in range(_MOST_REFUSALS):
            outcome = self._request(command)
            told = None if outcome.ok else _AGAIN.search(outcome.remedy)
            if told is None:
                return outcome
            time.sleep(float(told[1]))
        return self._request(command)


def blocks(request: Callable[[AnyCommand], Outcome], text: str = "") -> Outcome:
    """The wanted blocks, the newest first; `text` is as for `FindBlocks`. Of a refusal, that.

    Who blocks and unblocks meanwhile moves the pages: what then comes twice is here once.
    """
    found: dict[tuple[str, str], Block] = {}
    cursor, pace = None, Pace(request)
    while True:
        outcome = pace.ask(FindBlocks(text=text, cursor=cursor, limit=PAGE_LIMIT))
        if outcome.blocks is None or outcome.page is None:
            return outcome
        for block in outcome.blocks:
            found.setdefault((block.prefix, block.source), block)
        if (cursor := outcome.page.next) is None:
            return Outcome(ok=True, text=outcome.text, blocks=list(found.values()), page=outcome.page)


def journal(request: Callable[[AnyCommand], Outcome], first: int | None = None) -> Iterator[JournalEntry]:
    """The journal's lines, the newest first, asked for as they are taken, `first` at first.

    Raises CdnctlError.

    When the file is rotated meanwhile, what is new in it is left for the next time.
    """
    cursor, last, pace, limit = None, 0, Pace(request), first or PAGE_LIMIT
    while True:
        outcome = pace.ask(ReadJournal(cursor=cursor, limit=limit))
        if outcome.journal is None or outcome.page is None:
            raise CdnctlError(outcome.text or "the agent told nothing of its journal", outcome.remedy)
        for entry in outcome.journal:
            if last and entry.seq >= last:
                return
            last = entry.seq
            yield entry
        if (cursor := outcome.page.next) is None:
            return
        limit = PAGE_LIMIT
