"""A window on a list that the agent keeps: one page, asked for again and again, and the way to the others.

The agent looks at so many entries at a time only, so a page of a filter that hardly anything matches takes
several questions; whoever waits sees how far they are.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from cdnctl.console.session import Session
from cdnctl.model import Block, FindBlocks

PAGE = 200


class Found(Struct, frozen=True):
    """A page."""

    blocks: list[Block]
    number: int
    """Of the page, from 0."""
    total: int
    looked_at: int
    more: bool
    """There is a page after it."""
    done: bool = True
    """False while it is still being looked for."""
    trouble: str = ""


class BlockPages:
    """The pages of one search."""

    def __init__(self, session: Session, text: str, size: int = PAGE) -> None:
        """`size` is how many entries a page has."""
        self.text = text
        self._size = size
        self._session = session
        self._starts: list[int | None] = [None]
        """Where each page that was seen begins."""
        self.at = 0

    def step(self, by: int) -> bool:
        """To the next page or the one before; False when it is not known where that begins."""
        if not 0 <= self.at + by < len(self._starts):
            return False
        self.at += by
        return True

    async def fetch(self, progress: Callable[[Found], None]) -> Found:
        """The page that is meant now; `progress` is told of what there is so far."""
        cursor = self._starts[self.at]
        blocks: list[Block] = []
        looked_at = 0
        while True:
            command = FindBlocks(text=self.text, cursor=cursor, limit=self._size - len(blocks))
            outcome = await self._session.request(command)
            if not outcome.ok or outcome.page is None:
                return Found(blocks, self.at, 0, looked_at, False, trouble=outcome.text or "no answer")
            blocks += outcome.blocks or []
            looked_at += outcome.page.looked_at
            cursor = outcome.page.next
            found = Found(blocks, self.at, outcome.page.total, looked_at, cursor is not None)
            if cursor is None or len(blocks) >= self._size:
                if cursor is not None and len(self._starts) == self.at + 1:
                    self._starts.append(cursor)
                return found
            progress(Found(list(blocks), self.at, outcome.page.total, looked_at, True, done=False))
