"""One connected client of the agent.

Two tasks: one reads requests, one writes. What must arrive (hello, history, answers) waits in a
queue; a frame waits in a single place where the next one replaces it, and sampled packets in another,
which those that come meanwhile are not put into, but counted. So a client that stops reading (a stalled
SSH line under a console) costs the agent one of each and loses no answer, and when its queue grows the
agent stops reading its requests.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import deque
from typing import Protocol

import msgspec

from cdnctl.agent import logs, peer, protocol
from cdnctl.agent.limits import ClientRate
from cdnctl.agent.noting import ONLY_WATCHES
from cdnctl.agent.protocol import Role
from cdnctl.model import Actor, AnyQuery, Outcome, PacketFilter, Sampled, Watcher

HELLO_TIMEOUT_S = 5.0
FAREWELL_TIMEOUT_S = 1.0
QUEUE_LIMIT = 1 << 20
"""Bytes of unsent answers above which no further request of this client is read."""
SEND_BUFFER = 64 << 10
"""Bytes the kernel may hold for a slow reader: little, for they are old frames."""

_PAST_FRAME_BYTES = 256
"""What one costs its client of what it may ask: a console's whole history is 16 requests' worth."""

TOO_MANY = "too many requests from {user} at once: this one was not looked at"

log = logging.getLogger("cdnctl.agent")
log.addFilter(logs.Few())


class Host(Protocol):
    """What a session needs from its server."""

    edge: str
    instance: str

    async def change(self, request: protocol.Request, session: str, actor: Actor) -> Outcome | None: ...

    async def query(self, query: AnyQuery, actor: Actor, rate: ClientRate) -> Outcome: ...

    def past_frames(self, count: int) -> list[bytes]: ...

    def check_watch(self, wanted: PacketFilter, *, again: bool) -> str: ...


class Session:
    """A client from its connection to its end; `run` never raises for what the client does."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        host: Host,
        role: Role,
        who: peer.Credentials,
        rate: ClientRate,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host
        self._who = who
        self._rate = rate
        self._token = ""
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._frame: bytes | None = None
        self._packets: bytes | None = None
        self._missed = 0
        self._to_send = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self.role = role
        self.since_ns = time.time_ns()
        self.actor: Actor | None = None
        self.wants_frames = False
        self.wants_packets: PacketFilter | None = None
        writer.transport.set_write_buffer_limits(high=0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)

    @property
    def _socket(self) -> socket.socket:
        found: socket.socket = self._writer.get_extra_info("socket")
        return found

    @property
    def watcher(self) -> Watcher | None:
        """How `who` shows this client; None before its hello."""
        if self.actor is None:
            return None
        return Watcher(
            user=self.actor.user,
            pid=self.actor.pid,
            client=self.actor.client,
            role=self.role,
            since_ns=self.since_ns,
            uid=self.actor.uid,
        )

    async def run(self) -> None:
        """Serve until the client hangs up, breaks the protocol, or the task is cancelled."""
        last_word = ""
        writing = asyncio.create_task(self._write())
        reading = asyncio.create_task(self._serve())
        try:
            await asyncio.wait((writing, reading), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            last_word = "the agent ends; what it set in the kernel stays in force unless it was detached"
        for task in (writing, reading):
            task.cancel()
        ends = await asyncio.gather(writing, reading, return_exceptions=True)
        for end in ends:
            if isinstance(end, protocol.ProtocolError):
                last_word = f"refused: {end}"
                self._tell_refused("protocol", str(end))
            elif isinstance(end, Exception) and not isinstance(end, (OSError, EOFError)):
                log.error("%s: internal error", self._name(), exc_info=end)
        await self._hang_up(last_word)

    async def _hang_up(self, last_word: str) -> None:
        """Send what is still owed and the last word, and close; waits for no slow reader."""
        if last_word:
            self._post(protocol.encode(protocol.Refused(text=last_word)))
        try:
            self._writer.writelines(self._queue)
            await asyncio.wait_for(self._writer.drain(), FAREWELL_TIMEOUT_S)
            self._writer.close()
        except OSError:  # a time-out is one, too
            self._writer.transport.abort()

    def offer(self, frame: bytes) -> None:
        """A new frame: takes the place of one that this client has not taken yet."""
        self._frame = frame
        self._to_send.set()

    def offer_packets(self, sampled: Sampled) -> None:
        """New sampled packets; when those before are not taken yet they are only counted."""
        if self._packets is not None:
            self._missed += len(sampled.packets) + sampled.missed
            return
        sampled = msgspec.structs.replace(sampled, missed=sampled.missed + self._missed)
        self._missed = 0
        self._packets = protocol.encode(protocol.SampledMessage(sampled=sampled))
        self._to_send.set()

    def _post(self, message: bytes) -> None:
        self._queue.append(message)
        self._queued += len(message)
        if self._queued > QUEUE_LIMIT:
            self._has_room.clear()
        self._to_send.set()

    async def _write(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            while self._queue or self._frame is not None or self._packets is not None:
                await self._send_next()

    async def _send_next(self) -> None:
        if self._queue:
            message = self._queue.popleft()
            self._queued -= len(message)
            if self._queued <= QUEUE_LIMIT:
                self._has_room.set()
        elif self._frame is not None:
            message, self._frame = self._frame, None
        else:
            assert self._packets is not None
            message, self._packets = self._packets, None
        self._writer.write(message)
        await self._writer.drain()

    async def _receive(self) -> bytes:
        header = await self._reader.readexactly(protocol.HEADER)
        return await self._reader.readexactly(protocol.body_length(header, protocol.MAX_UP))

    async def _greet(self) -> Actor:
        try:
            hello = protocol.decode_hello(await asyncio.wait_for(self._receive(), HELLO_TIMEOUT_S))
        except TimeoutError:
            raise protocol.ProtocolError(f"no hello within {HELLO_TIMEOUT_S:.0f} s") from None
        actor = self.actor = peer.actor(self._who, hello.client, self.role)
        self._token = hello.session or f"{actor.pid} {os.urandom(8).hex()}"
        host = self._host
        self._post(
            protocol.encode(protocol.ServerHello(edge=host.edge, role=self.role, instance=host.instance))
        )
        if hello.frames:
            past = host.past_frames(max(1, hello.history))
            await asyncio.sleep(self._rate.wait_s(len(past) * _PAST_FRAME_BYTES))
            for frame in past:
                self._post(frame)
            self.wants_frames = True
        return actor

    async def _serve(self) -> None:
        actor = await self._greet()
        while True:
            body = await self._receive()
            await self._take(body, protocol.peek(body), actor)
            await self._has_room.wait()
            await asyncio.sleep(0)  # one busy client must not keep the others waiting

    async def _take(self, body: bytes, tag: protocol.Tag, actor: Actor) -> None:
        """One message; what may not be sent is refused before more than its tag is decoded."""
        if tag.type not in ("request", "query", "watch"):
            raise protocol.ProtocolError(f"a message of type {tag.type!r} after the hello")
        if wait_s := self._rate.wait_s(len(body)):
            text = TOO_MANY.format(user=actor.user)
            self._refuse(tag, "rate", text, f"try again in {max(wait_s, 0.1):.1f} s")
            await asyncio.sleep(wait_s)
        elif tag.type == "request" and self.role != "operate":
            self._refuse(tag, "view", ONLY_WATCHES)
        else:
            await self._answer(body, tag, actor)

    async def _answer(self, body: bytes, tag: protocol.Tag, actor: Actor) -> None:
        try:
            message = protocol.decode_up(body)
        except protocol.ProtocolError as error:
            self._refuse(tag, "unread", str(error), "client and agent may be of different versions")
            return
        if isinstance(message, protocol.Request):
            self._post(_answer(message.id, await self._host.change(message, self._token, actor)))
        elif isinstance(message, protocol.Query):
            while wait_s := self._rate.owes_s():  # nothing comes between the last look and the query
                await asyncio.sleep(wait_s)
            self._post(_answer(message.id, await self._host.query(message.query, actor, self._rate)))
        elif isinstance(message, protocol.Watch):
            self._watch(message)

    def _refuse(self, tag: protocol.Tag, why: str, text: str, remedy: str = "") -> None:
        """Say no to one message, and go on; to one that has no answer by ending the connection."""
        if tag.id is None or tag.type == "watch":
            raise protocol.ProtocolError(text)
        self._tell_refused(why, text)
        text = f"{text}\n{remedy}" if remedy else text
        self._post(_answer(tag.id, Outcome(ok=False, text=text, remedy=remedy)))

    def _tell_refused(self, why: str, text: str) -> None:
        who = self._who
        log.warning(
            "%s: refused: %s",
            self._name(),
            text,
            extra=logs.fields(
                few=f"{self.role} {why}", user=who.user, uid=who.uid, pid=who.pid, role=self.role, refused=why
            ),
        )

    def _watch(self, request: protocol.Watch) -> None:
        if request.filter is None:
            self.wants_packets = None
            return
        if refusal := self._host.check_watch(request.filter, again=self.wants_packets is not None):
            raise protocol.ProtocolError(refusal)
        self.wants_packets = request.filter

    def _name(self) -> str:
        if self.actor is None:
            return f"a client of {self._who.user} (pid {self._who.pid}) before its hello"
        return f"{self.actor.client} of {self.actor.user} (pid {self.actor.pid})"


def _answer(number: int, outcome: Outcome | None) -> bytes:
    message = protocol.encode(protocol.Answer(id=number, outcome=outcome))
    if len(message) <= protocol.MAX_DOWN or outcome is None:
        return message
    said = f"the answer has {len(message):,} bytes, too many to send"
    return protocol.encode(protocol.Answer(id=number, outcome=Outcome(ok=False, text=said)))
