"""The pinned maps of an edge, typed: what the agent writes and what it reads."""

from __future__ import annotations

import ctypes
import errno
import struct
import time
from array import array
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import NamedTuple, TypeVar

from cdnctl.datapath import abi, kernel
from cdnctl.datapath.kernel import Map

S = TypeVar("S", bound=ctypes.Structure)

_COUNT = struct.Struct("2Q")
_CDN_COUNT = struct.Struct("10Q")
_BUCKETS = struct.Struct(f"{abi.HANDSHAKE_BUCKETS}Q")
_WORD = struct.Struct("Q")
_BATCH = 4096
_LOOKS = 256
"""Slots looked at between two looks at the clock."""
COUNT_BOUND_S = 0.3
"""How long counting flows may take: an operator waits for it, and with him the agent."""


class CdnTotals(NamedTuple):
    """Exact totals of a CDN since the tables were made."""

    to_cdn_packets: int
    to_cdn_bytes: int
    from_cdn_packets: int
    from_cdn_bytes: int
    new_flows: int
    probe_flows: int
    rescued_from: int
    rescued_to: int
    handshakes: int
    promoted: int


def _entry(table: Map, number: int, kind: type[S]) -> S:
    """An array's entry; zeros where there is none."""
    return kind.from_buffer_copy(table.get(abi.key(number)) or bytes(abi.size(kind)))


def _sum(layout: struct.Struct, raw: bytes) -> tuple[int, ...]:
    """The values of all CPUs, added up field by field."""
    return tuple(sum(column) for column in zip(*layout.iter_unpack(raw), strict=True))


class FlowCount(int):
    """A number of flows, and how sure it is; as text it says so."""

    about: bool
    at_least: bool

    def __new__(cls, count: int, *, about: bool = False, at_least: bool = False) -> FlowCount:
        made = super().__new__(cls, count)
        made.about, made.at_least = about, at_least
        return made

    def __str__(self) -> str:
        words = "at least " if self.at_least else "about " if self.about else ""
        return f"{words}{int(self)}"


def _scaled(live: int, looked: int, seen: int) -> int:
    return live if looked == seen else round(live * seen / max(1, looked))


def _value_batches(table: Map) -> Iterator[list[bytes]]:
    """The values of a hash by batches; unlike `Map.items` it makes nothing of the keys."""
    info, token = table.info, ctypes.create_string_buffer(max(8, table.info.key_size))
    keys = ctypes.create_string_buffer(info.key_size * _BATCH)
    values = ctypes.create_string_buffer(info.value_size * _BATCH)
    previous, count = None, ctypes.c_uint32()
    while True:
        count.value = _BATCH
        result = kernel.libbpf().bpf_map_lookup_batch(
            table.fd, previous, ctypes.byref(token), keys, values, ctypes.byref(count), None
        )
        code = ctypes.get_errno() if result < 0 else 0
        if code not in (0, errno.ENOENT):
            raise OSError(code, "bpf_map_lookup_batch")
        raw = values.raw[: count.value * info.value_size]
        yield [raw[at : at + info.value_size] for at in range(0, len(raw), info.value_size)]
        if code == errno.ENOENT:
            return
        previous = ctypes.byref(token)


class _Slots:
    """Looks at many reverse slots, one at a time, with one buffer."""

    def __init__(self, table: Map) -> None:
        self._fd, self._look = table.fd, kernel.libbpf().bpf_map_lookup_elem
        self._index, self._slot = ctypes.c_uint32(), abi.Slot()
        self._places = ctypes.byref(self._index), ctypes.byref(self._slot)

    def is_live(self, index: int) -> bool:
        """Whether the slot belongs to a flow that was not closed."""
        self._index.value = index
        found = self._look(self._fd, *self._places) == 0
        return bool(found and self._slot.state == abi.SlotState.ESTABLISHED)


class Tables:
    """Raises OSError when a pin is missing: then no data path is loaded."""

    def __init__(self, pins: Path) -> None:
        def table(name: str, *, per_cpu: bool = False) -> Map:
            return Map.pinned(pins / name, per_cpu=per_cpu)

        self._mode = table("mode")
        self._settings = table("settings")
        self.local_addresses = table("local_addresses")
        self._service_ids = table("service_ids")
        self._services = table("services")
        self._picks = table("picks")
        self._endpoint_ids = table("endpoint_ids")
        self._endpoints = table("endpoints")
        self._management = table("management")
        self.half_open = table("half_open")
        self.established = table("established")
        self.reverse = table("reverse")
        self._health = table("health")
        self._weight_out = table("weight_out")
        self._verdicts = table("verdicts", per_cpu=True)
        self._cdn_counts = table("cdn_counts", per_cpu=True)
        self._service_flows = table("service_flows", per_cpu=True)
        self._handshakes = table("handshakes", per_cpu=True)

    @property
    def identity(self) -> int:
        """Id of a map that only this edge's programs use, whether it is pinned still or not."""
        return self._settings.info.id

    # -- switches --

    @property
    def mode(self) -> abi.Mode:
        """What panic has switched off."""
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

    # -- addresses, services, endpoints --

    def put_local(self, address: str, kind: abi.LocalKind, index: int = 0) -> None:
        """Declare a VIP or a SNAT address ours."""
        key = struct.pack("=I", abi.address(address))
        self.local_addresses.put(key, bytes(abi.Local(kind=kind, index=index)))

    def keep_local(self, addresses: set[str]) -> None:
        """Disown every other address."""
        for key in list(self.local_addresses.keys()):
            if abi.show_address(struct.unpack("=I", key)[0]) not in addresses:
                self.local_addresses.delete(key)

    def service_ids(self) -> dict[tuple[str, int], int]:
        """Ids by VIP and port."""
        found = {}
        for raw, value in self._service_ids.items():
            key = abi.ServiceKey.from_buffer_copy(raw)
            found[abi.show_address(key.vip), abi.show_port(key.port)] = int(struct.unpack("I", value)[0])
        return found

    def known_services(self) -> dict[tuple[str, int], int]:
        """Ids by VIP and port of all services there ever were: live flows may still carry them."""
        found = {}
        for identity in range(abi.MAX_SERVICES):
            service = _entry(self._services, identity, abi.Service)
            if service.vip:
                found[abi.show_address(service.vip), abi.show_port(service.port)] = identity
        return found

    def put_service(self, identity: int, vip: str, port: int, policy: abi.Policy, picks: array[int]) -> None:
        """Put a service's pick table and policy into force at once: fill the other bank, then flip to it."""
        old = _entry(self._services, identity, abi.Service)
        bank = 1 - old.bank if old.vip else 0
        room = array("H", picks)
        room.extend([0xFFFF] * (abi.PICK_ROOM - len(room)))
        self._picks.put(abi.key(2 * identity + bank), room.tobytes())
        service = abi.Service(vip=abi.address(vip), port=abi.port(port), policy=policy, bank=bank)
        self._services.put(abi.key(identity), bytes(service))
        key = abi.ServiceKey(vip=service.vip, port=service.port, protocol=abi.PROTOCOL_TCP)
        self._service_ids.put(bytes(key), abi.key(identity))

    def drop_service(self, vip: str, port: int) -> None:
        """No new flows to it; its live ones go on."""
        key = abi.ServiceKey(vip=abi.address(vip), port=abi.port(port), protocol=abi.PROTOCOL_TCP)
        self._service_ids.delete(bytes(key))

    def endpoint_ids(self) -> dict[tuple[str, int], int]:
        """Ids by address and port."""
        found = {}
        for raw, value in self._endpoint_ids.items():
            key = abi.EndpointKey.from_buffer_copy(raw)
            found[abi.show_address(key.address), abi.show_port(key.port)] = int(struct.unpack("I", value)[0])
        return found

    def endpoint(self, identity: int) -> abi.Endpoint:
        """What the kernel knows of an endpoint."""
        return _entry(self._endpoints, identity, abi.Endpoint)

    def put_endpoint(
        self, identity: int, address: str, port: int, cdn: int, weight: int, limit_us: int
    ) -> None:
        """Tell the kernel of an endpoint, or change its weight and limit."""
        entry = abi.Endpoint(
            address=abi.address(address), port=abi.port(port), cdn=cdn, weight=weight, limit_us=limit_us
        )
        self._endpoints.put(abi.key(identity), bytes(entry))
        key = abi.EndpointKey(address=entry.address, port=entry.port, protocol=abi.PROTOCOL_TCP)
        self._endpoint_ids.put(bytes(key), abi.key(identity))

    def set_management(self, networks: list[IPv4Network]) -> None:
        """The operators' own networks, and no others."""
        wanted = {
            network.prefixlen.to_bytes(4, "little") + network.network_address.packed for network in networks
        }
        for key in list(self._management.keys()):
            if key not in wanted:
                self._management.delete(key)
        for key in wanted:
            self._management.put(key, abi.key(1))

    # -- what the kernel found out --

    def health(self, identity: int) -> abi.Health:
        """The breaker's view of an endpoint."""
        return _entry(self._health, identity, abi.Health)

    def put_health(self, identity: int, health: abi.Health) -> None:
        """Overwrite it: for an endpoint id that is given to another endpoint."""
        self._health.put(abi.key(identity), bytes(health))

    @property
    def weight_out(self) -> int:
        """Weight that ejections have taken out of rotation."""
        return int(_WORD.unpack(self._weight_out.get(abi.key(0)) or bytes(8))[0])

    @weight_out.setter
    def weight_out(self, weight: int) -> None:
        self._weight_out.put(abi.key(0), _WORD.pack(weight))

    def verdicts(self) -> Iterator[tuple[abi.Verdict, int, int]]:
        """Each verdict with its packets and bytes so far."""
        for verdict in abi.Verdict:
            if verdict is not abi.Verdict.GO_ON:
                packets, octets = _sum(_COUNT, self._verdicts.get(abi.key(verdict)) or bytes(16))
                yield verdict, packets, octets

    def cdn_totals(self, cdn: int) -> CdnTotals:
        """Exact totals of a CDN."""
        return CdnTotals(*_sum(_CDN_COUNT, self._cdn_counts.get(abi.key(cdn)) or bytes(80)))

    def service_flows(self, identity: int) -> int:
        """New flows of a service so far."""
        return int(_sum(_WORD, self._service_flows.get(abi.key(identity)) or bytes(8))[0])

    def handshakes(self, cdn: int) -> tuple[int, ...]:
        """The handshake histogram of a CDN, over all CPUs."""
        return _sum(_BUCKETS, self._handshakes.get(abi.key(cdn)) or bytes(8 * abi.HANDSHAKE_BUCKETS))

    def live_flows(self, bound_s: float = COUNT_BOUND_S) -> FlowCount:
        """Established flows that were not closed, in about `bound_s` seconds at the most.

        When time runs out before every flow's slot was looked at, the rest is taken to be live in the
        proportion of those that were; when it runs out before the table's end, the count is too low.
        """
        began = time.monotonic()
        looked = live = seen = 0
        slots = _Slots(self.reverse)
        for values in _value_batches(self.established):
            seen += len(values)
            for value in values:
                if looked % _LOOKS == 0 and time.monotonic() - began > bound_s / 2:
                    break
                live += slots.is_live(abi.Flow.from_buffer_copy(value).slot)
                looked += 1
            if time.monotonic() - began > bound_s:
                return FlowCount(_scaled(live, looked, seen), at_least=True)
        return FlowCount(_scaled(live, looked, seen), about=looked < seen)
