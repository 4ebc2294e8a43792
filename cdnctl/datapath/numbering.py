"""Which number an endpoint, and a reverse slot, has in tables of another layout.

A slot's number says which endpoint, SNAT address and port it is of (slot.h). When addresses, ports or
the room for endpoints change, so do the numbers of the flows that go on, or they have none any more.
"""

from __future__ import annotations

from collections.abc import Collection

from cdnctl.config import Config, ports, snat_rows
from cdnctl.datapath import abi
from cdnctl.datapath.choice import EndpointKey
from cdnctl.datapath.tables import Tables

NOWHERE = -1
_FAMILIES = (4, 6)


class Numbering:
    """From the old tables' numbers to the new ones'."""

    def __init__(self, tables: Tables, config: Config) -> None:
        settings = tables.settings
        self._ports, self._new_ports = int(settings.ports), ports(config)
        self._new_rows = snat_rows(config)
        self._shift = int(settings.port_min_host) - config.edge.snat_ports[0]
        held = tables.choice.endpoints()
        self.endpoints = endpoint_numbers(held, _wanted(config), config.limits.endpoints)
        """By the old ones; those that are not in it have no room any more."""
        places: tuple[list[int], list[int]] = ([], [])
        for row, family in enumerate(_FAMILIES):
            addresses = list(config.edge.snat_of(family))
            for index in range(settings.snat_count[row]):
                address = abi.show_address(settings.snat[row][index])
                places[row].append(addresses.index(address) if address in addresses else NOWHERE)
        self._rows: dict[int, int] = {}
        """First new slot of each row of old ones that goes on."""
        for key, number in held.items():
            for index, new in enumerate(places[":" in key.address]):
                if new != NOWHERE and number in self.endpoints:
                    row = self.endpoints[number] * self._new_rows + new
                    self._rows[number * settings.snat_rows + index] = row * self._new_ports
        self.is_same = (
            all(old == new for old, new in self.endpoints.items())
            and len(self.endpoints) == len(held)
            and (self._ports, self._shift, int(settings.snat_rows)) == (self._new_ports, 0, self._new_rows)
            and all(each == list(range(len(each))) for each in places)
        )
        """Nothing changes its number."""

    def slot(self, old: int) -> int:
        """Of a reverse slot; NOWHERE when its flow is cut."""
        row, port = divmod(old, self._ports)
        port += self._shift
        first = self._rows.get(row, NOWHERE)
        return first + port if first != NOWHERE and 0 <= port < self._new_ports else NOWHERE

    def snat(self, new: int) -> int:
        """Which SNAT address of its family a new slot is of."""
        return new // self._new_ports % self._new_rows


def endpoint_numbers(
    held: dict[EndpointKey, int], wanted: Collection[EndpointKey], room: int
) -> dict[int, int]:
    """Everybody's own where there is room for it; those that are wanted come first where there is not."""
    given = {number: number for number in held.values() if number < room}
    homeless = [(key, number) for key, number in held.items() if number >= room]
    for key, number in sorted(homeless, key=lambda each: (each[0] not in wanted, each[1])):
        free = next((n for n in range(room) if n not in given.values()), None)
        if free is None and key in wanted:
            left = next((n for each, n in held.items() if n in given and each not in wanted), None)
            free = given.pop(left) if left is not None else None
        if free is not None:
            given[number] = free
    return given


def _wanted(config: Config) -> set[EndpointKey]:
    return {
        EndpointKey(endpoint.host, endpoint.port, protocol)
        for cdn in config.cdns
        for endpoint in cdn.endpoints
        for protocol in abi.PROTOCOLS.values()
    }
