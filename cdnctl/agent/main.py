"""What `cdnctl agent` does: one agent for one edge, in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from cdnctl import paths
from cdnctl.agent import process
from cdnctl.agent.protocol import Role
from cdnctl.agent.server import Server
from cdnctl.config import Config, ConfigError, load
from cdnctl.errors import CdnctlError

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

log = logging.getLogger("cdnctl.agent")


def run(config_path: Path | None = None, *, netns: str | None = None, detach_on_exit: bool = False) -> int:
    """Load, attach and serve until SIGTERM, SIGINT, SIGHUP or a `Stop`; returns the exit status.

    The data path stays in force afterwards, unless `detach_on_exit` or the `Stop` say otherwise.
    Raises CdnctlError for what keeps it from starting.
    """
    _log_to_stderr()
    for number in _ENDING:  # until the server takes over, so that an early end cleans up too
        signal.signal(number, _end_early)
    config = read_config(config_path or paths.config_path())
    process.require_privileges()
    if netns:
        process.enter_netns(netns)
    with process.sole_agent(config.edge.name):
        engine = _start_engine(config)
        server = Server(engine, config.edge.name)
        try:
            with process.listening(config.edge.name) as sockets:
                asyncio.run(_serve(server, sockets))
        finally:
            for number in _ENDING:  # asked twice to end, it must still end in order
                signal.signal(number, signal.SIG_IGN)
            process.notify("STOPPING=1")
            detach = detach_on_exit or server.detach_wanted
            engine.close(detach=detach)
            log.info("ended; the data path is %s", "detached" if detach else "left in force")
    return 0


def read_config(path: Path) -> Config:
    """The operator's file; raises CdnctlError naming all its mistakes."""
    try:
        return load(path)
    except ConfigError as error:
        problems = "\n".join(f"  {problem}" for problem in error.problems)
        raise CdnctlError(
            f"the configuration cannot be used:\n{problems}", f"`cdnctl check -c {path}` checks it again"
        ) from None


async def _serve(server: Server, sockets: dict[Role, socket.socket]) -> None:
    loop = asyncio.get_running_loop()

    def end(_number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are ending already
            loop.call_soon_threadsafe(server.stop)

    # Not the loop's own handlers: closing, it would reset them, and a second signal kill us in mid-detach.
    for number in _ENDING:
        signal.signal(number, end)
    serving = asyncio.create_task(server.serve(sockets))
    log.info("serving edge %s on %s", server.edge, paths.socket_path(server.edge))
    process.notify("READY=1")
    await serving


def _start_engine(config: Config) -> Engine:
    try:
        from cdnctl.engine.engine import Engine
    except ModuleNotFoundError as error:
        if error.name != "bcc":
            raise
        raise CdnctlError(
            "BCC is missing: it compiles and loads the data path",
            "install the distribution's package python3-bpfcc (the one called bcc on the Python "
            "package index is something else)",
        ) from None
    engine = Engine(config)
    engine.start()
    return engine


def _end_early(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
    root = logging.getLogger("cdnctl")
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
