"""QUIC as the edge sees it: headers in clear (RFC 8999, RFC 9000, 17), and filling for what is encrypted."""

from __future__ import annotations

import copy
import itertools
from enum import IntEnum

from harness import DataPath, Seen, client_port
from session import Datagrams

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict

V1, V2 = 1, 0x6B3343CF
FIRST_FLIGHT = 1200
_numbers = itertools.count(1)


class Kind(IntEnum):
    """Types of long headers, as version 1 has them."""

    INITIAL = 0
    ZERO_RTT = 1
    HANDSHAKE = 2
    RETRY = 3


def some_id(length: int = 8) -> bytes:
    """A connection id like no other, if it is long enough for that."""
    return next(_numbers).to_bytes(20, "little")[:length]


def long_header(
    kind: Kind, to: bytes, own: bytes, *, version: int = V1, size: int = FIRST_FLIGHT, fixed: bool = True
) -> bytes:
    """A packet that names both ends' ids. Version 2 numbers the types differently (RFC 9369, 3.2)."""
    number = (kind + 1) % 4 if version == V2 else kind
    first = 0x80 | fixed << 6 | number << 4 | 0x03
    ids = bytes([len(to)]) + to + bytes([len(own)]) + own
    return (bytes([first]) + version.to_bytes(4, "big") + ids).ljust(size, b"\x5a")


def short_header(to: bytes, *, size: int = 60, fixed: bool = True) -> bytes:
    """A packet of an established connection: the receiver's id, and not how long that is."""
    return (bytes([fixed << 6 | 0x03]) + to).ljust(size, b"\x5a")


class Connection(Datagrams):
    """One QUIC connection of a client's, by the flow that it uses now."""

    def __init__(
        self,
        path: DataPath,
        service: str = "quic",
        client: str = "",
        port: int = 0,
        *,
        id_length: int = 8,
        version: int = V1,
    ) -> None:
        super().__init__(path, service, client, port)
        self.version = version
        self.chosen = some_id()
        """The server's id until it has chosen one: the client's own choice."""
        self.mine = some_id()
        self.its = some_id(id_length)

    # -- the client --

    def ask(self, kind: Kind = Kind.INITIAL, *, size: int = FIRST_FLIGHT) -> Seen:
        """A packet of its first flight."""
        return self.up(long_header(kind, self.chosen, self.mine, version=self.version, size=size))

    def finish(self, *, fixed: bool = True) -> Seen:
        """Its answer to the server's first flight, which repeats the server's id."""
        return self.up(
            long_header(Kind.HANDSHAKE, self.its, self.mine, version=self.version, size=200, fixed=fixed)
        )

    def say(self, *, fixed: bool = True) -> Seen:
        """Data."""
        return self.up(short_header(self.its, fixed=fixed))

    # -- the server --

    def answer(self, kind: Kind = Kind.INITIAL) -> Seen:
        """A packet of its first flight, which names its id."""
        return self.down(long_header(kind, self.mine, self.its, version=self.version))

    def hear(self) -> Seen:
        """Data."""
        return self.down(short_header(self.mine))

    # -- both --

    def open(self) -> Connection:
        """The whole handshake, and data both ways."""
        seen = [
            self.ask(),
            self.answer(),
            self.answer(Kind.HANDSHAKE),
            self.finish(),
            self.hear(),
            self.say(),
        ]
        up, down = Verdict.FORWARDED, Verdict.REPLIED
        assert [each.verdict for each in seen] == [up, down, down, up, down, up], seen
        return self

    def moved(self, client: str = "", port: int = 0) -> Connection:
        """The same connection from another port, and perhaps another address: nothing is sent yet."""
        other = copy.copy(self)
        other.client = client or self.client[0], port or client_port()
        other.cdn, other.snat = "", ("", 0)
        return other

    # -- what the edge remembers --

    def key_of(self, connection_id: bytes) -> bytes:
        """Its key in the tables of ids."""
        key = abi.QuicId(length=len(connection_id), service=self.service_id)
        key.bytes[: len(connection_id)] = connection_id
        return bytes(key)

    @property
    def service_id(self) -> int:
        """The service's number."""
        return next(
            place.id
            for place in self.path.layout.services
            if (place.vip, place.port, place.kernel_key.protocol) == (*self.service, self.protocol)
        )

    def knows(self, connection_id: bytes | None = None, *, offered: bool = False) -> bool:
        """Is the server's id (or another) among those that sessions use, or among those only offered?"""
        table = self.path.map("quic_offers" if offered else "quic_ids")
        key = self.key_of(self.its if connection_id is None else connection_id)
        value = table.get(key)
        if value is None:
            return False
        assert int.from_bytes(value, "little") & 0xFFFF == self.path.endpoint_id(self.cdn, self.pool)
        return True

    @property
    def heard(self) -> abi.Heard:
        """What was heard of the service's servers."""
        return abi.Heard.from_buffer_copy(self.path.map("heard_of").get(abi.key(self.service_id)) or b"")


def learn(path: DataPath, service: str = "quic", id_length: int = 8) -> Connection:
    """The edge knows that the service speaks QUIC: one connection was opened."""
    return Connection(path, service, "10.9.9.9" if "6" not in service else "", id_length=id_length).open()
