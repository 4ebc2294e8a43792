"""Which number an endpoint, and a reverse slot, has in tables of another layout.

A slot's number says which endpoint, SNAT address and port it is of (slot.h). When addresses, ports or
the room for endpoints change, so do the numbers of the flows that go on, or they have none any more.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from cdnctl.config import Config, ports, snat_rows
from cdnctl.datapath import abi
from cdnctl.datapath.choice import EndpointKey
from cdnctl.datapath.tables import Tables

NOWHERE = -1
_FAMILIES = (4, 6)


class Run(NamedTuple):
    """`length` slots in a row: those from `old` on are those from `new` on in the other tables."""

    old: int
    new: int
    length: int
    protocol: int


class Shape(NamedTuple):
    """Of which address and port the slots of an endpoint are."""

    first_port: int
    ports: int
    rows: int
    snat: tuple[list[str], list[str]]
    """Addresses of either family, in order."""

    @classmethod
    def wanted(cls, config: Config) -> Shape:
        """As the configuration has it."""
        edge = config.edge
        v4, v6 = (list(edge.snat_of(family)) for family in _FAMILIES)
        return cls(edge.snat_ports[0], ports(config), snat_rows(config), (v4, v6))

    @classmethod
    def of(cls, tables: Tables) -> Shape:
        """As tables in use have it."""
        held = tables.settings
        v4, v6 = (
            [abi.show_address(held.snat[row][index]) for index in range(held.snat_count[row])]
            for row in range(len(_FAMILIES))
        )
        return cls(int(held.port_min_host), int(held.ports), int(held.snat_rows), (v4, v6))


class Numbering:
    """From the old tables' numbers to the new ones'."""

    def __init__(
        self, held: dict[EndpointKey, int], endpoints: dict[int, int], old: Shape, new: Shape
    ) -> None:
        """`held` are the old tables' endpoints, `endpoints` their new numbers as far as they have any."""
        self.endpoints = endpoints
        self._new = new
        self.runs: list[Run] = []
        """Slots that go on."""
        self.cut: list[tuple[int, int]] = []
        """Old slots that do not, by their first and how many."""
        self._ports, self._old_rows = old.ports, old.rows
        self._shift = old.first_port - new.first_port
        self._rows: dict[int, int] = {}
        """First new slot of each row of old ones that goes on."""
        for key, number in held.items():
            family = ":" in key.address
            for index, address in enumerate(old.snat[family]):
                row = number * old.rows + index
                if number in endpoints and address in new.snat[family]:
                    there = endpoints[number] * new.rows + new.snat[family].index(address)
                    self._rows[row] = there * new.ports
                self._add(row, key.protocol)
        self.is_same = (
            all(before == after for before, after in endpoints.items())
            and len(endpoints) == len(held)
            and (old.ports, old.first_port, old.rows) == (new.ports, new.first_port, new.rows)
            and all(old.snat[n] == new.snat[n][: len(old.snat[n])] for n in range(len(_FAMILIES)))
        )
        """Nothing changes its number."""

    @classmethod
    def planned(cls, tables: Tables, config: Config) -> Numbering:
        """Into tables that are to be made."""
        held = tables.choice.endpoints()
        endpoints = endpoint_numbers(held, _wanted(config), config.limits.endpoints)
        return cls(held, endpoints, Shape.of(tables), Shape.wanted(config))

    @classmethod
    def between(cls, old: Tables, new: Tables) -> Numbering:
        """Into tables that are in use already."""
        held, there = old.choice.endpoints(), new.choice.endpoints()
        endpoints = {number: there[key] for key, number in held.items() if key in there}
        return cls(held, endpoints, Shape.of(old), Shape.of(new))

    def slot(self, old: int) -> int:
        """Of a reverse slot; NOWHERE when its flow is cut."""
        row, port = divmod(old, self._ports)
        port += self._shift
        first = self._rows.get(row, NOWHERE)
        return first + port if first != NOWHERE and 0 <= port < self._new.ports else NOWHERE

    def endpoint_of(self, old: int) -> int:
        """The old number of a slot's endpoint."""
        return old // (self._ports * self._old_rows)

    def snat(self, new: int) -> int:
        """Which SNAT address of its family a new slot is of."""
        return new // self._new.ports % self._new.rows

    def _add(self, row: int, protocol: int) -> None:
        first, there = row * self._ports, self._rows.get(row, NOWHERE)
        low = min(max(0, -self._shift), self._ports)
        high = max(low, min(self._ports, self._new.ports - self._shift)) if there != NOWHERE else low
        if high > low:
            self.runs.append(Run(first + low, there + low + self._shift, high - low, protocol))
        self.cut += [(at, n) for at, n in ((first, low), (first + high, self._ports - high)) if n]


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
