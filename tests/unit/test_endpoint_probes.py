"""Probes against real servers on loopback, well and ill; rise and fall, and real flows beside them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from certificates import Certificate, certificate

from cdnctl.steering.probes import (
    Health,
    Passive,
    Probe,
    Prober,
    Result,
    Target,
    ask,
    certificate_warning,
    combined,
    wait_s,
)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ADDRESS = "127.0.0.1"


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: Certificate | None = None) -> AsyncIterator[int]:
    """A server on loopback; its port."""
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.cert, tls.key)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, ADDRESS, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def answering(
    status: int = 200, body: bytes = b"all is well", pause_s: float = 0.0, **headers: str
) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(pause_s)
        lines = [
            f"HTTP/1.1 {status} x",
            f"Content-Length: {len(body)}",
            *(f"{k}: {v}" for k, v in headers.items()),
        ]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await writer.drain()

    return handle


PLAIN = Probe(kind="http", is_tls=False, timeout_s=1)


async def test_tcp() -> None:
    async with serving(answering()) as port:
        result = await ask(ADDRESS, port, Probe())
    assert result.is_good
    assert result.connect_ms is not None
    assert 0 < result.connect_ms < 500


async def test_nobody_there() -> None:
    with socket.create_server((ADDRESS, 0)) as taken:
        port = taken.getsockname()[1]
    result = await ask(ADDRESS, port, Probe())
    assert (result.fault, result.connect_ms) == ("connect", None)
    assert "refused" in result.text


async def test_http_and_its_times() -> None:
    asked = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        await asyncio.sleep(0.1)
        writer.write(b"HTTP/1.1 204 x\r\nX-Served-By: pop7\r\n\r\n")
        await writer.drain()

    async with serving(handle) as port:
        result = await ask(
            ADDRESS, port, Probe(kind="http", is_tls=False, host="www.example.net", path="/health?x=1")
        )
    assert result.is_good
    assert result.status == 204
    assert result.first_byte_ms is not None
    assert 100 <= result.first_byte_ms < 600
    assert asked[0].startswith("GET /health?x=1 HTTP/1.1\r\nHost: www.example.net\r\n")


@pytest.mark.parametrize(
    ("handler", "probe", "fault", "words"),
    [
        (answering(503), PLAIN, "status", "it answers 503, not 200 to 399"),
        (
            answering(200),
            Probe(kind="http", is_tls=False, status=(204, 204)),
            "status",
            "it answers 200, not 204",
        ),
        (
            answering(),
            Probe(kind="http", is_tls=False, header=("X-Pop", "ams")),
            "header",
            "its X-Pop is missing",
        ),
        (
            answering(**{"X-Pop": "fra7"}),
            Probe(kind="http", is_tls=False, header=("x-pop", "ams")),
            "header",
            "is 'fra7'",
        ),
        (answering(), Probe(kind="http", is_tls=False, body="no trouble"), "body", "has no 'no trouble'"),
        (answering(pause_s=3), Probe(kind="http", is_tls=False, timeout_s=0.3), "slow", "no whole answer"),
        (answering(), Probe(kind="http", is_tls=False, path="/a b\r\nX: y"), "answer", "cannot be asked"),
    ],
)
async def test_answers_that_are_not_as_asked(handler: Handler, probe: Probe, fault: str, words: str) -> None:
    async with serving(handler) as port:
        result = await ask(ADDRESS, port, probe)
    assert result.fault == fault
    assert words in result.text
    assert result.connect_ms is not None


async def test_answers_that_are_as_asked() -> None:
    probe = Probe(kind="http", is_tls=False, header=("x-pop", "ams"), body="is well", status=(200, 200))
    async with serving(answering(**{"X-Pop": "ams7"})) as port:
        assert (await ask(ADDRESS, port, probe)).is_good


async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")


async def noise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 smtp.example.net ready\r\n")


async def endless_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(5000):
        writer.write(b"X-More: " + b"x" * 1000 + b"\r\n")
        await writer.drain()


async def endless_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(5000):
        writer.write(b"x" * 10_000)
        await writer.drain()


@pytest.mark.parametrize(
    ("handler", "fault"),
    [(nothing, "answer"), (noise, "answer"), (endless_headers, "answer"), (endless_body, "body")],
)
async def test_servers_that_misbehave(handler: Handler, fault: str) -> None:
    async with serving(handler) as port:
        result = await ask(ADDRESS, port, Probe(kind="http", is_tls=False, body="needle", timeout_s=2))
    assert result.fault == fault
    assert result.text.isprintable()


@pytest.fixture
def good(tmp_path: Path) -> Certificate:
    return certificate(tmp_path, "www.example.net", datetime.timedelta(days=3))


async def test_tls_with_sni_and_expiry(good: Certificate) -> None:
    probe = Probe(kind="tls", host="www.example.net", ca_file=str(good.cert))
    async with serving(answering(), good) as port:
        result = await ask(ADDRESS, port, probe)
        https = await ask(ADDRESS, port, Probe(kind="http", host="www.example.net", ca_file=str(good.cert)))
    assert result.is_good, result
    assert result.tls_ms is not None
    assert result.certificate_days is not None
    assert 2.9 < result.certificate_days < 3.1
    assert certificate_warning(result, probe) == "its certificate ends in 3 days"
    assert not certificate_warning(result, Probe(warn_days=2))
    assert https.is_good
    assert https.status == 200


async def test_certificates_that_are_wrong(good: Certificate, tmp_path: Path) -> None:
    over = certificate(tmp_path, "old.example.net", datetime.timedelta(hours=-1))
    for shown, probe, words in [
        (good, Probe(kind="tls", host="other.example.net", ca_file=str(good.cert)), "ostname mismatch"),
        (good, Probe(kind="tls", host="www.example.net"), "self-signed"),
        (over, Probe(kind="http", host="old.example.net", ca_file=str(over.cert)), "expired"),
    ]:
        async with serving(answering(), shown) as port:
            result = await ask(ADDRESS, port, probe)
        assert result.fault == "certificate"
        assert words in result.text
        assert result.connect_ms is not None


async def test_no_tls_at_all() -> None:
    async with serving(noise) as port:
        result = await ask(ADDRESS, port, Probe(kind="tls"))
    assert result.fault == "tls"


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3)


async def test_a_server_that_says_nothing_takes_no_longer_than_its_time() -> None:
    async with serving(silent) as port:
        before = asyncio.get_running_loop().time()
        result = await ask(ADDRESS, port, Probe(kind="tls", timeout_s=0.3))
        assert asyncio.get_running_loop().time() - before < 1
    assert result.fault == "slow"
    assert "no TLS session" in result.text


async def test_its_own_source_ports() -> None:
    seen = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("peername")[1])

    with socket.create_server(("0.0.0.0", 0)) as taken:  # one of the ports is not to be had
        port_taken = taken.getsockname()[1]
        ports = (port_taken - 3, port_taken)
        async with serving(handle) as port:
            results = [await ask(ADDRESS, port, Probe(ports=ports), random.Random(n)) for n in range(6)]
            await asyncio.sleep(0.05)
    good = [result for result in results if result.is_good]
    assert len(good) >= 3
    assert all(ports[0] <= each <= ports[1] for each in seen)


def test_rise_and_fall() -> None:
    probe, good, bad = Probe(rise=3, fall=2), Result(), Result("status", "it answers 503, not 200 to 399")
    health = Health().after(good, probe)
    assert health.state == "well", "the first one decides"
    health = health.after(bad, probe)
    assert health.state == "well"
    health = health.after(bad, probe)
    assert (health.state, health.fault) == ("ill", "status")
    for state in ("ill", "ill", "well"):
        health = health.after(good, probe)
        assert health.state == state
    assert Health().after(bad, probe).state == "ill"


ILL = Health(state="ill", bad=2, fault="connect", text="no connection: refused")


@pytest.mark.parametrize(
    ("health", "passive", "is_well", "words"),
    [
        (Health(), Passive(), True, ""),
        (ILL, Passive(), False, "no connection"),
        (ILL, Passive(19, 0.0), False, "no connection"),
        (ILL, Passive(20, 0.1), True, "real flows are well"),
        (Health(state="well"), Passive(20, 0.5), False, "50 % of 20 real flows fail"),
        (Health(state="well"), Passive(19, 1.0), True, ""),
        (Health(state="ill", fault="status", text="it answers 503"), Passive(5000, 0.0), False, "503"),
        (Health(state="ill", fault="certificate", text="expired"), Passive(5000, 0.0), False, "expired"),
        (Health(state="well", bad=1, fault="status"), Passive(5000, 0.0), True, ""),
    ],
)
def test_real_flows_lead_but_do_not_see_everything(
    health: Health, passive: Passive, is_well: bool, words: str
) -> None:
    verdict = combined(health, passive)
    assert verdict.is_well == is_well
    assert words in verdict.why


def test_not_all_at_once() -> None:
    chance = random.Random(1)
    waits = [wait_s(Probe(every_s=10), chance) for _ in range(100)]
    assert min(waits) >= 8
    assert max(waits) <= 12
    assert max(waits) - min(waits) > 3


async def test_a_server_that_turns_to_503_is_ill_within_two_intervals_whatever_packets_say() -> None:
    status, every_s = 200, 0.2
    turned_s = 0.0
    ill = asyncio.Event()
    loop = asyncio.get_running_loop()
    heard: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(status)(reader, writer)

    def hear(name: str, result: Result, health: Health) -> None:
        heard.append(name)
        if not combined(health, Passive(attempts=1000, failures=0.0)).is_well:
            assert health.text == "it answers 503, not 200 to 399"
            ill.set()

    async with serving(handle) as port:
        probe = Probe(kind="http", is_tls=False, every_s=every_s, fall=2)
        prober = Prober(hear, random.Random(1))
        targets = {"aurora": Target(ADDRESS, port, probe)}
        prober.follow(targets)
        while len(heard) < 3:
            await asyncio.sleep(0.02)
        assert not ill.is_set()
        status, turned_s = 503, loop.time()
        async with asyncio.timeout(5):
            await ill.wait()
        assert loop.time() - turned_s < 2 * every_s * 1.2 + 0.2
        task = asyncio.all_tasks()
        prober.follow(targets)
        assert asyncio.all_tasks() == task, "undisturbed"
        await prober.close()
        assert not [each for each in asyncio.all_tasks() if each.get_name().startswith("probe")]


async def test_targets_come_and_go() -> None:
    heard: dict[str, int] = {}

    def hear(name: str, result: Result, health: Health) -> None:
        heard[name] = heard.get(name, 0) + 1

    async with serving(answering()) as port:
        prober = Prober(hear)
        many = {f"e{n}": Target(ADDRESS, port, Probe(every_s=0.05)) for n in range(40)}
        prober.follow(many)
        async with asyncio.timeout(5):
            while len(heard) < 40:
                await asyncio.sleep(0.02)
        prober.follow({"e1": many["e1"], "e2": Target(ADDRESS, port, Probe(every_s=0.04))})
        await asyncio.sleep(0)
        assert set(prober.health) == {"e1"}, "asked otherwise, it is another"
        heard.clear()
        await asyncio.sleep(0.3)
        assert set(heard) == {"e1", "e2"}
        await prober.close()
        heard.clear()
        await asyncio.sleep(0.1)
        assert not heard
