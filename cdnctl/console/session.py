"""The console's line to an agent: frames in, commands out, and what to do when it breaks.

`Feed` is all the console wants of a connection (`cdnctl.agent.client.AsyncClient` is one). A session
keeps one open: when it is lost the display stays, and it tries again, less and less often.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from cdnctl.console import patience
from cdnctl.console.answers import NOTHING_TO_CHANGE, OF_THE_PAST, answer
from cdnctl.console.backwards import Backwards
from cdnctl.console.format import clean
from cdnctl.console.history import History
from cdnctl.console.playback import ReplayFeed
from cdnctl.errors import AgentUnreachable, CdnctlError
from cdnctl.model import (
    FRAME_INTERVAL_S,
    AnyCommand,
    Frame,
    Outcome,
    PacketFilter,
    Sampled,
    SampledPacket,
)

STALE_S = 4 * FRAME_INTERVAL_S
"""Without a new frame for so long the picture is called stale."""
FIRST_RETRY_S = 0.25
PAST_THE_AGENT = frozenset({"disarm", "arm", "bypass", "detach"})
"""What the command line does by itself when no agent answers."""
LAST_RETRY_S = 5.0
PACKETS_KEPT = 500
WATCH_REFUSED_S = 2.0
"""An agent that hangs up so soon after it was asked for packets does not want to show any."""
PATIENCE_S = 5.0
"""How long a console that never saw an agent goes on looking for one."""


class Feed(Protocol):
    """One connection to an agent. Everything may raise CdnctlError."""

    edge: str

    @property
    def role(self) -> str: ...

    async def connect(self) -> None: ...

    def frames(self) -> AsyncIterator[Frame]: ...

    async def request(self, command: AnyCommand, timeout_s: float = patience.QUICK_S) -> Outcome: ...

    def watch(self, wanted: PacketFilter | None) -> None:
        """Have sampled packets that match, or none, from now on."""

    def take_sampled(self) -> list[Sampled]:
        """Those that came since the last time."""

    async def close(self) -> None: ...


class Session(Backwards):
    """Frames into `history`, commands to the agent, over one feed after another."""

    def __init__(
        self,
        connect: Callable[[], Feed],
        *,
        read_only: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`connect` makes a feed that is not yet connected; `clock` gives seconds that only grow."""
        self.clock = clock
        self.live = History()
        self.edge = ""
        self.lost = "connecting"
        """Why there is no connection; empty while there is one."""
        self.failure: CdnctlError | None = None
        """Why a session that never came to be was given up."""
        self.received_at = self.clock()
        """When the last frame came in."""
        self._connect = connect
        self.packets: deque[tuple[int, int, SampledPacket]] = deque(maxlen=PACKETS_KEPT)
        """Sampled packets that were watched, the oldest first: a number, wall time in ns, the packet."""
        self.missed = 0
        """Packets that matched, but were too many or too quick."""
        self.no_packets = ""
        """Why the agent would not show packets; empty when it does, or was not asked."""
        self._watched: PacketFilter | None = None
        self._watched_at = 0.0
        self._packets_seen = 0
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
    def is_recorded(self) -> bool:
        """Whether frames are all there is: a recording that is played, also into a cast."""
        return self._role in ("replay", "cast")

    @property
    def from_frames(self) -> bool:
        """Whether lists are as of the frame that is on, and other ones with another frame."""
        return self.is_recorded or self.playback is not None

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
    def is_at_agent(self) -> bool:
        """Whether the screens show an agent's edge as it is now: no recording, nor what was minutes ago."""
        return self._feed is not None and not self.lost and not self.from_frames

    @property
    def silent_s(self) -> float:
        """Seconds since the last frame came in; 0 where none comes by itself: in a recording, or its cast."""
        return 0.0 if self.playback or self._role == "cast" else self.clock() - self.received_at

    async def run(self, on_news: Callable[[], None]) -> None:
        """Collect until cancelled; `on_news` is called after each frame and each change of the line.

        Returns only when there never was an agent within `PATIENCE_S`, or none may be reached
        (`failure` says why).
        """
        started, retry_s = self.clock(), FIRST_RETRY_S
        while True:
            feed = self._connect()
            try:
                await feed.connect()
                self._feed, self.edge, self._role = feed, feed.edge, feed.role
                self.lost, retry_s = "", FIRST_RETRY_S
                if isinstance(feed, ReplayFeed):
                    self.playback = feed.playback
                if self._watched is not None:
                    self._watched_at = self.clock()
                    feed.watch(self._watched)
                async for frame in feed.frames():
                    self._take(feed.take_sampled())
                    if self.is_replay or self.live.add(frame):
                        self.received_at = self.clock()
                        on_news()
                error: CdnctlError = AgentUnreachable("the agent hung up")
            except CdnctlError as reason:
                error = reason
            finally:
                self._feed = None
                await feed.close()
            self.lost = clean(error.message)
            if self._watched is not None and self.clock() - self._watched_at < WATCH_REFUSED_S:
                self._watched, self.no_packets = None, self.lost  # asked again it would hang up again
            temporary = isinstance(error, AgentUnreachable) and self.clock() - started < PATIENCE_S
            if not self._role and not temporary:
                self.failure = error
                return
            on_news()
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, LAST_RETRY_S)

    def watch(self, wanted: PacketFilter | None) -> None:
        """Have sampled packets that match in `packets` from now on, also over a reconnect; None: no more."""
        if wanted == self._watched:
            return
        self._watched, self._watched_at, self.no_packets = wanted, self.clock(), ""
        self.packets.clear()
        self.missed = 0
        if self._feed is not None:
            self._feed.watch(wanted)

    def _take(self, sampled: Sequence[Sampled]) -> None:
        if self._watched is None:
            return  # what was on its way
        for each in sampled:
            self.missed += each.missed
            for packet in each.packets:
                self._packets_seen += 1
                self.packets.append((self._packets_seen, each.at_ns, packet))

    async def request(self, command: AnyCommand) -> Outcome:
        """Send a command; what goes wrong on the way comes back as a refusal.

        What the agent turned away unseen, since this console asked for much at once, is sent again when it
        may be. In the past, lists are those of the frame that is on.
        """
        if self.playback is not None and type(command) in OF_THE_PAST:
            return answer(self.playback.history, command)
        feed = self._feed
        if feed is None:
            verb = command.__struct_config__.tag
            past = (
                f"; it needs no agent: `cdnctl {verb}` in a shell, as root" if verb in PAST_THE_AGENT else ""
            )
            return Outcome(ok=False, text=f"no connection to the agent: {self.lost}{past}")
        try:
            outcome = await feed.request(command, patience.timeout_s(command))
            for _ in range(patience.MOST_TURNS):
                if not (wait_s := patience.wait_s(outcome)):
                    break
                await patience.pause(wait_s)
                outcome = await feed.request(command, patience.timeout_s(command))
            return outcome
        except CdnctlError as error:
            return Outcome(ok=False, text=f"no answer, so it may or may not have been done: {error.message}")
