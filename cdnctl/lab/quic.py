"""Real QUIC in a lab, by aioquic: an origin for each CDN, and a client that may change its port.

    python -m cdnctl.lab.quic  <  {"name": "aurora", "hosts": ["198.51.100.10", ...], "port": 80}

An origin gives back what it was sent, below a line with its name. It answers the order that starts it
when it listens, and each `{"challenges": true}` with how many path challenges it has sent so far, by its
own log. It ends when standard input closes.

aioquic is in the `dev` extra: nothing that an operator runs needs this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from aioquic.asyncio.server import serve
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import NetworkAddress, QuicConnection
from aioquic.quic.logger import QuicLogger
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cdnctl.lab import netns
from cdnctl.lab.processes import Generator, LabError
from cdnctl.lab.topology import PORT, Site

ALPN = "lab"
PATIENCE_S = 5.0
"""A client that waits longer for anything has failed."""
_DATAGRAM = 65536


# --- the client -----------------------------------------------------------------------------------


class Client:
    """One connection of a client's: it asks, and may move. Nothing happens but while it waits."""

    def __init__(self, namespace: str, source: str, target: tuple[str, int]) -> None:
        self._namespace = namespace
        # what the kernel says that an answer is from
        self.target: NetworkAddress = (*target, 0, 0) if ":" in target[0] else target
        configuration = QuicConfiguration(
            alpn_protocols=[ALPN], server_name="lab", verify_mode=ssl.CERT_NONE, idle_timeout=PATIENCE_S
        )
        self._connection = QuicConnection(configuration=configuration)
        self._answers: dict[int, bytes] = {}
        self._ended: set[int] = set()
        self._ready = False
        self.socket = self.socket_of(source)

    def __enter__(self) -> Client:
        self._connection.connect(self.target, time.monotonic())
        self._wait(lambda: self._ready)
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()
        with contextlib.suppress(OSError):
            self._send()
        self.socket.close()

    @property
    def source(self) -> tuple[str, int]:
        """Its own address and port."""
        name: tuple[str, int] = self.socket.getsockname()[:2]
        return name

    @property
    def peer_id(self) -> bytes:
        """The server's id of the connection, which stands in front of what the client sends."""
        return self._connection._peer_cid.cid

    def socket_of(self, source: str) -> socket.socket:
        """A new socket on the clients' side, with a port of its own."""
        with netns.entered(self._namespace):
            made = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((source, 0))
        return made

    def move(self, source: str = "") -> None:
        """Go on from another port, as behind a NAT that forgot the first: the connection is not told."""
        old, self.socket = self.socket, self.socket_of(source or self.source[0])
        old.close()

    def ask(self, content: bytes) -> tuple[str, bytes]:
        """Who answers, and what."""
        stream = self._connection.get_next_available_stream_id()
        self._connection.send_stream_data(stream, content, end_stream=True)
        self._wait(lambda: stream in self._ended)
        name, _, echo = self._answers.pop(stream).partition(b"\n")
        return name.decode(), echo

    def taken_ping(self) -> list[bytes]:
        """Datagrams of a sound packet that asks for no more than an acknowledgement; they are not sent."""
        self._connection.send_ping(0)
        return [data for data, _ in self._connection.datagrams_to_send(time.monotonic())]

    def _send(self) -> None:
        for data, address in self._connection.datagrams_to_send(time.monotonic()):
            self.socket.sendto(data, address)

    def _wait(self, over: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        self._send()
        while not over():
            now, timer = time.monotonic(), self._connection.get_timer()
            if now > deadline:
                raise LabError(f"nothing for {PATIENCE_S:g} s from {self.target[0]}")
            pause = min(deadline, timer or deadline) - now
            if select.select([self.socket], [], [], max(0.0, pause))[0]:
                data, address = self.socket.recvfrom(_DATAGRAM)
                self._connection.receive_datagram(data, address, time.monotonic())
            elif timer is not None and time.monotonic() >= timer:
                self._connection.handle_timer(time.monotonic())
            self._look()
            self._send()

    def _look(self) -> None:
        while (event := self._connection.next_event()) is not None:
            if isinstance(event, events.HandshakeCompleted):
                self._ready = True
            elif isinstance(event, events.ConnectionTerminated):
                raise LabError(f"the connection ended: {event.reason_phrase or event.error_code}")
            elif isinstance(event, events.StreamDataReceived):
                held = self._answers.get(event.stream_id, b"")
                self._answers[event.stream_id] = held + event.data
                if event.end_stream:
                    self._ended.add(event.stream_id)


# --- the origins ----------------------------------------------------------------------------------


class Origins:
    """The running origins, one in each CDN's namespace, on both of its addresses."""

    def __init__(self, generators: dict[str, Generator]) -> None:
        self._generators = generators

    def challenges(self, cdn: str) -> int:
        """Path challenges that it has sent so far."""
        return int(self._generators[cdn].ask(challenges=True)["challenges"])


@contextlib.contextmanager
def origins(sites: Iterable[Site], log: IO[bytes] | None = None) -> Iterator[Origins]:
    """Start an origin for each CDN; on return they listen."""
    with contextlib.ExitStack() as stack:
        generators = {}
        for site in sites:
            generator = generators[site.name] = Generator("quic", site.namespace, log)
            stack.callback(generator.end)
            generator.order(name=site.name, hosts=[site.endpoint, site.endpoint6], port=PORT)
        for generator in generators.values():
            generator.answer(20.0)
        yield Origins(generators)


# --- one origin, in a process of its own ----------------------------------------------------------


def _identify(configuration: QuicConfiguration, name: str) -> None:
    """Give the origin a certificate that it made itself; no client of the lab asks who vouches for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    today = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    configuration.private_key = key
    configuration.certificate = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - day)
        .not_valid_after(today + day)
        .sign(key, hashes.SHA256())
    )


def _challenges(log: QuicLogger) -> int:
    """Path challenges in what the server has logged as sent."""
    return sum(
        frame["frame_type"] == "path_challenge"
        for trace in log.to_dict()["traces"]
        for event in trace["events"]
        if event["name"] == "transport:packet_sent"
        for frame in event["data"]["frames"]
    )


async def _orders() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


async def run() -> None:
    """Take the order, listen, and answer until standard input closes."""
    orders = await _orders()
    order = json.loads(await orders.readline())
    name = order["name"].encode()
    log = QuicLogger()
    configuration = QuicConfiguration(is_client=False, alpn_protocols=[ALPN], quic_logger=log)
    _identify(configuration, order["name"])
    echoes: set[asyncio.Task[None]] = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name + b"\n" + await reader.read())
        writer.write_eof()

    def serve_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(echo(reader, writer))
        echoes.add(task)
        task.add_done_callback(echoes.discard)

    for host in order["hosts"]:
        await serve(host, order["port"], configuration=configuration, stream_handler=serve_stream)
    _say(listens=True)
    while line := await orders.readline():
        if json.loads(line).get("challenges"):
            _say(challenges=_challenges(log))


if __name__ == "__main__":
    asyncio.run(run())
