"""Gets a list from a file or by HTTP, with every limit that a stranger's server calls for.

It may be large, slow, moved, or not what it was: the size, the whole time and the redirects are bounded,
certificates are verified, and nobody is led from https to http. What has not changed is not sent again
(`ETag`, `Last-Modified`).
"""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cdnctl import __version__
from cdnctl.defence.feeds.entries import FeedError, clipped
from cdnctl.defence.feeds.store import Stored

if TYPE_CHECKING:
    import httpx


class FetchLimits(NamedTuple):
    """What a list may take."""

    most_bytes: int = 64 << 20
    """Unpacked; a million prefixes take 18 MB."""
    whole_s: float = 60.0
    """From the first look-up to the last byte."""
    step_s: float = 10.0
    """Of connecting, and between two pieces."""
    redirects: int = 3


USUAL = FetchLimits()


def is_url(source: str) -> bool:
    """Whether it is one, and no file."""
    return source.startswith(("http://", "https://"))


def fetch(
    source: str,
    last: Stored | None = None,
    limits: FetchLimits = USUAL,
    tls: ssl.SSLContext | None = None,
) -> Stored | None:
    """The list at `source`, a file or URL; None if it is the same as `last`. Raises FeedError.

    Blocks for up to `limits.whole_s`: for a thread of its own.
    """
    if last is not None and last.source != source:
        last = None
    if is_url(source):
        return _by_http(source, last, limits, tls)
    if "://" in source:
        raise FeedError(
            f"{clipped(source, 200)}: no such kind of address", "write a file's path, http:// or https://"
        )
    return _from_file(source, last, limits)


def _from_file(source: str, last: Stored | None, limits: FetchLimits) -> Stored | None:
    try:
        # Not to hang on a pipe that nobody writes into.
        with open(os.open(Path(source), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FeedError(f"{source} is no file", "name a file or an URL")
            data = file.read(limits.most_bytes + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise FeedError(
            f"cannot read {source}: {why}", "name a file that is there and readable, or an URL"
        ) from None
    if len(data) > limits.most_bytes:
        raise _too_large(source, limits)
    if last is not None and data == last.data:
        return None
    return Stored(source=source, data=data, at_ns=time.time_ns())


def _by_http(
    source: str, last: Stored | None, limits: FetchLimits, tls: ssl.SSLContext | None
) -> Stored | None:
    import httpx  # takes a while, and most commands need none of it

    try:
        return asyncio.run(_within(source, last, limits, tls))
    except (httpx.TimeoutException, TimeoutError):
        raise FeedError(
            f"{source} took longer than {limits.whole_s:g} s, or {limits.step_s:g} s without a byte",
            "the last good list stays; it is asked for again",
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise FeedError(
            f"cannot fetch {source}: {clipped(str(error) or type(error).__name__, 200)}",
            "see whether this box reaches it: curl -sSI URL; until then the last good list stays",
        ) from None


async def _within(
    source: str, last: Stored | None, limits: FetchLimits, tls: ssl.SSLContext | None
) -> Stored | None:
    import httpx

    headers = {"User-Agent": f"cdnctl/{__version__}", "Accept": "*/*"}
    if last is not None and last.etag:
        headers["If-None-Match"] = last.etag
    if last is not None and last.modified:
        headers["If-Modified-Since"] = last.modified
    context = tls or ssl.create_default_context()
    async with asyncio.timeout(limits.whole_s):  # also for one who sends his headers a byte at a time
        async with httpx.AsyncClient(timeout=limits.step_s, verify=context) as client:
            return await _follow(client, source, headers, limits)


async def _follow(
    client: httpx.AsyncClient, source: str, headers: dict[str, str], limits: FetchLimits
) -> Stored | None:
    url = source
    for _ in range(limits.redirects + 1):
        async with client.stream("GET", url, headers=headers) as answer:
            if answer.has_redirect_location and answer.next_request is not None:
                there = str(answer.next_request.url)
                if url.startswith("https://") and not there.startswith("https://"):
                    raise FeedError(
                        f"{source} leads from https to {clipped(there)}", "ask for an address by https"
                    )
                url = there
                continue
            if answer.status_code == 304:
                return None
            if answer.status_code != 200:
                raise FeedError(
                    f"{source} answers {answer.status_code} {clipped(answer.reason_phrase)}".rstrip(),
                    "see whether it has moved or wants a key; until then the last good list stays",
                )
            data = await _body(answer, source, limits)
            etag, modified = answer.headers.get("etag", ""), answer.headers.get("last-modified", "")
            return Stored(source=source, data=data, at_ns=time.time_ns(), etag=etag, modified=modified)
    raise FeedError(f"{source} redirects more than {limits.redirects} times", "name the address it ends at")


async def _body(answer: httpx.Response, source: str, limits: FetchLimits) -> bytes:
    pieces, size = [], 0
    async for piece in answer.aiter_bytes(1 << 16):
        pieces.append(piece)
        size += len(piece)
        if size > limits.most_bytes:
            raise _too_large(source, limits)
    return b"".join(pieces)


def _too_large(source: str, limits: FetchLimits) -> FeedError:
    return FeedError(
        f"{source} is larger than {limits.most_bytes / 2**20:.0f} MB", "see whether it is the right list"
    )
