"""`Lab`: an edge, its clients and its CDNs, built, driven and taken down."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import tomli_w

from cdnctl import paths
from cdnctl.datapath.program import mount_bpffs
from cdnctl.errors import NotPermitted, sudo_line
from cdnctl.lab import netns, record, settings, topology
from cdnctl.lab.download import Download
from cdnctl.lab.loads import Load
from cdnctl.lab.pops import Pops
from cdnctl.lab.processes import Generator, LabError, end, start, undisturbed
from cdnctl.lab.tap import Tap, Taps
from cdnctl.lab.topology import PORT, UPLINK, UPLINK_INDEX, VIP, VIP6, Site, Topology
from cdnctl.lab.traffic import Traffic
from cdnctl.python import python_module

CDNS = ("aurora", "borealis", "corona")
HANDSHAKES_MS = (10.0, 13.0, 16.0)
"""Round trips of the CDNs' links, unless told otherwise; the next ones get 3 ms more each."""
START_S = 60.0
"""An agent that does not answer after this long will not: on a busy box it compiles for half of it."""

PACKAGES = {"nginx": "nginx-light", "nsenter": "util-linux", "setpriv": "util-linux"}
"""Programs a lab runs, and the Debian packages they are in."""


STALL_S = 20.0
"""A single client gives up when nothing comes for so long."""


def require_root() -> None:
    """Raise NotPermitted, with the line to type, when this user cannot build a lab."""
    if os.geteuid() != 0:
        raise NotPermitted("a lab makes network namespaces: that needs root", sudo_line())


class Lab:
    """A lab as a context manager: built on entry, gone on exit.

    `name` becomes the edge's name and part of the namespaces' (`cdnctl-NAME-edge`). `edge`, `limits`,
    `reflex`, `cdn` (each) and `service` add to or replace what the configuration says. With `agent` it is
    up, too, on entry: sooner than by `start_agent`, since it compiles while the rest is built. `say`
    hears of progress.

    Build it in a thread that lives as long as the lab: its processes die with that thread.
    """

    def __init__(
        self,
        name: str,
        cdns: Sequence[str] = CDNS,
        *,
        handshakes_ms: Sequence[float] | None = None,
        weights: Sequence[int] | None = None,
        edge: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
        reflex: Mapping[str, Any] | None = None,
        cdn: Mapping[str, Any] | None = None,
        service: Mapping[str, Any] | None = None,
        shield: Mapping[str, Any] | None = None,
        model: Mapping[str, Any] | None = None,
        agent: bool = False,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.name = paths.check_name(name)
        trips = handshakes_ms or [*HANDSHAKES_MS, *(16.0 + 3 * i for i in range(1, 18))][: len(cdns)]
        self.topology = Topology.plan(name, cdns, [trip / 2 for trip in trips])
        self.weights = list(weights or [100] * len(cdns))
        self._settings = {
            "edge": edge, "limits": limits, "reflex": reflex, "cdn": cdn, "service": service,
            "shield": shield, "model": model,
        }  # fmt: skip
        self._say, self._with_agent = say, agent
        self.sites: dict[str, Site] = {site.name: site for site in self.topology.sites}
        self.traffic: Traffic | None = None
        self.agent: subprocess.Popen[bytes] | None = None
        self._loads: list[Load] = []
        self._stack = contextlib.ExitStack()
        self._record: record.Record | None = None
        self.left: list[str] | None = None
        """After `close`: what could not be removed, in words. None before."""

    # --- building and taking down --------------------------------------------------------------

    def __enter__(self) -> Lab:
        try:
            self.build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def build(self) -> None:
        """Remove what a killed lab of this name left, then make everything.

        LabError says what went wrong; `close` is still to be called then.
        """
        require_root()
        if missing := [tool for tool in PACKAGES if not shutil.which(tool)]:
            packages = sorted({PACKAGES[tool] for tool in missing})
            raise LabError(f"missing: {', '.join(missing)}", f"apt-get install {' '.join(packages)}")
        mount_bpffs()
        self._record = record.claim(self.name, self.topology.namespaces, self._say)
        self.directory = Path(self._record.directory)
        self._logs = {name: self._open_log(name) for name in ("lab", "agent")}
        self._say("namespaces and links")
        self._taps = Taps(self.pins, self._logs["lab"])
        self._stack.callback(self._taps.close)
        self._record.add(self._taps.pid, "compiler of the taps")
        self.topology.build()
        self.config_path = self.directory / "cdnctl.toml"
        self.write_config(settings.document(self.topology, self.weights, self._settings))
        if self._with_agent:
            self._say("agent, which compiles while the rest is built")
            self._launch_agent()
        self._say("wire")
        self._start_wire()
        self._say("origins")
        self.pops = Pops(self.sites, self.directory, self._logs["lab"], self._note)
        self._stack.callback(self.pops.close)
        self.pops.start(self.topology.wire)
        self._say("taps")
        self._attach_taps()
        if self._with_agent:
            self._await_agent()

    def close(self) -> list[str]:
        """End everything and remove it; return what would not go (also in `left`). Idempotent."""
        with undisturbed():
            if self._record is not None and self.left is None:
                # Each step is taken, whatever became of those before it; what is pushed last comes first.
                with contextlib.ExitStack() as steps:
                    steps.callback(self._remove, self._record)
                    steps.callback(self._stack.close)
                    if self.agent is not None:
                        steps.callback(end, self.agent, grace_s=4.0)
                    for load in reversed(self._loads):
                        steps.callback(_stop, load)
        return self.left or []

    def _remove(self, made: record.Record) -> None:
        self.left = made.remove_all()

    def _open_log(self, name: str) -> IO[bytes]:
        return self._stack.enter_context((self.directory / f"{name}.log").open("wb"))

    def _note(self, process: subprocess.Popen[bytes], what: str) -> None:
        assert self._record is not None
        self._record.add(process.pid, what)

    def _generator(self, module: str, namespace: str) -> Generator:
        generator = Generator(module, namespace, self._logs["lab"])
        self._note(generator.process, module)
        return generator

    def _start_wire(self) -> None:
        self._wire = self._generator("wire", self.topology.wire)
        self._stack.callback(self._wire.end)
        self._wire.ask(links={site.name: site.wire_pairs for site in self.sites.values()})
        for site in self.sites.values():
            self.set_link(site.name, delay_ms=site.delay_ms)

    def _attach_taps(self) -> None:
        self._taps.wait()
        self._taps.attach(self.topology.clients, UPLINK_INDEX)
        for site in self.sites.values():
            self._taps.attach(self.topology.wire, site.edge_peer_index)

    def config(self) -> dict[str, Any]:
        """What the edge's configuration says now."""
        return tomllib.loads(self.config_path.read_text())

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write another one; an agent takes it when it starts, or is told to reload."""
        fresh = self.config_path.with_suffix(".new")
        fresh.write_text(tomli_w.dumps(config))
        fresh.replace(self.config_path)

    def log(self, name: str, lines: int = 40) -> str:
        """The end of a log: `lab` (generators, nginx) or `agent`."""
        text = (self.directory / f"{name}.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    # --- the agent -----------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        """What the agent's environment says beyond ours: its state stays in the lab's directory."""
        return {"CDNCTL_STATE_DIR": str(self.directory / "state")}

    def start_agent(self, *arguments: str) -> None:
        """Start the agent in the edge's namespace and wait until it takes connections."""
        self._launch_agent(*arguments)
        self._await_agent()

    def _launch_agent(self, *arguments: str) -> None:
        command = python_module("cdnctl", "agent", "-c", str(self.config_path))
        command += ["--netns", self.topology.edge, *arguments]
        log = self._logs["agent"]
        self.agent = start(command, stdout=log, stderr=log, extra=self.environment)
        self._note(self.agent, "agent")

    def _await_agent(self) -> None:
        agent, deadline = self._agent(), time.monotonic() + START_S
        while time.monotonic() < deadline:
            if agent.poll() is not None:
                raise LabError(f"the agent ended ({agent.returncode}):\n{self.log('agent')}")
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(paths.socket_path(self.name))) == 0:
                    return
            time.sleep(0.02)
        raise LabError(f"the agent does not come up in {START_S:g} s:\n{self.log('agent')}")

    def stop_agent(self, *, kill: bool = False) -> None:
        """End the agent, by SIGTERM or SIGKILL; the data path is its to keep or to take along."""
        if self.agent is not None:
            if kill:
                self.agent.kill()
            end(self.agent, grace_s=5.0)
            self.agent = None

    def pause_agent(self) -> None:
        """SIGSTOP: the kernel decides alone."""
        self._agent().send_signal(signal.SIGSTOP)

    def resume_agent(self) -> None:
        self._agent().send_signal(signal.SIGCONT)

    def _agent(self) -> subprocess.Popen[bytes]:
        if self.agent is None:
            raise LabError("no agent was started in this lab")
        return self.agent

    def run_beside(self, command: Sequence[str], namespace: str, what: str) -> subprocess.Popen[bytes]:
        """Start somebody else's program in one of the namespaces; it ends with the lab, or by `end`."""
        process = start(command, namespace=namespace, stdout=self._logs["lab"], stderr=self._logs["lab"])
        self._note(process, what)
        self._stack.callback(end, process)
        return process

    # --- faults --------------------------------------------------------------------------------

    def set_link(
        self,
        cdn: str,
        *,
        delay_ms: float | None = None,
        loss: float | None = None,
        rate_mbit: float | None = None,
    ) -> int:
        """Change a CDN's link, each way; None leaves a setting, a rate of 0 lifts the limit.

        Returns the CLOCK_MONOTONIC time (ns) from which it held.
        """
        order: dict[str, object] = {"link": cdn, "delay_ms": delay_ms, "loss": loss}
        if rate_mbit is not None:
            order["rate_mbit"] = rate_mbit
        return int(self._wire.ask(**order)["at_ns"])

    def slow(self, cdn: str, extra_ms: float) -> int:
        """Add to its round trip; returns when (ns), as the other faults do."""
        return self.set_link(cdn, delay_ms=self.sites[cdn].delay_ms + extra_ms / 2)

    def darken(self, cdn: str) -> int:
        """Swallow everything, both ways, also what is in flight."""
        return self.set_link(cdn, loss=1.0)

    def heal(self, cdn: str) -> int:
        """Back to the link's own delay, no loss, no limit."""
        return self.set_link(cdn, delay_ms=self.sites[cdn].delay_ms, loss=0.0, rate_mbit=0)

    def narrow(self, cdn: str, mtu: int | None) -> int:
        """Put a hop of this MTU in the middle of its link, or (None) take it out."""
        return int(self._wire.ask(link=cdn, mtu=mtu, routers=self.sites[cdn].routers)["at_ns"])

    def refuse(self, cdn: str) -> int:
        """Stop its nginx: its kernel answers connects with resets. `restore` starts it again."""
        self.pops.refuse(cdn)
        return time.monotonic_ns()

    def restore(self, cdn: str) -> int:
        """Start its nginx again, if it does not run."""
        self.pops.restore(cdn)
        return time.monotonic_ns()

    def wire_stats(self) -> dict[str, list[dict[str, int]]]:
        """Frames by link: [towards the CDN, back, on the way past the edge twice], each received, sent, lost,
        overflowed, ...
        """
        stats: dict[str, list[dict[str, int]]] = self._wire.ask(stats=True)["stats"]
        return stats

    # --- load ----------------------------------------------------------------------------------

    def start_clients(
        self,
        *,
        rate: float = 260.0,
        pool: int = 60,
        share6: float = 0.0,
        targets: Sequence[tuple[str, int]] = ((VIP, PORT), (VIP6, PORT)),
    ) -> Traffic:
        """Start honest clients; their requests appear in the returned `Traffic` (and `self.traffic`).

        With a `pool` of 0 each request makes a connection of its own; else every other does.
        """
        self.traffic = Traffic(
            self.topology.clients, targets, rate, pool=pool, share6=share6, log=self._logs["lab"]
        )
        assert self._record is not None
        self._record.add(self.traffic.pid, "clients")
        self._stack.callback(self.traffic.end)
        return self.traffic

    def socket(self, source: str) -> socket.socket:
        """A TCP socket of one client's, bound to its address."""
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        beyond = any(ip_address(source) in ip_network(region) for region in topology.FAR_REGION)
        with netns.entered(self.topology.far if beyond else self.topology.clients):
            client = socket.socket(family, socket.SOCK_STREAM)
        client.settimeout(STALL_S)
        client.bind((source, 0))
        return client

    def download(
        self, path: str, source: str, *, mbit: float | None = None, target: tuple[str, int] | None = None
    ) -> Download:
        """Fetch what `pops.offer` made, at `mbit` until it is told to hurry; under way on return."""
        download = Download(self.socket(source), target or topology.vip_for(source), path, mbit)
        self._stack.callback(download.close)
        return download

    def flood(
        self,
        pps: float = 60_000,
        seconds: float = 60.0,
        prefix: str = topology.FLOOD_PREFIX,
        target: tuple[str, int] = (VIP, PORT),
    ) -> Load:
        """Start a SYN flood from random addresses of `prefix`; it is under way on return."""
        return self._load(seconds, target, syn={"prefix": prefix, "pps": pps})

    def senders(
        self,
        rates: Mapping[str, float],
        seconds: float,
        *,
        kind: str = "ack",
        size: int = 60,
        target: tuple[str, int] = (VIP, PORT),
    ) -> Load:
        """Start sources of known rates (packets/s each): TCP `ack` or `udp`, frames of `size` bytes."""
        return self._load(seconds, target, senders=dict(rates), kind=kind, size=size)

    def quiet(self) -> None:
        """End clients, floods and senders."""
        for load in self._loads:
            _stop(load)
        self._loads.clear()
        if self.traffic is not None:
            self.traffic.end()
            self.traffic = None

    def _load(self, seconds: float, target: tuple[str, int], **what: Any) -> Load:
        mac = self.uplink_addresses()
        return self.generate("flood", device=UPLINK, mac=mac, target=list(target), seconds=seconds, **what)

    def generate(self, module: str, **order: Any) -> Load:
        """Start one of the generators on the clients' side; its load is under way on return."""
        generator = self._generator(module, self.topology.clients)
        self._stack.callback(generator.end)
        generator.order(**order)
        load = Load(generator)
        self._loads.append(load)
        return load

    def uplink_addresses(self) -> list[str]:
        """The link addresses of the clients' side of the edge's cable, and of the edge's."""
        ends = ((self.topology.clients, UPLINK), (self.topology.edge, topology.CLIENTS_LINK))
        found = []
        for namespace, link in ends:
            with netns.netlink(namespace) as ip:
                found.append(ip.get_links(ifname=link)[0].get_attr("IFLA_ADDRESS"))
        return found

    @property
    def pins(self) -> Path:
        """The lab's own place in the BPF file system."""
        assert self._record is not None
        return Path(self._record.pins[1])

    # --- looking -------------------------------------------------------------------------------

    def tap(self, where: str) -> Tap:
        """What has left the edge towards a CDN, or towards `clients`."""
        if where == topology.CLIENTS_LINK:
            return self._taps.read(UPLINK_INDEX)
        return self._taps.read(self.sites[where].edge_peer_index)

    def arrivals(self) -> tuple[int, int]:
        """Packets that came to the edge from the clients' side, and those its cable's end dropped."""
        with netns.netlink(self.topology.edge) as ip:
            stats = ip.get_links(ifname=topology.CLIENTS_LINK)[0].get_attr("IFLA_STATS64")
        return int(stats["rx_packets"]), int(stats["rx_dropped"])

    def forward_plainly(self) -> None:
        """Let the edge's own kernel route, as no agent would: straight to the endpoints."""
        with netns.entered(self.topology.edge):
            netns.sysctl("net.ipv4.ip_forward", 1)
            netns.sysctl("net.ipv6.conf.all.forwarding", 1)


def _stop(load: Load) -> None:
    with contextlib.suppress(LabError):  # it may be over, or dead
        load.stop()
