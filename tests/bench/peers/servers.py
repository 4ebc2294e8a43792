"""The servers: nginx as the origins, HAProxy and nginx (stream) in between, each as fast as it can be set.

All have a thread or a process for each of the box's processors, and none writes a log.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from cdnctl.lab import netns
from cdnctl.lab.processes import LabError, start
from tests.bench.peers.place import EDGE, HOME, HOPS, ORIGINS, PORT

BIG_BYTES = 64 << 20
"""Of the object `/big`."""
WORKERS = os.cpu_count() or 1
_START_S = 10.0
_STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"

# One process each, with a socket of its own on the same port: the kernel spreads connections over them,
# and none outlives a bench that is killed, as workers would outlive their master.
_NGINX = """\
daemon off;
master_process off;
pid {home}/nginx.pid;
error_log {home}/error.log crit;

events {{ worker_connections 8192; multi_accept on; }}
"""
_ORIGIN = """\
http {{
    access_log off;
    client_body_temp_path {home}/tmp;
    proxy_temp_path {home}/tmp;
    fastcgi_temp_path {home}/tmp;
    uwsgi_temp_path {home}/tmp;
    scgi_temp_path {home}/tmp;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    sendfile on;
    tcp_nopush on;
    server {{
        {listen}
        location = / {{ return 200 "{body}"; }}
        location = /big {{ root {www}; }}
    }}
}}
"""
_STREAM = """\
load_module {module};
stream {{
    access_log off;
    upstream origins {{ {servers} }}
    server {{ listen {vip}:{port} reuseport backlog=8192; proxy_pass origins; tcp_nodelay on; }}
}}
"""
_HAPROXY = """\
global
    nbthread {workers}
    maxconn 4096
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
    option splice-auto
listen origins
    bind {vip}:{port} backlog 8192
    balance roundrobin
    {servers}
"""

Process = subprocess.Popen[bytes]


def origins(log: IO[bytes]) -> list[Process]:
    """Start the origins."""
    www = HOME / "www"
    www.mkdir()
    with (www / "big").open("wb") as file:
        file.truncate(BIG_BYTES)
    for directory in (HOME, www):
        directory.chmod(0o755)  # nginx run by root reads files as its unprivileged user
    listen = " ".join(f"listen {hop}:{PORT} reuseport deferred backlog=8192;" for hop in HOPS)
    return _nginx("origin", ORIGINS, _ORIGIN, HOPS, log, listen=listen, body="x" * 512, www=www)


def stream(vip: str, log: IO[bytes]) -> list[Process]:
    """Start nginx as a balancer of TCP."""
    servers = " ".join(f"server {hop}:{PORT};" for hop in HOPS)
    # what loads a module stands before everything else
    head, _, rest = _STREAM.partition("\n")
    return _nginx(
        "stream",
        EDGE,
        rest,
        [vip],
        log,
        head=head,
        module=_STREAM_MODULE,
        servers=servers,
        vip=vip,
        port=PORT,
    )


def haproxy(vip: str, log: IO[bytes]) -> list[Process]:
    """Start HAProxy in TCP mode."""
    servers = "\n    ".join(f"server origin{n} {hop}:{PORT}" for n, hop in enumerate(HOPS))
    file = HOME / "haproxy.cfg"
    file.write_text(_HAPROXY.format(workers=WORKERS, vip=vip, port=PORT, servers=servers))
    process = start(["haproxy", "-q", "-db", "-f", str(file)], namespace=EDGE, stderr=log)
    _await(EDGE, [vip], [process], "HAProxy", log)
    return [process]


def _nginx(
    what: str,
    namespace: str,
    text: str,
    addresses: Sequence[str],
    log: IO[bytes],
    *,
    head: str = "",
    **values: object,
) -> list[Process]:
    processes = []
    for number in range(WORKERS):
        home = HOME / f"{what}{number}"
        (home / "tmp").mkdir(parents=True)
        config = home / "nginx.conf"
        config.write_text((f"{head}\n" + _NGINX + text).format(home=home, **values))
        command = ["nginx", "-p", str(home), "-e", str(home / "error.log"), "-c", str(config)]
        processes.append(start(command, namespace=namespace, stderr=log))
    _await(namespace, addresses, processes, f"nginx ({what})", log)
    return processes


def _await(
    namespace: str, addresses: Sequence[str], processes: Sequence[Process], what: str, log: IO[bytes]
) -> None:
    """Until it takes connections at all of its addresses. Raises LabError."""
    deadline = time.monotonic() + _START_S
    for address in addresses:
        while not _answers(namespace, address):
            if any(process.poll() is not None for process in processes) or time.monotonic() > deadline:
                raise LabError(f"{what} does not come up:\n{Path(log.name).read_text()}")
            time.sleep(0.01)


def _answers(namespace: str, address: str) -> bool:
    with netns.entered(namespace):
        probe = socket.socket()
    with probe:
        return probe.connect_ex((address, PORT)) == 0
