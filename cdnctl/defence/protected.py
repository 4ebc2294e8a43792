"""What no block may ever cover: the operators' own way in, and what the edge lives on.

`protected` is asked afresh for each plan, so a colleague who logged in a second ago is safe as well.
Who is logged in is read from the kernel's socket table; environment variables lie under sudo and tmux.
Everything is read in the network namespace of the calling thread, the one the edge works in.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from cdnctl.config import Config
from cdnctl.defence.blocklist import Network, covers, parse_prefix, show_prefix

T = TypeVar("T")

SSH_DAEMONS = frozenset({"sshd", "sshd-session", "dropbear"})
"""Names of processes that serve SSH; OpenSSH 9.8 split sessions off into sshd-session."""
_LOCAL_TABLE, _LOCAL = 255, 2  # RT_TABLE_LOCAL, RTN_LOCAL


class Protected(NamedTuple):
    """A network that must stay reachable, and why."""

    network: Network
    why: str
    """Reads well after the network: `the VIP of service www`."""


class Surroundings(NamedTuple):
    """What is found on the box rather than in its configuration: addresses as text."""

    ssh_peers: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    """What could not be found out, as sentences: warnings to the operator, for it is not protected."""


def surroundings() -> Surroundings:
    """Read them now; takes a few milliseconds.

    Netlink missing or forbidden (a sandbox) must not keep an operator from blocking an attack, so what
    cannot be read only leaves a warning.
    """
    unread: list[str] = []

    def read(what: str, how: Callable[[], set[str]]) -> tuple[str, ...]:
        try:
            return tuple(sorted(_off_loop(how)))
        except Exception as error:
            unread.append(f"cannot find out {what}, so they are not protected: {error}")
            return ()

    return Surroundings(
        ssh_peers=read("who is logged in over SSH", ssh_peers),
        gateways=read("the default gateways", gateways),
        resolvers=resolvers(Path("/etc/resolv.conf")),
        own=read("this box's own addresses", own_addresses),
        unread=tuple(unread),
    )


def protected(config: Config, around: Surroundings | None = None) -> list[Protected]:
    """Everything that must not be blocked, the operators' own way in first."""
    around = surroundings() if around is None else around
    return [
        Protected(ipaddress.ip_network(network), why)
        for network, why in (
            *((peer, "an operator logged in over SSH") for peer in around.ssh_peers),
            *((prefix, "a management prefix") for prefix in config.edge.management),
            *((gateway, "a default gateway") for gateway in around.gateways),
            *((resolver, "a name server of this box") for resolver in around.resolvers),
            *((address, "an address of this box") for address in around.own),
            *((service.vip, f"the VIP of service {service.name}") for service in config.services),
            *((address, "an SNAT address") for address in config.edge.snat),
            *(
                (endpoint.host, f"an endpoint of {cdn.name}")
                for cdn in config.cdns
                for endpoint in cdn.endpoints
            ),
        )
    ]


def refusal(prefix: str | Network, guarded: Iterable[Protected]) -> str | None:
    """Why `prefix` must not be blocked, or None if it may be. Raises ValueError if it is no prefix."""
    network = parse_prefix(prefix) if isinstance(prefix, str) else prefix
    reasons = list(dict.fromkeys(_reasons(network, guarded)))
    if not reasons:
        return None
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return f"{'; '.join(reasons[:3])}{more}"


def _reasons(network: Network, guarded: Iterable[Protected]) -> Iterator[str]:
    for other, why in guarded:
        if network == other:
            yield f"is {show_prefix(other)}, {why}"
        elif covers(network, other):
            yield f"covers {show_prefix(other)}, {why}"
        elif covers(other, network):
            yield f"lies in {show_prefix(other)}, {why}"


# --- what is found on the box ------------------------------------------------------------------------


def resolvers(path: Path) -> tuple[str, ...]:
    """Addresses of the `nameserver` lines of a resolv.conf."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    words = (line.split() for line in lines)
    return tuple(
        found for line in words if line[:1] == ["nameserver"] and len(line) > 1 and (found := _plain(line[1]))
    )


def gateways() -> set[str]:
    """Gateways of the default routes, those of multipath routes and of the other family too."""
    from pyroute2 import IPRoute

    found: set[str] = set()
    with IPRoute() as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            for route in netlink.get_routes(family=family):
                if route["dst_len"] or route.get("type") != 1:  # RTN_UNICAST
                    continue
                for hop in (route, *(route.get("multipath") or ())):
                    other_family = (hop.get("via") or {}).get("addr")
                    found.update(filter(None, map(_plain, (hop.get("gateway"), other_family))))
    return found


def own_addresses() -> set[str]:
    """This box's own addresses, loopback included."""
    from pyroute2 import IPRoute

    with IPRoute() as netlink:
        return set(filter(None, (_plain(address.get("address")) for address in netlink.get_addr())))


def own_networks() -> set[Network]:
    """What this box answers for, and the networks that its interfaces are in. Raises what netlink does."""
    return _off_loop(_own_networks)


def _own_networks() -> set[Network]:
    from pyroute2 import IPRoute

    found: set[Network] = set()
    with IPRoute() as netlink:
        for route in netlink.get_routes(table=_LOCAL_TABLE):
            if route.get("type") == _LOCAL and route.get("dst"):
                found.add(ipaddress.ip_network(f"{route.get('dst')}/{route['dst_len']}"))
        for address in netlink.get_addr():
            own = f"{address.get('address')}/{address['prefixlen']}"
            found.add(ipaddress.ip_network(own, strict=False))
    return found


def ssh_peers() -> set[str]:
    """Who has an established connection to a port that an SSH daemon listens on.

    A daemon's connections that it made itself (forwarded by a client's `-L`) are from no such port. A
    port that systemd listens on for the daemon counts as well: what counts is that something listens
    there, and that a daemon holds a socket with that local port.
    """
    from pyroute2 import DiagSocket
    from pyroute2.netlink.diag import SS_ESTABLISHED, SS_LISTEN

    sockets = []
    with DiagSocket() as netlink:
        netlink.bind()
        for family in (socket.AF_INET, socket.AF_INET6):
            states = 1 << SS_ESTABLISHED | 1 << SS_LISTEN
            sockets += netlink.get_sock_stats(states=states, family=family)
    held = _sockets_of(SSH_DAEMONS)
    listening = {each["idiag_sport"] for each in sockets if each["idiag_state"] == SS_LISTEN}
    ports = listening & {each["idiag_sport"] for each in sockets if each["idiag_inode"] in held}
    return {
        peer
        for each in sockets
        if each["idiag_state"] == SS_ESTABLISHED and each["idiag_sport"] in ports
        if (peer := _plain(each["idiag_dst"]))
    }


def _sockets_of(names: frozenset[str]) -> set[int]:
    """Inodes of the sockets that processes of these names hold.

    Raises PermissionError where they may not be seen: that takes root, with CAP_SYS_PTRACE where its other
    capabilities are less than theirs.
    """
    inodes: set[int] = set()
    for process in Path("/proc").iterdir():
        # A process may end while it is looked at.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if not process.name.isdigit() or (process / "comm").read_text().rstrip("\n") not in names:
                continue
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    target = os.readlink(descriptor)
                    if target.startswith("socket:["):
                        inodes.add(int(target[8:-1]))
    return inodes


def _plain(address: object) -> str | None:
    """An address without its zone, IPv4 in IPv6 as IPv4; None for anything else."""
    try:
        found = ipaddress.ip_address(str(address).partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def _off_loop(read: Callable[[], T]) -> T:
    """The result of `read`, in a thread of its own: pyroute2 refuses to work under a running event loop.

    A new thread is in the network namespace of the one that starts it.
    """
    with ThreadPoolExecutor(1, "netlink") as pool:
        return pool.submit(read).result()
