"""Tables of what is blocked, a page of it, and of what is allowed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from cdnctl.console.format import clean, clock, duration, scaled
from cdnctl.console.widgets.lines import Row
from cdnctl.console.widgets.table import Cell, Column, LiveTable, Record
from cdnctl.model import Allowed, Block


def key_of(block: Block) -> str:
    """Its identity: a prefix may be blocked by several sources."""
    return f"{block.prefix} {block.source}"


class BlockedTable(LiveTable):
    """One row a block; rows may be marked."""

    EMPTY = "nothing is blocked"
    COLUMNS = (
        Column("mark", "", 1, right=False),
        Column("prefix", "prefix", 18, right=False, grows=True),
        Column("left", "left", 7),
        Column("hits", "hits", 6),
        Column("rate", "hits/s", 6, from_width=60),
        Column("source", "origin", 10, right=False, from_width=66),
        Column("since", "since", 8, right=False, from_width=96, grows=True),
        Column("reason", "reason", 12, right=False, flex=True),
    )

    def __init__(self, title: str, *, id: str) -> None:
        super().__init__(title, id=id)
        self.marked: dict[str, Block] = {}
        """By key; they stay marked when another page is shown."""
        self._blocks: dict[str, Block] = {}

    def update(self, blocks: Sequence[Block], rates: Mapping[str, float], now_ns: int) -> None:
        """Show these blocks; `rates` are hits a second by key, `now_ns` is wall time."""
        self._blocks = {key_of(block): block for block in blocks}
        self.fill(
            [
                Record(key, _cells(block, rates.get(key), now_ns, key in self.marked))
                for key, block in self._blocks.items()
            ]
        )

    def find(self, key: object) -> Block | None:
        """That block, if it is on this page."""
        return self._blocks.get(key) if isinstance(key, str) else None


def _cells(block: Block, rate: float | None, now_ns: int, marked: bool) -> dict[str, Cell]:
    return {
        "mark": ("■" if marked else "", "accent bold"),
        "prefix": (clean(block.prefix, 49), "accent bold" if marked else "text bold"),
        "left": (left(block, now_ns), "text"),
        "hits": (scaled(block.hits), "text" if block.hits else "muted"),
        "rate": (scaled(rate) if rate else "0" if rate is not None else "", "bad" if rate else "muted"),
        "source": (clean(block.source, 32), "muted"),
        "since": (clock(block.created_ns) if block.created_ns else "", "muted"),
        "reason": (clean(block.reason), "muted"),
    }


HEADER = ("prefix", "origin", "reason", "hits", "created", "expires")
"""Of an exported list; times are UTC, `forever` has no end."""


def row_of(block: Block) -> tuple[str, ...]:
    """A block as a line of a file."""
    ends = _utc(block.expires_ns) if block.expires_ns else "forever"
    return block.prefix, block.source, block.reason, str(block.hits), _utc(block.created_ns), ends


def _utc(at_ns: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ns / 1e9)) if at_ns else ""


def left(block: Block, now_ns: int) -> str:
    """How long it still holds."""
    if not block.expires_ns:
        return "forever"
    return duration(max(0.0, (block.expires_ns - now_ns) / 1e9))


def detail(block: Block, now_ns: int) -> Row:
    """The whole block."""
    return (
        (clean(block.prefix, 49), "text bold"),
        (f"  by {clean(block.source, 32)}, {left(block, now_ns)} left, {block.hits:,} hits", "muted"),
        (f": {clean(block.reason)}" if block.reason else "", "text"),
    )


class AllowedTable(LiveTable):
    """One row a prefix that is neither blocked nor limited."""

    EMPTY = "nothing is allowed past the block list"
    COLUMNS = (
        Column("prefix", "allowed", 16, right=False, grows=True),
        Column("reason", "reason", 10, right=False, flex=True),
    )

    def update(self, allowed: Sequence[Allowed] | None) -> None:
        """Show these; None: they are not known, as frames do not hold them."""
        self.empty = "not recorded" if allowed is None else self.EMPTY
        self.border_title = "allow list" if allowed is None else f"allow list · {len(allowed):,}"
        self.fill(
            [
                Record(
                    each.prefix,
                    {
                        "prefix": (clean(each.prefix, 49), "text bold"),
                        "reason": (clean(each.reason), "muted"),
                    },
                )
                for each in allowed or ()
            ]
        )
