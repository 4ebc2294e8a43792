"""Next hops as neighbours that are always resolved: a redirected packet never starts ARP or its like.

They are installed as *managed* neighbours, which the kernel itself resolves and keeps fresh
(NTF_EXT_MANAGED, Linux 5.16). But a link that goes down takes its neighbours with it, and a route may
move an endpoint behind another gateway; so they are asserted again and again, which changes nothing
where they are in place.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pyroute2.netlink.exceptions import NetlinkError

from cdnctl.datapath.keeper import Change, Keeper

__all__ = ["INTERVAL_S", "Change", "Hop", "Neighbours"]

INTERVAL_S = 2.0
_NTF_EXT_MANAGED = 1
_NUD_NONE = 0
_NUD_PERMANENT = 0x80


class Hop(NamedTuple):
    """The next hop towards an endpoint."""

    gateway: str
    """The endpoint itself when it is on the link. It may be of the other family (RFC 5549)."""
    ifindex: int

    @property
    def family(self) -> int:
        """Of the gateway's address."""
        return _family(self.gateway)


def _is_managed(flags: object) -> bool:
    """Of an attribute that the library may not know, and then leaves as it came."""
    number = int.from_bytes(flags, "little") if isinstance(flags, bytes) else flags
    return isinstance(number, int) and bool(number & _NTF_EXT_MANAGED)


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Neighbours(Keeper):
    """Keeps the next hops of `endpoints` resolved, addresses of either family."""

    def __init__(self, endpoints: Sequence[str] = ()) -> None:
        super().__init__("neighbours")
        self._endpoints = tuple(endpoints)
        self._held: set[Hop] = set()

    def want(self, endpoints: Sequence[str]) -> None:
        """Keep the next hops of these from now on; `keep` puts that into force."""
        self._endpoints = tuple(endpoints)

    def release(self) -> None:
        """Let the neighbours go: the kernel makes them anew when somebody needs them."""
        self._wait_for(self._release)

    def missing(self) -> list[tuple[str, str]]:
        """Next hops that the kernel does not keep resolved, and what it has of them instead."""
        found: list[tuple[str, str]] = []
        self._wait_for(lambda: found.extend(self._missing()))
        return found

    def _interval_s(self) -> float:
        return INTERVAL_S

    # -- in the thread --

    def _assert(self) -> None:
        wanted: set[Hop] = set()
        endpoints = self._endpoints
        self._note_only(endpoints)
        for endpoint in endpoints:
            why = ""
            try:
                hop = self._next_hop(endpoint)
                if hop not in wanted and not self._is_permanent(hop):
                    self._manage(hop)
                    wanted.add(hop)
            except NetlinkError as error:
                why = str(error.args[-1])
            except OSError as error:  # the socket: a new one next time
                why = error.strerror or str(error)
                self._hang_up()
            self._note(
                endpoint,
                why,
                lost=f"no way to endpoint {endpoint}: {why}; add a route to it",
                again=f"there is a way to endpoint {endpoint} again",
            )
        for hop in self._held - wanted:
            self._forget(hop)
        self._held = wanted

    def _missing(self) -> Iterator[tuple[str, str]]:
        hops = dict[Hop, None]()
        for endpoint in self._endpoints:
            with contextlib.suppress(NetlinkError, OSError):  # without a way: told with the frames
                hops[self._next_hop(endpoint)] = None
        for hop in hops:
            entries = self._socket().get_neighbours(family=hop.family, ifindex=hop.ifindex)
            held = next((each for each in entries if each.get_attr("NDA_DST") == hop.gateway), None)
            if held is None:
                yield hop.gateway, "no entry"
            elif not held["state"] & _NUD_PERMANENT and not _is_managed(held.get_attr("NDA_FLAGS_EXT")):
                yield hop.gateway, "an entry that the kernel lets lapse"

    def _next_hop(self, address: str) -> Hop:
        for route in self._socket().route("get", dst=address, family=_family(address)):
            attributes = dict(route["attrs"])
            via = attributes.get("RTA_VIA") or {}
            gateway = attributes.get("RTA_GATEWAY") or via.get("addr") or address
            return Hop(gateway, attributes["RTA_OIF"])
        raise NetlinkError(101, "Network is unreachable")

    def _is_permanent(self, hop: Hop) -> bool:
        """An operator's own entry: it needs no keeping, and is not ours to let go."""
        entries = self._socket().get_neighbours(family=hop.family, ifindex=hop.ifindex)
        return any(
            each["state"] & _NUD_PERMANENT and each.get_attr("NDA_DST") == hop.gateway for each in entries
        )

    def _manage(self, hop: Hop) -> None:
        # A neighbour that is there keeps its address and its state: only the flag is set.
        self._socket().neigh(
            "replace",
            family=hop.family,
            dst=hop.gateway,
            ifindex=hop.ifindex,
            state=_NUD_NONE,
            NDA_FLAGS_EXT=_NTF_EXT_MANAGED,
        )

    def _forget(self, hop: Hop) -> None:
        with contextlib.suppress(NetlinkError, OSError):  # gone with its link, most likely
            self._socket().neigh("del", family=hop.family, dst=hop.gateway, ifindex=hop.ifindex)

    def _release(self) -> None:
        for hop in self._held:
            self._forget(hop)
        self._held = set()
