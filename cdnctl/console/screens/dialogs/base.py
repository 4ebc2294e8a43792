"""What all dialogs have in common.

Cancel has the focus, so Enter and Esc close a dialog; only ctrl+s (or a click on the button that
says so) confirms. While it is open the agent is asked, by a dry run, what would happen, and its
words are shown. A refused change leaves the dialog open, to read and to correct.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec
from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.css.query import NoMatches
from textual.widget import Widget

from cdnctl.console import keys
from cdnctl.console.format import clean, fit
from cdnctl.console.screens.dialogs import several
from cdnctl.console.screens.dialogs.parts import Push
from cdnctl.console.screens.dialogs.whole import Whole
from cdnctl.console.session import Session
from cdnctl.console.widgets.lines import Lines, Row
from cdnctl.console.widgets.notices import outcome_rows, wrapped
from cdnctl.model import AnyChange, Confirm, Outcome, Revert
from cdnctl.model.lines import command_line

SETTLE_S = 0.12
"""Typing is let settle for so long before the agent is asked."""
PREVIEW_LEAST, PREVIEW_LINES = 2, 4
"""As console.tcss has it at first: a dialog that changes its height is laid out and painted anew."""
FRAME = 6
"""Cells of a dialog's width that its border and padding take."""
CONFIRM_S = 120.0
"""How long a risky change waits to be confirmed."""


class Dialog(Whole[Outcome | None]):
    """A box with a title, a body and buttons; `None` is its result when nothing was changed."""

    SECTIONS: tuple[str, ...] = ("dialog",)
    """The tables of keys that hold in it."""
    AUTO_FOCUS = "#cancel"
    TITLE_TEXT = ""
    CONFIRM_TEXT = "Confirm"
    WIDTH = 66

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        keys.bind(self, (key for section in self.SECTIONS for key in keys.section(section)))

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = self.TITLE_TEXT
            box.styles.width = self.WIDTH
            yield from self.body()
            yield Lines(id="line")
            yield Lines(id="preview")
            with Horizontal(id="buttons"):
                yield Push("confirm", self.CONFIRM_TEXT, keys.face("confirm", "dialog"), "accent")
                yield Push("cancel", "Cancel", keys.face("cancel", "dialog"), "text", focusable=True)

    def body(self) -> Sequence[Widget]:
        """The widgets between title and buttons."""
        return ()

    def on_push_pressed(self, message: Push.Pressed) -> None:
        if message.button == "confirm":
            self.call_later(self.action_confirm)
        else:
            self.cancel_pressed()

    def cancel_pressed(self) -> None:
        """The focused button was pressed, by Enter or a click."""
        self.action_cancel()

    def action_cancel(self) -> None:
        """Close it; nothing changes."""
        self.dismiss(None)

    async def action_confirm(self) -> None:
        """Do what the dialog says; here nothing."""
        self.dismiss(None)

    def say(self, rows: Sequence[Row], most: int = PREVIEW_LINES) -> None:
        """Show at most so many of these rows above the buttons; an answer that comes while it closes is
        shown nowhere."""
        for preview in self.query("#preview").results(Lines):
            preview.styles.height = max(PREVIEW_LEAST, min(most, len(rows)))
            preview.show(list(rows)[:most])

    def say_problem(self, text: str) -> None:
        """Show what is wrong with the input."""
        self.say(wrapped("✖", text, self.WIDTH - FRAME, "bad"))


class ChangeDialog(Dialog):
    """A dialog that ends in one change or several, tried out as soon as they can be told.

    What ctrl+s sends has been tried just before, exactly as it is sent: a preview may be of what was typed
    earlier, or not have come yet. A risky change is sent to wait for its confirmation; of several none is
    sent when any is risky (see `several`).
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._asked = 0
        self._busy = False
        self._stopping = False
        newest = session.history.newest
        self._version = (newest.state_version if newest else 0) or None
        """Of the state that the operator looks at; an agent of an earlier version says 0."""

    def changes(self) -> list[AnyChange]:
        """What ctrl+s would send, in this order; ValueError says what is wrong with the input."""
        raise NotImplementedError

    def on_mount(self) -> None:
        self.input_changed()

    def input_changed(self) -> None:
        """Ask again what would happen, once typing has settled."""
        if self._busy:
            return
        self._asked += 1
        ask: Callable[[], Awaitable[None]] = partial(self._ask, self._asked)
        self.run_worker(ask, exclusive=True, group="preview")

    async def _ask(self, number: int) -> None:
        try:
            await self._ask_and_show(number)
        except NoMatches:
            if self.is_current and self.app.return_code is None:
                raise
            # else it closes: what it is made of goes before it does, and before this worker is cancelled

    async def _ask_and_show(self, number: int) -> None:
        if number > 1:
            await asyncio.sleep(SETTLE_S)
        try:
            wanted = self.changes()
        except ValueError as error:
            self.show_line(())
            self.say_problem(str(error))
            return
        self.show_line(wanted)
        outcome = await self.dry_run(wanted)
        if number == self._asked and not self._busy and self.is_attached:
            if outcome is not None and outcome.ok and outcome.risk and len(wanted) > 1:
                outcome = several.one_at_a_time(outcome, len(wanted))
            self.show_preview(outcome)

    async def dry_run(self, wanted: list[AnyChange]) -> Outcome | None:
        """What the agent says would happen, of a long list by its beginning; None: nothing to ask."""
        if not wanted:
            return None
        outcome = await several.try_each(self.session, wanted[: several.PREVIEWED], self._tell)
        if outcome.ok and not outcome.risk and len(wanted) > 1:
            more = f"{outcome.text}; and {len(wanted) - 1:,} more, all tried before any is sent"
            return msgspec.structs.replace(outcome, text=more)
        return outcome

    async def try_whole(self, wanted: list[AnyChange]) -> Outcome:
        """The same of all of it, right before it is sent. `wanted` has one or more."""
        return await several.try_each(self.session, wanted, self._tell, lambda: self._stopping)

    def show_preview(self, outcome: Outcome | None) -> None:
        """Show a dry run's outcome."""
        if outcome is None:
            self.say([((" nothing to change", "muted"),)])
        elif outcome.ok:
            self.say(self.preview_rows(outcome))
        else:
            self.say(outcome_rows(outcome, self.WIDTH - FRAME))

    def preview_rows(self, outcome: Outcome) -> list[Row]:
        """What a dry run that was taken says."""
        rows = wrapped("→", outcome.text, self.WIDTH - FRAME, "text")
        if outcome.risk:
            said = f"{outcome.risk}: reverts in {CONFIRM_S:.0f} s unless confirmed"
            rows += wrapped("▲", said, self.WIDTH - FRAME, "warn")
        for warning in outcome.warnings:
            rows += wrapped("▲", warning, self.WIDTH - FRAME, "warn")
        return rows

    def show_line(self, wanted: Sequence[AnyChange]) -> None:
        """The command line that does the same, of several the first; `copy` takes all of them."""
        for line in self.query("#line").results(Lines):
            if not wanted:
                line.show([])
                continue
            text = clean(command_line(wanted[0]), 400)
            more = f" and {len(wanted) - 1:,} more" if len(wanted) > 1 else ""
            room = self.WIDTH - FRAME - 2 - len(more)
            line.show([(("$ ", "muted"), (fit(text, min(room, cell_len(text))), "accent"), (more, "muted"))])

    def action_copy(self) -> None:
        """The command lines to the terminal's clipboard."""
        try:
            wanted = self.changes()
        except ValueError as error:
            self.say_problem(str(error))
            return
        if wanted:
            self.app.copy_to_clipboard("\n".join(command_line(change) for change in wanted))
            self.query_one("#box").border_subtitle = "copied, if the terminal lets us (OSC 52)"

    def _tell(self, text: str) -> None:
        if self._busy and self.is_attached:
            self.say([((f" … {text}", "muted"),)])

    def action_cancel(self) -> None:
        """Close it; while changes are on their way first stop after the one that is."""
        if self._busy and not self._stopping:
            self._stopping = True
            self._tell(f"stops after what is on its way; {keys.face('cancel', 'dialog')} again leaves")
        else:
            self.dismiss(None)

    async def action_confirm(self) -> None:
        """Send the changes in order; close when all were taken, else show the refusal."""
        if self._busy:
            return
        try:
            wanted = self.changes()
        except ValueError as error:
            self.say_problem(str(error))
            return
        if not wanted:
            self.dismiss(None)
            return
        self._busy, self._stopping = True, False
        self.workers.cancel_group(self, "preview")
        # a worker: it may take a minute, and esc is to be heard meanwhile
        self.run_worker(self._carry_out(wanted), group="sending")

    async def _carry_out(self, wanted: list[AnyChange]) -> None:
        try:
            outcome = await self._send(wanted)
        finally:
            self._busy = False
        if self.is_attached:
            self.carried_out(outcome)

    def carried_out(self, outcome: Outcome) -> None:
        """All was taken, or something refused."""
        if outcome.ok:
            self.dismiss(outcome)
        else:
            self.say(outcome_rows(outcome, self.WIDTH - FRAME))

    async def _send(self, wanted: list[AnyChange]) -> Outcome:
        tried = await self.try_whole(wanted)
        if not tried.ok:
            return tried
        if tried.risk and len(wanted) > 1:
            return several.one_at_a_time(tried, len(wanted))
        confirm_s = CONFIRM_S if tried.risk and not isinstance(wanted[0], Confirm | Revert) else 0.0
        sure = [
            msgspec.structs.replace(change, expect=self._version, confirm_s=confirm_s) for change in wanted
        ]
        return await several.send_each(self.session, sure, self._tell, lambda: self._stopping)
