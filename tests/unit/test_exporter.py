"""The exporter's socket: what it answers, and that nobody who reads slowly, or not at all, is a burden."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cdnctl.agent import exporter
from cdnctl.agent.exporter import MAX_READERS, MAX_REQUEST, Exporter

TEXT = b"cdnctl_frame_seq 1\n"
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
HOST = "127.0.0.1"


class Page:
    """What is served, and how often it was asked for."""

    def __init__(self, text: bytes | None = TEXT) -> None:
        self.text = text
        self.asked = 0

    async def __call__(self) -> tuple[str, bytes] | None:
        self.asked += 1
        return None if self.text is None else ("text/plain; version=0.0.4", self.text)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serving(page: Page) -> AsyncIterator[int]:
    port, served = free_port(), Exporter(page)
    served.follow((HOST, port))
    try:
        await listening(port)
        yield port
    finally:
        served.close()
        await asyncio.sleep(0)


async def listening(port: int) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            await asyncio.sleep(0.02)
            return
    raise AssertionError("nobody listens")


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_a_get_is_answered_and_closed() -> None:
    async with serving(Page()) as port:
        head, _, body = (await ask(port, GET)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: text/plain; version=0.0.4" in head
    assert f"Content-Length: {len(TEXT)}".encode() in head
    assert b"Connection: close" in head
    assert body == TEXT


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /metrics?x=1 HTTP/1.1", b"200"),
        (b"HEAD /metrics HTTP/1.1", b"200"),
        (b"GET / HTTP/1.1", b"404"),
        (b"POST /metrics HTTP/1.1", b"405"),
        (b"\xff\xfe", b"405"),
        (b"", b"405"),
    ],
)
async def test_what_is_asked_decides(request_line: bytes, status: bytes) -> None:
    async with serving(Page()) as port:
        answer = await ask(port, request_line + b"\r\nHost: x\r\n\r\n")
    assert answer.split()[1] == status
    assert answer.endswith(b"\r\n\r\n") == request_line.startswith(b"HEAD")


async def test_before_the_first_frame_there_is_nothing() -> None:
    async with serving(Page(None)) as port:
        assert (await ask(port, GET)).split()[1] == b"503"


async def test_a_head_without_end_is_cut_off() -> None:
    async with serving(page := Page()) as port:
        assert await ask(port, b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 3 * MAX_REQUEST) == b""
        assert page.asked == 0
        assert TEXT in await ask(port, GET)


async def test_readers_are_bounded_and_the_idle_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "PATIENCE_S", 0.3)
    async with serving(Page()) as port:
        idle = [await asyncio.open_connection(HOST, port) for _ in range(MAX_READERS)]
        await asyncio.sleep(0.05)
        assert TEXT in await ask(port, GET), "who asks nothing keeps nobody out"
        assert await asyncio.wait_for(idle[0][0].read(), 0.1) == b"", "the oldest had to go"
        assert not idle[1][0].at_eof()
        await asyncio.sleep(0.4)
        assert [await asyncio.wait_for(reader.read(), 0.1) for reader, _ in idle[1:]] == [b""] * 7
        for _, writer in idle:
            writer.close()


async def test_those_who_have_asked_keep_their_places() -> None:
    async with serving(page := Page(b"x" * 30_000_000)) as port:
        stalled = [await asyncio.open_connection(HOST, port, limit=1) for _ in range(MAX_READERS)]
        for _, writer in stalled:
            writer.write(GET)
        while page.asked < MAX_READERS:
            await asyncio.sleep(0.01)
        assert await ask(port, GET) == b"", "all places are taken"
        for _, writer in stalled:
            writer.transport.abort()


async def test_a_slow_reader_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than kernels buffer, and nobody who takes it: others are served, and the loop stays quick."""
    monkeypatch.setattr(exporter, "PATIENCE_S", 1.0)
    page = Page(b"x" * 30_000_000)
    async with serving(page) as port:
        stalled = [await asyncio.open_connection(HOST, port, limit=1) for _ in range(MAX_READERS - 1)]
        for _, writer in stalled:
            writer.write(GET)
        await asyncio.sleep(0.2)
        page.text = TEXT
        late_s, loop = 0.0, asyncio.get_running_loop()
        for _ in range(5):
            assert TEXT in await ask(port, GET)
            due = loop.time() + 0.02
            await asyncio.sleep(0.02)
            late_s = max(late_s, loop.time() - due)
        assert late_s < 0.1
        for _, writer in stalled:
            writer.transport.abort()


async def test_a_page_that_fails_is_said_and_not_the_end() -> None:
    page = Page()

    async def failing() -> tuple[str, bytes] | None:
        if await page() and page.asked == 1:
            raise RuntimeError("a bug")
        return "text/plain", TEXT

    served, port = Exporter(failing), free_port()
    served.follow((HOST, port))
    await listening(port)
    assert (await ask(port, GET)).split()[1] == b"500"
    assert TEXT in await ask(port, GET)
    served.close()


async def test_a_place_that_is_taken_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exporter, "AGAIN_S", 0.05)
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = int(other.getsockname()[1])
        served = Exporter(Page())
        served.follow((HOST, port))
        await asyncio.sleep(0.2)
        warnings = [each for each in caplog.records if each.levelname == "WARNING"]
        assert len(warnings) == 1, "said once, however often it is tried"
        assert f"no metrics on {HOST} port {port}" in warnings[0].getMessage()
    await listening(port)
    assert TEXT in await ask(port, GET)
    served.close()


async def test_it_moves_and_ends() -> None:
    served, first, second = Exporter(Page()), free_port(), free_port()
    served.follow((HOST, first))
    await listening(first)
    served.follow((HOST, second))
    await listening(second)
    with pytest.raises(ConnectionRefusedError):
        await ask(first, GET)
    served.follow(None)
    await asyncio.sleep(0.05)
    with pytest.raises(ConnectionRefusedError):
        await ask(second, GET)
