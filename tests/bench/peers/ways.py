"""The ways from clients to origins. Each is active within `with way:` only, and costs nothing else."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from cdnctl.agent.blocking import Client
from cdnctl.errors import NoAgent
from cdnctl.lab import gauges, netns
from cdnctl.lab.gauges import Runs
from cdnctl.lab.processes import LabError, cpu_s, end, start
from cdnctl.model import Attach, Detach
from cdnctl.python import python_module
from tests.bench.peers import servers
from tests.bench.peers.place import EDGE, EDGE_LINKS, HOME, HOPS, NAME, PORT

_START_S = 60.0
_ADDRESSES = 8
"""That connections are translated to: each port of theirs rests for a minute after its use, and of fewer half
would soon be in use at this load."""
_SNAT = ", ".join(f'"203.0.113.{10 + n}"' for n in range(_ADDRESSES))
_SERVERS = {"HAProxy": (servers.haproxy, "203.0.113.81"), "nginx stream": (servers.stream, "203.0.113.82")}
"""Which to start, and its VIP."""


class Way:
    """One of them; this one is straight routing, which the others add to."""

    name = "routing"
    target = HOPS[0]
    """What clients connect to."""
    settling_s = 1
    """So much load, each time it becomes active, before it is as it would be in steady operation."""

    def __enter__(self) -> Way:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def own_s(self) -> float:
        """User plus system time of its processes so far."""
        return 0.0

    def close(self) -> None:
        """End its processes."""


class Proxy(Way):
    """A server in between. It runs all the time; without connections it sleeps."""

    def __init__(self, name: str, log: IO[bytes]) -> None:
        self.name = name
        begin, self.target = _SERVERS[name]
        with netns.netlink(EDGE) as ip:
            ip.addr("add", index=1, address=self.target, prefixlen=32)
        self._processes = begin(self.target, log)

    def own_s(self) -> float:
        return sum(cpu_s(process.pid) for process in self._processes)

    def close(self) -> None:
        for process in self._processes:
            end(process)


class Nftables(Way):
    """Destination and source translated by the kernel. Its rules, and with them conntrack, come and go."""

    name = "nftables"
    target = "203.0.113.83"
    _TABLE = "cdnctl_bench"
    _RULES = f"""
table ip {_TABLE} {{
  chain in {{
    type nat hook prerouting priority dstnat;
    ip daddr {target} tcp dport {PORT} dnat to numgen inc mod {len(HOPS)} map
      {{ {", ".join(f"{n} : {hop}" for n, hop in enumerate(HOPS))} }}
  }}
  chain out {{
    type nat hook postrouting priority srcnat;
    oifname "{EDGE_LINKS[1]}" ct status dnat snat to 203.0.113.20-203.0.113.{19 + _ADDRESSES}
  }}
}}
"""

    def __enter__(self) -> Way:
        self._nft(self._RULES.replace(" map\n", " map"))
        return self

    def __exit__(self, *error: object) -> None:
        self._nft(f"delete table ip {self._TABLE}\n")

    @staticmethod
    def _nft(text: str) -> None:
        ran = subprocess.run(
            ["nsenter", f"--net={netns.path(EDGE)}", "nft", "-f", "-"],
            input=text.encode(),
            capture_output=True,
            check=False,
        )
        if ran.returncode:
            raise LabError(f"nft: {ran.stderr.decode().strip()}")


class Ours(Way):
    """The real agent and its data path. It takes turns with the others by `detach` and `attach`, and sleeps
    meanwhile.
    """

    name = "ours"
    target = "203.0.113.80"
    settling_s = 2
    """What has just been attached samples each packet, and learns only then how many there are."""
    _CONFIG = f"""
[edge]
name = "{NAME}"
interfaces = ["{EDGE_LINKS[0]}", "{EDGE_LINKS[1]}"]
attach = "native"
snat = [{_SNAT}]

[shield]  # one client at the box's very limit is no attack here
flows_per_s = 1e7

[[service]]
name = "www"
vip = "{target}"
port = {PORT}
policy = "latency"
""" + "".join(
        f'\n[[cdn]]\nname = "{name}"\nendpoints = ["{hop}:{PORT}"]\n'
        for name, hop in zip(("aurora", "borealis", "corona"), HOPS, strict=True)
    )

    def __init__(self, log: IO[bytes]) -> None:
        """Start the agent; `wait` for it."""
        self._log = log
        config = HOME / "cdnctl.toml"
        config.write_text(self._CONFIG)
        command = python_module("cdnctl", "agent", "-c", str(config), "--netns", EDGE)
        places = {"CDNCTL_RUN_DIR": str(HOME), "CDNCTL_STATE_DIR": str(HOME)}
        self._agent = start(command, stdout=log, stderr=log, extra=places)

    def wait(self) -> None:
        """Until the agent answers; then detached and asleep. Raises LabError."""
        deadline = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(NoAgent):
                self._ask(Detach())
                break
            if self._agent.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"the agent does not come up:\n{Path(self._log.name).read_text()}")
            time.sleep(0.02)
        self._agent.send_signal(signal.SIGSTOP)

    def __enter__(self) -> Way:
        self._agent.send_signal(signal.SIGCONT)
        self._ask(Attach())
        return self

    def __exit__(self, *error: object) -> None:
        self._ask(Detach())
        self._agent.send_signal(signal.SIGSTOP)

    def runs(self) -> Runs:
        """Of our program, on both interfaces; of use while the kernel times programs."""
        found = gauges.runs(EDGE, EDGE_LINKS[0])
        if found is None:
            raise LabError("our program is not attached")
        return found

    def own_s(self) -> float:
        return cpu_s(self._agent.pid)

    def close(self) -> None:
        end(self._agent)

    def _ask(self, command: Attach | Detach) -> None:
        with Client(HOME / f"{NAME}.sock", client="bench", timeout_s=20.0) as client:
            outcome = client.request(command)
        if not outcome.ok:
            raise LabError(f"the agent: {outcome.text}")


def proxies(log: IO[bytes], stack: contextlib.ExitStack, names: Sequence[str]) -> list[Way]:
    """Those of these names, with a VIP each; the stack ends them."""
    found: list[Way] = []
    for name in names:
        found.append(Proxy(name, log))
        stack.callback(found[-1].close)
    return found
