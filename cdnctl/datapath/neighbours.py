"""Next hops as neighbours that are always resolved: a redirected packet never starts ARP.

They are installed as *managed* neighbours, which the kernel itself resolves and keeps fresh
(NTF_EXT_MANAGED, Linux 5.16). But a link that goes down takes its neighbours with it, and a route may
move an endpoint behind another gateway; so they are asserted again and again, which changes nothing
where they are in place.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

INTERVAL_S = 2.0
_NTF_EXT_MANAGED = 1
_NUD_NONE = 0
_NUD_PERMANENT = 0x80
_WAIT_S = 5.0


class Hop(NamedTuple):
    """The next hop towards an endpoint."""

    gateway: str
    """The endpoint itself when it is on the link."""
    ifindex: int


class Change(NamedTuple):
    """What became of the way to an endpoint."""

    text: str
    lost: bool


class Neighbours:
    """Keeps the next hops of `endpoints` resolved.

    All netlink is spoken in a thread of its own, since pyroute2 refuses to work under a running event
    loop. The thread is in the network namespace of the one that asks first, and idles in between.
    """

    def __init__(self, endpoints: Sequence[str]) -> None:
        self._endpoints = tuple(endpoints)
        self._pool = ThreadPoolExecutor(1, "neighbours")
        self._netlink: IPRoute | None = None
        self._held: set[Hop] = set()
        self._lost: dict[str, str] = {}
        self._changes: deque[Change] = deque()
        self._asked_s = 0.0
        self._round: Future[None] | None = None

    def keep(self) -> None:
        """Assert all of them now; on return it is done, unless the kernel takes very long."""
        with contextlib.suppress(TimeoutError):
            self._ask().result(_WAIT_S)

    def keep_on(self) -> None:
        """Assert them if that is due. Returns at once: for every frame."""
        if time.monotonic() - self._asked_s >= INTERVAL_S and (self._round is None or self._round.done()):
            self._ask()

    def changes(self) -> list[Change]:
        """Ways that were lost or are there again since the last call."""
        return [self._changes.popleft() for _ in range(len(self._changes))]

    def release(self) -> None:
        """Let the neighbours go: the kernel makes them anew when somebody needs them."""
        with contextlib.suppress(TimeoutError):
            self._pool.submit(self._release).result(_WAIT_S)

    def close(self) -> None:
        """End the thread; the neighbours stay."""
        with contextlib.suppress(RuntimeError):  # closed already
            self._pool.submit(self._hang_up)
        self._pool.shutdown(wait=False)

    def _ask(self) -> Future[None]:
        self._asked_s = time.monotonic()
        self._round = self._pool.submit(self._assert)
        return self._round

    # -- in the thread --

    def _assert(self) -> None:
        wanted: set[Hop] = set()
        for endpoint in self._endpoints:
            try:
                hop = self._next_hop(endpoint)
                if hop not in wanted and not self._is_permanent(hop):
                    self._manage(hop)
                    wanted.add(hop)
            except NetlinkError as error:
                self._note(endpoint, str(error.args[-1]))
            except OSError as error:  # the socket: a new one next time
                self._note(endpoint, error.strerror or str(error))
                self._hang_up()
            else:
                self._note(endpoint, "")
        for hop in self._held - wanted:
            self._forget(hop)
        self._held = wanted

    def _note(self, endpoint: str, why: str) -> None:
        if why and endpoint not in self._lost:
            self._changes.append(Change(f"no way to endpoint {endpoint}: {why}; add a route to it", True))
        elif not why and endpoint in self._lost:
            self._changes.append(Change(f"there is a way to endpoint {endpoint} again", False))
        if why:
            self._lost[endpoint] = why
        else:
            self._lost.pop(endpoint, None)

    def _socket(self) -> IPRoute:
        if self._netlink is None:
            self._netlink = IPRoute()
        return self._netlink

    def _next_hop(self, address: str) -> Hop:
        for route in self._socket().route("get", dst=address):
            attributes = dict(route["attrs"])
            return Hop(attributes.get("RTA_GATEWAY", address), attributes["RTA_OIF"])
        raise NetlinkError(101, "Network is unreachable")

    def _is_permanent(self, hop: Hop) -> bool:
        """An operator's own entry: it needs no keeping, and is not ours to let go."""
        entries = self._socket().get_neighbours(ifindex=hop.ifindex)
        return any(
            each["state"] & _NUD_PERMANENT and each.get_attr("NDA_DST") == hop.gateway for each in entries
        )

    def _manage(self, hop: Hop) -> None:
        # A neighbour that is there keeps its address and its state: only the flag is set.
        self._socket().neigh(
            "replace",
            dst=hop.gateway,
            ifindex=hop.ifindex,
            state=_NUD_NONE,
            NDA_FLAGS_EXT=_NTF_EXT_MANAGED,
        )

    def _forget(self, hop: Hop) -> None:
        with contextlib.suppress(NetlinkError, OSError):  # gone with its link, most likely
            self._socket().neigh("del", dst=hop.gateway, ifindex=hop.ifindex)

    def _release(self) -> None:
        for hop in self._held:
            self._forget(hop)
        self._held = set()

    def _hang_up(self) -> None:
        if self._netlink is not None:
            with contextlib.suppress(OSError):
                self._netlink.close()
            self._netlink = None
