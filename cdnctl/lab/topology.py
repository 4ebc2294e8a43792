"""What the lab's network looks like: names, addresses, routes; and how it is built.

Everything has both families. The addresses are the same in every lab, since each lab has namespaces of
its own; those of IPv6 are from the documentation prefixes:

- clients: three regions 10.1.0.0/16 to 10.3.0.0/16 and 3fff:1::/32 to 3fff:3::/32, all local to the
  clients' namespace; floods come from 10.66.0.0/16 and 10.128.0.0/9, where nobody listens, or from bots in
  10.16.0.0/12, which are hosts like the clients. The clients of a fourth region,
  10.4.0.0/16 and 3fff:4::/32, sit behind a router (the clients' namespace) and a hop of 1,280 bytes;
- the edge: VIP 203.0.113.80:80, SNAT 203.0.113.10 and .11, and [2001:db8:80::80]:80, 2001:db8:80::10 and
  ::11. They are routed to it but are on none of its interfaces, so the host's stack never answers for
  them;
- CDN number k (from 1): endpoints 198.51.100.(10 k) and 2001:db8:c:k::10, on a link to the edge, by
  which everything comes and what was translated goes back. What came in a tunnel is for the VIP, which
  is on the CDN's loopback, too, and from the client itself: that is answered by a second link, past the
  edge, straight to the clients' namespace.

Forwarding and neighbours on the edge are its agent's business; the lab sets neither.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute

from cdnctl.lab import netns

VIP, VIP6 = "203.0.113.80", "2001:db8:80::80"
PORT = 80
SECOND_PORT = 8080
"""Origins answer on it too: room for another service."""
TUNNEL_PORT = 6080
"""Of GUE: where origins take packets out of UDP."""
VIPS = "203.0.113.0/24"
"""Where the VIP and the SNAT addresses are."""
SNAT = ("203.0.113.10", "203.0.113.11")
SNAT6 = ("2001:db8:80::10", "2001:db8:80::11")
EDGE_SERVICES = (VIPS, "2001:db8:80::/64")
CDN_SERVICES = ("198.51.100.0/24", "2001:db8:c::/48")
REGIONS = ("10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16")
REGIONS6 = ("3fff:1::/32", "3fff:2::/32", "3fff:3::/32")
FAR_REGION = ("10.4.0.0/16", "3fff:4::/32")
FLOOD_PREFIX = "10.66.0.0/16"
SPOOFED_PREFIX = "10.128.0.0/9"
BOTS_PREFIX = "10.16.0.0/12"
CLIENT_SIDE = ("10.0.0.0/8", "3fff::/20")
NARROW_MTU = 1280
"""Of the hop before the fourth region."""
CLIENTS_LINK = "clients"
"""The edge's interface towards the clients."""
UPLINK = "uplink"
"""Its peer, in the clients' namespace."""
UPLINK_INDEX = 100
EVERYWHERE = ("0.0.0.0/0", "::/0")
LOCAL_TABLE = 255
LOCK_MTU = 1 << 2  # RTAX_MTU


def vip_for(client: str) -> tuple[str, int]:
    """What a client of that address connects to."""
    return (VIP6 if ":" in client else VIP), PORT


def _both_ends(v4: str, v6: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """The addresses of a link's two ends: `192.0.2.` and `2001:db8:e::`, with 1 and 2."""
    return (f"{v4}1", f"{v6}1"), (f"{v4}2", f"{v6}2")


_EDGE_ADDRESS, _CLIENTS_ADDRESS = _both_ends("192.0.2.", "2001:db8:e::")
_ROUTER_ADDRESS, _FAR_ADDRESS = _both_ends("100.64.0.", "2001:db8:f0::")


@dataclass(frozen=True)
class Site:
    """One CDN of the lab, number `k` from 1."""

    lab: str
    name: str
    k: int
    delay_ms: float
    """Of its link, each way."""

    @property
    def namespace(self) -> str:
        return f"cdnctl-{self.lab}-{self.name}"

    @property
    def endpoint(self) -> str:
        """Its IPv4 address; the port is `PORT`."""
        return f"198.51.100.{10 * self.k}"

    @property
    def endpoint6(self) -> str:
        """Its IPv6 address, on the same port."""
        return f"2001:db8:c:{self.k:x}::10"

    @property
    def edge_link(self) -> str:
        """The edge's interface towards it."""
        return f"cdn-{self.name}"

    @property
    def edge_peer(self) -> str:
        """The wire's end on the edge's side, where the tap counts."""
        return f"e-{self.name}"

    @property
    def edge_peer_index(self) -> int:
        return UPLINK_INDEX + self.k

    @property
    def origin_peer(self) -> str:
        """The wire's end on the CDN's side."""
        return f"o-{self.name}"

    @property
    def back_link(self) -> str:
        """The clients' interface that its direct answers come by."""
        return f"b-{self.name}"

    @property
    def wire_pairs(self) -> list[tuple[str, str]]:
        """The wire's ends: of the link to the edge, and of the way back."""
        return [(self.edge_peer, self.origin_peer), (f"r-{self.name}", f"s-{self.name}")]

    @property
    def link(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The addresses, IPv4 and IPv6, of the edge and of the CDN on the link between them."""
        return _both_ends(f"100.64.{self.k}.", f"2001:db8:f:{self.k:x}::")

    @property
    def way_back(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """The addresses of the clients' side and of the CDN on the way back."""
        return _both_ends(f"100.65.{self.k}.", f"2001:db8:f1:{self.k:x}::")

    @property
    def routers(self) -> tuple[str, str]:
        """The addresses of a router in the middle of its links."""
        return f"100.66.{self.k}.1", f"2001:db8:f2:{self.k:x}::1"


@dataclass(frozen=True)
class Topology:
    """A lab's namespaces and links, not yet built."""

    lab: str
    sites: tuple[Site, ...]

    @classmethod
    def plan(cls, lab: str, cdns: Sequence[str], delays_ms: Sequence[float]) -> Topology:
        """Number the CDNs; ValueError when names do not fit an interface's or clash."""
        if not 1 <= len(cdns) <= 20 or len(set(cdns)) != len(cdns) or len(delays_ms) != len(cdns):
            raise ValueError("a lab has 1 to 20 CDNs with different names, and a delay for each")
        for name in cdns:
            if len(name) > 11 or name in ("edge", "clients", "wire", "far"):
                raise ValueError(f"a CDN of a lab cannot be called {name!r} (at most 11 characters)")
        sites = (
            Site(lab, name, k, delay) for k, (name, delay) in enumerate(zip(cdns, delays_ms, strict=True), 1)
        )
        return cls(lab, tuple(sites))

    @property
    def edge(self) -> str:
        return f"cdnctl-{self.lab}-edge"

    @property
    def clients(self) -> str:
        return f"cdnctl-{self.lab}-clients"

    @property
    def far(self) -> str:
        """Where the clients of the fourth region are."""
        return f"cdnctl-{self.lab}-far"

    @property
    def wire(self) -> str:
        return f"cdnctl-{self.lab}-wire"

    @property
    def namespaces(self) -> list[str]:
        return [self.clients, self.far, self.edge, self.wire, *(site.namespace for site in self.sites)]

    @property
    def edge_links(self) -> list[str]:
        return [CLIENTS_LINK, *(site.edge_link for site in self.sites)]

    def build(self) -> None:
        """Make the namespaces, links, addresses and routes. On failure the caller removes them."""
        for name in self.namespaces:
            netns.create(name, ipv6=True)
            with netns.entered(name):
                # Links to be made inherit these.
                netns.sysctl("net.ipv4.conf.all.rp_filter", 0)
                netns.sysctl("net.ipv4.conf.default.rp_filter", 0)
        self._build_clients()
        self._build_far()
        for site in self.sites:
            self._build_site(site)
        self.route_to_sites()

    def route_to_sites(self, mtu: Mapping[str, int] | None = None) -> None:
        """Have the edge's routes to all endpoints, also after a link was down, which takes them along.

        `mtu` says what their paths take, by CDN, where that is less than their links.
        """
        with netns.netlink(self.edge) as ip:
            for site in self.sites:
                metrics: dict[str, Any] = {}
                if mtu and site.name in mtu:
                    # `ip route ... mtu lock`: one that is not locked is not for what is forwarded.
                    metrics = {"metrics": {"mtu": mtu[site.name], "lock": LOCK_MTU}}
                # On-link: the CDN's end answers for its endpoints.
                for host in (f"{site.endpoint}/32", f"{site.endpoint6}/128"):
                    ip.route("replace", dst=host, oif=_index(ip, site.edge_link), scope="link", **metrics)

    def _build_clients(self) -> None:
        # As network cards have it: each processor sends into a queue of its own, and takes in what is in it.
        # With one for all, a flood becomes the work of the clients' processor as soon as it sends something.
        queues = os.cpu_count() or 1
        _veth(self.clients, UPLINK, self.edge, CLIENTS_LINK, index=UPLINK_INDEX, queues=queues)
        netns.spread_queues(self.clients, UPLINK, queues)
        netns.spread_queues(self.edge, CLIENTS_LINK, queues)
        _up(self.edge, CLIENTS_LINK, _EDGE_ADDRESS)
        _up(self.clients, UPLINK, _CLIENTS_ADDRESS)
        _people(self.clients, (*REGIONS, *REGIONS6, BOTS_PREFIX))
        with netns.entered(self.clients):
            # It is the router of those beyond it.
            netns.sysctl("net.ipv4.ip_forward", 1)
            netns.sysctl("net.ipv6.conf.all.forwarding", 1)
        with netns.netlink(self.clients) as ip:
            for services in (EDGE_SERVICES, CDN_SERVICES):
                _route(ip, services, _EDGE_ADDRESS)
            for prefix in (FLOOD_PREFIX, SPOOFED_PREFIX):
                ip.route("add", dst=prefix, type="blackhole")
        with netns.netlink(self.edge) as ip:
            _route(ip, CLIENT_SIDE, _CLIENTS_ADDRESS)

    def _build_far(self) -> None:
        _veth(self.clients, "far", self.far, "eth0", mtu=NARROW_MTU)
        _up(self.clients, "far", _ROUTER_ADDRESS)
        _up(self.far, "eth0", _FAR_ADDRESS)
        _people(self.far, FAR_REGION)
        with netns.netlink(self.clients) as ip:
            _route(ip, FAR_REGION, _FAR_ADDRESS)
        with netns.netlink(self.far) as ip:
            # They promise what a link of 1,500 bytes takes: whoever sends as much has to hear of the hop.
            for target, gateway, mss in zip(
                ("0.0.0.0/0", "::/0"), _ROUTER_ADDRESS, (1460, 1440), strict=True
            ):
                ip.route("add", dst=target, gateway=gateway, metrics={"advmss": mss})

    def _build_site(self, site: Site) -> None:
        _veth(self.wire, site.edge_peer, self.edge, site.edge_link, index=site.edge_peer_index)
        _veth(self.wire, site.origin_peer, site.namespace, "eth0")
        for end in site.wire_pairs[0]:
            _up(self.wire, end, (), gro=False)
        edge_end, cdn_end = site.link
        _up(self.edge, site.edge_link, edge_end)
        _up(site.namespace, "eth0", cdn_end)
        with netns.entered(site.namespace):
            netns.sysctl("net.core.somaxconn", 8192)
            netns.sysctl("net.ipv4.tcp_max_syn_backlog", 8192)
            netns.sysctl("net.ipv4.tcp_syncookies", 1)
            # A flood's answers go unacknowledged: do not repeat them five times each.
            netns.sysctl("net.ipv4.tcp_synack_retries", 1)
        with netns.netlink(site.namespace) as ip:
            for host, length in ((site.endpoint, 32), (site.endpoint6, 128)):
                ip.addr("add", index=_index(ip, "eth0"), address=host, prefixlen=length)
            _route(ip, EVERYWHERE, edge_end)
        self._build_way_back(site)

    def _build_way_back(self, site: Site) -> None:
        _, (near, far) = site.wire_pairs
        _veth(self.wire, near, self.clients, site.back_link)
        _veth(self.wire, far, site.namespace, "eth1")
        for end in (near, far):
            _up(self.wire, end, (), gro=False)
        clients_end, cdn_end = site.way_back
        _up(self.clients, site.back_link, clients_end)
        _up(site.namespace, "eth1", cdn_end)
        with netns.netlink(site.namespace) as ip:
            for vip, length in ((VIP, 32), (VIP6, 128)):
                ip.addr("add", index=1, address=vip, prefixlen=length)
            _route(ip, CLIENT_SIDE, clients_end)


def _veth(
    near: str, name: str, far: str, peer: str, *, index: int | None = None, mtu: int = 1500, queues: int = 1
) -> None:
    """Join two namespaces by a pair of interfaces; `index` is that of the near one."""
    numbered = {"index": index} if index else {}
    both = {"mtu": mtu, "num_tx_queues": queues, "num_rx_queues": queues}
    with netns.netlink(near) as ip:
        ip.link(
            "add",
            ifname=name,
            kind="veth",
            peer={"ifname": peer, "net_ns_fd": far, **both},
            **both,
            **numbered,
        )


def _up(namespace: str, device: str, addresses: Sequence[str], *, gro: bool = True) -> None:
    """Set it up with addresses, each of a link's network."""
    with netns.entered(namespace):
        netns.offloads_off(device, gro=not gro)
    with netns.netlink(namespace) as ip:
        index = _index(ip, device)
        ip.link("set", index=index, state="up")
        for address in addresses:
            ip.addr("add", index=index, address=address, prefixlen=64 if ":" in address else 30)


def _people(namespace: str, prefixes: Sequence[str]) -> None:
    """Make every address of some prefixes local, so that clients may bind to any of them."""
    with netns.entered(namespace):
        netns.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
        netns.sysctl("net.ipv6.ip_nonlocal_bind", 1)  # IPv6 does not take the route's word for it
    with netns.netlink(namespace) as ip:
        for prefix in prefixes:
            ip.route("add", dst=prefix, oif=1, type="local", table=LOCAL_TABLE, scope="host")


def _route(ip: IPRoute, targets: Sequence[str], gateways: Sequence[str]) -> None:
    """A route of each family."""
    for target, gateway in zip(targets, gateways, strict=True):
        ip.route("add", dst=target, gateway=gateway)


def _index(ip: IPRoute, device: str) -> int:
    return int(ip.link_lookup(ifname=device)[0])
