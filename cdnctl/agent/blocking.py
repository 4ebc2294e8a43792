"""A client that waits: what the command line and scripts talk to the agent with.

Cheap to import (no asyncio): the command line has a tenth of a second to start in.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from cdnctl.agent import protocol
from cdnctl.agent.edge import agent_pid, no_agent, view_path
from cdnctl.agent.protocol import Role
from cdnctl.errors import AgentRefused, AgentSilent, CdnctlError, NoAgent, NotPermitted, Uncertain, sudo_line
from cdnctl.model import FRAMES_KEPT, AnyCommand, Frame, Outcome, PacketFilter, Sampled

TIMEOUT_S = 5.0
_JOURNAL_TELLS = "`cdnctl journal -n 1` tells whether it was"


class Client:
    """A connection to the agent at `path`; a context manager.

    Falls back to the view socket when this user may only watch (`role` tells). `timeout_s` bounds
    each wait. Raises NoAgent, AgentSilent, AgentRefused or NotPermitted when connecting, and any time
    the first two.

    When the connection is lost in the middle of a request, it connects once more and asks what became of
    it: only when nobody can say any more Uncertain is raised.
    """

    def __init__(
        self,
        path: Path,
        *,
        client: str = "cli",
        timeout_s: float = TIMEOUT_S,
        frames: bool = False,
        history: int = 0,
    ) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self._next_id = 1
        self._frames: deque[Frame] = deque(maxlen=FRAMES_KEPT)
        self._hello = protocol.ClientHello(
            client=client, session=new_session(), frames=frames, history=history
        )
        try:
            hello = self._open(time.monotonic() + timeout_s)
        except _HungUp as error:
            raise _HungUp(f"{error.message} before anything was asked of it", error.remedy) from None
        self.edge = hello.edge
        self.role: Role = hello.role
        self._instance = hello.instance

    def _open(self, deadline: float) -> protocol.ServerHello:
        """Connect and say hello."""
        self._sock = _connect(self.path, self.timeout_s)
        try:
            self._send(self._hello)
            hello = self._receive(deadline)
            if isinstance(hello, protocol.ServerHello):
                return hello
        except BaseException:
            self.close()
            raise
        self.close()
        if isinstance(hello, protocol.Refused):
            raise refused(self.path, hello)
        raise CdnctlError(
            f"{self.path}: the agent did not say hello", "restart it: it may be another version"
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    def request(self, command: AnyCommand, timeout_s: float | None = None) -> Outcome:
        """Send one command and wait for its answer; a refusal is an outcome, not an error."""
        number, self._next_id = self._next_id, self._next_id + 1
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        message = protocol.asked(number, command)
        try:
            return self._ask(message, deadline)
        except _HungUp as lost:
            return self._ask_again(message, deadline, lost)
        except NoAgent as gone:  # it said why, and not what became of this
            raise once_more_failed(message, gone, gone) from None

    def _ask(self, asked: protocol.Request | protocol.Query, deadline: float) -> Outcome:
        self._send(asked)
        while True:
            message = self._receive(deadline)
            if isinstance(message, protocol.Answer) and message.id == asked.id:
                return known(self.path, message)
            if isinstance(message, protocol.FrameMessage):
                self._frames.append(message.frame)
            _heed_farewell(message)

    def _ask_again(
        self, asked: protocol.Request | protocol.Query, deadline: float, lost: CdnctlError
    ) -> Outcome:
        """What became of a request whose answer did not come."""
        self.close()
        try:
            before, self._instance = self._instance, self._open(deadline).instance
            is_same = self._instance == before
            return self._ask(sent_again(self.path, asked, is_same_agent=is_same), deadline)
        except CdnctlError as error:
            raise once_more_failed(asked, lost, error) from None

    @property
    def newest(self) -> Frame | None:
        """The last frame that came meanwhile, for a client with `frames=True`."""
        return self._frames[-1] if self._frames else None

    def frames(self) -> Iterator[Frame]:
        """Every frame from now on (after the history asked for), for a client with `frames=True`."""
        while True:
            while self._frames:
                yield self._frames.popleft()
            message = self._receive(time.monotonic() + self.timeout_s)
            if isinstance(message, protocol.FrameMessage):
                yield message.frame
            _heed_farewell(message)

    def packets(self, wanted: PacketFilter) -> Iterator[Sampled]:
        """Sampled packets that match, from now on; also when there are none, so that one knows."""
        self._send(protocol.Watch(filter=wanted))
        while True:
            message = self._receive(time.monotonic() + self.timeout_s)
            if isinstance(message, protocol.SampledMessage):
                yield message.sampled
            if isinstance(message, protocol.FrameMessage):
                self._frames.append(message.frame)
            _heed_farewell(message)

    def _send(self, message: protocol.Up) -> None:
        self._sock.settimeout(self.timeout_s)
        try:
            self._sock.sendall(protocol.encode(message))
        except TimeoutError:
            raise silent(self.path, self.timeout_s) from None
        except (BrokenPipeError, ConnectionResetError):
            pass  # it hung up; its last word, with the reason, is still to be read

    def _receive(self, deadline: float) -> protocol.Down:
        try:
            header = self._exactly(protocol.HEADER, deadline)
            length = protocol.body_length(header, protocol.MAX_DOWN)
            message = protocol.decode_down(self._exactly(length, deadline))
        except TimeoutError:
            raise silent(self.path, self.timeout_s) from None
        except (EOFError, ConnectionError):
            raise _HungUp(f"{self.path}: the agent hung up", "its log says why; start it again") from None
        except protocol.ProtocolError as error:
            raise CdnctlError(
                f"{self.path}: the agent sent {error}", "restart the agent after an upgrade"
            ) from None
        return message

    def _exactly(self, count: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._sock.settimeout(left)
            part = self._sock.recv(min(count - len(data), 1 << 18))
            if not part:
                raise EOFError
            data += part
        return bytes(data)


def silent(path: Path, waited_s: float) -> AgentSilent:
    """The error for an agent that is there but does not answer."""
    edge = path.name.partition(".")[0]
    pid = agent_pid(path.with_name(f"{edge}.sock"))
    end = f"end it: kill {pid} (kill -9 {pid} if it hangs)" if pid else f"end it: `fuser {path}` shows it"
    return AgentSilent(
        f"the agent of edge {edge} does not answer within {waited_s:g} s: stopped or hung"
        + (f" (pid {pid})" if pid else ""),
        f"{end}, then cdnctl attach --edge {edge}; the kernel goes on deciding, and `cdnctl disarm`,"
        " `bypass` and `detach` work without the agent",
    )


def refused(path: Path, answer: protocol.Refused) -> AgentRefused:
    """The error for an agent that answered a hello with a refusal: it runs, so none must be started."""
    return AgentRefused(f"the agent of edge {path.name.partition('.')[0]} refuses: {answer.text}")


class _HungUp(NoAgent):
    """The connection ended without a last word."""


def new_session() -> str:
    """A token that makes this client's request numbers its own."""
    return os.urandom(16).hex()


def known(path: Path, answer: protocol.Answer) -> Outcome:
    """Its outcome; raises Uncertain when it has none any more."""
    if answer.outcome is None:
        raise uncertain(path, "too much was asked since")
    return answer.outcome


def sent_again(
    path: Path, asked: protocol.Request | protocol.Query, *, is_same_agent: bool
) -> protocol.Request | protocol.Query:
    """The message that asks a second time. Raises Uncertain for a change that another agent was asked for."""
    if isinstance(asked, protocol.Query):
        return asked
    if not is_same_agent:
        raise uncertain(path, "the agent was started anew")
    return protocol.Request(id=asked.id, command=asked.command, again=True)


def once_more_failed(
    asked: protocol.Request | protocol.Query, lost: CdnctlError, error: CdnctlError
) -> CdnctlError:
    """What to raise when the second try failed, too."""
    if isinstance(error, Uncertain):
        return error
    if isinstance(asked, protocol.Query):
        return lost
    if asked.command.dry_run:
        return type(lost)(f"{lost.message}; it was only to say what would happen", lost.remedy)
    remedy = f"{_JOURNAL_TELLS}; {error.remedy}" if error.remedy else _JOURNAL_TELLS
    return type(error)(f"{error.message}; the change may or may not have been made", remedy)


def uncertain(path: Path, why: str) -> Uncertain:
    """The error for a change of which nothing is known."""
    return Uncertain(
        f"{path}: the connection was lost and {why}: the change may or may not have been made",
        f"{_JOURNAL_TELLS}; `cdnctl status` shows what is in force",
    )


def _heed_farewell(message: protocol.Down) -> None:
    if isinstance(message, protocol.Refused):
        raise NoAgent(f"the agent hung up: {message.text}")


def _connect(path: Path, timeout_s: float) -> socket.socket:
    try:
        return _connect_to(path, timeout_s)
    except PermissionError:
        try:
            return _connect_to(view_path(path), timeout_s)
        except (PermissionError, NoAgent) as error:
            if isinstance(error, NoAgent) and view_path(path).exists():
                raise  # nobody listens there, so nobody listens at all: an agent has both or none
            raise NotPermitted(
                f"{path}: this user may neither operate nor watch edge {path.stem} (root and group cdnctl may"
                " do both, group cdnctl-view may watch)",
                sudo_line(),
            ) from None


def _connect_to(path: Path, timeout_s: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    try:
        sock.connect(str(path))
    except PermissionError:
        sock.close()
        raise
    except (TimeoutError, BlockingIOError):
        sock.close()
        raise silent(path, timeout_s) from None
    except OSError:
        sock.close()
        raise no_agent(path.name.partition(".")[0]) from None
    return sock
