"""Asks one endpoint once: TCP, TLS, HTTP, each with its time.

Nothing raises: whatever a server does, or does not do, is a `Result`. The answer is read as far as is
needed and no further; its length, its headers and its time are bounded.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import ssl
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from cdnctl.steering.probes.result import BODY_LIMIT, Probe, Result

if TYPE_CHECKING:
    import h11

_PORT_TRIES = 8
_PIECE = 16384


async def ask(address: str, port: int, probe: Probe, chance: random.Random | None = None) -> Result:
    """One probe of the endpoint at an address and port; takes `probe.timeout_s` at most."""
    so_far: list[Result] = [Result()]
    try:
        async with asyncio.timeout(probe.timeout_s):
            return await _ask(address, port, probe, chance or random.Random(), so_far)
    except TimeoutError:
        return so_far[0]._replace(
            fault="slow", text=f"not done within {probe.timeout_s:g} s ({_step(so_far[0], probe)})"
        )


def _step(result: Result, probe: Probe) -> str:
    if result.connect_ms is None:
        return "no connection"
    wants_tls = probe.kind == "tls" or (probe.kind == "http" and probe.is_tls)
    return "no TLS session" if wants_tls and result.tls_ms is None else "no whole answer"


def _why(error: OSError) -> str:
    """The system's own words: asyncio puts others in their place."""
    return os.strerror(error.errno) if error.errno else str(error)


async def _ask(address: str, port: int, probe: Probe, chance: random.Random, so_far: list[Result]) -> Result:
    began = time.perf_counter()
    try:
        sock = await _connect(address, port, probe, chance)
    except OSError as error:
        return Result("connect", f"no connection: {_why(error)}")
    so_far[0] = result = Result(connect_ms=_ms_since(began))
    if probe.kind == "tcp":
        sock.close()
        return result
    writer: asyncio.StreamWriter | None = None
    try:
        if probe.kind == "http" and not probe.is_tls:
            reader, writer = await asyncio.open_connection(sock=sock, limit=_PIECE)
        else:
            began = time.perf_counter()
            context = _context(probe.ca_file)
            reader, writer = await asyncio.open_connection(
                sock=sock, limit=_PIECE, ssl=context, server_hostname=probe.host or address
            )
            result = result._replace(tls_ms=_ms_since(began), certificate_days=_days_left(writer))
        so_far[0] = result
        if probe.kind == "tls":
            return result
        return await _http(reader, writer, probe, address, so_far)
    except ssl.SSLCertVerificationError as error:
        return result._replace(fault="certificate", text=f"its certificate: {error.verify_message}")
    except ssl.SSLError as error:
        return result._replace(fault="tls", text=f"no TLS session: {error.reason or error}")
    except OSError as error:
        why = _why(error)
        if probe.kind == "tls" or (probe.is_tls and so_far[0].tls_ms is None):
            return so_far[0]._replace(fault="tls", text=f"no TLS session: {why}")
        return so_far[0]._replace(fault="answer", text=f"no answer: {why}")
    finally:
        if writer is not None:
            writer.transport.abort()
        else:
            sock.close()


async def _connect(address: str, port: int, probe: Probe, chance: random.Random) -> socket.socket:
    """A connected socket, from one of the probe's source ports. Raises OSError."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for tries in range(_PORT_TRIES):
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if probe.ports is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", chance.randint(*probe.ports)))
            await loop.sock_connect(sock, (address, port))
        except OSError as error:
            sock.close()
            is_taken = error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
            if probe.ports is None or not is_taken or tries == _PORT_TRIES - 1:
                raise
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise AssertionError("the last try returns or raises")


async def _http(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    probe: Probe,
    address: str,
    so_far: list[Result],
) -> Result:
    import h11

    connection = h11.Connection(h11.CLIENT)
    bracketed = f"[{address}]" if ":" in address else address
    headers = [("Host", probe.host or bracketed), ("User-Agent", "cdnctl-probe"), ("Connection", "close")]
    try:
        request = h11.Request(method="GET", target=probe.path, headers=headers)
        writer.write(connection.send(request) + connection.send(h11.EndOfMessage()))
        began = time.perf_counter()
        answer, body, first_byte_ms = await _answer(connection, reader, probe, began)
    except h11.LocalProtocolError as error:
        return so_far[0]._replace(fault="answer", text=f"cannot be asked for {probe.path!r}: {error}")
    except h11.RemoteProtocolError as error:
        return so_far[0]._replace(fault="answer", text=f"its answer is no HTTP: {error}")
    result = so_far[0]._replace(first_byte_ms=first_byte_ms)
    if answer is None:
        return result._replace(fault="answer", text="it closed the connection without an answer")
    return _judged(result._replace(status=answer.status_code), answer, body, probe)


async def _answer(
    connection: h11.Connection, reader: asyncio.StreamReader, probe: Probe, began: float
) -> tuple[h11.Response | None, bytes, float | None]:
    """The answer's head, as much of its body as is asked for, and when its first byte came."""
    import h11

    answer: h11.Response | None = None
    body, first_byte_ms = b"", None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(_PIECE)
            if first_byte_ms is None and data:
                first_byte_ms = _ms_since(began)
            if not data and answer is None:
                return None, b"", first_byte_ms
            connection.receive_data(data)
        elif isinstance(event, h11.Response):
            answer = event
            if not probe.body:
                return answer, body, first_byte_ms
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) >= BODY_LIMIT or probe.body.encode() in body:
                return answer, body[:BODY_LIMIT], first_byte_ms
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return answer, body, first_byte_ms


def _judged(result: Result, answer: h11.Response, body: bytes, probe: Probe) -> Result:
    least, most = probe.status
    if not least <= answer.status_code <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        return result._replace(fault="status", text=f"it answers {answer.status_code}, not {wanted}")
    if probe.header is not None:
        name, wanted = probe.header
        values = [value.decode("latin-1") for key, value in answer.headers if key == name.lower().encode()]
        if not any(wanted in value for value in values):
            said = f"is {_printable(values[0])!r}" if values else "is missing"
            return result._replace(fault="header", text=f"its {name} {said}, where {wanted!r} is expected")
    if probe.body and probe.body.encode() not in body:
        return result._replace(fault="body", text=f"its answer has no {probe.body!r} in it")
    return result


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:60])


def _ms_since(began: float) -> float:
    return 1000 * (time.perf_counter() - began)


@lru_cache(maxsize=16)
def _context(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file or None)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _days_left(writer: asyncio.StreamWriter) -> float | None:
    """Of the certificate that was shown."""
    shown = writer.get_extra_info("peercert")
    if not shown or "notAfter" not in shown:
        return None
    return (ssl.cert_time_to_seconds(shown["notAfter"]) - time.time()) / 86400
