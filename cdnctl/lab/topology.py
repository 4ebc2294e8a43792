"""What the lab's network looks like: names, addresses, routes; and how it is built.

The addresses are the same in every lab, since each lab has namespaces of its own:

- clients: three regions 10.1.0.0/16 to 10.3.0.0/16, all local to the clients' namespace; floods come
  from 10.66.0.0/16, where nobody listens;
- the edge: VIP 203.0.113.80:80, SNAT 203.0.113.10 and .11. They are routed to it but are on none of
  its interfaces, so the host's stack never answers for them;
- CDN number k (from 1): endpoint 198.51.100.(10 k), on a link of its own.

Forwarding and neighbours on the edge are its agent's business; the lab sets neither.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from pyroute2 import IPRoute

from cdnctl.lab import netns

VIP = "203.0.113.80"
PORT = 80
SNAT = ("203.0.113.10", "203.0.113.11")
EDGE_SERVICES = "203.0.113.0/24"
CDN_SERVICES = "198.51.100.0/24"
REGIONS = ("10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16")
FLOOD_PREFIX = "10.66.0.0/16"
CLIENT_SIDE = "10.0.0.0/8"
CLIENTS_LINK = "clients"
"""The edge's interface towards the clients."""
UPLINK = "uplink"
"""Its peer, in the clients' namespace."""
UPLINK_INDEX = 100
_EDGE_ADDRESS, _CLIENTS_ADDRESS = "192.0.2.1", "192.0.2.2"


@dataclass(frozen=True)
class Site:
    """One CDN of the lab, number `k` from 1."""

    lab: str
    name: str
    k: int
    delay_ms: float
    """Of its link, each way."""
    weight: int = 100

    @property
    def namespace(self) -> str:
        return f"cdnctl-{self.lab}-{self.name}"

    @property
    def endpoint(self) -> str:
        """Its address; the port is `PORT`."""
        return f"198.51.100.{10 * self.k}"

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
    def gateway(self) -> str:
        """The edge's own address on this link."""
        return f"100.64.{self.k}.1"

    @property
    def link_address(self) -> str:
        """The CDN's own address on this link."""
        return f"100.64.{self.k}.2"


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
            if len(name) > 11 or name in ("edge", "clients", "wire"):
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
    def wire(self) -> str:
        return f"cdnctl-{self.lab}-wire"

    @property
    def namespaces(self) -> list[str]:
        return [self.clients, self.edge, self.wire, *(site.namespace for site in self.sites)]

    @property
    def edge_links(self) -> list[str]:
        return [CLIENTS_LINK, *(site.edge_link for site in self.sites)]

    def build(self) -> None:
        """Make the namespaces, links, addresses and routes. On failure the caller removes them."""
        for name in self.namespaces:
            netns.create(name)
        self._build_edge()
        self._build_clients()
        for site in self.sites:
            self._build_site(site)

    def _build_edge(self) -> None:
        with netns.entered(self.edge):
            # Links to be made inherit these.
            netns.sysctl("net.ipv4.conf.all.rp_filter", 0)
            netns.sysctl("net.ipv4.conf.default.rp_filter", 0)

    def _build_clients(self) -> None:
        with netns.entered(self.clients):
            netns.sysctl("net.ipv4.conf.all.rp_filter", 0)
            netns.sysctl("net.ipv4.conf.default.rp_filter", 0)
            netns.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
        with netns.netlink(self.clients) as ip:
            ip.link(
                "add",
                ifname=UPLINK,
                kind="veth",
                index=UPLINK_INDEX,
                peer={"ifname": CLIENTS_LINK, "net_ns_fd": self.edge},
            )
            _up(self.edge, CLIENTS_LINK, f"{_EDGE_ADDRESS}/30")
            _up(self.clients, UPLINK, f"{_CLIENTS_ADDRESS}/30")
            for services in (EDGE_SERVICES, CDN_SERVICES):
                ip.route("add", dst=services, gateway=_EDGE_ADDRESS)
            for region in REGIONS:
                # Every address of a region is local, so that clients may bind to any of them.
                ip.route("add", dst=region, oif=1, type="local", table=255, scope="host")
            ip.route("add", dst=FLOOD_PREFIX, type="blackhole")
        with netns.netlink(self.edge) as ip:
            ip.route("add", dst=CLIENT_SIDE, gateway=_CLIENTS_ADDRESS)

    def _build_site(self, site: Site) -> None:
        with netns.netlink(self.wire) as ip:
            ip.link(
                "add",
                ifname=site.edge_peer,
                kind="veth",
                index=site.edge_peer_index,
                peer={"ifname": site.edge_link, "net_ns_fd": self.edge},
            )
            ip.link(
                "add",
                ifname=site.origin_peer,
                kind="veth",
                peer={"ifname": "eth0", "net_ns_fd": site.namespace},
            )
        _up(self.wire, site.edge_peer, gro=True)
        _up(self.wire, site.origin_peer, gro=True)
        _up(self.edge, site.edge_link, f"{site.gateway}/30")
        _up(site.namespace, "eth0", f"{site.link_address}/30", f"{site.endpoint}/32")
        with netns.entered(site.namespace):
            netns.sysctl("net.core.somaxconn", 8192)
            netns.sysctl("net.ipv4.tcp_max_syn_backlog", 8192)
            netns.sysctl("net.ipv4.tcp_syncookies", 1)
            # A flood's answers go unacknowledged: do not repeat them five times each.
            netns.sysctl("net.ipv4.tcp_synack_retries", 1)
        with netns.netlink(self.edge) as ip:
            # On-link: the CDN's end answers ARP for its endpoint.
            ip.route("add", dst=f"{site.endpoint}/32", oif=_index(ip, site.edge_link), scope="link")
        with netns.netlink(site.namespace) as ip:
            ip.route("add", dst="0.0.0.0/0", gateway=site.gateway)


def _up(namespace: str, device: str, *addresses: str, gro: bool = False) -> None:
    with netns.entered(namespace):
        netns.offloads_off(device, gro=gro)
    with netns.netlink(namespace) as ip:
        index = _index(ip, device)
        ip.link("set", index=index, state="up")
        for address in addresses:
            interface = ipaddress.ip_interface(address)
            ip.addr("add", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen)


def _index(ip: IPRoute, device: str) -> int:
    return int(ip.link_lookup(ifname=device)[0])
