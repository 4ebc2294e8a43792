"""Where it is measured: clients, the box in the middle and origins, in network namespaces of their own.

Two links: clients -- edge -- origins. All ways from the one to the other use these, one at a time. The
clients' addresses are many and sit behind one router, so that no pair of address and port is used twice.
What a killed bench left is removed at the start of the next.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import struct
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

from cdnctl.datapath import kernel
from cdnctl.lab import netns
from cdnctl.lab.processes import LabError
from cdnctl.paths import pin_dir

NAME = "cdnctl-bench-peers"
"""Of the edge: unlike any operator's, since the pins of this name are removed."""
CLIENTS, EDGE, ORIGINS = (f"{NAME}-{place}" for place in ("clients", "edge", "origins"))
HOME = Path(f"/run/{NAME}")
"""Configurations and the agent's sockets and state."""
PORT = 80
HOPS = ("198.51.100.10", "198.51.100.20", "198.51.100.30")
"""The origins: three addresses of one nginx."""
SERVICES = "203.0.113.0/24"
"""VIPs of all ways, and what they translate clients to: routed to the edge."""
EDGE_LINKS = ("clients", "origins")
"""The edge's interfaces; their peers are `UPLINK` in the other two namespaces."""
UPLINK = "eth0"
SOURCES = tuple(f"10.1.{high}.{low}" for high in range(4) for low in range(1, 251))
"""Addresses of clients."""
_CLIENTS_LINK = ("192.0.2.1", "192.0.2.2")
_ORIGINS_LINK = "198.51.100.1"
_LOCAL_TABLE = 255
_XDP = 6
_PASS = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0)
"""`return XDP_PASS`."""
_LOST = 5e-3
"""More frames lost than this part of all: then it was not the way that was measured."""


class Place:
    """The namespaces with their links and routes, made on creation."""

    def __init__(self) -> None:
        for name in (CLIENTS, EDGE, ORIGINS):
            netns.create(name)
            with netns.entered(name):
                # links to be made inherit the second
                for which in ("all", "default"):
                    netns.sysctl(f"net.ipv4.conf.{which}.rp_filter", 0)
                netns.sysctl("net.ipv4.ip_forward", 1)
                netns.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
                netns.sysctl("net.ipv4.tcp_congestion_control", "reno")  # no pacing, on whatever box
                netns.sysctl("net.core.somaxconn", 8192)
                netns.sysctl("net.ipv4.tcp_max_syn_backlog", 8192)
        for device, far in zip(EDGE_LINKS, (CLIENTS, ORIGINS), strict=True):
            _join(device, far)
        _address(EDGE, EDGE_LINKS[0], _CLIENTS_LINK[0], 30)
        _address(CLIENTS, UPLINK, _CLIENTS_LINK[1], 30)
        _address(EDGE, EDGE_LINKS[1], _ORIGINS_LINK, 24)
        for hop in HOPS:
            _address(ORIGINS, UPLINK, hop, 24)
        with netns.netlink(CLIENTS) as ip:
            ip.route("add", dst="10.1.0.0/16", oif=1, type="local", table=_LOCAL_TABLE, scope="host")
        with netns.netlink(EDGE) as ip:
            ip.route("add", dst="10.1.0.0/16", gateway=_CLIENTS_LINK[1])
        with netns.netlink(ORIGINS) as ip:
            ip.route("add", dst="default", gateway=_ORIGINS_LINK)
        self._sources: Iterator[str] = cycle(SOURCES)
        self.next_source()

    def next_source(self) -> str:
        """A client's address that has been idle for longest; from now on connections are made from it."""
        source = next(self._sources)
        with netns.netlink(CLIENTS) as ip:
            ip.route("replace", dst="default", gateway=_CLIENTS_LINK[0], prefsrc=source)
        return source

    def lost(self) -> tuple[int, int]:
        """Frames that came in at all four ends so far, and those that were dropped there."""
        came = dropped = 0
        for name, devices in ((CLIENTS, (UPLINK,)), (EDGE, EDGE_LINKS), (ORIGINS, (UPLINK,))):
            with netns.netlink(name) as ip:
                for device in devices:
                    stats = ip.get_links(ifname=device)[0].get_attr("IFLA_STATS64")
                    came += stats["rx_packets"]
                    dropped += stats["rx_dropped"] + stats["tx_dropped"]
        return came, dropped

    def check(self, before: tuple[int, int], what: str) -> None:
        """Raises LabError when the links themselves have lost frames since `before`."""
        came, dropped = (now - then for now, then in zip(self.lost(), before, strict=True))
        if dropped > _LOST * came:
            raise LabError(f"{what}: the links dropped {dropped} of {came + dropped} frames")


def remove() -> None:
    """Everything that was made here or left by a killed bench; one bench runs at a time."""
    for name in (CLIENTS, EDGE, ORIGINS):
        netns.remove(name)
    shutil.rmtree(pin_dir(NAME), ignore_errors=True)
    shutil.rmtree(HOME, ignore_errors=True)


def _join(device: str, far: str) -> None:
    with netns.netlink(EDGE) as ip:
        ip.link("add", ifname=device, kind="veth", peer={"ifname": UPLINK, "net_ns_fd": far})
    for name, end in ((EDGE, device), (far, UPLINK)):
        with netns.entered(name):
            netns.offloads_off(end, gro=False)
        with netns.netlink(name) as ip:
            ip.link("set", ifname=end, state="up")
    with netns.entered(far):
        _pass_all(UPLINK)


def _pass_all(device: str) -> None:
    """An XDP program that passes everything: only then veth takes frames that are redirected there."""
    libbpf = kernel.libbpf()
    program = libbpf.bpf_prog_load(_XDP, b"pass", b"GPL", _PASS, ctypes.c_size_t(2), None)
    fd = kernel.check(program, "bpf_prog_load")
    try:
        ifindex = socket.if_nametoindex(device)
        kernel.check(libbpf.bpf_xdp_attach(ifindex, fd, kernel.XDP_FLAGS_DRV_MODE, None), device)
    finally:
        os.close(fd)


def _address(namespace: str, device: str, address: str, length: int) -> None:
    with netns.netlink(namespace) as ip:
        ip.addr("add", index=ip.link_lookup(ifname=device)[0], address=address, prefixlen=length)
