"""The edge that is measured: the engine's own set-up, in a network namespace of its own.

What a killed bench left is removed at the start of the next.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from cdnctl import config
from cdnctl.datapath import abi
from cdnctl.datapath.blocks import KernelBlocks
from cdnctl.engine.engine import Engine
from cdnctl.engine.frames import SAMPLES_PER_S
from cdnctl.errors import CdnctlError
from cdnctl.lab import netns
from cdnctl.paths import pin_dir, tables_dir
from tests.bench.decisions import packets
from tests.bench.decisions.packets import Ends
from tests.bench.decisions.shim import Shim

NAME = "cdnctl-bench"
"""Of the edge: unlike any operator's, since the pins of this name are removed."""
HERE, FAR = "cdnctl-bench-edge", "cdnctl-bench-far"
"""The edge's namespace, and the one where clients and CDNs would be: it answers ARP, no more."""
HOME = Path("/run/cdnctl-bench")
CLIENTS_LINK, CDNS_LINK = "clients", "cdns"
PORT = 80
VIP, IPIP_VIP, GUE_VIP = "203.0.113.80", "203.0.113.81", "203.0.113.82"
SNAT = "203.0.113.10"
"""The first one."""
SERVICE, BY_IPIP, BY_GUE = (Ends(0, packets.number(vip), 0, PORT) for vip in (VIP, IPIP_VIP, GUE_VIP))
"""What the clients' packets are for, of either family."""
CDNS = {"aurora": "198.51.100.10", "borealis": "198.51.100.20", "corona": "198.51.100.30"}
TUNNELS = {"ipip": ("198.51.100.40", IPIP_VIP), "gue": ("198.51.100.50", GUE_VIP)}
"""CDNs that take packets in a tunnel, named as their kind of it, and the VIPs that they serve."""
CUSTOMER = "11.0.0.0/8"
"""Clients with limits, which they never reach."""
SPENT = "9.0.0.0/16"
"""Clients that are over theirs."""
RATE = 2_000_000
"""Packets/s that the sampling is set for: what the agent would settle at in such a load."""
_NEIGHBOURS_S = 5.0
_CALM_US = 3_000_000


def _both(*addresses: str) -> list[str]:
    return [*addresses, *map(packets.six, addresses)]


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{text}"' for text in texts) + "]"


def _service(name: str, vip: str, cdns: Iterable[str], protocols: Sequence[str] = ("tcp",)) -> str:
    return (
        f'\n[[service]]\nname = "{name}"\nvip = "{vip}"\nport = {PORT}\nprotocol = {_list(protocols)}\n'
        f'policy = "latency"\ncdns = {_list(cdns)}\n'
    )


class Size(NamedTuple):
    """How many flows an edge has room for."""

    flows: int = 1_000_000
    snat: int = 2
    endpoints: int = 1
    """Of each CDN and family."""

    @property
    def addresses(self) -> dict[str, list[str]]:
        """Of the CDNs' endpoints over IPv4."""
        return {
            name: [str(IPv4Address(first) + more) for more in range(self.endpoints)]
            for name, first in CDNS.items()
        }

    @property
    def hops(self) -> list[str]:
        """All that has a neighbour entry."""
        return [*chain(*self.addresses.values()), *(address for address, _ in TUNNELS.values())]


ORDINARY = Size()
MILLION = Size(flows=1 << 20, snat=8, endpoints=2)
"""Ports for a million flows, and a third to spare."""


def config_of(size: Size = ORDINARY) -> str:
    snat = [str(IPv4Address(SNAT) + number) for number in range(size.snat)]
    return (
        f"""
[edge]
name = "{NAME}"
interfaces = ["{CLIENTS_LINK}", "{CDNS_LINK}"]
attach = "native"
snat = {_list(_both(*snat))}
management = ["192.0.2.0/24"]

[shield]  # for a load from few sources at the box's very limit: none of it is an attack here
flows_per_s = 1e7

[limits]
flows = {size.flows}
endpoints = {16 * size.endpoints}

[[customer]]
name = "acme"
prefixes = ["{CUSTOMER}"]
pps = 1e9
mbit = 1e6
flows_per_s = 1e9

[[customer]]
name = "spent"
prefixes = ["{SPENT}"]
pps = 0.01
"""
        + _service("www", VIP, CDNS, ("tcp", "udp"))
        + _service("www6", packets.six(VIP), CDNS)
        + "".join(_service(kind, vip, [kind]) for kind, (_, vip) in TUNNELS.items())
        + "".join(
            f'\n[[cdn]]\nname = "{name}"\nendpoints = {_list(map(_endpoint, _both(*addresses)))}\n'
            for name, addresses in size.addresses.items()
        )
        + "".join(
            f'\n[[cdn]]\nname = "{kind}"\nmode = "{kind}"\nendpoints = ["{at}:{PORT}"]\n'
            for kind, (at, _) in TUNNELS.items()
        )
    )


def _endpoint(address: str) -> str:
    return f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}"


class Rig:
    """A context manager; inside it the calling thread is in the edge's namespace."""

    def __init__(self, size: Size = ORDINARY, *, with_shim: bool = True) -> None:
        self._size = size
        self._with_shim = with_shim
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Rig:
        with contextlib.ExitStack() as stack:
            stack.enter_context(namespaces(self._size))
            stack.enter_context(netns.entered(HERE))
            self._environment(stack)
            self.clients_link = socket.if_nametoindex(CLIENTS_LINK)
            self.cdns_link = socket.if_nametoindex(CDNS_LINK)
            settings = config.parse(config_of(self._size), HOME / "cdnctl.toml")
            self.engine = Engine(settings)
            # closes what a start that fails has opened, too
            stack.callback(self.engine.close, detach=True)
            self.engine.start()
            self.tables = self.engine.tables
            self._sample_as_under_load()
            _await_neighbours(self._size)
            if self._with_shim:
                self.shim = Shim(tables_dir(NAME), self._cflags())
                stack.callback(self.shim.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _environment(self, stack: contextlib.ExitStack) -> None:
        for name in ("CDNCTL_RUN_DIR", "CDNCTL_STATE_DIR"):
            before = os.environ.get(name)
            os.environ[name] = str(HOME)
            stack.callback(_put_back, name, before)

    def _cflags(self) -> list[str]:
        vips = self.engine.layout.vips
        return [f"-DVIP4={vips[VIP]}", f"-DVIP6={vips[packets.six(VIP)]}"]

    def _sample_as_under_load(self) -> None:
        settings = self.tables.settings
        settings.sample_one_in = 1
        while RATE / settings.sample_one_in > SAMPLES_PER_S:
            settings.sample_one_in *= 2
        self.tables.settings = settings

    def counted(self, verdict: abi.Verdict) -> int:
        """Packets that ended in this verdict so far."""
        return next(count for each, count, _ in self.tables.counters.verdicts() if each is verdict)

    def block(self, networks: Iterable[IPv4Network]) -> None:
        """Have exactly these in the block list."""
        KernelBlocks(tables_dir(NAME)).load(dict.fromkeys(networks, 0))
        self.tables.bump_generation()

    def calm(self) -> None:
        """No endpoint has unanswered connects, and each is known to be usually slow.

        The bench's SYNs get no answer; with this the breaker works as ever and has no case for three
        times `_CALM_US`, however long a busy box takes for a round.
        """
        now = time.monotonic_ns()
        for place in self.engine.layout.endpoints:
            health = abi.Health(
                last_answer_ns=now, ewma_at_ns=now, samples=1000, ewma_us=_CALM_US, baseline_us=_CALM_US
            )
            self.tables.put_health(place.id, health)

    def ejected(self) -> list[str]:
        """Endpoints that are out of rotation: there should be none."""
        healths = self.tables.healths()
        return [
            place.key for place in self.engine.layout.endpoints if healths[place.id].state != abi.Breaker.IN
        ]


def _put_back(name: str, before: str | None) -> None:
    if before is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = before


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Objects by the million are made twice as fast when nobody looks for cycles among them."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def remove() -> None:
    """Everything that a rig makes, its own or one left by a killed bench; one bench runs at a time."""
    for name in (HERE, FAR):
        netns.remove(name)
    shutil.rmtree(pin_dir(NAME), ignore_errors=True)
    shutil.rmtree(HOME, ignore_errors=True)


@contextlib.contextmanager
def namespaces(size: Size = ORDINARY) -> Iterator[None]:
    """Those of an edge with their links and a directory for it, without the edge; gone afterwards."""
    remove()
    try:
        HOME.mkdir()
        _build(size)
        yield
    finally:
        remove()


def _build(size: Size) -> None:
    for name in (HERE, FAR):
        netns.create(name, ipv6=True)
    with netns.netlink(HERE) as ip:
        for device in (CLIENTS_LINK, CDNS_LINK):
            ip.link("add", ifname=device, kind="veth", peer={"ifname": device, "net_ns_fd": FAR})
    with netns.entered(HERE):
        netns.sysctl("net.ipv4.ip_forward", 1)
        netns.sysctl("net.ipv6.conf.all.forwarding", 1)
    _up(HERE, CLIENTS_LINK, 8, "10.0.0.1")
    _up(FAR, CLIENTS_LINK, 8, "10.0.0.2")
    _up(HERE, CDNS_LINK, 24, "198.51.100.1")
    _up(FAR, CDNS_LINK, 24, *size.hops)


def _up(namespace: str, device: str, length: int, *addresses: str) -> None:
    """With these addresses of both families, in networks of this length (of IPv6 as much longer)."""
    with netns.netlink(namespace) as ip:
        index = ip.link_lookup(ifname=device)[0]
        for address in addresses:
            ip.addr("add", index=index, address=address, prefixlen=length)
            ip.addr("add", index=index, address=packets.six(address), prefixlen=96 + length)
        ip.link("set", index=index, state="up")


def _await_neighbours(size: Size) -> None:
    """The engine asked for the CDNs' neighbours; a packet before they are there would be dropped."""
    end = time.monotonic() + _NEIGHBOURS_S
    with netns.netlink(HERE) as ip:
        while True:
            known = {
                entry.get_attr("NDA_DST") for entry in ip.get_neighbours() if entry.get_attr("NDA_LLADDR")
            }
            missing = {*size.hops, *map(packets.six, chain(*size.addresses.values()))} - known
            if not missing:
                return
            if time.monotonic() > end:
                raise CdnctlError(f"no neighbour entry for {', '.join(sorted(missing))}")
            time.sleep(0.02)
