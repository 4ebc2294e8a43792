"""A network namespace for test runs: links, addresses and neighbours, so that the kernel finds next hops.

    clients (10.255.0.1/24, 2001:db8:ff::1/64)   where clients' frames come in, sent by a router
    cdn1..cdn3 (172.16.N.1/30, 2001:db8:16:N::1/64)
                                                 towards the CDNs, each behind a gateway whose neighbour
                                                 entries are permanent

No frame ever travels here: BPF_PROG_TEST_RUN only asks that the interface exists.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from cdnctl.datapath.program import Program
from cdnctl.lab import netns
from cdnctl.paths import BPFFS

PREFIX = "pkt-"
"""What namespaces and edges of these tests are called: this and the test process's id."""
ROUTER_MAC = "02:00:00:00:01:02"
CLIENT_SIDE_MAC = "02:00:00:00:01:01"
NUD_PERMANENT = 0x80


class Link(NamedTuple):
    """A link towards one CDN."""

    name: str
    mac: str
    gateway: str
    gateway_mac: str
    endpoint: str
    gateway6: str
    endpoint6: str


LINKS = tuple(
    Link(
        f"cdn{n}",
        f"02:00:00:00:02:0{n}",
        f"172.16.{n}.2",
        f"02:00:00:00:03:0{n}",
        f"198.51.100.{n}0",
        f"2001:db8:16:{n}::2",
        f"2001:db8:198::{n}0",
    )
    for n in range(1, 4)
)
CLIENTS = "clients"


def name(suffix: str = "") -> str:
    """A namespace or edge of this test process."""
    return f"{PREFIX}{os.getpid()}{suffix}"


def remove_stale() -> None:
    """Remove what test processes left that were killed."""
    for path in [*netns.RUN.glob(f"{PREFIX}*"), *(BPFFS / "cdnctl").glob(f"{PREFIX}*")]:
        owner = path.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            netns.remove(path.name)
            Program(path.name).remove()


def _add_veth(device: str, mac: str, *addresses: str) -> None:
    with netns.netlink(name()) as ip:
        ip.link("add", ifname=device, kind="veth", address=mac, peer={"ifname": f"{device}-far"})
        index = ip.link_lookup(ifname=device)[0]
    with netns.entered(name()):
        # IPv6 is off in a new namespace: on here, but it says nothing of its own accord
        netns.sysctl(f"net.ipv6.conf.{device}.accept_dad", 0)
        netns.sysctl(f"net.ipv6.conf.{device}.router_solicitations", 0)
        netns.sysctl(f"net.ipv6.conf.{device}.disable_ipv6", 0)
    with netns.netlink(name()) as ip:
        for address in addresses:
            host, _, length = address.partition("/")
            ip.addr("add", index=index, address=host, prefixlen=int(length))
        for end in (device, f"{device}-far"):
            ip.link("set", index=ip.link_lookup(ifname=end)[0], state="up")


@contextlib.contextmanager
def made() -> Iterator[dict[str, int]]:
    """Make the namespace and remove it in the end; gives the interfaces' indexes."""
    remove_stale()
    netns.create(name())
    try:
        _add_veth(CLIENTS, CLIENT_SIDE_MAC, "10.255.0.1/24", "2001:db8:ff::1/64")
        for link in LINKS:
            _add_veth(link.name, link.mac, link.gateway[:-1] + "1/30", link.gateway6[:-1] + "1/64")
        with netns.netlink(name()) as ip:
            indexes = {
                device: ip.link_lookup(ifname=device)[0] for device in (CLIENTS, *(x.name for x in LINKS))
            }
            for link in LINKS:
                neighbour(ip, link, indexes[link.name])
                ip.route("add", dst=f"{link.endpoint}/32", gateway=link.gateway)
                ip.route("add", dst=f"{link.endpoint6}/128", gateway=link.gateway6)
        with netns.entered(name()):
            for device in indexes:
                forwarding(device, on=True)
        yield indexes
    finally:
        netns.remove(name())


def neighbour(ip: object, link: Link, index: int, verb: str = "replace") -> None:
    """Write (or `del`) the permanent neighbour entries of a link's gateway."""
    fields = {} if verb == "del" else {"lladdr": link.gateway_mac, "state": NUD_PERMANENT}
    for gateway in (link.gateway, link.gateway6):
        ip.neigh(verb, dst=gateway, ifindex=index, **fields)  # type: ignore[attr-defined]


def forwarding(device: str, *, on: bool) -> None:
    """Switch forwarding of an interface, of both families; call it inside the namespace."""
    for family in ("ipv4", "ipv6"):
        netns.sysctl(f"net.{family}.conf.{device}.forwarding", int(on))
