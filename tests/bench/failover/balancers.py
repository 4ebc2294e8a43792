"""Who spreads the clients over the CDNs: our edge, its agent running or stopped, or HAProxy in its place."""

from __future__ import annotations

import socket
import subprocess
import time
from types import TracebackType
from typing import Protocol, Self

from cdnctl import paths
from cdnctl.datapath.abi import Breaker, Health
from cdnctl.datapath.choice import EndpointKey
from cdnctl.datapath.tables import Tables
from cdnctl.lab import netns
from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import LabError, end
from cdnctl.lab.topology import PORT, SECOND_PORT, VIP, VIP6
from tests.bench.failover.syns import Syns

LEARNED = 8
"""Handshakes after which an endpoint's usual one is known."""
CONNECT_MS = 250
"""HAProxy's patience with a connect: some 20 round trips."""
_CONFIG = """\
defaults
    mode tcp
    timeout connect {connect_ms}ms
    timeout check {connect_ms}ms
    timeout client 10s
    timeout server 10s
    retries 3
    option redispatch 1
    option tcp-check
    balance roundrobin
    default-server check port {check_port} inter 500ms fastinter 100ms downinter 500ms fall 2 rise 2
    default-server observe layer4 error-limit 3 on-error mark-down
"""
_START_S = 10.0


class Balancer(Protocol):
    """One that is up while it is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def knows(self, cdn: str) -> bool:
        """Has it met the CDN often enough to be judged by what it does without it?"""

    def halt(self) -> None:
        """What is to stand still during the fault does so from now on."""

    def last_new_flow_ns(self, cdn: str, fault_ns: int, family: int = 4) -> int:
        """When it last gave the CDN a new flow, probes and checks apart; `fault_ns` when not since."""

    def gave_up(self, cdn: str, family: int) -> bool:
        """Does it say that it gives the CDN no more?"""


class Edge:
    """Ours, as shipped, started afresh: it remembers nothing of an earlier trial."""

    def __init__(self, lab: Lab, *, agent_runs: bool) -> None:
        self._lab, self._agent_runs = lab, agent_runs

    def __enter__(self) -> Self:
        self._lab.start_agent("--detach-on-exit")
        self._tables = Tables(paths.tables_dir(self._lab.name))
        return self

    def __exit__(self, *_: object) -> None:
        self._lab.stop_agent()
        with netns.netlink(self._lab.topology.edge) as ip:
            programs = [link.get_attr("IFLA_XDP") for link in ip.get_links()]
        if any(program and program.get_attr("IFLA_XDP_PROG_ID") for program in programs):
            raise LabError("the edge's program stays where HAProxy is to be measured")

    def _health(self, cdn: str, family: int) -> Health:
        site = self._lab.sites[cdn]
        key = EndpointKey(site.endpoint if family == 4 else site.endpoint6, PORT, socket.IPPROTO_TCP)
        return self._tables.health(self._tables.choice.endpoints()[key])

    def knows(self, cdn: str) -> bool:
        return all(self._health(cdn, family).samples >= LEARNED for family in (4, 6))

    def halt(self) -> None:
        if not self._agent_runs:
            self._lab.pause_agent()

    def last_new_flow_ns(self, cdn: str, fault_ns: int, family: int = 4) -> int:
        return max(fault_ns, self._health(cdn, family).last_new_flow_ns)

    def gave_up(self, cdn: str, family: int) -> bool:
        return self._health(cdn, family).state == Breaker.OUT


class HAProxy:
    """In TCP mode, on the same addresses and links; its checks go to a port of their own."""

    def __init__(self, lab: Lab, syns: Syns) -> None:
        self._lab, self._syns = lab, syns
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        lab = self._lab
        self._addresses("add")
        file = lab.directory / "haproxy.cfg"
        file.write_text(configuration(lab))
        command = ["haproxy", "-db", "-f", str(file)]
        self._process = lab.run_beside(command, lab.topology.edge, "HAProxy")
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"HAProxy does not come up:\n{lab.log('lab')}")
            time.sleep(0.01)
        self._from_ns = time.monotonic_ns()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            end(self._process)
        self._addresses("del")

    def _addresses(self, action: str) -> None:
        with netns.netlink(self._lab.topology.edge) as ip:
            for host, length in ((VIP, 32), (VIP6, 128)):
                ip.addr(action, index=1, address=host, prefixlen=length)

    def _answers(self) -> bool:
        with netns.entered(self._lab.topology.edge):
            probe = socket.socket()
        with probe:
            return probe.connect_ex((VIP, PORT)) == 0

    def knows(self, cdn: str) -> bool:
        return len(self._syns.seen(self._from_ns)) >= LEARNED

    def halt(self) -> None:
        """It has no agent."""

    def last_new_flow_ns(self, cdn: str, fault_ns: int, family: int = 4) -> int:
        return max(self._syns.seen(fault_ns, family=family), default=fault_ns)

    def gave_up(self, cdn: str, family: int) -> bool:
        return True  # its checks have had their time by then


def configuration(lab: Lab) -> str:
    """HAProxy's: what notices soonest, as far as one would let it loose on CDNs."""
    text = _CONFIG.format(connect_ms=CONNECT_MS, check_port=SECOND_PORT)
    for vip, six in ((VIP, False), (VIP6, True)):
        text += f"\nlisten {'www6' if six else 'www'}\n    bind {vip}:{PORT}\n"
        for site in lab.sites.values():
            text += f"    server {site.name} {site.endpoint6 if six else site.endpoint}:{PORT}\n"
    return text
