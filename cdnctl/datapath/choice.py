"""What new flows choose from: services, their pick tables, and endpoints.

A service names a pick table for each region and class. A table that is in use is never written: a
change fills free ones, then writes the service's entry, which is one update, and then the old ones are
free. Services with the same table share it.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from cdnctl.datapath import abi
from cdnctl.datapath.kernel import Map
from cdnctl.errors import CdnctlError

_EMPTY = array("H", [abi.NOWHERE]) * abi.PICK_ROOM


class ServiceKey(NamedTuple):
    """What a service is known by."""

    vip: str
    port: int
    protocol: int

    def __str__(self) -> str:
        return f"{abi.ends(self.vip, self.port)}/{abi.PROTOCOL_NAMES[self.protocol]}"


class EndpointKey(NamedTuple):
    """What an endpoint is known by."""

    address: str
    port: int
    protocol: int

    def __str__(self) -> str:
        return f"{abi.ends(self.address, self.port)}/{abi.PROTOCOL_NAMES[self.protocol]}"


class Choice:
    """Raises OSError when a pin is missing: then no data path is loaded."""

    def __init__(self, pins: Path) -> None:
        self._service_ids = Map.pinned(pins / "service_ids")
        self._services = Map.pinned(pins / "services")
        self._heard = Map.pinned(pins / "heard_of")
        self._picks = Map.pinned(pins / "picks")
        self._endpoint_ids = Map.pinned(pins / "endpoint_ids")
        self._endpoints = Map.pinned(pins / "endpoints")
        self._capacities = Map.pinned(pins / "capacities")
        self._contents: dict[bytes, int] | None = None
        """Tables by a digest of what they hold, those that are known."""
        self._last = -1
        """The table that was written last: free ones rest as long as can be, for the packets that are
        still looking at them."""

    # -- services --

    def service(self, identity: int) -> abi.Service:
        """What the kernel knows of a service."""
        return abi.Service.from_buffer_copy(self._services.get(abi.key(identity)) or b"")

    def services(self) -> dict[ServiceKey, int]:
        """Ids of those that clients reach."""
        entries = self._service_entries()
        numbers = (int.from_bytes(value, "little") for _, value in self._service_ids.items())
        return {_key_of(entries[number]): number for number in numbers}

    def known_services(self) -> dict[ServiceKey, int]:
        """Ids of all there ever were: live flows may still carry them."""
        return {
            _key_of(entry): number for number, entry in enumerate(self._service_entries()) if entry.protocol
        }

    def vips(self) -> dict[str, int]:
        """Numbers of the VIPs of all services there ever were: the keys of live flows carry them."""
        return {
            abi.show_address(entry.vip): entry.vip_index
            for entry in self._service_entries()
            if entry.protocol
        }

    def put_service(
        self,
        identity: int,
        key: ServiceKey,
        vip_index: int,
        *,
        policies: Sequence[abi.Policy],
        picks: Sequence[Sequence[array[int]]],
        members: Collection[int],
        traffic_class: int = abi.TrafficClass.INTERACTIVE,
    ) -> None:
        """Put a service into force at once, or change it.

        `policies` has one for each class; `picks` the endpoint ids by slot (a shorter table is nowhere
        behind its end) for each region and class. Regions that it leaves out have what the first has.
        `members` are all that serve it, also those without a weight: connections go on with them.
        Raises CdnctlError when there are not tables enough; then nothing was changed.
        """
        rows = [list(row) for row in picks]
        rows += [rows[0]] * (abi.MAX_REGIONS - len(rows))
        taken: set[int] = set()
        entry = abi.Service(
            vip=abi.address(key.vip),
            port=abi.port(key.port),
            vip_index=vip_index,
            protocol=key.protocol,
            traffic_class=traffic_class,
        )
        known: dict[int, int] = {}  # by the identity of what was given: most cells are the same object
        for region, row in enumerate(rows):
            for number, content in enumerate(row):
                if id(content) not in known:
                    known[id(content)] = self._table(content, taken)
                entry.table[region][number] = known[id(content)]
        for number, policy in enumerate(policies):
            entry.policy[number] = policy
        for number in members:
            entry.members[number // 64] |= 1 << number % 64
        if bytes(entry) != bytes(self.service(identity)):
            self._services.put(abi.key(identity), bytes(entry))
        self._service_ids.put(_service_key(key, vip_index), abi.key(identity))

    def drop_service(self, key: ServiceKey) -> None:
        """No new flows to it; its live ones go on."""
        number = self.vips().get(key.vip)
        if number is not None:
            self._service_ids.delete(_service_key(key, number))

    def forget_service(self, identity: int) -> None:
        """Its number and its tables are free; only when no flow carries it any more."""
        self._services.put(abi.key(identity), bytes(abi.size(abi.Service)))
        self._heard.put(abi.key(identity), bytes(abi.size(abi.Heard)))

    def picks(self, table: int) -> array[int]:
        """What a table holds."""
        held = array("H")
        held.frombytes(self._picks.get(abi.key(table)) or b"")
        return held

    def reread(self) -> None:
        """Believe nothing that was written before: somebody else may have written over it."""
        self._contents = None

    def _service_entries(self) -> list[abi.Service]:
        return [abi.Service.from_buffer_copy(raw) for raw in self._services.values()]

    def _in_use(self) -> set[int]:
        return {
            table
            for entry in self._service_entries()
            if entry.protocol
            for row in entry.table
            for table in row
        }

    def _table(self, content: array[int], taken: set[int]) -> int:
        """A table with this content, which is not written before the service is; added to `taken`."""
        room = (content + _EMPTY[len(content) :]).tobytes()
        digest = hashlib.blake2b(room, digest_size=16).digest()
        if self._contents is None:
            self._contents = {
                hashlib.blake2b(self.picks(number).tobytes(), digest_size=16).digest(): number
                for number in self._in_use()
            }
        number = self._contents.get(digest)
        if number is None:
            number = self._free(taken)
            self._contents = {held: other for held, other in self._contents.items() if other != number}
            self._picks.put(abi.key(number), room)
            self._contents[digest] = number
        taken.add(number)
        return number

    def _free(self, taken: set[int]) -> int:
        used = self._in_use() | taken
        for step in range(1, abi.MAX_TABLES + 1):
            number = (self._last + step) % abi.MAX_TABLES
            if number not in used:
                self._last = number
                return number
        raise CdnctlError(
            f"the services need more than {abi.MAX_TABLES} different tables of endpoints",
            "let more services have the same CDNs, or have fewer regions; to forget services that have left,"
            " `cdnctl detach --stop --yes`, which cuts all flows, and start again",
        )

    # -- endpoints --

    def endpoints(self) -> dict[EndpointKey, int]:
        """Ids of all there ever were: live flows may still carry them."""
        found = {}
        for raw, value in self._endpoint_ids.items():
            key = abi.EndpointKey.from_buffer_copy(raw)
            name = EndpointKey(abi.show_address(key.address), abi.show_port(key.port), int(key.protocol))
            found[name] = int.from_bytes(value, "little")
        return found

    def endpoint(self, identity: int) -> abi.Endpoint:
        """What the kernel knows of an endpoint."""
        return abi.Endpoint.from_buffer_copy(self._endpoints.get(abi.key(identity)) or b"")

    def endpoint_entries(self) -> list[abi.Endpoint]:
        """All of them by id; of ids that nobody has, zeros."""
        return [abi.Endpoint.from_buffer_copy(raw) for raw in self._endpoints.values()]

    def put_endpoint(
        self,
        identity: int,
        key: EndpointKey,
        *,
        cdn: int,
        weight: int,
        limit_us: int = 0,
        transport: abi.Transport = abi.Transport.NAT,
        flags: abi.EndpointFlag = abi.EndpointFlag(0),  # noqa: B008, an immutable number
        mss: int = 0,
        tunnel_port: int = 0,
    ) -> None:
        """Tell the kernel of an endpoint, or change what it is."""
        entry = abi.Endpoint(
            address=abi.address(key.address),
            port=abi.port(key.port),
            protocol=key.protocol,
            cdn=cdn,
            pool=abi.pool_of(key.address, key.protocol),
            transport=transport,
            flags=flags,
            mss=mss,
            tunnel_port=tunnel_port,
            weight=weight,
            limit_us=limit_us,
        )
        if bytes(entry) != bytes(self.endpoint(identity)):
            self._endpoints.put(abi.key(identity), bytes(entry))
        raw = abi.EndpointKey(address=entry.address, port=entry.port, protocol=key.protocol)
        self._endpoint_ids.put(bytes(raw), abi.key(identity))

    def retire_endpoint(self, identity: int) -> None:
        """It gets no new flows any more, so its failing takes no weight out of the rotation."""
        entry = self.endpoint(identity)
        if entry.weight:
            entry.weight = 0
            self._endpoints.put(abi.key(identity), bytes(entry))

    def forget_endpoint(self, identity: int) -> None:
        """Its number is free; only when no service names it and no flow carries it any more."""
        entry = self.endpoint(identity)
        raw = abi.EndpointKey(address=entry.address, port=entry.port, protocol=entry.protocol)
        self._endpoint_ids.delete(bytes(raw))
        self._endpoints.put(abi.key(identity), bytes(abi.size(abi.Endpoint)))

    def put_capacity(self, cdn: int, limit: abi.Limit) -> None:
        """How much a CDN takes before new flows spill over to others; zeros: as much as comes."""
        self._capacities.put(abi.key(cdn), bytes(limit))


def _key_of(entry: abi.Service) -> ServiceKey:
    return ServiceKey(abi.show_address(entry.vip), abi.show_port(entry.port), int(entry.protocol))


def _service_key(key: ServiceKey, vip_index: int) -> bytes:
    return bytes(abi.ServiceKey(port=abi.port(key.port), vip=vip_index, protocol=key.protocol))
