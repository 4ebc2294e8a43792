"""Lift a block."""

from __future__ import annotations

import time
from collections.abc import Sequence

from textual.widget import Widget

from cdnctl.console.format import clean, duration, scaled
from cdnctl.console.screens.dialogs.base import ChangeDialog
from cdnctl.console.screens.dialogs.parts import PickTable
from cdnctl.console.session import Session
from cdnctl.console.widgets.table import Column, Record
from cdnctl.model import AnyChange, Block, Unblock


class BlockList(PickTable):
    """The blocks in force, the newest first."""

    EMPTY = "nothing is blocked"
    COLUMNS = (
        Column("prefix", "prefix", 18, right=False, grows=True),
        Column("left", "left", 7),
        Column("hits", "hits", 6),
        Column("source", "source", 10, right=False),
        Column("reason", "reason", 12, right=False, flex=True),
    )

    def update(self, blocks: Sequence[Block], now_ns: int) -> None:
        """Show these blocks; `now_ns` is wall time."""
        self.fill(
            [
                Record(
                    f"{block.prefix} {block.source}",
                    {
                        "prefix": (clean(block.prefix, 49), "text bold"),
                        "left": (_left(block, now_ns), "text"),
                        "hits": (scaled(block.hits), "text"),
                        "source": (clean(block.source, 32), "muted"),
                        "reason": (clean(block.reason), "muted"),
                    },
                )
                for block in blocks
            ]
        )


def _left(block: Block, now_ns: int) -> str:
    return duration(max(0.0, (block.expires_ns - now_ns) / 1e9)) if block.expires_ns else "forever"


class UnblockDialog(ChangeDialog):
    """Pick one of the blocks of the newest frame."""

    TITLE_TEXT = "Unblock"
    CONFIRM_TEXT = "Unblock"
    WIDTH = 76
    SECTIONS = ("dialog", "pick")

    def __init__(self, session: Session, blocks: Sequence[Block], wanted: int) -> None:
        super().__init__(session)
        self._blocks = blocks
        self._wanted = wanted

    def body(self) -> Sequence[Widget]:
        table = BlockList("", id="blocks")
        table.can_focus = False
        table.styles.height = min(12, max(3, len(self._blocks) + 2))
        return (table,)

    def on_mount(self) -> None:
        self._table.update(self._blocks, time.time_ns())
        if self._wanted > len(self._blocks):
            self.query_one("#box").border_subtitle = f"the newest {len(self._blocks)} of {self._wanted:,}"

    @property
    def _table(self) -> BlockList:
        return self.query_one("#blocks", BlockList)

    def changes(self) -> list[AnyChange]:
        if not self._blocks:
            return []
        block = self._blocks[self._table.cursor]
        return [Unblock(prefix=block.prefix, source=block.source)]

    def action_move(self, step: int) -> None:
        """Move the cursor."""
        self._go(self._table.cursor + step)

    def action_move_first(self) -> None:
        """To the first row."""
        self._go(0)

    def action_move_last(self) -> None:
        """To the last row."""
        self._go(len(self._blocks) - 1)

    def _go(self, index: int) -> None:
        self._table.move_to(index)
        self.input_changed()
