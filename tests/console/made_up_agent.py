"""A made-up edge behind the agent's real server, as a process: something to look at and to type at.

    CDNCTL_RUN_DIR=/tmp/made-up python tests/console/made_up_agent.py &
    CDNCTL_RUN_DIR=/tmp/made-up cdnctl --edge ams1

The incident of `frames.py` is its past, then it goes on in the flood. What it is asked to do it does,
as far as it shows, and writes to standard output, a line a command.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from pathlib import Path

import msgspec
import pictures
from crowd import Crowd
from frames import BOOT_NS, Edge, incident

from cdnctl import paths
from cdnctl.agent.process import listening
from cdnctl.agent.server import Server
from cdnctl.metrics.times import Times
from cdnctl.model import (
    Actor,
    AnyCommand,
    Arm,
    BlockPrefix,
    Change,
    Disarm,
    Drain,
    Frame,
    ListTalkers,
    Outcome,
    PacketFilter,
    Sampled,
    SetWeights,
    Unblock,
    Undrain,
)


class MadeUpEngine:
    """Serves the incident at once, then its live end."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.past = incident(edge)
        self.newest = self.past[-1]
        edge.step = ""
        edge.blocked, edge.dark = False, ""

    def look(self) -> None:
        """Nothing ever happens between two frames."""

    def frame(self) -> Frame:
        if self.past:
            return self.past.pop(0)
        now_ns = time.time_ns()
        self.newest = msgspec.structs.replace(
            self.edge.frame(), at_ns=now_ns, monotonic_ns=now_ns - self.edge.began_ns + BOOT_NS
        )
        return self.newest

    async def look_outside(self) -> None:
        """There is nothing outside."""
        await asyncio.Event().wait()

    def times(self) -> dict[str, Times]:
        return {}

    def metrics_listen(self) -> tuple[str, int] | None:
        return None

    def sampled(self, wanted: PacketFilter) -> Sampled:
        return pictures.packets()

    def execute(self, command: AnyCommand, actor: Actor) -> Outcome:
        if isinstance(command, ListTalkers) and isinstance(self.edge, Crowd):
            return Outcome(ok=True, text="", talkers=self.newest.talkers[: command.limit])
        if not isinstance(command, Change):
            return pictures.answer(command)
        if not command.dry_run:
            print(f"{actor.client}: {msgspec.json.encode(command).decode()}", flush=True)
            self._do(command)
        return self._outcome(command)

    def _do(self, command: Change) -> None:
        edge = self.edge
        match command:
            case BlockPrefix():
                edge.blocked = True
            case Unblock():
                edge.blocked = False
            case SetWeights():
                edge.weights |= command.weights
            case Drain():
                edge.drained.add(command.cdn)
            case Undrain():
                edge.drained.discard(command.cdn)
            case Disarm():
                edge.armed = False
            case Arm():
                edge.armed = True
        edge.say("command", f"{type(command).__name__} was asked for", "notice")

    def _outcome(self, command: Change) -> Outcome:
        match command:
            case BlockPrefix(prefix="203.0.113.80/32"):
                return Outcome(ok=False, text="203.0.113.80/32 covers 203.0.113.80, the VIP of service www")
            case BlockPrefix():
                return Outcome(ok=True, text=f"blocks {command.prefix}: 52.3 kpps now, no CDN, not you")
            case SetWeights():
                weights = dict.fromkeys(("aurora", "borealis", "corona"), 100)
                weights |= self.edge.weights | command.weights
                total = sum(weights.values()) or 1
                shares = {name: weight / total for name, weight in weights.items()}
                return Outcome(ok=True, text="weights as shown", shares=shares)
            case _:
                return Outcome(ok=True, text=f"{type(command).__name__}: done")


async def serve(edge: Edge) -> None:
    """Serve until terminated."""
    engine = MadeUpEngine(edge)
    server = Server(engine, edge.name)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.stop)
    while engine.past:
        server._tick()
    with listening(edge.name) as sockets:
        print("ready", flush=True)
        await server.serve(sockets)


def main() -> None:
    """Make the socket directory and serve there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cdns", type=int, default=3)
    parser.add_argument("--talkers", type=int, default=0, help="so many, and all else that a frame may have")
    options = parser.parse_args()
    Path(paths.run_dir()).mkdir(parents=True, exist_ok=True)
    edge = Crowd(cdns=options.cdns, talkers=options.talkers) if options.talkers else Edge(cdns=options.cdns)
    edge.began_ns = time.time_ns() - 115 * 10**9
    asyncio.run(serve(edge))


if __name__ == "__main__":
    main()
