"""A client for asyncio: frames as they come, commands in between. What the console uses."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

from cdnctl.agent import protocol
from cdnctl.agent.blocking import known, new_session, once_more_failed, refused, sent_again, silent
from cdnctl.agent.edge import no_agent, view_path
from cdnctl.agent.protocol import Role
from cdnctl.errors import AgentUnreachable, CdnctlError, NoAgent, NotPermitted, sudo_line
from cdnctl.model import FRAMES_KEPT, AnyCommand, Frame, Outcome, PacketFilter, Sampled

TIMEOUT_S = 10.0
_AHEAD = 1 << 20
"""Bytes that are read at once of what an agent keeps of the past."""
SAMPLED_KEPT = 8
"""Frames' worth of sampled packets that may wait."""


class AsyncClient:
    """A connection to the agent at `path`; `connect`, then `frames` in one task, `request` in any.

    Falls back to the view socket when this user may only watch (`role` tells). After the connection
    is lost make a new client; a request that was under way asks over a connection of its own what became of
    it, and only raises Uncertain when nobody can say.
    """

    def __init__(
        self,
        path: Path,
        *,
        client: str = "console",
        history: int = FRAMES_KEPT,
        frames: bool = True,
        session: str = "",
    ) -> None:
        self.path = path
        self.edge = path.stem
        self.role: Role = "operate"
        self.instance = ""
        self._hello = protocol.ClientHello(
            client=client, session=session or new_session(), frames=frames, history=history
        )
        self._next_id = 1
        self._answers: dict[int, asyncio.Future[Outcome]] = {}
        self._frames: deque[Frame] = deque(maxlen=FRAMES_KEPT)
        self._sampled: deque[Sampled] = deque(maxlen=SAMPLED_KEPT)
        self._news = asyncio.Event()
        self._end: CdnctlError | None = None
        self._reading: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def connect(self, timeout_s: float = TIMEOUT_S) -> None:
        """Connect and say hello; raises NoAgent, AgentSilent, AgentRefused or NotPermitted."""
        try:
            async with asyncio.timeout(timeout_s):
                reader, self._writer = await self._open()
                self._writer.write(protocol.encode(self._hello))
                hello = await self._receive(reader)
        except TimeoutError:
            await self.close()
            raise silent(self.path, timeout_s) from None
        except CdnctlError:
            await self.close()
            raise
        if isinstance(hello, protocol.Refused):
            await self.close()
            raise refused(self.path, hello)
        if not isinstance(hello, protocol.ServerHello):
            await self.close()
            raise CdnctlError(
                f"{self.path}: the agent did not say hello", "restart it: it may be another version"
            )
        self.edge, self.role, self.instance = hello.edge, hello.role, hello.instance
        self._reading = asyncio.create_task(self._read(reader))

    async def frames(self) -> AsyncIterator[Frame]:
        """Past frames, then each new one; raises AgentUnreachable when the agent is gone.

        A consumer that falls behind misses the oldest, never more than `FRAMES_KEPT` wait.
        """
        while True:
            while self._frames:
                yield self._frames.popleft()
            if self._end is not None:
                raise self._end
            self._news.clear()
            await self._news.wait()

    def watch(self, wanted: PacketFilter | None) -> None:
        """Have sampled packets that match from now on, or none; `take_sampled` gives them.

        A filter that means nothing ends the connection: the console makes none of what is typed.
        """
        if self._end is None and self._writer is not None:
            self._writer.write(protocol.encode(protocol.Watch(filter=wanted)))

    def take_sampled(self) -> list[Sampled]:
        """What came since the last time; a consumer that falls behind misses the oldest."""
        taken = list(self._sampled)
        self._sampled.clear()
        return taken

    async def request(self, command: AnyCommand, timeout_s: float = TIMEOUT_S) -> Outcome:
        """Send one command and wait for its answer; a refusal is an outcome, not an error."""
        if self._end is not None or self._writer is None:
            raise self._end or NoAgent("not connected")
        number, self._next_id = self._next_id, self._next_id + 1
        asked = protocol.asked(number, command)
        try:
            async with asyncio.timeout(timeout_s):
                try:
                    return await self._ask(asked)
                except _HungUp as lost:
                    return await self._ask_again(asked, lost, timeout_s)
                except NoAgent as gone:  # it said why, and not what became of this
                    raise once_more_failed(asked, gone, gone) from None
        except TimeoutError:
            raise silent(self.path, timeout_s) from None

    async def _ask(self, asked: protocol.Request | protocol.Query) -> Outcome:
        assert self._writer is not None
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._answers[asked.id] = answer
        try:
            self._writer.write(protocol.encode(asked))
            await self._writer.drain()
            return await answer
        except OSError:
            raise self._end or self._hung_up() from None
        finally:
            self._answers.pop(asked.id, None)

    async def _ask_again(
        self, asked: protocol.Request | protocol.Query, lost: CdnctlError, timeout_s: float
    ) -> Outcome:
        other = AsyncClient(
            self.path, client=self._hello.client, frames=False, history=0, session=self._hello.session
        )
        try:
            await other.connect(timeout_s)
            same = other.instance == self.instance
            return await other._ask(sent_again(self.path, asked, is_same_agent=same))
        except CdnctlError as error:
            raise once_more_failed(asked, lost, error) from None
        finally:
            await other.close()

    async def close(self) -> None:
        """Hang up; ends `frames`."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()
        self._finish(NoAgent("the connection was closed"))

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            try:
                return await asyncio.open_unix_connection(self.path, limit=_AHEAD)
            except PermissionError:
                return await asyncio.open_unix_connection(view_path(self.path), limit=_AHEAD)
        except PermissionError:
            raise NotPermitted(
                f"{self.path}: this user may not watch edge {self.path.stem} (root, group cdnctl and group "
                "cdnctl-view may)",
                sudo_line(),
            ) from None
        except OSError:
            raise no_agent(self.path.stem) from None

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                message = await self._receive(reader)
                if isinstance(message, protocol.FrameMessage):
                    self._frames.append(message.frame)
                    self._news.set()
                elif isinstance(message, protocol.SampledMessage):
                    self._sampled.append(message.sampled)
                elif isinstance(message, protocol.Answer):
                    answer = self._answers.get(message.id)
                    if answer is not None and not answer.done():
                        _settle(self.path, answer, message)
                elif isinstance(message, protocol.Refused):
                    raise NoAgent(f"the agent hung up: {message.text}")
        except CdnctlError as error:
            self._finish(error)

    def _finish(self, error: CdnctlError) -> None:
        """Wake whoever waits for a frame or an answer: there will be none."""
        self._end = self._end or error
        self._news.set()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(self._end)

    def _hung_up(self) -> NoAgent:
        return _HungUp(f"{self.path}: the agent hung up", "its log says why; start it again")

    async def _receive(self, reader: asyncio.StreamReader) -> protocol.Down:
        try:
            header = await reader.readexactly(protocol.HEADER)
            length = protocol.body_length(header, protocol.MAX_DOWN)
            message = protocol.decode_down(await reader.readexactly(length))
        except (EOFError, OSError):
            raise self._hung_up() from None
        except protocol.ProtocolError as error:
            raise AgentUnreachable(
                f"{self.path}: the agent sent {error}", "restart the agent after an upgrade"
            ) from None
        return message


class _HungUp(NoAgent):
    """The connection ended without a last word."""


def _settle(path: Path, waiting: asyncio.Future[Outcome], answer: protocol.Answer) -> None:
    try:
        waiting.set_result(known(path, answer))
    except CdnctlError as error:
        waiting.set_exception(error)
