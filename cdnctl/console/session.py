"""The console's line to an agent: frames in, commands out, and what to do when it breaks.

`Feed` is all the console wants of a connection (`cdnctl.agent.client.AsyncClient` is one). A session
keeps one open: when it is lost the display stays, and it tries again, less and less often.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from cdnctl.console.format import clean
from cdnctl.console.history import History
from cdnctl.console.playback import NOTHING_TO_CHANGE, Playback, ReplayFeed
from cdnctl.errors import AgentUnreachable, CdnctlError, RecordingError
from cdnctl.model import FRAME_INTERVAL_S, AnyCommand, Frame, GetHistory, Outcome
from cdnctl.recording.past import PastTape

STALE_S = 4 * FRAME_INTERVAL_S
"""Without a new frame for so long the picture is called stale."""
FIRST_RETRY_S = 0.25
PAST_THE_AGENT = frozenset({"disarm", "arm", "bypass", "detach"})
"""What the command line does by itself when no agent answers."""
LAST_RETRY_S = 5.0
NOW_WITHIN = 4
"""Frames that the past may be behind and still be as good as now."""
PATIENCE_S = 5.0
"""How long a console that never saw an agent goes on looking for one."""


class Feed(Protocol):
    """One connection to an agent. Everything may raise CdnctlError."""

    edge: str

    @property
    def role(self) -> str: ...

    async def connect(self) -> None: ...

    def frames(self) -> AsyncIterator[Frame]: ...

    async def request(self, command: AnyCommand) -> Outcome: ...

    async def close(self) -> None: ...


class Session:
    """Frames into `history`, commands to the agent, over one feed after another."""

    def __init__(self, connect: Callable[[], Feed], *, read_only: bool = False) -> None:
        """`connect` makes a feed that is not yet connected."""
        self.live = History()
        self.playback: Playback | None = None
        """What is on the screens instead of what comes in: a recording, or the past."""
        self.edge = ""
        self.lost = "connecting"
        """Why there is no connection; empty while there is one."""
        self.failure: CdnctlError | None = None
        """Why a session that never came to be was given up."""
        self.received_at = time.monotonic()
        """When the last frame came in."""
        self._connect = connect
        self._feed: Feed | None = None
        self._read_only = read_only
        self._role = ""

    @property
    def history(self) -> History:
        """What is on the screens, and what led to it."""
        return self.playback.history if self.playback else self.live

    @property
    def is_replay(self) -> bool:
        """Whether there is no agent, but a recording."""
        return self._role == "replay"

    @property
    def read_only(self) -> str:
        """Why nothing may be changed from here; empty when it may."""
        if self.is_replay:
            return NOTHING_TO_CHANGE
        if self._read_only:
            return "this console was started with --read-only"
        if self._role == "view":
            return "this user may watch the edge, not change it (root and group cdnctl may)"
        return ""

    @property
    def silent_s(self) -> float:
        """Seconds since the last frame came in; 0 while something else is on the screens."""
        return 0.0 if self.playback else time.monotonic() - self.received_at

    async def run(self, on_news: Callable[[], None]) -> None:
        """Collect until cancelled; `on_news` is called after each frame and each change of the line.

        Returns only when there never was an agent within `PATIENCE_S`, or none may be reached
        (`failure` says why).
        """
        started, retry_s = time.monotonic(), FIRST_RETRY_S
        while True:
            feed = self._connect()
            try:
                await feed.connect()
                self._feed, self.edge, self._role = feed, feed.edge, feed.role
                self.lost, retry_s = "", FIRST_RETRY_S
                if isinstance(feed, ReplayFeed):
                    self.playback = feed.playback
                async for frame in feed.frames():
                    if self.is_replay or self.live.add(frame):
                        self.received_at = time.monotonic()
                        on_news()
                error: CdnctlError = AgentUnreachable("the agent hung up")
            except CdnctlError as reason:
                error = reason
            finally:
                self._feed = None
                await feed.close()
            self.lost = clean(error.message)
            temporary = isinstance(error, AgentUnreachable) and time.monotonic() - started < PATIENCE_S
            if not self._role and not temporary:
                self.failure = error
                return
            on_news()
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, LAST_RETRY_S)

    # --- the past -----------------------------------------------------------------------------------

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
        playback.player.reindex()
        playback.player.playing, playback.player.ran_out = True, False
        playback.moved()

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

    async def request(self, command: AnyCommand) -> Outcome:
        """Send a command; what goes wrong on the way comes back as a refusal."""
        feed = self._feed
        if feed is None:
            verb = command.__struct_config__.tag
            past = (
                f"; it needs no agent: `cdnctl {verb}` in a shell, as root" if verb in PAST_THE_AGENT else ""
            )
            return Outcome(ok=False, text=f"no connection to the agent: {self.lost}{past}")
        try:
            return await feed.request(command)
        except CdnctlError as error:
            return Outcome(ok=False, text=f"no answer, so it may or may not have been done: {error.message}")
