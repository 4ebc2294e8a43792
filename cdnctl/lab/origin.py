"""A CDN of the lab: a real nginx, whose bodies say who served them and can be checked byte by byte.

It also gives back the number that came with a request (`/4096?n=17` answers `X-Ask: 17`), so that a
client notices an answer that was meant for another.
"""

from __future__ import annotations

import functools
import hashlib
import subprocess
from pathlib import Path
from typing import IO

SIZES = (512, 4096, 16384)
"""Bytes of the objects each CDN serves, at the path of that name."""

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
    reset_timedout_connection on;
    server {{
        listen {address}:{port} backlog=8192;
        root {home}/www;
        add_header X-Ask $arg_n;
    }}
}}
"""


@functools.cache
def body(cdn: str, size: int) -> bytes:
    """What `cdn` serves at `/SIZE`: its name in the first line, then bytes that follow from both."""
    head = f"{cdn}\n".encode()
    pattern = hashlib.sha256(f"{cdn}/{size}".encode()).hexdigest().encode() + b"\n"
    return (head + pattern * (size // len(pattern) + 1))[:size]


def write(home: Path, cdn: str, address: str, port: int) -> list[str]:
    """Write the objects and the configuration; return the command that serves them."""
    www = home / "www"
    www.mkdir(parents=True)
    (home / "tmp").mkdir()
    for size in SIZES:
        (www / str(size)).write_bytes(body(cdn, size))
    # nginx run by root reads files as its unprivileged user.
    for directory in (home.parent, home, www):
        directory.chmod(0o755)
    config = home / "nginx.conf"
    config.write_text(_CONFIG.format(home=home, address=address, port=port))
    return ["nginx", "-p", str(home), "-e", str(home / "error.log"), "-c", str(config)]


def check(command: list[str], log: IO[bytes]) -> bool:
    """Does nginx like its configuration?"""
    return subprocess.run([*command, "-t"], stdout=log, stderr=log, timeout=10, check=False).returncode == 0
