"""What the kernel's routing tables say of an address, over netlink."""

from __future__ import annotations

import socket
from typing import Literal, NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

Kind = Literal["unicast", "local", "other"]
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
