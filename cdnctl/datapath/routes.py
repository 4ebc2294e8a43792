"""What the kernel's routing tables say of an address, over netlink."""

from __future__ import annotations

import socket
from typing import Literal, NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

Kind = Literal["unicast", "local", "other"]
_RTM_F_FIB_MATCH = 0x2000
"""Asks for the entry, not for the way that it makes."""
_MAIN = 254
_LOCKS_MTU = 1 << 2
_KINDS: dict[int, Kind] = {1: "unicast", 2: "local"}


class Route(NamedTuple):
    """The way to an address."""

    kind: Kind
    """`local`: it is one of this box's own. `other`: it is thrown away, one way or another."""
    ifindex: int
    gateway: str
    """Empty when it is on the link. It may be of the other family (RFC 5549)."""
    source: str
    """What the box would send from."""


class Entry(NamedTuple):
    """An entry of a routing table."""

    words: str
    """As `ip route change` takes it, without its MTU."""
    mtu: int
    """0: that of its interface."""
    is_locked: bool
    """Only then the kernel tells it to programs that ask for the way."""


def entry_to(netlink: IPRoute, address: str) -> Entry | None:
    """What the way to an address is by; None when there is no way, or one of several interfaces."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        for route in netlink.route("get", dst=address, family=family, flags=_RTM_F_FIB_MATCH):
            attributes = dict(route["attrs"])
            if not (ifindex := attributes.get("RTA_OIF")):
                return None
            metrics = dict((attributes.get("RTA_METRICS") or {"attrs": ()})["attrs"])
            words = [f"{attributes['RTA_DST']}/{route['dst_len']}" if route["dst_len"] else "default"]
            via = attributes.get("RTA_VIA") or {}
            if gateway := attributes.get("RTA_GATEWAY") or via.get("addr"):
                words += ["via", *(["inet6"] if via else []), gateway]
            words += ["dev", socket.if_indextoname(ifindex)]
            if metric := attributes.get("RTA_PRIORITY"):
                words += ["metric", str(metric)]
            if (table := attributes.get("RTA_TABLE", _MAIN)) != _MAIN:
                words += ["table", str(table)]
            locked = bool(metrics.get("RTAX_LOCK", 0) & _LOCKS_MTU)
            return Entry(" ".join(words), metrics.get("RTAX_MTU", 0), locked)
    except (NetlinkError, OSError):
        return None
    return None


def route_to(netlink: IPRoute, address: str) -> Route | None:
    """None when there is no way."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        for route in netlink.route("get", dst=address, family=family):
            attributes = dict(route["attrs"])
            via = attributes.get("RTA_VIA") or {}
            return Route(
                _KINDS.get(route["type"], "other"),
                attributes.get("RTA_OIF", 0),
                attributes.get("RTA_GATEWAY") or via.get("addr") or "",
                attributes.get("RTA_PREFSRC", ""),
            )
    except NetlinkError:
        return None
    return None
