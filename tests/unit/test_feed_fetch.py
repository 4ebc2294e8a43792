"""Fetching, keeping and scheduling, against real servers on loopback that behave as strangers' do."""

from __future__ import annotations

import contextlib
import datetime
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from certificates import Certificate, certificate

from cdnctl.defence.feeds import schedule
from cdnctl.defence.feeds.entries import FeedError
from cdnctl.defence.feeds.fetch import FetchLimits, fetch
from cdnctl.defence.feeds.store import Store, Stored
from cdnctl.errors import CdnctlError

LIST = b"192.0.2.0/24\n"
Answer = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def serving(answer: Answer, tls: Certificate | None = None) -> Iterator[str]:
    """A server on loopback; its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                answer(self)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.cert, tls.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def plain(handler: BaseHTTPRequestHandler, body: bytes = LIST, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_bytes(LIST)
    first = fetch(str(file))
    assert first is not None
    assert first.data == LIST
    assert fetch(str(file), first) is None
    file.write_bytes(LIST * 2)
    assert fetch(str(file), first) is not None
    with pytest.raises(FeedError, match="is larger than"):
        fetch(str(file), None, FetchLimits(most_bytes=20))


def test_what_has_not_changed_is_not_sent_again() -> None:
    asked = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.headers["If-None-Match"])
        if handler.headers["If-None-Match"] == '"7"':
            plain(handler, b"", 304)
        else:
            plain(handler, ETag='"7"', Last_Modified="Mon, 23 Nov 2026 10:00:00 GMT")

    with serving(answer) as url:
        first = fetch(url)
        assert first is not None
        assert (first.data, first.etag) == (LIST, '"7"')
        assert fetch(url, first) is None
        assert fetch(f"{url}/other", first) is not None, "another source has other tags"
    assert asked == [None, '"7"', None]


def test_redirects_are_followed_but_not_for_ever() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        left = int(handler.path.strip("/") or 0)
        if left:
            plain(handler, b"", 302, Location=f"/{left - 1}")
        else:
            plain(handler)

    with serving(answer) as url:
        found = fetch(f"{url}/3")
        assert found is not None
        assert found.source == f"{url}/3"
        with pytest.raises(FeedError, match="redirects more than 3 times"):
            fetch(f"{url}/4")


@pytest.mark.parametrize(
    ("status", "words"), [(404, "answers 404"), (503, "answers 503"), (204, "answers 204")]
)
def test_other_answers_are_no_lists(status: int, words: str) -> None:
    with serving(lambda handler: plain(handler, b"", status)) as url, pytest.raises(FeedError, match=words):
        fetch(url)


def test_a_list_too_large_is_left_off_early() -> None:
    sent = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(400):
            handler.wfile.write(LIST * 10_000)
            sent.append(1)

    with serving(answer) as url, pytest.raises(FeedError, match="is larger than"):
        fetch(url, None, FetchLimits(most_bytes=1 << 20))
    assert len(sent) < 400


def dripping_body(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b"#\n")
        time.sleep(0.05)


def dripping_head(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def silent(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.settimeout(3)
    handler.connection.recv(1)


@pytest.mark.parametrize("answer", [dripping_body, dripping_head, silent])
def test_a_slow_server_does_not_hold_us(answer: Answer) -> None:
    with serving(answer) as url:
        before = time.monotonic()
        with pytest.raises(FeedError, match="took longer"):
            fetch(url, None, FetchLimits(whole_s=0.4, step_s=0.3))
        assert time.monotonic() - before < 2


def test_nobody_there_and_nonsense() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(FeedError, match="cannot fetch"):
        fetch(f"http://127.0.0.1:{port}/")
    for source in ("http://", "http://[::1", "https:///x", "http://a b/"):
        with pytest.raises(FeedError):
            fetch(source, None, FetchLimits(whole_s=2))


def test_certificates_are_verified(tmp_path: Path) -> None:
    own = certificate(tmp_path, "127.0.0.1", datetime.timedelta(hours=1))
    trusting = ssl.create_default_context(cafile=str(own.cert))
    with serving(plain, own) as url:
        with pytest.raises(FeedError, match="CERTIFICATE_VERIFY_FAILED"):
            fetch(url)
        found = fetch(url, tls=trusting)
        assert found is not None
        assert found.data == LIST


def test_nobody_is_led_from_https_to_http(tmp_path: Path) -> None:
    own = certificate(tmp_path, "127.0.0.1", datetime.timedelta(hours=1))
    trusting = ssl.create_default_context(cafile=str(own.cert))
    with serving(plain) as open_url:
        with serving(lambda handler: plain(handler, b"", 301, Location=open_url), own) as url:
            with pytest.raises(FeedError, match="leads from https to http:"):
                fetch(url, tls=trusting)


def test_the_last_good_list_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "feeds")
    assert store.load("drop") is None
    stored = Stored(source="https://x", data=b"192.0.2.1\n\x00\n", at_ns=7, etag='"a\nb"')
    store.save("drop", stored)
    assert store.load("drop") == stored
    assert [each.name for each in (tmp_path / "feeds").iterdir()] == ["drop.feed"]
    path = tmp_path / "feeds" / "drop.feed"
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert store.load("drop") is None, "half a list is none"
    store.forget("drop")
    store.forget("drop")
    with pytest.raises(CdnctlError, match="no name of a feed"):
        store.load("../../etc/passwd")


def test_a_write_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    old = Stored(source="x", data=LIST, at_ns=1)
    store.save("drop", old)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cdnctl.state.os.fsync", full)
    with pytest.raises(CdnctlError, match="No space left"):
        store.save("drop", Stored(source="x", data=LIST * 9, at_ns=2))
    assert store.load("drop") == old
    assert len(list(tmp_path.iterdir())) == 1


def test_schedule() -> None:
    chance = random.Random(1)
    due = schedule.first(100, 3600, None, chance)
    assert due.at_s == 100
    waits = []
    for _ in range(10):
        due = due.after(0, 3600, False, chance)
        waits.append(due.at_s)
    assert 27 <= waits[0] <= 33
    assert 54 <= waits[1] <= 66
    assert all(3240 <= wait <= 3960 for wait in waits[7:])
    good = [due.after(0, 3600, True, chance) for _ in range(200)]
    assert all(3240 <= each.at_s <= 3960 and not each.failures for each in good)
    assert max(good).at_s - min(good).at_s > 500, "not all edges at once"
    spread = [schedule.first(0, 3600, 3000, chance).at_s for _ in range(200)]
    assert min(spread) >= 600
    assert max(spread) <= 960
    assert all(due.after(0, 3600, False, chance).at_s < 4000 for due in [schedule.Due(0, 10**6)])
