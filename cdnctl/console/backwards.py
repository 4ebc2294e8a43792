"""The way of a live console into what the agent keeps of the last minutes, and back to now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from cdnctl.console.playback import Playback
from cdnctl.errors import RecordingError
from cdnctl.model import AnyCommand, GetHistory, Outcome
from cdnctl.recording.past import PastTape
from cdnctl.recording.player import Player

NOW_WITHIN = 4
"""Frames that the past may be behind and still be as good as now."""


class Backwards:
    """What of a session goes into the past."""

    if TYPE_CHECKING:
        edge: str

        async def request(self, command: AnyCommand) -> Outcome: ...

    playback: Playback | None = None
    """What is on the screens instead of what comes in: a recording, or the past."""

    async def visit_past(self, seq: int | None = None) -> str:
        """Have what the agent keeps on the screens, at its end or at that frame; why not, or nothing."""
        tape = PastTape(self.edge)
        if problem := await self._fetch(tape):
            return problem
        if not tape.length:
            return "the agent keeps no frames yet"
        try:
            number = tape.length - 1 if seq is None else tape.number_of(seq)
            self.playback = Playback(tape, number=number)
        except RecordingError as error:
            return error.message
        return ""

    async def catch_up(self) -> None:
        """At the end of what was fetched: go on with what has come since, or return to now."""
        playback = self.playback
        tape = playback.player.tape if playback else None
        if playback is None or not isinstance(tape, PastTape):
            return
        before = tape.length
        if await self._fetch(tape) or tape.length - before < NOW_WITHIN:
            self.return_to_now()
            return
        playback.move(_go_on)

    def return_to_now(self) -> None:
        """Have what comes in on the screens again."""
        if self.playback is not None:
            self.playback.end()
            self.playback = None

    async def play(self, on_news: Callable[[], None]) -> None:
        """Move on with the past that is on the screens, until there is none."""
        if (playback := self.playback) is not None:
            async for _frame in playback.shown():
                on_news()

    async def _fetch(self, tape: PastTape) -> str:
        """Append what the agent keeps beyond the tape's end; what goes wrong comes back in words."""
        while True:
            outcome = await self.request(GetHistory(after_seq=tape.last_seq))
            if not outcome.ok:
                return outcome.text
            if (part := outcome.history) is None:
                return ""
            try:
                await asyncio.to_thread(tape.take, part)
            except RecordingError as error:
                return error.message
            if part.is_last:
                return ""


def _go_on(player: Player) -> None:
    """The tape has grown: play what is new of it."""
    player.reindex()
    player.playing, player.ran_out = True, False
