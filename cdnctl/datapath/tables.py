"""The pinned maps of an edge, typed: what the agent writes and what it reads.

    choice     services, pick tables, endpoints      clients    customers and regions by prefix
    counters   exact totals and histograms           flows      how many are live
    shield     what is asked of new flows under attack    manners    how sources behave

and, in here, the switches, the edge's own addresses and links, and what the breaker knows.
"""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar

from cdnctl.datapath import abi
from cdnctl.datapath.choice import Choice
from cdnctl.datapath.clients import Clients
from cdnctl.datapath.counters import Counters
from cdnctl.datapath.flows import COUNT_BOUND_S, Carried, FlowCount, carried, live_flows
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.local import LocalAddresses
from cdnctl.datapath.manners import MannerTables
from cdnctl.datapath.shield import ShieldTables

S = TypeVar("S", bound=ctypes.Structure)
ANNOUNCED_NS = 30_000_000_000
"""For so long the kernel believes what it was told of announced prefixes: addresses come and go."""


def _entry(table: Map, number: int, kind: type[S]) -> S:
    """An array's entry; zeros where there is none."""
    return kind.from_buffer_copy(table.get(abi.key(number)) or bytes(abi.size(kind)))


class Tables:
    """Raises OSError when a pin is missing: then no data path is loaded."""

    def __init__(self, pins: Path) -> None:
        def table(name: str) -> Map:
            return Map.pinned(pins / name)

        self._mode = table("mode")
        self._settings = table("settings")
        self.local = LocalAddresses(pins)
        self._link_ids = table("link_ids")
        self._links = table("links")
        self._management = table("management")
        self._announced = table("announced")
        self._invited = table("invited")
        self.half_open = table("half_open")
        self.established = table("established")
        self.datagrams = table("datagrams")
        self.reverse = table("reverse")
        self._quic_ids = table("quic_ids")
        self._fragments = table("fragments")
        self._sources = table("sources")
        self._health = table("health")
        self._weight_out = table("weight_out")
        self.shield = ShieldTables(pins)
        self.manners = MannerTables(pins)
        self.choice = Choice(pins)
        self.clients = Clients(pins)
        self.counters = Counters(pins)

    @property
    def identity(self) -> int:
        """Id of a map that this edge's programs use, and no others, whether it is pinned still or not."""
        return self._mode.info.id

    # -- switches --

    @property
    def mode(self) -> abi.Mode:
        """What panic has switched off, and whether the edge only observes."""
        return abi.Mode(struct.unpack("I", self._mode.get(abi.key(0)) or bytes(4))[0])

    @mode.setter
    def mode(self, mode: abi.Mode) -> None:
        self._mode.put(abi.key(0), struct.pack("I", mode))

    @property
    def settings(self) -> abi.Settings:
        """A copy; assign it back to put it into force."""
        return _entry(self._settings, 0, abi.Settings)

    @settings.setter
    def settings(self, settings: abi.Settings) -> None:
        self._settings.put(abi.key(0), bytes(settings))

    def bump_generation(self) -> int:
        """Have every cached verdict checked once again; returns the new policy generation."""
        settings = self.settings
        settings.generation = settings.generation % 0xFFFF_FFFF + 1
        self.settings = settings
        return int(settings.generation)

    # -- addresses and links --

    def put_local(self, address: str, kind: abi.LocalKind, index: int) -> None:
        """Declare a VIP ours, with its number among VIPs, or a SNAT address, with its in its family."""
        self.local.put(abi.packed(address), abi.Local(kind=kind, index=index))

    def keep_local(self, addresses: Collection[str]) -> None:
        """Disown every other address."""
        self.local.keep({abi.packed(address) for address in addresses})

    def link(self, identity: int) -> abi.Link:
        """Where frames leave by that are sent to this link."""
        return _entry(self._links, identity, abi.Link)

    def links(self) -> dict[int, abi.Link]:
        """Those that were ever registered, by id: slots of live flows may still carry it."""
        entries = (abi.Link.from_buffer_copy(raw) for raw in self._links.values())
        return {number: entry for number, entry in enumerate(entries) if entry.ifindex}

    def link_keys(self) -> dict[tuple[int, int, int], int]:
        """Ids of links by interface and the two VLAN ids that frames come in with."""
        found = {}
        for raw, value in self._link_ids.items():
            key = abi.LinkKey.from_buffer_copy(raw)
            found[key.ifindex, key.outer, key.inner] = int.from_bytes(value, "little")
        return found

    def put_link(self, identity: int, link: abi.Link) -> None:
        """What a link is; names that lead to it are put afterwards."""
        if bytes(link) != bytes(self.link(identity)):
            self._links.put(abi.key(identity), bytes(link))

    def set_link_keys(self, wanted: Mapping[tuple[int, int, int], int]) -> None:
        """Have exactly these; frames that come in otherwise are nobody's."""
        held = self.link_keys()
        for key, identity in wanted.items():
            if held.get(key) != identity:
                self._link_ids.put(_link_key(key), abi.key(identity))
        self._link_ids.delete_all([_link_key(key) for key in held.keys() - wanted.keys()])

    def set_management(self, networks: Collection[abi.AnyNetwork]) -> None:
        """The operators' own networks, and no others."""
        wanted = {abi.prefix_key(network): abi.key(1) for network in networks}
        held = set(self._management.keys())
        self._management.put_all(wanted)
        self._management.delete_all(held - wanted.keys())

    # -- what of announced prefixes nobody has --

    def announced(self) -> dict[bytes, int]:
        """Uses, by keys of a trie; empty while none is asked about."""
        if self.settings.announced <= time.monotonic_ns():
            return {}
        return {key: int.from_bytes(use, "little") for key, use in self._announced.items()}

    def announce(self, wanted: Mapping[bytes, int]) -> None:
        """Have exactly these, for `ANNOUNCED_S` from now. What the host has is never without its entry while
        what is around it is nobody's. Raises OSError; then none is in force."""
        held = {key: int.from_bytes(use, "little") for key, use in self._announced.items()}
        if held != dict(wanted):
            self._believe_announced(0)
            self._announced.delete_all([key for key in held if key not in wanted])
            self._announced.put_all({key: abi.key(use) for key, use in wanted.items()})
        if wanted:
            self._believe_announced(time.monotonic_ns() + ANNOUNCED_NS)
        elif self.settings.announced:
            self._believe_announced(0)

    def _believe_announced(self, until_ns: int) -> None:
        settings = self.settings
        settings.announced = until_ns
        self.settings = settings

    # -- who may talk to SNAT addresses --

    @property
    def invited_only(self) -> bool:
        """Whether nobody else may."""
        return bool(self.settings.invited_only)

    @invited_only.setter
    def invited_only(self, only: bool) -> None:
        settings = self.settings
        if bool(settings.invited_only) != only:
            settings.invited_only = only
            self.settings = settings

    def invited(self) -> set[bytes]:
        """Who is on the list, as keys of a trie."""
        return {key for key, _ in self._invited.items()}

    def invite(self, wanted: Collection[bytes], *, others: bool = False) -> None:
        """Have these on the list: before anybody is taken off it. With `others` nobody is."""
        held = self.invited()
        self._invited.put_all({key: abi.key(1) for key in wanted if key not in held})
        if not others:
            self._invited.delete_all(held.difference(wanted))

    # -- what the kernel found out --

    def health(self, endpoint: int) -> abi.Health:
        """The breaker's view of an endpoint."""
        return _entry(self._health, endpoint, abi.Health)

    def healths(self) -> list[abi.Health]:
        """The breaker's view of all endpoints, by id, in one look."""
        return [abi.Health.from_buffer_copy(raw) for raw in self._health.values()]

    def put_health(self, endpoint: int, health: abi.Health) -> None:
        """Overwrite it: for an endpoint id that is given to another endpoint."""
        self._health.put(abi.key(endpoint), bytes(health))

    def weight_out(self, pool: abi.Pool) -> int:
        """Weight that ejections have taken out of a pool's rotation."""
        return int.from_bytes(self._weight_out.get(abi.key(pool)) or b"", "little")

    def put_weight_out(self, pool: abi.Pool, weight: int) -> None:
        """Mend it."""
        self._weight_out.put(abi.key(pool), struct.pack("Q", weight))

    def carried(self) -> Carried:
        """Numbers of the services and endpoints that have flows."""
        settings = self.settings
        return carried(
            (self.reverse, self.half_open, self.established, self.datagrams),
            settings.snat_rows * settings.ports,
            max(settings.established_s, settings.udp_s),
        )

    def filled_by_kernel(self) -> dict[str, Map]:
        """The tables whose entries come with packets, by name; one that is full evicts."""
        return {
            "half_open": self.half_open,
            "established": self.established,
            "datagrams": self.datagrams,
            "quic_ids": self._quic_ids,
            "fragments": self._fragments,
            "sources": self._sources,
        }

    def live_flows(self, bound_s: float = COUNT_BOUND_S) -> FlowCount:
        """Flows under way that were not closed, in about `bound_s` seconds at the most."""
        settings = self.settings
        under_way = (self.established, settings.established_s), (self.datagrams, settings.udp_s)
        return live_flows(under_way, self.reverse, bound_s)


def _link_key(key: tuple[int, int, int]) -> bytes:
    return bytes(abi.LinkKey(ifindex=key[0], outer=key[1], inner=key[2]))
