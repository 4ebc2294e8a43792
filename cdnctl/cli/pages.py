"""Long lists, fetched from the agent a page at a time, at the pace that it allows a client."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from cdnctl.agent.limits import CLIENT_BURST, CLIENT_RATE
from cdnctl.model import PAGE_LIMIT, AnyQuery, Block, FindBlocks, Outcome

_AT_ONCE = round(0.8 * CLIENT_BURST)
"""Pages before there is any need to wait."""
_BETWEEN_S = 1.1 / CLIENT_RATE
_MOST_REFUSALS = 20
"""In a row: others of this user ask a lot, too."""
_AGAIN = re.compile(r"try again in (\d{1,3}\.\d+) s")


def blocks(request: Callable[[AnyQuery], Outcome], text: str = "") -> Outcome:
    """The wanted blocks, the newest first; `text` is as for `FindBlocks`. Of a refusal, that.

    Who blocks and unblocks meanwhile moves the pages: what then comes twice is here once.
    """
    found: dict[tuple[str, str], Block] = {}
    cursor, pages, refusals = None, 0, 0
    while True:
        outcome = request(FindBlocks(text=text, cursor=cursor, limit=PAGE_LIMIT))
        if not outcome.ok and (told := _AGAIN.search(outcome.remedy)) and refusals < _MOST_REFUSALS:
            refusals += 1
            time.sleep(float(told[1]))
            continue
        if outcome.blocks is None or outcome.page is None:
            return outcome
        for block in outcome.blocks:
            found.setdefault((block.prefix, block.source), block)
        if (cursor := outcome.page.next) is None:
            return Outcome(ok=True, text=outcome.text, blocks=list(found.values()), page=outcome.page)
        pages, refusals = pages + 1, 0
        if pages >= _AT_ONCE:
            time.sleep(_BETWEEN_S)
