"""The keys that move through time: in a recording, and in the minutes that the agent keeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from cdnctl.console import keys
from cdnctl.console.widgets.transport import TransportLine
from cdnctl.model import Outcome
from cdnctl.recording.player import Player

if TYPE_CHECKING:
    from cdnctl.console.display import Display
    from cdnctl.console.session import Session

_BACK = ("5-s-back", "chapter-before")
_MOVES: dict[str, Callable[[Player, Any], None]] = {
    "toggle": lambda player, _amount: player.toggle(),
    "skip": lambda player, seconds: player.skip(seconds),
    "step": lambda player, frames: player.step(frames),
    "chapter": lambda player, step: player.skip_chapter(step),
    "speed": lambda player, step: player.change_speed(step),
}


class Travel:
    """What of a screen moves through time; mixed into `House`."""

    if TYPE_CHECKING:
        view: Display

        @property
        def session(self) -> Session: ...
        def answer(self, outcome: Outcome | None) -> None: ...
        def news(self) -> None: ...
        def rearrange(self) -> None: ...
        def draw(self) -> None: ...
        def _tick(self) -> None: ...
        def query_one(self, kind: Any, *args: Any) -> Any: ...
        def run_worker(self, work: Any, **options: Any) -> Any: ...

    def action_travel(self, how: str, amount: float = 0) -> None:
        """Play, pause, step, skip; from a live picture back into the past."""
        playback = self.session.playback
        if playback is None:
            if how == "speed" or amount >= 0:
                self.answer(
                    Outcome(
                        ok=False,
                        text=f"this is now: {' and '.join(map(keys.face, _BACK))} lead into the past",
                    )
                )
            else:
                self.run_worker(partial(self._depart, how, amount), exclusive=True, group="travel")
            return
        was_at_end = playback.player.at_end
        playback.move(lambda player: _MOVES[how](player, amount))
        if was_at_end and amount > 0 and how != "speed" and not self.session.is_replay:
            self.run_worker(self._go_on, exclusive=True, group="travel")
            return
        self._moved()

    def end_travel(self) -> bool:
        """From the past back to now; False when this is now, or a recording."""
        if self.session.playback is None or self.session.is_replay:
            return False
        self.session.return_to_now()
        self._moved()
        return True

    async def _depart(self, how: str, amount: float) -> None:
        """Have the past on the screens."""
        frozen = self.view.frozen
        if problem := await self.session.visit_past(None if frozen is None else frozen.seq):
            self.answer(Outcome(ok=False, text=problem))
            return
        self.view.frozen = None
        assert self.session.playback is not None
        self.session.playback.move(lambda player: _MOVES[how](player, amount))
        self._moved()
        self.run_worker(partial(self.session.play, self._played), exclusive=True, group="play")

    async def _go_on(self) -> None:
        """Beyond the end of what was fetched: what has come since, or now."""
        await self.session.catch_up()
        self._moved()

    def _played(self) -> None:
        playback = self.session.playback
        if playback is not None and playback.player.ran_out:
            self.run_worker(self._go_on, exclusive=True, group="travel")
        self.news()

    def _moved(self) -> None:
        self._draw_transport()
        self._tick()
        self.draw()

    def _draw_transport(self) -> None:
        playback = self.session.playback
        line = self.query_one("#transport", TransportLine)
        was_there = line.display
        line.update(playback.player if playback else None, playback.problem if playback else "")
        if line.display != was_there:
            self.rearrange()
