"""The edge's links: where frames come in and go out, as the kernel's program must know them.

A VLAN device cannot transmit for XDP, so frames leave by the device below it, with the tag written into
them; and they may come in either way, by the VLAN device or by the one below it with their tag. So a
link is known by several keys. Its id is in the slots of live flows: it is kept while the agent lives,
also when the device is made anew, and taken over from the tables by the next one.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pyroute2.netlink.exceptions import NetlinkError

from cdnctl.datapath import abi, attach
from cdnctl.datapath.keeper import Keeper
from cdnctl.datapath.tables import Tables
from cdnctl.errors import CdnctlError

Key = tuple[int, int, int]
"""Interface, outer and inner VLAN id, of which 0 is none."""
_MOST_TAGS = 2
_MAX_MTU = 0xFFFF
_MAC_BYTES = 6


class Device(NamedTuple):
    """What netlink says of an interface."""

    ifindex: int
    name: str
    mac: bytes
    mtu: int
    below: int
    """The device it sits on, 0: none."""
    elsewhere: bool
    """And that is in another network namespace."""
    vlan: int
    """Its VLAN id, 0: it is no VLAN device."""
    tpid: int


class Place(NamedTuple):
    """A configured interface, as the tables have it."""

    name: str
    root: str
    """The device that its frames really come and go by."""
    keys: tuple[Key, ...]
    link: abi.Link


def device(message: Any) -> Device:
    """From a link message of netlink."""
    info = message.get_attr("IFLA_LINKINFO")
    data = info.get_attr("IFLA_INFO_DATA") if info and info.get_attr("IFLA_INFO_KIND") == "vlan" else None
    return Device(
        ifindex=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        mac=bytes.fromhex((message.get_attr("IFLA_ADDRESS") or "").replace(":", "")),
        mtu=message.get_attr("IFLA_MTU") or 0,
        below=message.get_attr("IFLA_LINK") or 0,
        elsewhere=message.get_attr("IFLA_LINK_NETNSID") is not None,
        vlan=data.get_attr("IFLA_VLAN_ID") if data else 0,
        tpid=data.get_attr("IFLA_VLAN_PROTOCOL") if data else 0,
    )


def place(name: str, devices: Iterable[Device]) -> Place:
    """How the tables should have an interface. Raises CdnctlError when it can be no link of an edge."""
    by_index = {each.ifindex: each for each in devices}
    found = next((each for each in by_index.values() if each.name == name), None)
    if found is None:
        raise attach.missing(name, [each.name for each in by_index.values()])
    if len(found.mac) != _MAC_BYTES or not any(found.mac):
        raise CdnctlError(
            f"interface {name} is no Ethernet device", "[edge] interfaces takes those that have a MAC address"
        )
    keys, tags, root = [(found.ifindex, 0, 0)], list[Device](), found
    while root.vlan:
        tags.insert(0, root)
        below = None if root.elsewhere else by_index.get(root.below)
        if below is None:
            raise CdnctlError(
                f"interface {name} sits on a device of another network namespace",
                "run the edge where that is, or move it here",
            )
        if len(tags) > _MOST_TAGS:
            raise CdnctlError(
                f"interface {name} has more than {_MOST_TAGS} VLAN tags",
                "frames are looked at below two: an outer and an inner one",
            )
        root = below
        keys.append((root.ifindex, *_ids(tags)))
    outer, inner = _ids(tags)
    link = abi.Link(
        ifindex=root.ifindex,
        outer=outer,
        inner=inner,
        mtu=min(found.mtu, _MAX_MTU),
        mac=(ctypes.c_uint8 * _MAC_BYTES)(*found.mac),
        tpid=abi.port(tags[0].tpid) if tags else 0,
    )
    return Place(name, root.name, tuple(keys), link)


def _ids(tags: Sequence[Device]) -> tuple[int, int]:
    ids = [tag.vlan for tag in tags[:_MOST_TAGS]]
    return (*ids, 0, 0)[0], (*ids, 0, 0)[1]


class Links(Keeper):
    """Keeps the tables of links true to what the interfaces `names` are."""

    def __init__(self, tables: Tables, names: Sequence[str]) -> None:
        super().__init__("links")
        self._tables = tables
        self._names = tuple(dict.fromkeys(names))
        self.ids: dict[str, int] = {}
        """Ids by interface, of those that were ever there."""
        self.places: dict[str, Place] = {}
        """Interfaces that are there."""

    def want(self, names: Sequence[str]) -> bool:
        """Keep these from now on; whether that is new. `refresh` puts it into force."""
        before, self._names = self._names, tuple(dict.fromkeys(names))
        return before != self._names

    def refresh(self) -> None:
        """Have the tables as the interfaces are now. Raises CdnctlError when one can be no link.

        From then on `keep_on` does the same when it is due, and `changes` says what came and went.
        """
        self.keep()
        faults = [self._faults[name] for name in self._names if name in self._faults]
        if faults:
            remedy = "see `ip -d link`: make it, or mend [edge] interfaces and `cdnctl reload`"
            raise CdnctlError("\n".join(faults), remedy)

    def roots(self, names: Sequence[str]) -> tuple[str, ...]:
        """The devices to attach to: of VLAN devices those below, as only they can do native XDP."""
        places = self.places
        return tuple(dict.fromkeys(places[name].root if name in places else name for name in names))

    # -- in the thread --

    def _assert(self) -> None:
        try:
            devices = [device(message) for message in self._socket().get_links()]
        except (NetlinkError, OSError):  # the socket: a new one next time
            self._hang_up()
            return
        places: dict[str, Place] = {}
        names = self._names
        self._note_only(names)
        for name in names:
            why = ""
            try:
                places[name] = place(name, devices)
                self._number(places[name])
            except CdnctlError as error:
                places.pop(name, None)
                why = error.message
            self._note(name, why, lost=why, again=f"interface {name} is there again")
        self._write(places)
        self.places = places

    def _number(self, wanted: Place) -> None:
        if wanted.name in self.ids:
            return
        held = self._tables.link_keys()
        taken = set(self.ids.values())
        known = held.get(wanted.keys[0])
        if known is None or known in taken:
            used, ever = taken | set(held.values()), taken | self._tables.links().keys()
            free = [number for number in range(abi.MAX_LINKS) if number not in used]
            if not free:
                raise CdnctlError(f"{wanted.name} would be more than {abi.MAX_LINKS} links")
            known = min(free, key=lambda number: (number in ever, number))
        self.ids[wanted.name] = known

    def _write(self, places: Mapping[str, Place]) -> None:
        tables = self._tables
        keys = {key: self.ids[name] for name, each in places.items() for key in each.keys}
        with contextlib.suppress(OSError):  # the tables: whoever misses them says so
            for name, each in places.items():
                tables.put_link(self.ids[name], each.link)
            tables.set_link_keys(keys)
            for name in self.ids.keys() - places.keys():  # nothing leaves by a device that is not there
                tables.put_link(self.ids[name], abi.Link())
