"""A CDN of the lab: a real nginx, whose bodies say who served them and can be checked byte by byte.

It also gives back the number that came with a request (`/4096?n=17` answers `X-Ask: 17`), so that a
client notices an answer that was meant for another; and that number may be thousands of digits long, so
that questions, too, come in many segments. `BIG` is for downloads that last.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

SIZES = (512, 4096, 16384)
"""Bytes of the objects each CDN serves, at the path of that name."""
BIG = "big"
"""The path of the large object, which all CDNs of a lab serve alike."""
SICK = "sick"
"""While a file of that name lies there, it answers TCP, and every request with 503."""
_BLOCK = 1 << 20

_CONFIG = """\
daemon off;
master_process off;  # one process: it leaves no orphan when it is killed
pid {home}/nginx.pid;
error_log {home}/error.log warn;
worker_rlimit_nofile 65536;
events {{ worker_connections 32768; }}
http {{
    access_log off;
    default_type application/octet-stream;
    client_body_temp_path {home}/tmp;
    proxy_temp_path {home}/tmp;
    fastcgi_temp_path {home}/tmp;
    uwsgi_temp_path {home}/tmp;
    scgi_temp_path {home}/tmp;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    large_client_header_buffers 8 64k;
    reset_timedout_connection on;
    server {{
        {listen}
        root {home}/www;
        add_header X-Ask $arg_n;
        add_header X-Cdn {cdn};
        if (-f {home}/{sick}) {{ return 503; }}
    }}
}}
"""


@functools.cache
def body(cdn: str, size: int) -> bytes:
    """What `cdn` serves at `/SIZE`: its name in the first line, then bytes that follow from both."""
    head = f"{cdn}\n".encode()
    pattern = hashlib.sha256(f"{cdn}/{size}".encode()).hexdigest().encode() + b"\n"
    return (head + pattern * (size // len(pattern) + 1))[:size]


def write_big(path: Path, megabytes: int) -> str:
    """Write a large object, no megabyte of it like another; return its SHA-256, in hex."""
    whole = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(megabytes):
            block = hashlib.shake_128(number.to_bytes(4, "big")).digest(_BLOCK)
            whole.update(block)
            file.write(block)
    return whole.hexdigest()


def serve_too(home: Path, name: str, file: Path) -> None:
    """Have a CDN serve a file that is there already."""
    os.link(file, home / "www" / name)


def write(home: Path, cdn: str, ports: Sequence[int]) -> None:
    """Write the objects and the configuration.

    It listens on every address of its namespace: what came out of a tunnel is for the VIP.
    """
    www = home / "www"
    www.mkdir(parents=True)
    (home / "tmp").mkdir()
    for size in SIZES:
        (www / str(size)).write_bytes(body(cdn, size))
    # nginx run by root reads files as its unprivileged user.
    for directory in (home.parent, home, www):
        directory.chmod(0o755)
    listen = " ".join(f"listen {address}{port} backlog=8192;" for port in ports for address in ("", "[::]:"))
    (home / "nginx.conf").write_text(_CONFIG.format(home=home, cdn=cdn, listen=listen, sick=SICK))


def command(home: Path) -> list[str]:
    """Serve what was written there."""
    return ["nginx", "-p", str(home), "-e", str(home / "error.log"), "-c", str(home / "nginx.conf")]
