"""The wire format between the agent and its clients.

Each message is a 4-byte big-endian length followed by that many bytes of MessagePack, one map tagged
with `type`. The first message each way is a hello. Then frames and answers come down and requests go
up, answers in the order of their requests. A message of more than `MAX_UP` (to the agent) or
`MAX_DOWN` (to a client) bytes is refused unread, and what does not decode ends the connection.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from cdnctl.model import AnyCommand, Frame, Outcome, PacketFilter, Sampled

VERSION = 1
MAX_UP = 1 << 20
MAX_DOWN = 16 << 20
HEADER = 4
"""Bytes of length in front of each message."""

Role = Literal["operate", "view"]

_T = TypeVar("_T")


class ProtocolError(Exception):
    """The other side does not speak this protocol; the text says in what way."""


class Message(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Common settings: immutable, built by keyword, told apart by `type`."""


class ClientHello(Message, frozen=True, kw_only=True, tag="hello"):
    """The first message up."""

    version: int = VERSION
    client: str = "cli"
    """What is connecting: `console`, `cli`, `demo`, ...; shown by `who`."""
    frames: bool = False
    """Send every frame from now on."""
    history: int = 0
    """With `frames`: first this many past ones, as far as they are kept."""


class Request(Message, frozen=True, kw_only=True, tag="request"):
    """One command; its answer carries the same `id`."""

    id: int
    command: AnyCommand


class Watch(Message, frozen=True, kw_only=True, tag="watch"):
    """Send the sampled packets that match, from now on, with every frame's tick; the last one holds."""

    filter: PacketFilter | None
    """None: none any more."""


class ServerHello(Message, frozen=True, kw_only=True, tag="hello"):
    """The first message down, in answer to the client's."""

    edge: str
    version: int = VERSION
    role: Role


class FrameMessage(Message, frozen=True, kw_only=True, tag="frame"):
    """A picture of the edge."""

    frame: Frame


class Answer(Message, frozen=True, kw_only=True, tag="answer"):
    """What became of request `id`."""

    id: int
    outcome: Outcome


class SampledMessage(Message, frozen=True, kw_only=True, tag="sampled"):
    """What a `Watch` asked for."""

    sampled: Sampled


class Refused(Message, frozen=True, kw_only=True, tag="refused"):
    """The last message down before the agent hangs up, with the reason."""

    text: str


Up = ClientHello | Request | Watch
Down = ServerHello | FrameMessage | SampledMessage | Answer | Refused

_encoder = msgspec.msgpack.Encoder()
_up: msgspec.msgpack.Decoder[Up] = msgspec.msgpack.Decoder(Up)
_down: msgspec.msgpack.Decoder[Down] = msgspec.msgpack.Decoder(Down)


def encode(message: Up | Down) -> bytes:
    """Header and body of one message, ready to send."""
    body = _encoder.encode(message)
    return len(body).to_bytes(HEADER, "big") + body


def body_length(header: bytes, limit: int) -> int:
    """How many bytes follow `header`; raises ProtocolError for none or more than `limit`."""
    length = int.from_bytes(header, "big")
    if not 0 < length <= limit:
        raise ProtocolError(f"a message of {length} bytes; from 1 to {limit} are taken")
    return length


def decode_up(body: bytes) -> Up:
    """One message of a client; raises ProtocolError when it is none."""
    return _decode(_up, body)


def decode_down(body: bytes) -> Down:
    """One message of the agent; raises ProtocolError when it is none."""
    return _decode(_down, body)


def _decode(decoder: msgspec.msgpack.Decoder[_T], body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"a message that cannot be read: {error}") from None
