"""All clients of one edge: the frame clock, the commands, and what is kept of the past.

Everything runs in one thread: the engine is asked for a frame every `FRAME_INTERVAL_S` and for each
command in turn, so neither needs a lock. A frame is encoded once and the same bytes go to everybody.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from typing import Protocol

import msgspec

from cdnctl.agent import protocol
from cdnctl.agent.protocol import Role
from cdnctl.agent.session import Session
from cdnctl.errors import CdnctlError
from cdnctl.model import (
    FRAME_INTERVAL_S,
    FRAMES_KEPT,
    Actor,
    AnyCommand,
    Change,
    Event,
    Frame,
    GetFrame,
    Outcome,
    PacketFilter,
    Reload,
    Revert,
    Sampled,
    Stop,
    Undo,
    Watcher,
    Who,
)

MAX_CLIENTS = 64
MAX_VIEWERS = 48
"""Seats that clients of the view socket may take: watchers never lock the operators out."""
TEXT_LIMIT = 300
"""Characters of any text in a command (a reason, a note)."""
MAX_WATCHES = 8
"""Clients that may watch packets at the same time: each costs a look at every sample."""
TERMS_LIMIT = 64
"""Conditions in one filter."""
NAMES_LIMIT = 1024
"""Entries of any mapping in a command (weights by CDN)."""

_LEVELS = {"info": logging.INFO, "notice": logging.INFO, "warning": logging.WARNING, "alarm": logging.ERROR}

log = logging.getLogger("cdnctl.agent")


class Engine(Protocol):
    """What the server needs of `cdnctl.engine.engine.Engine`."""

    def frame(self) -> Frame: ...

    def execute(self, command: AnyCommand, actor: Actor) -> Outcome: ...

    async def reload(self, command: Reload | Revert | Undo, actor: Actor) -> Outcome: ...

    def sampled(self, wanted: PacketFilter) -> Sampled: ...


class Server:
    """Serves `engine` on listening sockets until stopped."""

    def __init__(self, engine: Engine, edge: str) -> None:
        self.edge = edge
        self.detach_wanted = False
        """True once a `Stop` asked to detach."""
        self._engine = engine
        self._sessions: dict[Session, asyncio.Task[None]] = {}
        self._past: deque[tuple[int, bytes]] = deque(maxlen=FRAMES_KEPT)
        self._stopping = asyncio.Event()
        self._reloads: set[asyncio.Task[None]] = set()
        self._frame_trouble = ""
        self._is_stale = False
        """Something was changed since the newest frame."""

    async def serve(self, sockets: dict[Role, socket.socket]) -> None:
        """Take clients on `sockets` and a frame every tick; returns after `stop`, all clients told."""
        listeners = [await self._listen(sock, role) for role, sock in sockets.items()]
        clock = asyncio.create_task(self._clock())
        try:
            await self._stopping.wait()
        finally:
            for listener in listeners:
                listener.close()
            tasks = [clock, *self._sessions.values(), *self._reloads]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        """End `serve`; safe to call again."""
        self._stopping.set()

    def reload(self, actor: Actor) -> None:
        """Have the engine reload, for somebody who waits for no answer."""

        async def run() -> None:
            outcome = await self.execute(Reload(), actor)
            for line in (outcome.text, *outcome.warnings):
                log.log(logging.INFO if outcome.ok else logging.ERROR, "%s", line)

        task = asyncio.get_running_loop().create_task(run())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    # --- what sessions ask for --------------------------------------------------------------------

    async def execute(self, command: AnyCommand, actor: Actor) -> Outcome:
        """Answer one command; never raises: trouble becomes an outcome that says so.

        Only what puts a configuration into force gives way to frames and others' commands before it is done.
        """
        if refusal := _refusal(command, actor):
            return Outcome(ok=False, text=refusal)
        if isinstance(command, GetFrame):
            if command.seq is None and self._is_stale:
                self._take()  # who has just changed something asks what it did
            return self._find_frame(command.seq)
        if isinstance(command, Who):
            watchers = self._watchers()
            return Outcome(ok=True, text=f"{len(watchers)} connected", watchers=watchers)
        try:
            if isinstance(command, Reload | Revert | Undo):
                outcome = await self._engine.reload(command, actor)
            else:
                outcome = self._engine.execute(command, actor)
        except CdnctlError as error:
            return Outcome(ok=False, text=str(error), remedy=error.remedy)
        except Exception as error:
            log.exception("internal error in %s by %s", type(command).__name__, actor.user)
            text = f"internal error: {type(error).__name__}: {error}; the agent's log has the details"
            return Outcome(ok=False, text=text)
        self._is_stale |= isinstance(command, Change) and not command.dry_run
        if isinstance(command, Stop) and outcome.ok and not command.dry_run:
            self.detach_wanted = command.detach
            # Not at once: the answer has to reach its client first.
            asyncio.get_running_loop().call_soon(self.stop)
        return outcome

    def past_frames(self, count: int) -> list[bytes]:
        """The last `count` frames as sent, the oldest first."""
        return [message for _seq, message in list(self._past)[-count:]] if count > 0 else []

    def check_watch(self, wanted: PacketFilter, *, again: bool) -> str:
        """Why a client may not watch packets by this filter now, or nothing; `again`: it does already."""
        if not again and sum(session.wants_packets is not None for session in self._sessions) >= MAX_WATCHES:
            return f"{MAX_WATCHES} clients watch packets already; `cdnctl who` lists them"
        if sum(map(len, wanted)) > TERMS_LIMIT:
            return f"a filter of more than {TERMS_LIMIT} conditions"
        try:
            self._engine.sampled(wanted)
        except ValueError as error:
            return f"a filter that means nothing: {error}"
        return ""

    # --- inside -----------------------------------------------------------------------------------

    async def _listen(self, sock: socket.socket, role: Role) -> asyncio.AbstractServer:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._is_full(role):
                await _turn_away(writer)
                return
            session = Session(reader, writer, self, role)
            task = asyncio.current_task()
            assert task is not None
            self._sessions[session] = task
            try:
                await session.run()
            finally:
                del self._sessions[session]

        return await asyncio.start_unix_server(connected, sock=sock)

    def _is_full(self, role: Role) -> bool:
        viewers = sum(session.role == "view" for session in self._sessions)
        return len(self._sessions) >= MAX_CLIENTS or (role == "view" and viewers >= MAX_VIEWERS)

    async def _clock(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._take()
            due = max(due + FRAME_INTERVAL_S, loop.time())
            await asyncio.sleep(due - loop.time())

    def _take(self) -> None:
        """A frame, and the packets of its time."""
        self._is_stale = False
        self._tick()
        self._show_packets()

    def _tick(self) -> None:
        """Take a frame and offer it; a failure is logged once and the last frame stays the newest."""
        try:
            frame = msgspec.structs.replace(self._engine.frame(), watchers=self._watchers())
            message = protocol.encode(protocol.FrameMessage(frame=frame))
        except Exception as error:
            if (trouble := f"{type(error).__name__}: {error}") != self._frame_trouble:
                self._frame_trouble = trouble
                log.exception("no frame: %s", trouble)
            return
        self._frame_trouble = ""
        for event in frame.events:
            _log_event(event)
        if len(message) > protocol.MAX_DOWN:
            log.error("frame %d has %d bytes, too many to send", frame.seq, len(message))
            return
        self._past.append((frame.seq, message))
        for session in self._sessions:
            if session.wants_frames:
                session.offer(message)

    def _show_packets(self) -> None:
        """What the frame's time brought, to those who watch it; nobody else pays."""
        for session in self._sessions:
            if session.wants_packets is None:
                continue
            try:
                session.offer_packets(self._engine.sampled(session.wants_packets))
            except Exception:  # the clock must go on
                log.exception("no packets for a watcher, who gets none any more")
                session.wants_packets = None

    def _watchers(self) -> list[Watcher]:
        return [watcher for session in self._sessions if (watcher := session.watcher) is not None]

    def _find_frame(self, seq: int | None) -> Outcome:
        if not self._past:
            return Outcome(ok=False, text="no frame has been taken yet; ask again in a second")
        wanted = self._past[-1][0] if seq is None else seq
        for number, message in self._past:
            if number == wanted:
                found = protocol.decode_down(message[protocol.HEADER :])
                assert isinstance(found, protocol.FrameMessage)
                return Outcome(ok=True, text=f"frame {number}", frame=found.frame)
        oldest, newest = self._past[0][0], self._past[-1][0]
        return Outcome(ok=False, text=f"frame {wanted} is not kept; {oldest} to {newest} are")


def _refusal(command: AnyCommand, actor: Actor) -> str:
    """Why this command is not even tried, or nothing."""
    if isinstance(command, Change) and actor.role != "operate":
        return "the view socket only watches; a change needs root or a member of group cdnctl"
    for name in command.__struct_fields__:
        value = getattr(command, name)
        if isinstance(value, str) and (len(value) > TEXT_LIMIT or not value.isprintable()):
            return f"{name}: at most {TEXT_LIMIT} printable characters, on one line"
        if isinstance(value, dict) and len(value) > NAMES_LIMIT:
            return f"{name}: at most {NAMES_LIMIT} entries"
    return ""


async def _turn_away(writer: asyncio.StreamWriter) -> None:
    text = f"all {MAX_CLIENTS} seats are taken; `cdnctl who` lists them: close one and try again"
    writer.write(protocol.encode(protocol.Refused(text=text)))
    writer.close()


def _log_event(event: Event) -> None:
    where = f" [{event.cdn}]" if event.cdn else ""
    log.log(_LEVELS[event.severity], "%s%s: %s", event.kind, where, event.text)
