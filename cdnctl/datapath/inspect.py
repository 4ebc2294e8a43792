"""Looks at the box for `cdnctl doctor`: fills in a `Box`, changes nothing, and needs root for some of it."""

from __future__ import annotations

import contextlib
import grp
import importlib.util
import ipaddress
import os
import platform
import re
import socket
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pyroute2 import IPRoute

from cdnctl import paths
from cdnctl.config import Config
from cdnctl.datapath import (
    attach,
    ethtool,
    holders,
    host,
    kernel,
    links,
    opening,
    peers,
    program,
    toolchain,
)
from cdnctl.datapath.box import Box, Interface, NeighbourState, Ownership, Socket, Way
from cdnctl.datapath.routes import entry_to, route_to
from cdnctl.datapath.standing import standing
from cdnctl.datapath.tables import Tables
from cdnctl.errors import CdnctlError

_NET = Path("/proc/sys/net")
_NUD_RESOLVED = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80
_NUD_FAILED = 0x20
_NUD_PERMANENT = 0x80
_NTF_PROXY = 0x08
_NTF_EXT_MANAGED = 1
_UP = 1


def look(edge: str, config: Config | None, *, agent: bool, elsewhere: str = "") -> Box:
    """Everything that can be seen from here: run it in the edge's network namespace, or say why that is
    `elsewhere`. Then nothing is looked at that a namespace has of its own."""
    there = None if elsewhere else config
    root = os.geteuid() == 0
    unseen = [] if root else ["pins, programs, and what lies in other network namespaces: that needs root"]
    release = platform.release()
    major, minor = re.match(r"(\d+)\.(\d+)", release).groups()  # type: ignore[union-attr]
    pins = _pins(edge) if root and edge else _Pins(loaded=None)
    with IPRoute() as netlink:
        interfaces = _interfaces(there, netlink, pins.maps if root else None)
        names = {each.ifindex: each.name for each in interfaces.values()}
        ways = _ways(there, netlink)
        owners = _owners(there, netlink, interfaces.values())
    unseen += [
        f"the other end of {each.name}: it is in a network namespace that cannot be found"
        for each in interfaces.values()
        if each.peer_unseen and root and names
    ]
    return Box(
        root=root,
        kernel=(int(major), int(minor)),
        release=release,
        btf=Path("/sys/kernel/btf/vmlinux").exists(),
        bpffs=program.is_bpffs(paths.BPFFS),
        bcc=importlib.util.find_spec("bcc") is not None,
        libbpf=_has_libbpf(),
        headers=toolchain.has_headers(),
        available_bytes=_available(),
        agent=agent,
        groups=tuple(_groups()),
        sockets=tuple(_sockets(edge)) if edge else (),
        loaded=pins.loaded,
        current=pins.current,
        standing=standing(config) if config and root else None,
        switches=pins.switches,
        invited_only=pins.invited_only,
        interfaces=interfaces,
        ways=ways,
        owners=owners,
        port_clashes=tuple(host.port_clashes(there)) if there else (),
        conntrack=(_NET / "netfilter" / "nf_conntrack_count").exists(),
        elsewhere=elsewhere,
        unseen=tuple(unseen),
    )


# --- the box itself ------------------------------------------------------------------------------------


def _has_libbpf() -> bool:
    try:
        kernel.libbpf()
    except CdnctlError:
        return False
    return True


def _available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _groups() -> Iterator[str]:
    for name in (paths.OPERATORS_GROUP, paths.VIEWERS_GROUP):
        with contextlib.suppress(KeyError):
            yield grp.getgrnam(name).gr_name


def _sockets(edge: str) -> Iterator[Socket]:
    for path in (paths.socket_path(edge), paths.view_socket_path(edge)):
        with contextlib.suppress(OSError):
            found = path.stat()
            try:
                group = grp.getgrgid(found.st_gid).gr_name
            except KeyError:
                group = str(found.st_gid)
            yield Socket(path=str(path), group=group, mode=stat.S_IMODE(found.st_mode))


class _Pins(NamedTuple):
    """What is pinned of the edge."""

    maps: frozenset[int] = frozenset()
    """Their ids."""
    switches: tuple[str, ...] = ()
    invited_only: bool = False
    loaded: bool | None = False
    current: bool = True


def _pins(edge: str) -> _Pins:
    pinned = program.Program(edge)
    try:
        maps, tables = pinned.maps(), Tables(pinned.pins)
        mode, invited_only = tables.mode, tables.invited_only
    except OSError:
        return _Pins()
    switches = tuple(flag.name.lower() for flag in mode if flag.name)
    return _Pins(maps, switches, invited_only, loaded=True, current=pinned.is_current())


# --- interfaces ----------------------------------------------------------------------------------------


def _interfaces(config: Config | None, netlink: IPRoute, maps: frozenset[int] | None) -> dict[str, Interface]:
    messages = {message.get_attr("IFLA_IFNAME"): message for message in netlink.get_links()}
    devices = {name: links.device(message) for name, message in messages.items()}
    by_index = {each.ifindex: each for each in devices.values()}
    addresses: dict[int, list[str]] = {}
    for message in netlink.get_addr():
        where = addresses.setdefault(message["index"], [])
        where.append(f"{message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}")
    found: dict[str, Interface] = {}
    wanted = list(config.edge.interfaces) if config else []
    for name in wanted:  # which grows on the way
        if name not in messages:
            found[name] = Interface(name=name)
            continue
        device = devices[name]
        below = by_index.get(device.below) if device.vlan and not device.elsewhere else None
        if below and below.name not in wanted:
            wanted.append(below.name)
        found[name] = _interface(
            messages[name], below.name if below else "", addresses.get(device.ifindex, []), netlink, maps
        )
    return found


def _interface(
    message: Any, below: str, addresses: Iterable[str], netlink: IPRoute, maps: frozenset[int] | None
) -> Interface:
    name, ifindex = message.get_attr("IFLA_IFNAME"), message["index"]
    info = message.get_attr("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") if info else "") or ""
    attached, ours = _attached(ifindex, maps)
    peer, unseen = peers.find(message, netlink) if kind == "veth" else (None, False)
    return Interface(
        name=name,
        ifindex=ifindex,
        up=bool(message["flags"] & _UP),
        carrier=message.get_attr("IFLA_CARRIER") != 0,
        mtu=message.get_attr("IFLA_MTU") or 0,
        kind=kind,
        below=below,
        driver=ethtool.driver(name),
        xdp=attach.mode_of(ifindex),
        program=attached,
        ours=ours,
        holder=holders.holder(ifindex) if ours is False else "",
        lro=ethtool.lro(name),
        strips_tags=ethtool.strips_tags(name),
        checksums_left=ethtool.leaves_checksums(name),
        forwarding4=_switch(f"ipv4/conf/{name}/forwarding"),
        forwarding6=_switch(f"ipv6/conf/{name}/forwarding"),
        rp_filter=max(_value(f"ipv4/conf/{which}/rp_filter") or 0 for which in ("all", name)),
        networks=tuple(addresses),
        peer=peer,
        peer_unseen=unseen,
    )


def _attached(ifindex: int, maps: frozenset[int] | None) -> tuple[str, bool | None]:
    """What is attached, and whether it is the edge's own; None when that cannot be told."""
    with contextlib.suppress(OSError):
        if identity := kernel.xdp_program_id(ifindex):
            if maps is None:
                return f"program {identity}", None
            fd = opening.program_fd(identity)
            try:
                return kernel.program_name(identity), bool(maps & kernel.program_map_ids(fd))
            finally:
                os.close(fd)
    return "", None


def _value(switch: str) -> int | None:
    try:
        return int((_NET / switch).read_text())
    except (OSError, ValueError):
        return None


def _switch(switch: str) -> bool | None:
    value = _value(switch)
    return None if value is None else value != 0


# --- ways ----------------------------------------------------------------------------------------------


def _ways(config: Config | None, netlink: IPRoute) -> dict[str, Way]:
    addresses = dict.fromkeys(each.host for cdn in config.cdns for each in cdn.endpoints) if config else {}
    return {address: _way(address, netlink) for address in addresses}


def _way(address: str, netlink: IPRoute) -> Way:
    route = route_to(netlink, address)
    if route is None:
        return Way(address=address)
    interface = ""
    with contextlib.suppress(OSError):
        interface = socket.if_indextoname(route.ifindex)
    hop = route.gateway or address
    state, managed = _neighbour(hop, route.ifindex, netlink)
    entry = entry_to(netlink, address)
    unlocked = entry.mtu if entry and not entry.is_locked else 0
    return Way(
        address=address,
        route=route.kind,
        interface=interface,
        gateway=route.gateway,
        neighbour=state,
        managed=managed,
        unlocked_mtu=unlocked,
        entry=entry.words if entry else "",
    )


def _neighbour(address: str, ifindex: int, netlink: IPRoute) -> tuple[NeighbourState, bool]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for entry in netlink.get_neighbours(family=family, ifindex=ifindex):
        if entry.get_attr("NDA_DST") != address:
            continue
        managed = bool((entry.get_attr("NDA_FLAGS_EXT") or 0) & _NTF_EXT_MANAGED)
        kept = managed or bool(entry["state"] & _NUD_PERMANENT)
        if entry["state"] & _NUD_RESOLVED and entry.get_attr("NDA_LLADDR"):
            return "resolved", kept
        return ("failed" if entry["state"] & _NUD_FAILED else "unresolved"), kept
    return "missing", False


# --- whose addresses -----------------------------------------------------------------------------------


def _owners(
    config: Config | None, netlink: IPRoute, interfaces: Collection[Interface]
) -> dict[str, Ownership]:
    if config is None:
        return {}
    wanted = dict.fromkeys([*(service.vip for service in config.services), *config.edge.snat])
    carriers = own_addresses(netlink)
    return {address: _owner(address, netlink, interfaces, carriers.get(address, "")) for address in wanted}


def own_addresses(netlink: IPRoute) -> dict[str, str]:
    """The addresses of this network namespace, each with the interface that has it: empty for lo and dummies,
    which addresses are put on that are nobody's way to the box."""
    names = {message["index"]: _carrier(message) for message in netlink.get_links()}
    return {
        message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"): names.get(message["index"], "")
        for message in netlink.get_addr()
    }


def _carrier(message: Any) -> str:
    name, info = message.get_attr("IFLA_IFNAME"), message.get_attr("IFLA_LINKINFO")
    quiet = name == "lo" or (info and info.get_attr("IFLA_INFO_KIND") == "dummy")
    return "" if quiet else name


def _owner(address: str, netlink: IPRoute, interfaces: Iterable[Interface], carrier: str) -> Ownership:
    route, parsed = route_to(netlink, address), ipaddress.ip_address(address)
    local = route is not None and route.kind == "local"
    on_link = next(
        (
            each.name
            for each in interfaces
            for network in each.networks
            if (inside := ipaddress.ip_interface(network).network).version == parsed.version
            and inside.prefixlen < inside.max_prefixlen
            and parsed in inside
        ),
        "",
    )
    answered = on_link and (_is_proxied(address, netlink) or _proxies_all(on_link, parsed.version))
    proxied = bool(answered) and not local
    return Ownership(address=address, local=local, carrier=carrier, on_link=on_link, proxied=proxied)


def _is_proxied(address: str, netlink: IPRoute) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    entries = netlink.get_neighbours(family=family, flags=_NTF_PROXY)
    return any(entry.get_attr("NDA_DST") == address for entry in entries)


def _proxies_all(interface: str, version: int) -> bool:
    return version == 4 and bool(_value(f"ipv4/conf/{interface}/proxy_arp"))
