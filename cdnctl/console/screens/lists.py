"""Lists: what is blocked, by whom and for how long, searched in the agent; and what is allowed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from textual.widget import Widget

from cdnctl.console.display import Display
from cdnctl.console.export import Rows
from cdnctl.console.filters import Filter
from cdnctl.console.format import clean
from cdnctl.console.paging import PAGE, BlockPages, Found
from cdnctl.console.screens.dialogs.edit import AllowDialog, EditDialog, ImportDialog
from cdnctl.console.screens.house import House
from cdnctl.console.widgets import blocked
from cdnctl.console.widgets.blocked import HEADER, AllowedTable, BlockedTable, key_of, row_of
from cdnctl.console.widgets.lines import Row, heading
from cdnctl.console.widgets.table import LiveTable
from cdnctl.model import PAGE_LIMIT, AnyChange, Block, Disallow, Frame, ListCustomers, Outcome, Unblock

ASKED_EVERY_S = 2.0
LEAST_S = 0.4
"""A rate is over so long at least: frames are 0.5 s apart."""


class Lists(House):
    """A page of the block list at a time; `/` asks the agent, who has all of it."""

    NAME = "lists"
    MAIN = "blocked"
    AUTO_FOCUS = "#blocked"

    def __init__(self, display: Display) -> None:
        super().__init__(display)
        self._pages = BlockPages(self.session, "")
        self._found: Found | None = None
        self._hits: dict[str, tuple[float, int]] = {}
        """When a block's hits were counted, on this process's clock or the frames', and how many."""
        self._rates: dict[str, float] = {}
        self._asked_s = -math.inf
        self._asked_of = (False, -1)
        """Whether of a frame, and the number of that."""

    def panels(self) -> Iterable[Widget]:
        yield BlockedTable("block list", id="blocked")
        yield AllowedTable("allow list", id="allowed")

    # --- pages ------------------------------------------------------------------------------------

    def on_screen_resume(self) -> None:
        """Ask at once."""
        self._asked_s = -math.inf
        self._asked_of = (self._asked_of[0], -1)

    def show_frame(self, frame: Frame) -> None:
        of = self.session.from_frames, frame.seq
        if of[0] != self._asked_of[0]:
            self._begin_anew()
        if self._found is None and frame.blocks:
            self._show(Found(frame.blocks, 0, frame.blocks_wanted, 0, False))
        is_due = of != self._asked_of if of[0] else time.monotonic() - self._asked_s >= ASKED_EVERY_S
        if self.is_current and is_due:
            self._asked_of = of
            self._ask_page()

    def _begin_anew(self) -> None:
        """What was answered is of another time."""
        self._found, self._hits, self._asked_s = None, {}, -math.inf
        self._asked_of = (self.session.from_frames, -1)
        self._pages = BlockPages(self.session, self._pages.text)

    def _ask_page(self) -> None:
        self._asked_s = time.monotonic()
        self.run_worker(self._fetch, exclusive=True, group="page")

    async def _fetch(self) -> None:
        pages = self._pages
        found = await pages.fetch(lambda part: self._show(part) if pages is self._pages else None)
        if pages is not self._pages:
            return
        if found.trouble:
            if self._found is None:
                self.said(found.trouble, ok=False)
            return
        self._count(found.blocks)
        self._show(found)
        outcome = await self.session.request(ListCustomers())
        if outcome.ok:
            self.query_one(AllowedTable).update(outcome.allowed)

    def _count(self, blocks: Iterable[Block]) -> None:
        now_s = self._now_ns() / 1e9 if self.session.from_frames else time.monotonic()
        before, self._hits = self._hits, {}
        self._rates = {}
        for block in blocks:
            key = key_of(block)
            at_s, hits = before.get(key, (now_s, block.hits))
            self._hits[key] = (now_s, block.hits)
            if now_s - at_s >= LEAST_S:
                self._rates[key] = max(0, block.hits - hits) / (now_s - at_s)

    def _show(self, found: Found) -> None:
        self._found = found
        table = self.query_one(BlockedTable)
        table.update(found.blocks, self._rates, self._now_ns())
        first = found.number * PAGE + 1
        last = first + len(found.blocks) - 1
        parts = ["block list"]
        if self._pages.text:
            parts.append(f"/{clean(self._pages.text, 40)}")
        if not found.done:
            parts.append(f"looked through {found.looked_at:,} of {found.total:,}")
        elif len(found.blocks) == found.total:
            parts.append(f"{found.total:,}")
        elif found.blocks:
            parts.append(f"{first:,} to {last:,} of {found.total:,}")
        else:
            parts.append(f"none of {found.total:,}")
        if table.marked:
            parts.append(f"{len(table.marked):,} marked")
        table.border_title = heading(" · ".join(parts))
        table.border_subtitle = "j beyond the end: next page" if found.more else ""
        self._draw_detail()

    def _now_ns(self) -> int:
        return self.frame.at_ns if self.frame else time.time_ns()

    def sift(self, needle: Filter) -> None:
        self.needle = needle
        self.query_one(AllowedTable).sift(needle)
        self._pages = BlockPages(self.session, needle.text)
        self.query_one(BlockedTable).move_to(0)
        self._ask_page()
        self._tick()

    def action_cursor(self, step: int) -> None:
        table = self.query_one(BlockedTable)
        if self.focused is table and table.records:
            at, last = table.cursor, len(table.records) - 1
            if step > 0 and at == last and self._pages.step(1):
                table.move_to(0)
                self._ask_page()
                return
            if step < 0 and at == 0 and self._pages.step(-1):
                table.move_to(last)
                self._ask_page()
                return
        super().action_cursor(step)

    # --- rows -------------------------------------------------------------------------------------

    def detail_of(self, table: LiveTable) -> Row:
        if isinstance(table, BlockedTable) and (block := table.find(table.current)):
            return blocked.detail(block, self._now_ns())
        return ()

    def action_mark(self) -> None:
        """Mark the row under the cursor, or take its mark away."""
        table = self.query_one(BlockedTable)
        if (block := table.find(table.current)) is None:
            return
        key = key_of(block)
        if table.marked.pop(key, None) is None:
            table.marked[key] = block
        table.move_to(table.cursor + 1)
        self._reshow()

    def action_mark_none(self) -> None:
        """Mark nothing."""
        self.query_one(BlockedTable).marked.clear()
        self._reshow()

    def _reshow(self) -> None:
        if self._found is not None:
            self._show(self._found)

    def leave_mode(self) -> bool:
        if not self.query_one(BlockedTable).marked:
            return False
        self.action_mark_none()
        return True

    def _chosen(self) -> list[Block]:
        """The marked blocks, else the one under the cursor; only what was blocked by hand can be edited."""
        table = self.query_one(BlockedTable)
        one = table.find(table.current)
        return list(table.marked.values()) or ([one] if one else [])

    def meant(self) -> str:
        table = self.table
        block = table.find(table.current) if isinstance(table, BlockedTable) else None
        return block.prefix if block else ""

    def open_unblock(self, newest: Frame) -> None:
        table = self.focused
        changes: list[AnyChange] = []
        if isinstance(table, AllowedTable) and table.current is not None:
            changes = [Disallow(prefix=str(table.current))]
        else:
            changes = [Unblock(prefix=block.prefix, source=block.source) for block in self._chosen()]
        if changes:
            self.plan(*changes)
        else:
            super().open_unblock(newest)

    def open_edit(self, newest: Frame) -> None:
        """Another lifetime or reason."""
        if chosen := self._chosen():
            self._ask(EditDialog(self.session, chosen))
        else:
            self.answer(Outcome(ok=False, text="there is no block under the cursor"))

    def open_allow(self, newest: Frame) -> None:
        """Allow what is under the cursor, or what is typed."""
        self._ask(AllowDialog(self.session, self.meant()))

    def open_import(self, newest: Frame) -> None:
        """Block what a file lists."""
        self._ask(ImportDialog(self.session))

    # --- export -----------------------------------------------------------------------------------

    def action_export(self) -> None:
        super().action_export()
        if (
            isinstance(self.table, BlockedTable)
            and self._found
            and self._found.total > len(self._found.blocks)
        ):
            self.run_worker(self._export_all, exclusive=True, group="export")

    async def _export_all(self) -> None:
        """Every block that matches, page by page."""
        pages = BlockPages(self.session, self._pages.text, PAGE_LIMIT)
        rows: Rows | None = None
        whole, told = False, ""
        try:
            rows = Rows(self.frame, "block-list", HEADER)
            while not whole:
                found = await pages.fetch(lambda _part: None)
                if told := found.trouble:
                    break
                rows.add(row_of(block) for block in found.blocks)
                self.said(f"{rows.count:,} rows so far")
                whole = not pages.step(1)
            rows.end(whole=whole)
        except OSError as error:
            told = (
                f"{error.filename or 'export'}: {error.strerror or error}; start cdnctl where you may write"
            )
        finally:
            if rows is not None and not whole:
                rows.end(whole=False)  # also when another export takes this one's place
        if told or rows is None:
            self.said(told, ok=False)
        else:
            self.said(f"written: {rows.path}, {rows.count:,} rows")
