"""The agent's page for Prometheus: one GET, one answer, and the connection is closed.

In the agent's own loop, since that is where frames are; but the page, which takes tens of milliseconds on
a large edge, is made by a thread, so that the next frame is not late, and at most once a frame, whoever asks
how often. A reader that is slow holds one of `MAX_READERS` places for `PATIENCE_S` at the most, one that has
not asked yet only until somebody else comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable

MAX_READERS = 8
"""Connections at the same time. For one more the oldest that has asked nothing yet is closed, and when all
have asked, the new one."""
PATIENCE_S = 5.0
"""A request must have come, and its answer gone, within so long."""
MAX_REQUEST = 8192
"""Bytes of a request's head."""
AGAIN_S = 5.0
"""Whoever has the port may go."""

log = logging.getLogger("cdnctl.agent")

Page = Callable[[], Awaitable[tuple[str, bytes] | None]]
"""Content type and text of now; None before the first frame."""


class Exporter:
    """Serves `page` where it is told to; nowhere until then."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._serving: asyncio.Task[None] | None = None
        self._readers = 0
        self._silent: dict[asyncio.StreamWriter, None] = {}
        """Those that have not sent their request, the oldest first."""
        self.listen: tuple[str, int] | None = None
        """Address and port; None: nowhere."""

    def follow(self, listen: tuple[str, int] | None) -> None:
        """Listen there from now on; a place that is taken is tried again. Call it in the loop."""
        if listen == self.listen and (self._serving is not None) == (listen is not None):
            return
        self.close()
        self.listen = listen
        if listen is not None:
            self._serving = asyncio.get_running_loop().create_task(self._serve(*listen))

    def close(self) -> None:
        """Listen no more."""
        if self._serving is not None:
            self._serving.cancel()
            self._serving = None

    async def _serve(self, host: str, port: int) -> None:
        told = ""
        while True:
            try:
                # no name is looked up: it is an address, as the configuration has checked
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                server = await asyncio.start_server(
                    self._answer, host, port, family=family, limit=MAX_REQUEST, backlog=MAX_READERS
                )
                break
            except OSError as error:
                if (said := str(error.strerror or error)) != told:
                    told = said
                    log.warning("no metrics on %s port %d: %s; trying again", host, port, said)
                await asyncio.sleep(AGAIN_S)
        log.info("metrics on %s port %d", host, port)
        async with server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._readers >= MAX_READERS and not self._send_away():
            writer.transport.abort()
            return
        self._readers += 1
        self._silent[writer] = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                request = await _request_line(reader)
                self._silent.pop(writer, None)
                writer.write(await self._response(request))
                writer.write_eof()
                await writer.drain()
                # until all of it has gone; what comes meanwhile is of no interest
                while await reader.read(MAX_REQUEST):
                    pass
        except (TimeoutError, OSError, ValueError, asyncio.IncompleteReadError):
            pass  # a reader's trouble is its own
        finally:
            self._readers -= 1
            self._silent.pop(writer, None)
            with contextlib.suppress(OSError):
                writer.transport.abort()

    def _send_away(self) -> bool:
        """Make room: who opens connections and asks nothing keeps nobody out."""
        oldest = next(iter(self._silent), None)
        if oldest is None:
            return False
        del self._silent[oldest]
        oldest.transport.abort()
        return True

    async def _response(self, request: str) -> bytes:
        method, _, rest = request.partition(" ")
        target = rest.partition(" ")[0].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", b"only GET\n", extra="Allow: GET, HEAD\r\n")
        if target != "/metrics":
            return _response("404 Not Found", b"metrics are at /metrics\n")
        try:
            page = await self._page()
        except Exception:  # the clock goes on, and so must the page
            log.exception("no metrics")
            return _response("500 Internal Server Error", b"the agent's log says why\n")
        if page is None:
            return _response("503 Service Unavailable", b"no frame has been taken yet\n")
        kind, text = page
        return _response("200 OK", text, kind=kind, body=method == "GET")


async def _request_line(reader: asyncio.StreamReader) -> str:
    """The first line, once the whole head is there. Raises ValueError or IncompleteReadError."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise ValueError("a head of more than is taken") from error
    return head.partition(b"\r\n")[0].decode("ascii", "replace")


def _response(
    status: str, text: bytes, *, kind: str = "text/plain; charset=utf-8", extra: str = "", body: bool = True
) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n{extra}"
    return f"{head}Connection: close\r\n\r\n".encode() + (text if body else b"")
