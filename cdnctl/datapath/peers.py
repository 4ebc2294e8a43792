"""The other end of a veth, wherever it is: redirected frames end there, and are lost there unseen."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from cdnctl.datapath import elsewhere, ethtool, kernel
from cdnctl.datapath.box import Peer

_UP = 1


def find(message: Any, netlink: IPRoute) -> tuple[Peer | None, bool]:
    """The peer of the veth that a link message is about; and whether there is one that cannot be seen."""
    ifindex, namespace = message.get_attr("IFLA_LINK"), message.get_attr("IFLA_LINK_NETNSID")
    if not ifindex:
        return None, False
    if namespace is None:
        return _look(ifindex, "", netlink), False
    for path in elsewhere.namespaces():
        with contextlib.suppress(OSError, NetlinkError):
            if _number_of(path, netlink) == namespace:
                peer = elsewhere.within(path, partial(_look_from, ifindex, elsewhere.shown(path)))
                return peer, peer is None
    return None, True


def _number_of(path: Path, netlink: IPRoute) -> int | None:
    """What this namespace calls another one."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        answer = netlink.get_netnsid(fd=handle)
    finally:
        os.close(handle)
    return answer["nsid"] if answer else None


def _look_from(ifindex: int, where: str) -> Peer | None:
    with contextlib.suppress(NetlinkError), IPRoute() as netlink:
        return _look(ifindex, where, netlink)
    return None


def _look(ifindex: int, where: str, netlink: IPRoute) -> Peer | None:
    for message in netlink.get_links(ifindex):
        name = message.get_attr("IFLA_IFNAME")
        counters = message.get_attr("IFLA_STATS64") or {}
        return Peer(
            name=name,
            where=where,
            up=bool(message["flags"] & _UP),
            mtu=message.get_attr("IFLA_MTU") or 0,
            native_xdp=bool(kernel.xdp_program_id(ifindex, kernel.XDP_FLAGS_DRV_MODE)),
            gro=ethtool.gro(name),
            checksums_left=ethtool.leaves_checksums(name),
            rx_dropped=counters.get("rx_dropped", 0),
        )
    return None
