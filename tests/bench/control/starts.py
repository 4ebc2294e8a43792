"""The agent's start, cold and warm, as the service manager sees it."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cdnctl.agent.blocking import Client
from cdnctl.datapath import kernel
from cdnctl.lab import netns, processes
from cdnctl.model import BlockPrefix
from cdnctl.python import python_module
from tests.bench.decisions import rig
from tests.bench.results import Result, Unsound, beside, within

COLD_S, WARM_S, ANSWER_MS = 2.5, 0.5, 5.0
_PATIENCE_S = 30.0
_BLOCKS = 20
_READY = b"READY=1"
_IMPORTED = "import bcc, cdnctl.cli.verbs, cdnctl.agent.main, cdnctl.engine.engine, cdnctl.datapath.build"


class Starts:
    """Agents of the rig's edge, one after the other; its namespaces must be there."""

    def __init__(self) -> None:
        self._home = rig.HOME / "starts"
        self._home.mkdir()
        self._config = self._home / "cdnctl.toml"
        self._config.write_text(rig.config_of())
        self.answers_ms: list[float] = []

    def make_bytecode(self) -> None:
        """Of all that an agent and its compiler import."""
        subprocess.run(
            [sys.executable, "-c", _IMPORTED],
            env=processes.environment(self._environment(self._home)),
            timeout=_PATIENCE_S,
            check=True,
        )

    @contextlib.contextmanager
    def agent(self, *, cold: bool = False, leave: bool = False) -> Iterator[float]:
        """An agent that serves; gives the seconds until it was ready. It takes all down, or leaves it."""
        if cold:
            shutil.rmtree(self._home / "cache", ignore_errors=True)
        address = self._home / "notify"
        address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, (self._home / "log").open("ab") as log:
            told.bind(str(address))
            told.settimeout(_PATIENCE_S)
            command = python_module("cdnctl", "agent", "-c", str(self._config))
            began = time.perf_counter()
            agent = processes.start(
                command + ([] if leave else ["--detach-on-exit"]),
                namespace=rig.HERE,
                stderr=log,
                extra=self._environment(address),
            )
            try:
                self._await(told)
                took_s = time.perf_counter() - began
                self._check_attached()
                yield took_s
            finally:
                agent.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    agent.wait(_PATIENCE_S)
                processes.end(agent)

    def _environment(self, address: Path) -> dict[str, str]:
        """What is compiled, by Python or for the kernel, is kept for this run alone."""
        return {
            "CDNCTL_RUN_DIR": str(self._home),
            "CDNCTL_STATE_DIR": str(self._home),
            "CDNCTL_CACHE_DIR": str(self._home / "cache"),
            "CDNCTL_NO_CACHE": "",
            "NOTIFY_SOCKET": str(address),
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(self._home / "bytecode"),
        }

    def _await(self, told: socket.socket) -> None:
        try:
            while _READY not in told.recv(1024):
                pass
        except TimeoutError:
            words = (self._home / "log").read_text(errors="replace")[-1000:]
            raise Unsound(f"an agent was not ready within {_PATIENCE_S:g} s: {words}") from None

    def _check_attached(self) -> None:
        with netns.entered(rig.HERE):
            for name in (rig.CLIENTS_LINK, rig.CDNS_LINK):
                if not kernel.xdp_program_id(socket.if_nametoindex(name)):
                    raise Unsound(f"an agent said that it is ready, and {name} has no program")

    def ask_blocks(self) -> None:
        """Operators' blocks over the socket of the agent that serves, from sending to the answer."""
        path = self._home / f"{rig.NAME}.sock"
        with Client(path, client="bench") as client:
            for number in range(_BLOCKS):
                began = time.perf_counter()
                outcome = client.request(BlockPrefix(prefix=f"8.1.0.{number}"))
                self.answers_ms.append((time.perf_counter() - began) * 1e3)
                if not outcome.ok:
                    raise Unsound(f"a block was refused: {outcome.text}")


def rows(rounds: int) -> list[Result]:
    """All kinds of starts in turn. Raises Unsound."""
    starts = Starts()
    cold, compiled, in_place = list[float](), list[float](), list[float]()
    starts.make_bytecode()
    for _ in range(rounds):
        with starts.agent(cold=True) as took_s:
            cold.append(took_s)
        with starts.agent(leave=True) as took_s:
            compiled.append(took_s)
        with starts.agent() as took_s:
            in_place.append(took_s)
            if not starts.answers_ms:
                starts.ask_blocks()
    return [
        within("agent start, cold / limit", cold, COLD_S, unit="s", gate=True),
        within("agent start, compiled before, aim / limit", compiled, WARM_S, unit="s", gate=False),
        within("agent start, data path in place / limit", in_place, WARM_S, unit="s", gate=True),
        beside(
            "block by command, answered / limit of effect",
            starts.answers_ms,
            [ANSWER_MS] * len(starts.answers_ms),
            unit="ms",
        ),
    ]
