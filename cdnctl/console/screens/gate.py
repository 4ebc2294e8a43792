"""The one gate before everything that changes the edge, and the dialogs behind it.

These are read from disk when they are opened first, or by `screens.warm`: the first picture needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.screen import Screen

from cdnctl.console.widgets.table import LiveTable
from cdnctl.model import AnyChange, Confirm, Frame, Outcome, Record, Revert, StopRecording, Talker, Undo

if TYPE_CHECKING:
    from cdnctl.console.display import Display
    from cdnctl.console.session import Session


class Gate:
    """What of a screen changes the edge; mixed into `House`."""

    if TYPE_CHECKING:
        view: Display

        @property
        def session(self) -> Session: ...
        @property
        def frame(self) -> Frame | None: ...

        focused: Any
        app: Any

        def answer(self, outcome: Outcome | None) -> None: ...
        def _ask(self, dialog: Screen[Any]) -> None: ...

    def may_change(self) -> bool:
        """Whether anything may be changed from here; says why not."""
        if reason := self.session.read_only:
            self.answer(Outcome(ok=False, text=f"read only: {reason}"))
            return False
        if self.frame is None:
            self.answer(Outcome(ok=False, text="no frame has come in yet"))
            return False
        return True

    def action_change(self, name: str) -> None:
        """Open the dialog behind a key that changes the edge."""
        if self.may_change() and (newest := self.view.newest) is not None:
            getattr(self, f"open_{name}")(newest)

    def plan(self, *changes: AnyChange) -> None:
        """Show what these changes would do, and do them when told to."""
        from cdnctl.console.screens.dialogs.change import PlanDialog

        if self.may_change():
            self._ask(PlanDialog(self.session, changes))

    def meant(self) -> str | Talker:
        """The address or prefix under the cursor; empty when there is none."""
        return ""

    def open_block(self, newest: Frame) -> None:
        """Block what is under the cursor, else the busiest talker."""
        from cdnctl.console.screens.dialogs.block import BlockDialog

        frame = self.frame or newest
        meant = self.meant() or max(frame.talkers, key=lambda talker: talker.pps, default="")
        past_ns = 0 if frame.seq == newest.seq else frame.at_ns
        if isinstance(meant, str):
            self._ask(BlockDialog(self.session, None, meant, past_ns))
        else:
            self._ask(BlockDialog(self.session, meant, past_ns=past_ns))

    def open_unblock(self, newest: Frame) -> None:
        """Pick one of the newest blocks."""
        from cdnctl.console.screens.dialogs.unblock import UnblockDialog

        self._ask(UnblockDialog(self.session, newest.blocks, newest.blocks_wanted))

    def open_weights(self, newest: Frame) -> None:
        """Edit weights and drains."""
        from cdnctl.console.screens.dialogs.weights import WeightsDialog

        table = self.focused
        at = str(table.current) if isinstance(table, LiveTable) else ""
        if not newest.cdns:
            self.answer(Outcome(ok=False, text="there is no CDN to weigh"))
            return
        self._ask(WeightsDialog(self.session, newest.cdns, at))

    def open_mark(self, newest: Frame) -> None:
        """Name the present."""
        from cdnctl.console.screens.dialogs.mark import MarkDialog

        self._ask(MarkDialog(self.session))

    def open_record(self, newest: Frame) -> None:
        """Begin a recording, or end the one there is."""
        self.plan(StopRecording() if newest.recording else Record())

    def open_disarm(self, newest: Frame) -> None:
        """Disarm or arm."""
        from cdnctl.console.screens.dialogs.arm import ArmDialog

        self._ask(ArmDialog(self.session, not newest.armed or newest.bypassed))

    def open_confirm(self, newest: Frame) -> None:
        """Keep what waits to be confirmed."""
        from cdnctl.console.screens.dialogs.back import BackDialog

        self._ask(BackDialog(self.session, Confirm()))

    def open_undo(self, newest: Frame) -> None:
        """Take back what waits, or the last change."""
        from cdnctl.console.screens.dialogs.back import BackDialog

        self._ask(BackDialog(self.session, Revert() if newest.pending else Undo()))

    def action_leave(self) -> None:
        """Ask how to quit; a recording needs no asking."""
        from cdnctl.console.screens.dialogs.quit import QuitDialog

        if self.session.is_replay:
            self.app.exit(0)
            return
        self._ask(QuitDialog(self.session))
