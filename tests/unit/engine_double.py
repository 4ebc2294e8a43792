"""A test double of the engine: numbered frames, recorded commands, and a server around it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdnctl.agent.blocking import Client
from cdnctl.agent.peer import Gate
from cdnctl.agent.process import listening
from cdnctl.agent.server import Server
from cdnctl.engine import watching
from cdnctl.errors import CdnctlError
from cdnctl.metrics.times import Times
from cdnctl.model import (
    Actor,
    Allowed,
    AnyCommand,
    Block,
    BlockPrefix,
    Bypass,
    Cdn,
    Customer,
    Detach,
    Diff,
    Drain,
    Endpoint,
    Event,
    FindBlocks,
    Frame,
    Interface,
    ListBlocks,
    ListCustomers,
    Outcome,
    PacketFilter,
    Page,
    Reload,
    Sampled,
    SetMode,
    SetWeights,
    Talker,
    Unblock,
    Verdict,
)

EDGE = "ams1"


class EngineDouble:
    """Counts frames and remembers commands; some names make it fail in a chosen way."""

    def __init__(self) -> None:
        self.seq = 0
        self.padding = ""
        self.asked: list[tuple[AnyCommand, Actor]] = []
        self.reload_s = 0.0
        self.reload_may_end = threading.Event()
        self.reload_may_end.set()

    def times(self) -> dict[str, Times]:
        return {}

    def metrics_listen(self) -> tuple[str, int] | None:
        return None

    async def look_outside(self) -> None:
        await asyncio.Event().wait()

    def close(self, *, detach: bool) -> None:
        print(f"engine closed, detach={detach}", flush=True)

    def look(self) -> None:
        """Nothing ever happens between two frames."""

    def frame(self) -> Frame:
        self.seq += 1
        return Frame(
            seq=self.seq,
            at_ns=time.time_ns(),
            monotonic_ns=time.monotonic_ns(),
            edge=EDGE,
            armed=True,
            interfaces=[Interface(name="eth0", mode="native")],
            cdns=[
                Cdn(
                    name="aurora",
                    state="out",
                    reason="dark",
                    wanted_weight=60,
                    effective_share=0.5,
                    share=0.25,
                    endpoints=[Endpoint(address="198.51.100.10", port=80, state="out", reason="dark")],
                )
            ],
            verdicts=[
                Verdict(
                    name="blocked",
                    drop=True,
                    explanation="Its source is on the block list.",
                    packets_total=7,
                    bytes_total=420,
                    pps=3.5,
                    bps=1680.0,
                )
            ],
            talkers=[Talker(prefix="10.66.0.0/16", pps=50_000.0, bps=2.4e7, drop_share=1.0)],
            events=[Event(seq=self.seq, at_ns=time.time_ns(), kind="note", text="[/b] " + self.padding)],
        )

    def execute(self, command: AnyCommand, actor: Actor) -> Outcome:
        self.asked.append((command, actor))
        match command:
            case BlockPrefix(prefix="203.0.113.80"):
                raise CdnctlError("203.0.113.80 is the VIP of service www", "block something else")
            case BlockPrefix(prefix="bug"):
                raise RuntimeError("a bug")
            case BlockPrefix():
                return Outcome(ok=True, text=f"blocked {command.prefix}", applied_monotonic_ns=1)
            case Unblock():
                return Outcome(ok=False, text=f"{command.prefix} is not blocked by hand")
            case SetWeights() | Drain():
                return Outcome(ok=True, text="done", shares={"aurora": 0.6, "borealis": 0.4})
            case Detach() | Bypass() | SetMode(mode="observe") if command.dry_run:
                return Outcome(ok=True, text="cuts 12 flows")
            case ListCustomers():
                acme = Customer(
                    name="acme",
                    prefixes=["192.0.2.0/26", "2001:db8::/48"],
                    prefix_count=7,
                    pps_limit=50_000.0,
                    limited_by="operator",
                    dropped_pps=12.5,
                )
                allowed = [Allowed(prefix="10.0.0.0/8", reason="ours [/b]", created_ns=1)]
                return Outcome(ok=True, text="", customers=[acme], allowed=allowed)
            case ListBlocks() | FindBlocks():
                reason = "a [/b] reason \x1b[31m"
                return Outcome(
                    ok=True, text="", blocks=[Block(prefix="10.66.0.0/16", reason=reason)], page=Page(total=1)
                )
            case _:
                return Outcome(ok=True, text=f"did {type(command).__name__}")

    async def diff(self, command: Diff) -> Outcome:
        return self.execute(command, Actor(user="", uid=0, pid=0))

    def sampled(self, wanted: PacketFilter) -> Sampled:
        return watching.sampled([], wanted, {}, one_in=1, lost=0)

    async def reload(self, command: Reload, actor: Actor) -> Outcome:
        self.asked.append((command, actor))
        await asyncio.sleep(self.reload_s)
        while not self.reload_may_end.is_set():
            await asyncio.sleep(0.01)
        return Outcome(ok=True, text="reloaded: cdn corona is new", changed=["cdn corona is new"])


class ServedDouble:
    """The double, its server, and the thread they run in."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.engine = EngineDouble()
        self.server = Server(self.engine, EDGE, gate=gate)
        self.path = Path()
        self.view_path = Path()
        self.thread = threading.Thread()

    def client(self, **options: object) -> Client:
        return Client(self.path, timeout_s=5.0, **options)  # type: ignore[arg-type]

    def raw(self) -> socket.socket:
        """A connection that has said nothing."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(5.0)
        sock.connect(str(self.path))
        return sock


@contextmanager
def serving(gate: Gate | None = None) -> Iterator[ServedDouble]:
    """The double behind the real server, on the sockets of `CDNCTL_RUN_DIR`."""
    served = ServedDouble(gate)
    with listening(EDGE) as sockets:
        served.path = Path(sockets["operate"].getsockname())
        served.view_path = Path(sockets["view"].getsockname())
        ready = threading.Event()
        loop = asyncio.new_event_loop()

        def run() -> None:
            loop.call_soon(ready.set)
            loop.run_until_complete(served.server.serve(sockets))
            loop.close()

        served.thread = threading.Thread(target=run, daemon=True)
        served.thread.start()
        assert ready.wait(5)
        try:
            yield served
        finally:
            if not loop.is_closed():
                loop.call_soon_threadsafe(served.server.stop)
            served.thread.join(5)
            assert not served.thread.is_alive()
