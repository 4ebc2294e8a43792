"""What redirected packets need of the host: forwarding on the ingress interfaces, live neighbours.

`bpf_fib_lookup` refuses while forwarding is off on the interface a packet came in by, and a redirected
packet never starts ARP. So forwarding is switched on where the program is attached (and back to what it
was when it is detached), and next hops are installed as *managed* neighbours, which the kernel itself
resolves and keeps fresh (NTF_EXT_MANAGED, Linux 5.16).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import msgspec
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from cdnctl.state import replace

_NTF_EXT_MANAGED = 1
_NUD_NONE = 0
_CONF = Path("/proc/sys/net/ipv4/conf")


class Hop(NamedTuple):
    """The next hop towards an endpoint."""

    gateway: str
    """The endpoint itself when it is on the link."""
    ifindex: int


class Forwarding:
    """Switches IPv4 forwarding on, interface by interface, and remembers what was."""

    def __init__(self, record: Path) -> None:
        self._record = record
        self._before: dict[str, str] = {}
        with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
            self._before = msgspec.json.decode(record.read_bytes(), type=dict[str, str])

    def enable(self, interface: str) -> bool:
        """Whether this changed anything. Raises OSError."""
        switch = _CONF / interface / "forwarding"
        before = switch.read_text().strip()
        if before == "1":
            return False
        self._before.setdefault(interface, before)
        self._record.parent.mkdir(parents=True, exist_ok=True)
        replace(self._record, msgspec.json.encode(self._before))
        switch.write_text("1")
        return True

    def restore(self, only: Collection[str] | None = None) -> None:
        """Back to what was before the first `enable`, over restarts; of all interfaces or `only` some."""
        for interface in [name for name in self._before if only is None or name in only]:
            with contextlib.suppress(OSError):
                (_CONF / interface / "forwarding").write_text(self._before[interface])
            del self._before[interface]
        if self._before:
            replace(self._record, msgspec.json.encode(self._before))
        else:
            self._record.unlink(missing_ok=True)


def keep_neighbours(endpoints: list[str]) -> list[str]:
    """Have the next hop of each endpoint resolved and kept fresh. Returns warnings."""
    warnings = []
    with IPRoute() as netlink:
        for endpoint in endpoints:
            try:
                hop = _next_hop(netlink, endpoint)
                netlink.neigh(
                    "replace",
                    dst=hop.gateway,
                    ifindex=hop.ifindex,
                    state=_NUD_NONE,
                    NDA_FLAGS_EXT=_NTF_EXT_MANAGED,
                )
            except NetlinkError as error:
                warnings.append(f"no way to endpoint {endpoint}: {error.args[-1]}; add a route to it")
    return warnings


def _next_hop(netlink: IPRoute, address: str) -> Hop:
    for route in netlink.route("get", dst=address):
        attributes = dict(route["attrs"])
        return Hop(attributes.get("RTA_GATEWAY", address), attributes["RTA_OIF"])
    raise NetlinkError(101, "Network is unreachable")
