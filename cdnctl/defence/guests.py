"""Who may talk to the SNAT addresses, where `[edge] snat_from` leaves them to providers: all but what feeds
of ranges bring.

All that no block may cover is on it, so that nobody is locked out by what keeps strangers out; but for the
box's own addresses, VIPs among them, from which nothing comes in that is not spoofed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from cdnctl.config import Config
from cdnctl.defence.blocklist import Network
from cdnctl.defence.protected import Surroundings

LINGER_S = 3600.0
"""Whoever was logged in over SSH gets in again for so long: lines break."""


def guests(config: Config, around: Surroundings) -> set[Network]:
    """Everybody, but for the ranges of providers."""
    found = (ipaddress.ip_network(text) for text in _texts(config, around))
    return {network for network in found if not network.is_loopback}


def _texts(config: Config, around: Surroundings) -> Iterator[str]:
    for cdn in config.cdns:
        yield from (endpoint.host for endpoint in cdn.endpoints)
    yield from config.edge.management
    yield from config.edge.snat_also_from
    yield from config.dns.servers
    yield from around.ssh_peers
    yield from around.gateways
    yield from around.resolvers


def passing(config: Config, around: Surroundings) -> list[str]:
    """Who is logged in over SSH now, and is on the list for that alone."""
    kept = [ipaddress.ip_network(each) for each in (*config.edge.management, *config.edge.snat_also_from)]
    return [
        peer
        for peer in around.ssh_peers
        if not (address := ipaddress.ip_address(peer)).is_loopback
        and not any(address in network for network in kept)
    ]


class Around:
    """The surroundings, and who was logged in within `LINGER_S`; what could not be read is as it was."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}
        self.now = Surroundings()
        """As they were last seen."""

    def note(self, found: Surroundings, now_s: float) -> None:
        """They were looked at, at a time of any steady clock."""
        before = self.now
        if found.unread:
            found = found._replace(
                ssh_peers=tuple({*before.ssh_peers, *found.ssh_peers}),
                gateways=tuple({*before.gateways, *found.gateways}),
            )
        self._seen |= dict.fromkeys(found.ssh_peers, now_s)
        self._seen = {peer: at_s for peer, at_s in self._seen.items() if now_s - at_s < LINGER_S}
        self.now = found

    @property
    def lately(self) -> Surroundings:
        """With those who were logged in a while ago."""
        return self.now._replace(ssh_peers=tuple(self._seen))
