"""Starting an agent in a session of its own, so that losing the terminal ends only the terminal."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from cdnctl import paths
from cdnctl.agent.blocking import Client
from cdnctl.agent.edge import edge_of_config
from cdnctl.agent.process import make_run_dir, require_privileges
from cdnctl.errors import AgentRuns, CdnctlError, NoAgent
from cdnctl.python import python_module

START_TIMEOUT_S = 60.0
"""Compiling takes a second or two; on a busy box it may take many."""
_POLL_S = 0.05
_LOG_SHOWN = 4000
"""Characters of a failed agent's output that are passed on."""


def ensure_agent(
    config: Path | None = None, netns: str | None = None, *, timeout_s: float = START_TIMEOUT_S
) -> Path:
    """The socket of the agent for `config` (default: the operator's file), started if need be.

    Returns when it answers. Raises CdnctlError with the agent's own words when it cannot start,
    NotPermitted when this user may not start one, AgentSilent when there is one that hangs.
    """
    file = (config or paths.config_path()).absolute()
    # Only the name is looked at: the agent checks the file, and its words are passed on.
    edge = edge_of_config(file)
    socket_path = paths.socket_path(edge) if edge else None
    if socket_path is not None and _answers(socket_path):
        return socket_path
    require_privileges()
    return _start(file, edge or "agent", netns, timeout_s)


def log_path(edge: str) -> Path:
    """Where an agent that was started in the background writes."""
    return paths.run_dir() / f"{edge}.log"


def _answers(socket_path: Path) -> bool:
    try:
        Client(socket_path, client="start").close()
    except NoAgent:
        return False
    return True


def _start(file: Path, edge: str, netns: str | None, timeout_s: float) -> Path:
    command = python_module("cdnctl", "agent", "-c", str(file))
    if netns:
        command += ["--netns", netns]
    log = log_path(edge)
    try:
        make_run_dir()
        # Not truncated: an agent that runs already may be writing there.
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        begin = os.fstat(output).st_size
    except OSError as error:
        raise CdnctlError(
            f"{log}: {error.strerror}", "the agent's log goes there; make it writable"
        ) from None
    try:
        agent = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            env=_environment(),
        )
    finally:
        os.close(output)
    socket_path = paths.socket_path(edge)
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        # With AgentRuns somebody else was quicker to start one: it is on its way.
        if agent.poll() not in (None, AgentRuns.exit_code):
            raise CdnctlError(
                _last_words(log, begin) or f"the agent ended at once, status {agent.returncode}"
            )
        if socket_path.exists() and _answers(socket_path):
            return socket_path
        time.sleep(_POLL_S)
    agent.terminate()
    raise CdnctlError(
        f"the agent was not ready within {timeout_s:g} s and was ended:\n{_last_words(log, begin)}",
        f"run it in the foreground to watch: cdnctl agent -c {file}",
    )


def _environment() -> dict[str, str]:
    """Ours, with every path in it made absolute, and this very package found first."""
    environment = dict(os.environ)
    for name in ("CDNCTL_RUN_DIR", "CDNCTL_STATE_DIR", "CDNCTL_CONFIG", "CDNCTL_CACHE_DIR"):
        if environment.get(name):
            environment[name] = str(Path(environment[name]).absolute())
    others = environment.get("PYTHONPATH", "").split(os.pathsep)
    environment["PYTHONPATH"] = os.pathsep.join([str(paths.PACKAGE.parent), *filter(None, others)])
    environment.pop("NOTIFY_SOCKET", None)
    return environment


def _last_words(log: Path, begin: int) -> str:
    """What was written to `log` from byte `begin` on, shortened to its end."""
    text = log.read_bytes()[begin:].decode(errors="replace").strip()[-_LOG_SHOWN:]
    return text.removeprefix("cdnctl: ")
