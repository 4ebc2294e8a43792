"""All clients of one edge: the frame clock, the commands, and what is kept of the past.

Everything runs in one thread: the engine is asked for a frame every `FRAME_INTERVAL_S` and for each
command in turn, so neither needs a lock. A frame is encoded once and the same bytes go to everybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Mapping
from typing import Protocol

import msgspec

from cdnctl.agent import logs, noting, peer, protocol
from cdnctl.agent.exporter import Exporter
from cdnctl.agent.limits import ClientRate, Rates
from cdnctl.agent.outcomes import Key, Outcomes
from cdnctl.agent.protocol import Role
from cdnctl.agent.recorder import Recorder
from cdnctl.agent.service import Manager
from cdnctl.agent.session import Session
from cdnctl.errors import RecordingError
from cdnctl.metrics.times import Times
from cdnctl.model import (
    FRAME_INTERVAL_S,
    FRAMES_KEPT,
    Actor,
    AnyCommand,
    AnyQuery,
    Change,
    Diff,
    Frame,
    GetFrame,
    GetHistory,
    GetMetrics,
    Lasting,
    Mark,
    Note,
    Outcome,
    PacketFilter,
    Record,
    Reload,
    Sampled,
    Severity,
    Stop,
    StopRecording,
    Watcher,
    Who,
)
from cdnctl.recording.past import Past

MAX_CLIENTS = 64
MAX_VIEWERS = 48
"""Seats that clients of the view socket may take: watchers never lock the operators out."""
MAX_WATCHES = 8
"""Clients that may watch packets at the same time: each costs a look at every sample."""
LOOK_S = 0.1
"""So often the engine looks out for what cannot wait for the next frame."""
FAREWELL_S = 0.2
"""How long a client that is turned away may take to send its hello."""
OUTSIDE_AGAIN_S = 5.0
TERMS_LIMIT = 64
"""Conditions in one filter."""

AGENT = Actor(user="the agent", uid=0, pid=os.getpid(), client="agent", role="operate")

log = logging.getLogger("cdnctl.agent")


class Engine(Protocol):
    """What the server needs of `cdnctl.engine.engine.Engine`."""

    def frame(self) -> Frame: ...

    def look(self) -> None: ...

    def execute(self, command: AnyCommand, actor: Actor) -> Outcome: ...

    async def reload(self, command: Lasting, actor: Actor) -> Outcome: ...

    async def diff(self, command: Diff) -> Outcome: ...

    def sampled(self, wanted: PacketFilter) -> Sampled: ...

    def times(self) -> dict[str, Times]: ...

    def metrics_listen(self) -> tuple[str, int] | None: ...

    async def look_outside(self) -> None: ...


class Server:
    """Serves `engine` on listening sockets until stopped."""

    def __init__(
        self, engine: Engine, edge: str, *, gate: peer.Gate | None = None, manager: Manager | None = None
    ) -> None:
        self.edge = edge
        self.instance = os.urandom(8).hex()
        """Of this server alone."""
        self.detach_wanted = False
        """True once a `Stop` asked to detach."""
        self._engine = engine
        self._sessions: dict[Session, asyncio.Task[None]] = {}
        self._sent: deque[bytes] = deque(maxlen=FRAMES_KEPT)
        """The last frames as they were sent, for clients that come: `_past` would have to unpack them."""
        self._past = Past()
        self._recorder = Recorder(edge)
        self._stopping = asyncio.Event()
        self._gate = gate or peer.Gate()
        self._manager = manager or Manager()
        self._rates = Rates()
        self._outcomes = Outcomes()
        self._reloads: set[asyncio.Task[Outcome]] = set()
        self._one_diff = asyncio.Lock()
        self._frame_trouble = ""
        self._exporter = Exporter(self.metrics)
        self._newest: Frame | None = None
        self._page: asyncio.Task[tuple[str, bytes]] | None = None
        """For Prometheus, of the newest frame, once somebody has asked."""
        self._is_stale = False
        """Something was changed since the newest frame."""

    async def serve(self, sockets: dict[Role, socket.socket]) -> None:
        """Take clients on `sockets` and a frame every tick; returns after `stop`, all clients told."""
        listeners = [await self._listen(sock, role) for role, sock in sockets.items()]
        clock = asyncio.create_task(self._clock())
        outside = asyncio.create_task(self._look_outside())
        self._exporter.follow(self._engine.metrics_listen())
        try:
            await self._stopping.wait()
        finally:
            self._exporter.close()
            for listener in listeners:
                listener.close()
            tasks = [clock, outside, *self._sessions.values(), *self._reloads]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._recorder.close()

    def stop(self) -> None:
        """End `serve`; safe to call again."""
        self._stopping.set()

    def reload(self, actor: Actor) -> None:
        """Have the engine reload, for somebody who waits for no answer."""
        self._start_reload(Reload(), actor).add_done_callback(noting.log_warnings)

    # --- what sessions ask for --------------------------------------------------------------------

    async def change(self, request: protocol.Request, session: str, actor: Actor) -> Outcome | None:
        """Carry it out, the first time; after that answer what became of it then. None: not known any more.

        Only what puts a configuration into force gives way to frames and others' commands before it is done,
        and goes on when its client has gone.
        """
        command, key = request.command, Key(actor.uid, session, request.id)
        first = self._outcomes.find(key)
        if first is None and request.again and not self._outcomes.is_whole:
            return None
        if first is None and (refusal := noting.refusal(command, actor)):
            # Not kept: it may be long, and asked again it is refused again.
            return noting.noted(command, actor, Outcome(ok=False, text=refusal))
        if first is None and isinstance(command, Lasting):
            first = self._outcomes.keep(key, command, self._start_reload(command, actor))
        elif first is None:
            first = self._outcomes.keep(key, command, self.execute(command, actor))
        elif not first.is_of(command):
            return Outcome(ok=False, text=f"request {request.id} of this session was another command before")
        return await first.wait()

    async def query(self, query: AnyQuery, actor: Actor, rate: ClientRate) -> Outcome:
        """Answer a look at the edge; its client owes the time that it took."""
        if isinstance(query, GetMetrics):  # made once for everybody, and in a thread
            found = await self.metrics()
            text = "" if found else "no frame has been taken yet; ask again in a second"
            return Outcome(ok=found is not None, text=text, metrics=found[1].decode() if found else None)
        if isinstance(query, Diff):
            return await self._diff(query, actor)
        began_s = time.monotonic()
        try:
            return self._look(query, actor)
        finally:
            rate.spent(time.monotonic() - began_s)

    async def _diff(self, query: Diff, actor: Actor) -> Outcome:
        """One at a time: each has a thread, and a copy of the list."""
        if refusal := noting.refusal(query, actor):
            return Outcome(ok=False, text=refusal)
        async with self._one_diff:
            try:
                return await self._engine.diff(query)
            except Exception as error:
                return noting.failure(error, query, actor)

    def _look(self, query: AnyQuery, actor: Actor) -> Outcome:
        if isinstance(query, GetFrame):
            if query.seq is None and self._is_stale:
                self._take()  # who has just changed something asks what it did
            return self._find_frame(query.seq)
        if isinstance(query, GetHistory):
            return Outcome(ok=True, text="", history=self._past.part(query.after_seq))
        if isinstance(query, Who):
            watchers = self._watchers()
            return Outcome(ok=True, text=f"{len(watchers)} connected", watchers=watchers)
        return self.execute(query, actor)

    def execute(self, command: AnyCommand, actor: Actor) -> Outcome:
        """Have the engine do it; never raises: trouble becomes an outcome that says so."""
        if refusal := noting.refusal(command, actor):
            return noting.noted(command, actor, Outcome(ok=False, text=refusal))
        try:
            outcome = self._do(command, actor)
        except Exception as error:
            outcome = noting.failure(error, command, actor)
        self._is_stale |= isinstance(command, Change) and not command.dry_run
        if isinstance(command, Stop) and outcome.ok and not command.dry_run:
            self.detach_wanted = command.detach
            # Not at once: the answer has to reach its client first.
            asyncio.get_running_loop().call_soon(self.stop)
        return noting.noted(command, actor, outcome)

    def _do(self, command: AnyCommand, actor: Actor) -> Outcome:
        if isinstance(command, Record | StopRecording):
            outcome = (
                self._recorder.start(command, actor)
                if isinstance(command, Record)
                else self._recorder.stop(dry_run=command.dry_run)
            )
            if not command.dry_run:
                self._tell(f"{actor.user} {outcome.text}", actor)
                outcome = noting.journaled(self.edge, command, actor, outcome)
            return outcome
        if isinstance(command, Mark) and command.text.strip():  # the engine refuses one without
            command = msgspec.structs.replace(command, text=f"{actor.user}: {command.text}")
        return self._engine.execute(command, actor)

    def _tell(self, text: str, actor: Actor, severity: Severity = "info") -> None:
        """An event in the next frame."""
        self._engine.execute(Note(text=text, severity=severity), actor)

    def _start_reload(self, command: Lasting, actor: Actor) -> asyncio.Task[Outcome]:
        task = asyncio.get_running_loop().create_task(self._reload(command, actor))
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)
        return task

    async def _reload(self, command: Lasting, actor: Actor) -> Outcome:
        if refusal := noting.refusal(command, actor):
            return noting.noted(command, actor, Outcome(ok=False, text=refusal))
        if not command.dry_run:
            self._manager.reloading()
        try:
            outcome = await self._engine.reload(command, actor)
            self._exporter.follow(self._engine.metrics_listen())
        except Exception as error:
            outcome = noting.failure(error, command, actor)
        if not command.dry_run:
            self._manager.ready()
            self._is_stale = True
        return noting.noted(command, actor, outcome)

    async def metrics(self) -> tuple[str, bytes] | None:
        """The page for Prometheus: content type and text; None before the first frame."""
        if self._newest is None:
            return None
        if self._page is None:
            making = asyncio.to_thread(_page, self._newest, self._engine.times())
            self._page = asyncio.create_task(making)
        return await asyncio.shield(self._page)  # others may wait for it, too

    def past_frames(self, count: int) -> list[bytes]:
        """The last `count` frames as sent, the oldest first."""
        return list(self._sent)[-count:] if count > 0 else []

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
            try:
                who = peer.credentials(writer.get_extra_info("socket"))
            except OSError:  # it has gone already
                writer.close()
                return
            if refusal := self._turned_away(who, role):
                await _turn_away(reader, writer, refusal)
                return
            session = Session(reader, writer, self, role, who, self._rates.client(role, who.uid))
            task = asyncio.current_task()
            assert task is not None
            self._sessions[session] = task
            try:
                await session.run()
            finally:
                del self._sessions[session]

        return await asyncio.start_unix_server(connected, sock=sock)

    def _turned_away(self, who: peer.Credentials, role: Role) -> str:
        """Why a client gets no session; empty when it does."""
        why = text = ""
        if not self._rates.connects(role, who.uid):
            why, text = "rate", f"too many connections of {who.user} in a short time; try again in a second"
        elif text := self._gate.refusal(who, role, self.edge):
            why = "group"
        elif self._is_full(role):
            why = "seats"
            text = f"all {MAX_CLIENTS} seats are taken; `cdnctl who` lists them: close one and try again"
        if text:
            said = logs.fields(
                few=f"{role} {why}", user=who.user, uid=who.uid, pid=who.pid, role=role, refused=why
            )
            log.warning("a client at the %s socket was refused: %s", role, text, extra=said)
        return text

    def _is_full(self, role: Role) -> bool:
        viewers = sum(session.role == "view" for session in self._sessions)
        return len(self._sessions) >= MAX_CLIENTS or (role == "view" and viewers >= MAX_VIEWERS)

    async def _clock(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._take()
            due = max(due + FRAME_INTERVAL_S, loop.time())
            while (left_s := due - loop.time()) > LOOK_S:
                await asyncio.sleep(LOOK_S)
                self._look_out()
            await asyncio.sleep(max(0.0, left_s))

    def _look_out(self) -> None:
        """Between two frames; a failure is told once, as one of those is."""
        try:
            self._engine.look()
        except Exception as error:
            self._say_trouble("no look", error)

    def _say_trouble(self, what: str, error: Exception) -> None:
        if (trouble := f"{what}: {type(error).__name__}: {error}") != self._frame_trouble:
            self._frame_trouble = trouble
            log.exception("%s", trouble)

    async def _look_outside(self) -> None:
        """What the engine looks for beside the frames: nobody waits for it, and it ends nothing."""
        while True:
            try:
                await self._engine.look_outside()
            except Exception:
                log.exception("probes, names and feeds are begun again")
            await asyncio.sleep(OUTSIDE_AGAIN_S)

    def _take(self) -> None:
        """A frame, and the packets of its time."""
        self._is_stale = False
        self._tick()
        self._show_packets()

    def _tick(self) -> None:
        """Take a frame and offer it; a failure is logged once and the last frame stays the newest."""
        try:
            frame = msgspec.structs.replace(
                self._engine.frame(), watchers=self._watchers(), recording=self._recorder.picture
            )
            message = protocol.encode(protocol.FrameMessage(frame=frame))
        except Exception as error:
            self._say_trouble("no frame", error)
            return
        self._frame_trouble = ""
        self._newest, self._page = frame, None
        self._manager.frame(frame)
        for event in frame.events:
            noting.log_event(event)
        if len(message) > protocol.MAX_DOWN:
            log.error("frame %d has %d bytes, too many to send", frame.seq, len(message))
            return
        self._sent.append(message)
        self._keep(frame)
        for session in self._sessions:
            if session.wants_frames:
                session.offer(message)

    def _keep(self, frame: Frame) -> None:
        """For those who look back, and in the recording if one is made."""
        try:
            self._past.add(frame)
        except RecordingError as error:
            log.error("not kept: %s", error.message)
        if told := self._recorder.take(frame):
            self._tell(told.text, AGENT, told.severity)

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
        newest = self._past.newest
        if newest is None:
            return Outcome(ok=False, text="no frame has been taken yet; ask again in a second")
        if found := newest if seq is None else self._past.find(seq):
            return Outcome(ok=True, text=f"frame {found.seq}", frame=found)
        first, last = self._past.seqs
        return Outcome(ok=False, text=f"frame {seq} is not kept; {first} to {last} are")


async def _turn_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str) -> None:
    """Say why, and hang up once the client has sent its hello: one that still writes would not read it."""
    with contextlib.suppress(OSError):  # a time-out is one, too
        writer.write(protocol.encode(protocol.Refused(text=text)))
        await asyncio.wait_for(reader.read(protocol.MAX_UP), FAREWELL_S)
    writer.close()


def _page(frame: Frame, times: Mapping[str, Times]) -> tuple[str, bytes]:
    """Prometheus' library is loaded when somebody first asks."""
    from cdnctl.metrics.text import CONTENT_TYPE, text

    return CONTENT_TYPE, text(frame, times)
