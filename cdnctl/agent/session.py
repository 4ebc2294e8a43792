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
import socket
import time
from collections import deque
from typing import Protocol

import msgspec

from cdnctl.agent import peer, protocol
from cdnctl.agent.protocol import Role
from cdnctl.model import Actor, AnyCommand, Outcome, PacketFilter, Sampled, Watcher

HELLO_TIMEOUT_S = 5.0
FAREWELL_TIMEOUT_S = 1.0
QUEUE_LIMIT = 1 << 20
"""Bytes of unsent answers above which no further request of this client is read."""
SEND_BUFFER = 64 << 10
"""Bytes the kernel may hold for a slow reader: little, for they are old frames."""

BLOCKS_IN_ANSWER = 20_000
"""What a list of blocks is cut to when it does not fit into one message."""

log = logging.getLogger("cdnctl.agent")


class Host(Protocol):
    """What a session needs from its server."""

    edge: str

    async def execute(self, command: AnyCommand, actor: Actor) -> Outcome: ...

    def past_frames(self, count: int) -> list[bytes]: ...

    def check_watch(self, wanted: PacketFilter, *, again: bool) -> str: ...


class Session:
    """A client from its connection to its end; `run` never raises for what the client does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: Host, role: Role):
        self._reader = reader
        self._writer = writer
        self._host = host
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
                log.warning("%s: %s", self._name(), last_word)
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

    async def _receive(self) -> protocol.Up:
        header = await self._reader.readexactly(protocol.HEADER)
        length = protocol.body_length(header, protocol.MAX_UP)
        return protocol.decode_up(await self._reader.readexactly(length))

    async def _greet(self) -> Actor:
        try:
            hello = await asyncio.wait_for(self._receive(), HELLO_TIMEOUT_S)
        except TimeoutError:
            raise protocol.ProtocolError(f"no hello within {HELLO_TIMEOUT_S:.0f} s") from None
        if not isinstance(hello, protocol.ClientHello):
            raise protocol.ProtocolError("the first message must be a hello")
        if hello.version != protocol.VERSION:
            raise protocol.ProtocolError(
                f"this agent speaks protocol {protocol.VERSION}, the client {hello.version}; "
                "restart the agent after an upgrade (the data path stays in force meanwhile)"
            )
        actor = self.actor = peer.actor(self._socket, hello.client, self.role)
        self._post(protocol.encode(protocol.ServerHello(edge=self._host.edge, role=self.role)))
        if hello.frames:
            for frame in self._host.past_frames(max(1, hello.history)):
                self._post(frame)
            self.wants_frames = True
        return actor

    async def _serve(self) -> None:
        actor = await self._greet()
        while True:
            request = await self._receive()
            if isinstance(request, protocol.Watch):
                self._watch(request)
                continue
            if not isinstance(request, protocol.Request):
                raise protocol.ProtocolError("a second hello")
            self._post(_answer(request.id, await self._host.execute(request.command, actor)))
            await self._has_room.wait()
            await asyncio.sleep(0)  # one busy client must not keep the others waiting

    def _watch(self, request: protocol.Watch) -> None:
        if request.filter is None:
            self.wants_packets = None
            return
        if refusal := self._host.check_watch(request.filter, again=self.wants_packets is not None):
            raise protocol.ProtocolError(refusal)
        self.wants_packets = request.filter

    def _name(self) -> str:
        if self.actor is None:
            return "a client before its hello"
        return f"{self.actor.client} of {self.actor.user} (pid {self.actor.pid})"


def _answer(number: int, outcome: Outcome) -> bytes:
    message = protocol.encode(protocol.Answer(id=number, outcome=outcome))
    if len(message) <= protocol.MAX_DOWN:
        return message
    kept = (outcome.blocks or [])[:BLOCKS_IN_ANSWER]
    short = f"too long for one answer: the first {len(kept)} of {len(outcome.blocks or [])} blocks"
    outcome = msgspec.structs.replace(outcome, blocks=kept, warnings=[*outcome.warnings, short])
    return protocol.encode(protocol.Answer(id=number, outcome=outcome))
