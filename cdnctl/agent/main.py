"""What `cdnctl agent` does: one agent for one edge, in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import signal
import socket
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from cdnctl import paths
from cdnctl.agent import logs, process
from cdnctl.agent.protocol import Role
from cdnctl.agent.server import Server
from cdnctl.agent.service import Manager, notify
from cdnctl.config import Config, read
from cdnctl.errors import CdnctlError
from cdnctl.model import Actor
from cdnctl.state import sharing

if TYPE_CHECKING:
    from cdnctl.engine.engine import Engine

_ENDING = (signal.SIGTERM, signal.SIGINT)
_RELOADING = signal.SIGHUP
_SIGNALLED = Actor(user="root", uid=0, pid=0, client="SIGHUP", role="operate")
"""Whoever it was: only root may signal the agent, and the kernel does not say who did."""

log = logging.getLogger("cdnctl.agent")


def run(
    config_path: Path | None = None,
    *,
    netns: str | None = None,
    detach_on_exit: bool = False,
    log_style: logs.Style = "text",
) -> int:
    """Load, attach and serve until SIGTERM, SIGINT or a `Stop`; returns the exit status.

    On SIGHUP the configuration is read again. The data path stays in force afterwards, unless
    `detach_on_exit` or the `Stop` say otherwise. Raises CdnctlError for what keeps it from starting.
    """
    faulthandler.enable()  # a watchdog's SIGABRT: the log then shows where it hung
    for number in _ENDING:  # until the server takes over, so that an early end cleans up too
        signal.signal(number, _end_early)
    signal.pthread_sigmask(signal.SIG_BLOCK, {_RELOADING})  # it waits until we serve
    config = read((config_path or paths.config_path()).absolute())
    logs.to_stderr(log_style, config.edge.name)
    process.require_privileges()
    if netns:
        process.enter_netns(netns)
    with process.sole_agent(config.edge.name):
        engine = _start_engine(config)
        manager = Manager()
        server = Server(engine, config.edge.name, manager=manager)
        process.note_start(config.edge.name, config.path)
        sharing.journal(config.edge.name)
        try:
            with process.listening(config.edge.name) as sockets:
                asyncio.run(_serve(server, sockets, manager))
        finally:
            for number in (*_ENDING, _RELOADING):  # asked twice to end, it must still end in order
                signal.signal(number, signal.SIG_IGN)
            notify("STOPPING=1", "STATUS=ending")
            detach = detach_on_exit or server.detach_wanted
            engine.close(detach=detach)
            if detach:
                paths.start_path(config.edge.name).unlink(missing_ok=True)
            log.info("ended; the data path is %s", "detached" if detach else "left in force")
    return 0


async def _serve(server: Server, sockets: dict[Role, socket.socket], manager: Manager) -> None:
    loop = asyncio.get_running_loop()

    def end(_number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: we are ending already
            loop.call_soon_threadsafe(server.stop)

    # Not the loop's own handlers: closing, it would reset them, and a second signal kill us in mid-detach.
    for number in _ENDING:
        signal.signal(number, end)

    def reload(_number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(server.reload, _SIGNALLED)

    signal.signal(_RELOADING, reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {_RELOADING})
    serving = asyncio.create_task(server.serve(sockets))
    log.info("serving edge %s on %s", server.edge, paths.socket_path(server.edge))
    manager.ready()
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
