"""A live edge in a lab, looked at from outside: the kernel's tables, the agent, the command line.

Deadlines are judged by the kernel's own stamps (the data path's and the taps'), never by when a test
got round to looking: the machine may be busy.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cdnctl import paths
from cdnctl.agent.client import Client
from cdnctl.datapath import abi
from cdnctl.datapath.choice import EndpointKey
from cdnctl.datapath.counters import CdnTotals
from cdnctl.datapath.tables import Tables
from cdnctl.lab import netns
from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import environment
from cdnctl.lab.topology import PORT
from cdnctl.lab.traffic import Request, Traffic
from cdnctl.model import AnyCommand, Cdn, Frame, GetFrame, Outcome

LIMITS = {"endpoints": 12, "flows": 100_000, "block_entries": 10_000}
"""Tables as large as a test needs, so that they are made quickly."""

Figure = Callable[[str, object], None]
"""The fixture `figure`: notes what was measured."""


class Kernel:
    """The pinned tables of an edge, read past its agent, which may be stopped or dead."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.tables = Tables(paths.tables_dir(lab.name))

    def endpoint(self, cdn: str, family: int = 4) -> int:
        """Id of a CDN's endpoint, of TCP."""
        site = self._lab.sites[cdn]
        address = site.endpoint if family == 4 else site.endpoint6
        return self.tables.choice.endpoints()[EndpointKey(address, PORT, socket.IPPROTO_TCP)]

    def health(self, cdn: str, family: int = 4) -> abi.Health:
        """What the breaker knows of that endpoint."""
        return self.tables.health(self.endpoint(cdn, family))

    def healths(self, cdn: str) -> tuple[abi.Health, abi.Health]:
        """That of its IPv4 and its IPv6 endpoint."""
        return self.health(cdn, 4), self.health(cdn, 6)

    def is_in(self, cdn: str) -> bool:
        """Are both in rotation?"""
        return all(health.state == abi.Breaker.IN for health in self.healths(cdn))

    def is_out(self, cdn: str) -> bool:
        """Are both ejected?"""
        return all(health.state == abi.Breaker.OUT for health in self.healths(cdn))

    def ejections(self, cdn: str) -> int:
        """How often either was, so far."""
        return sum(int(health.ejections_total) for health in self.healths(cdn))

    def last_new_flow_ns(self, cdn: str) -> int:
        """When it got its last new flow that was no probe, of either family."""
        return max(int(health.last_new_flow_ns) for health in self.healths(cdn))

    def totals(self, cdn: str) -> CdnTotals:
        """Exact totals of a CDN."""
        entry = self.tables.choice.endpoint(self.endpoint(cdn))
        return self.tables.counters.cdn(entry.cdn)

    def from_cdns(self) -> dict[str, int]:
        """Packets of replies so far, by CDN; those that are not in the tables yet are left out."""
        known = self.tables.choice.endpoints()
        there = {key.address for key in known}
        sites = self._lab.sites.values()
        return {
            site.name: self.totals(site.name).from_cdn_packets for site in sites if site.endpoint in there
        }

    def new_flows(self) -> dict[str, int]:
        """New flows so far, by CDN."""
        return {cdn: self.totals(cdn).new_flows for cdn in self._lab.sites}

    def packets(self, *verdicts: abi.Verdict) -> int:
        """Packets that ended in these verdicts so far."""
        return sum(packets for verdict, packets, _ in self.tables.counters.verdicts() if verdict in verdicts)

    def accounts(self) -> dict[str, int]:
        """Every exact counter that an agent shows and that must never fall, by a name of its own."""
        verdicts = self.tables.counters.verdicts()
        counts = {f"verdict {verdict.name}": packets for verdict, packets, _ in verdicts}
        for cdn in self._lab.sites:
            counts |= {f"{cdn} {name}": n for name, n in self.totals(cdn)._asdict().items()}
        return counts


LEARN_SAMPLES = 8
"""Good handshakes until an endpoint's usual one is known."""


def warm_up(kernel: Kernel, traffic: Traffic, *, flows: int = 30, six: bool = False) -> None:
    """Wait until every CDN has had so many new flows of these clients, and its usual handshake is known."""
    before, families = kernel.new_flows(), (4, 6) if six else (4,)

    def ready() -> bool:
        traffic.check()
        return all(
            now - before[cdn] > flows
            and all(kernel.health(cdn, family).samples >= LEARN_SAMPLES for family in families)
            for cdn, now in kernel.new_flows().items()
        )

    wait_for("every CDN has learned its usual handshake", 15, ready)


# --- time -----------------------------------------------------------------------------------------


def sleep_until(at_ns: int) -> None:
    """Sleep to a moment of CLOCK_MONOTONIC."""
    while (left := at_ns - time.monotonic_ns()) > 0:
        time.sleep(left / 1e9)


def after(at_ns: int, seconds: float) -> int:
    """That moment, `seconds` later."""
    return at_ns + int(seconds * 1e9)


def wait_for(what: str, seconds: float, found: Callable[[], Any], every_s: float = 0.05) -> Any:
    """The first true value of `found`; AssertionError naming `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        if value := found():
            return value
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(every_s)


def end_ns(request: Request) -> int:
    """When a request was over."""
    return request.start_ns + int(request.total_ms * 1e6)


def requests_of(traffic: Traffic, start_ns: int, until_ns: int) -> list[Request]:
    """All requests begun in that time, waited for until each is over."""
    traffic.wait(until_ns)
    return traffic.begun(start_ns, until_ns)


def failures(requests: Sequence[Request]) -> list[Request]:
    return [request for request in requests if not request.ok]


# --- agent and command line -----------------------------------------------------------------------


def ask(lab: Lab, command: AnyCommand) -> Outcome:
    """One command to the lab's agent, carried out."""
    with Client(paths.socket_path(lab.name), client="test") as client:
        outcome = client.request(command)
    assert outcome.ok, outcome.text
    return outcome


def frame(lab: Lab) -> Frame:
    """The agent's newest frame."""
    found = ask(lab, GetFrame()).frame
    assert found is not None
    return found


def cdn_of(picture: Frame, name: str) -> Cdn:
    return next(cdn for cdn in picture.cdns if cdn.name == name)


def command_line(*words: str) -> list[str]:
    return [sys.executable, "-m", "cdnctl", *words]


def run(
    lab: Lab, command: Sequence[str], timeout_s: float = 30.0, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in the environment of the lab's edge."""
    return subprocess.run(
        command,
        env=environment({**lab.environment, **settings}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def cdnctl(lab: Lab, verb: str, *words: str) -> dict[str, Any]:
    """`cdnctl VERB ... --json` against the lab's edge: what it answered, having succeeded."""
    done = run(lab, command_line(verb, *words, "--edge", lab.name, "--json"))
    assert done.returncode == 0, (verb, words, done.stdout, done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


# --- single clients -------------------------------------------------------------------------------


def is_answered(client: socket.socket, target: tuple[str, int], digits: int = 1) -> bool:
    """Does a question of so many digits come back?"""
    number = "7" * digits
    ask = f"GET /512?n={number} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
    with client:
        client.settimeout(5)
        client.connect(target)
        client.sendall(ask.encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    return answer.startswith(b"HTTP/1.1 200") and f"X-Ask: {number}\r\n".encode() in answer


def forget_paths(lab: Lab) -> None:
    """Nobody remembers what size of packets got through to whom."""
    for namespace in (lab.topology.clients, lab.topology.far, *(s.namespace for s in lab.sites.values())):
        for family in ("-4", "-6"):
            subprocess.run(["ip", "-n", namespace, family, "route", "flush", "cache"], check=True)


def too_big_said(lab: Lab) -> int:
    """How often the router before the far clients has said that something did not fit."""
    with netns.entered(lab.topology.clients):
        fields = dict(line.split() for line in Path("/proc/thread-self/net/snmp6").read_text().splitlines())
        lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Ip:"))
    return int(fields["Ip6InTooBigErrors"]) + int(dict(zip(names, values, strict=True))["FragFails"])


# --- what is left ---------------------------------------------------------------------------------


def programs(lab: Lab) -> dict[str, int]:
    """Ids of the XDP programs on the edge's interfaces, by name; those without one are left out."""
    with netns.netlink(lab.topology.edge) as ip:
        links = ip.get_links()
    found = {}
    for link in links:
        xdp = link.get_attr("IFLA_XDP")
        if xdp and (identity := xdp.get_attr("IFLA_XDP_PROG_ID")):
            found[link.get_attr("IFLA_IFNAME")] = int(identity)
    return found


def forwarding(lab: Lab) -> dict[str, bool]:
    """Whether forwarding is on, by interface of the edge and family, as in `ipv6 cdn-aurora`."""
    with netns.entered(lab.topology.edge):
        return {
            f"{family} {name}": Path(f"/proc/sys/net/{family}/conf/{name}/forwarding").read_text() == "1\n"
            for name in lab.topology.edge_links
            for family in ("ipv4", "ipv6")
        }


def left_behind(lab: Lab) -> list[str]:
    """What an agent that has gone, and was to take everything along, left all the same."""
    ours = [paths.pin_dir(lab.name), paths.socket_path(lab.name), paths.view_socket_path(lab.name)]
    return [
        *(str(path) for path in ours if path.exists()),
        *(f"program {identity} on {name}" for name, identity in programs(lab).items()),
        *(f"forwarding on {name}" for name, on in forwarding(lab).items() if on),
    ]
