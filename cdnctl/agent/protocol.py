"""The wire format between the agent and its clients.

Each message is a 4-byte big-endian length followed by that many bytes of MessagePack, one map tagged
with `type`. The first message each way is a hello. Then frames and answers come down; requests (what
changes the edge), queries (what only looks) and watches go up, and are answered in their order. Requests and
queries are apart so that the view socket need not decode, nor even know, what a command is.

What ends a connection: a message of no bytes or more than `MAX_UP` (to the agent) or `MAX_DOWN` (to a
client), which is refused unread, and one that is no tagged map. A request whose content cannot be read is
refused by an answer, as any other.

A request's number is its client's own: the agent keeps the outcomes of the last minutes by session and
number, and answers one that comes again with what became of it the first time. So a client that has lost
its connection can connect anew with the same session, and learn whether its change was made. It must look at
`ServerHello.instance` first: an agent that was started since knows nothing.

Versions: `type` and `version` of a hello, and all of `Refused`, are the same in every version, so that each
side can tell the other in words why they do not understand each other.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from cdnctl.model import AnyChange, AnyCommand, AnyQuery, Change, Frame, Outcome, PacketFilter, Sampled

VERSION = 2
MAX_UP = 256 << 10
"""Weights of a thousand CDNs, ten times over."""
MAX_DOWN = 16 << 20
HEADER = 4
"""Bytes of length in front of each message."""

Role = Literal["operate", "view"]
Number = Annotated[int, Meta(ge=0, le=(1 << 62))]
Token = Annotated[str, Meta(max_length=64)]

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
    session: Token = ""
    """A token of the client's own making, which its connections have in common; empty: this one is alone."""
    frames: bool = False
    """Send every frame from now on."""
    history: int = 0
    """With `frames`: first this many past ones, as far as they are kept."""


class Request(Message, frozen=True, kw_only=True, tag="request"):
    """One change; its answer carries the same `id`. Only on the operators' socket."""

    id: Number
    command: AnyChange
    again: bool = False
    """It was sent before, to this very agent: carry it out only if it never arrived."""


class Query(Message, frozen=True, kw_only=True, tag="query"):
    """One look; its answer carries the same `id`."""

    id: Number
    query: AnyQuery


class Watch(Message, frozen=True, kw_only=True, tag="watch"):
    """Send the sampled packets that match, from now on, with every frame's tick; the last one holds."""

    filter: PacketFilter | None
    """None: none any more."""


class ServerHello(Message, frozen=True, kw_only=True, tag="hello"):
    """The first message down, in answer to the client's."""

    edge: str
    version: int = VERSION
    role: Role
    instance: str = ""
    """Of this agent process alone: one that was started later has another."""


class FrameMessage(Message, frozen=True, kw_only=True, tag="frame"):
    """A picture of the edge."""

    frame: Frame


class Answer(Message, frozen=True, kw_only=True, tag="answer"):
    """What became of request or query `id`."""

    id: int
    outcome: Outcome | None
    """None: of a request that came `again` it is not known any more."""


class SampledMessage(Message, frozen=True, kw_only=True, tag="sampled"):
    """What a `Watch` asked for."""

    sampled: Sampled


class Refused(Message, frozen=True, kw_only=True, tag="refused"):
    """The last message down before the agent hangs up, with the reason."""

    text: str


class Tag(Struct, frozen=True):
    """All of a message that is looked at before it is known whether it may be sent at all."""

    type: str
    id: int | None = None


class _AnyHello(Struct, frozen=True):
    """What the hellos of all versions have in common."""

    type: str
    version: int = 0


Up = ClientHello | Request | Query | Watch
Down = ServerHello | FrameMessage | SampledMessage | Answer | Refused

_encoder = msgspec.msgpack.Encoder()
_up: msgspec.msgpack.Decoder[Up] = msgspec.msgpack.Decoder(Up)
_down: msgspec.msgpack.Decoder[Down] = msgspec.msgpack.Decoder(Down)
_tag: msgspec.msgpack.Decoder[Tag] = msgspec.msgpack.Decoder(Tag)
_any_hello: msgspec.msgpack.Decoder[_AnyHello] = msgspec.msgpack.Decoder(_AnyHello)
_hello: msgspec.msgpack.Decoder[ClientHello] = msgspec.msgpack.Decoder(ClientHello)


def asked(number: int, command: AnyCommand) -> Request | Query:
    """The message that asks for it."""
    if isinstance(command, Change):
        return Request(id=number, command=command)
    return Query(id=number, query=command)


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


def peek(body: bytes) -> Tag:
    """Type and number of a message, nothing else of which is decoded. Raises ProtocolError."""
    return _decode(_tag, body)


def decode_hello(body: bytes) -> ClientHello:
    """A client's first message; raises ProtocolError when it is none, or one of another version."""
    hello = _decode(_any_hello, body)
    if hello.type != "hello":
        raise ProtocolError("the first message must be a hello")
    if hello.version != VERSION:
        raise ProtocolError(
            f"this agent speaks protocol {VERSION}, the client {hello.version}; "
            "restart the agent after an upgrade (the data path stays in force meanwhile)"
        )
    return _decode(_hello, body)


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
