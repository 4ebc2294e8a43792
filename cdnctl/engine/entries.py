"""What the kernel's entries are, in operators' words: `cdnctl trace` shows them so.

Read when asked for. Names come from the configuration or from an agent's frame, since the kernel knows
numbers only; where neither has one, the number stands.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterable

from msgspec import Struct, field

from cdnctl.config import Config
from cdnctl.datapath import abi
from cdnctl.datapath.choice import EndpointKey, ServiceKey
from cdnctl.datapath.tables import Tables
from cdnctl.engine import explain, layout
from cdnctl.errors import CdnctlError
from cdnctl.model import Customer, Frame

_SECOND = 1 << 30
"""The kernel's seconds, of which ages are counted in sixteen bits (second_of in slot.h)."""


class Names(Struct, frozen=True):
    """Names by number."""

    cdns: dict[int, str] = field(default_factory=dict)
    services: dict[int, str] = field(default_factory=dict)
    customers: dict[int, str] = field(default_factory=dict)
    regions: dict[int, str] = field(default_factory=dict)

    def __or__(self, better: Names) -> Names:
        return Names(
            self.cdns | better.cdns,
            self.services | better.services,
            self.customers | better.customers,
            self.regions | better.regions,
        )


def names_by_config(config: Config, tables: Tables) -> Names:
    """As an agent would number what is in the file."""
    try:
        plan = layout.plan(config, tables)
    except CdnctlError:  # more than there is room for: of another time
        return Names()
    return Names(
        {number: name for name, number in plan.cdns.items()},
        {place.id: place.name for place in plan.services},
        {number: name for name, number in plan.customers.items()},
        {number: name for name, number in plan.regions.items()},
    )


def names_by_agent(frame: Frame, customers: Iterable[Customer], tables: Tables) -> Names:
    """As the agent that serves the edge has them; it tells no numbers, but what bears them."""
    endpoints, entries = tables.choice.endpoints(), tables.choice.endpoint_entries()
    cdns = {
        int(entries[endpoints[key]].cdn): cdn.name
        for cdn in frame.cdns
        for each in cdn.endpoints
        if (key := EndpointKey(abi.canonical(each.address), each.port, abi.PROTOCOLS[each.protocol]))
        in endpoints
    }
    held = tables.choice.services()
    named = {
        ServiceKey(abi.canonical(each.vip), each.port, abi.PROTOCOLS[each.protocol]): each.name
        for each in frame.services
        if each.protocol in abi.PROTOCOLS
    }
    services = {number: named[key] for key, number in held.items() if key in named}
    clients = tables.clients.held()
    named_customers = {
        entry.customer: customer.name
        for customer in customers
        for prefix in customer.prefixes
        if (entry := clients.get(ipaddress.ip_network(prefix))) and entry.customer
    }
    return Names(cdns, services, named_customers)


class Entries:
    """Entries of an edge's tables, in words; `now_ns` is the kernel's clock."""

    def __init__(self, tables: Tables, names: Names, now_ns: int) -> None:
        self.tables = tables
        self.names = names
        self.now_ns = now_ns
        self._settings = tables.settings

    # -- names --

    def cdn(self, number: int) -> str:
        """Its name."""
        return self.names.cdns.get(number, f"CDN {number}")

    def customer(self, number: int) -> str:
        """`customer acme`."""
        return f"customer {self.names.customers.get(number, number)}" if number else "nobody in particular"

    def region(self, number: int) -> str:
        """`region east`."""
        return f"region {self.names.regions.get(number, number)}" if number else "no region"

    def service(self, number: int) -> str:
        """Its name, address, port and protocol."""
        entry = self.tables.choice.service(number)
        ends = abi.ends(abi.show_address(entry.vip), abi.show_port(entry.port))
        protocol = abi.PROTOCOL_NAMES.get(entry.protocol, f"protocol {entry.protocol}")
        return f"{self.names.services.get(number, f'service {number}')} ({ends}/{protocol})"

    def endpoint(self, number: int) -> str:
        """Its CDN's name, address and port."""
        entry = self.tables.choice.endpoint(number)
        return f"{self.cdn(entry.cdn)} {self.ends(number)}"

    def ends(self, number: int) -> str:
        """The address and port of an endpoint."""
        entry = self.tables.choice.endpoint(number)
        return abi.ends(abi.show_address(entry.address), abi.show_port(entry.port))

    def link(self, number: int) -> str:
        """The interface, and the tags, of a link."""
        entry = self.tables.link(number)
        tags = ".".join(str(tag) for tag in (entry.outer, entry.inner) if tag)
        return f"{interface(entry.ifindex)}{f' (VLAN {tags})' if tags else ''}"

    # -- entries --

    def flow(self, key: abi.FlowKey, belongs_half_open: bool) -> tuple[str, abi.Flow] | None:
        """What a flow is, and its forward entry, if that is there (still)."""
        tables = self.tables
        under_way = {"established": tables.established, "of datagrams": tables.datagrams}
        for kind, table in ({"half-open": tables.half_open} if belongs_half_open else under_way).items():
            if (raw := table.get(bytes(key))) is not None:
                return kind, abi.Flow.from_buffer_copy(raw)
        return None

    def slot(self, index: int) -> abi.Slot | None:
        """A reverse slot."""
        raw = self.tables.reverse.get(abi.key(index))
        return None if raw is None else abi.Slot.from_buffer_copy(raw)

    def place(self, index: int) -> tuple[int, str, int]:
        """The endpoint whose slot it is, and the address and port of ours."""
        settings = self._settings
        row, port = divmod(index, settings.ports or 1)
        endpoint, snat = divmod(row, settings.snat_rows or 1)
        four = abi.is_ipv4(self.tables.choice.endpoint(endpoint).address)
        address = settings.snat[0 if four else 1][snat % abi.MAX_SNAT]
        return endpoint, abi.show_address(address), settings.port_min_host + port

    def port_of(self, index: int) -> str:
        """Our end of a slot: `203.0.113.10:40000`."""
        _, address, port = self.place(index)
        return abi.ends(address, port)

    def holder(self, index: int) -> str:
        """Who holds a slot, and in what state."""
        slot = self.slot(index)
        if slot is None or not slot.owner:
            return "free"
        client = abi.ends(abi.show_address(slot.client), abi.show_port(slot.owner >> 16 & 0xFFFF))
        service = self.service((slot.owner & 0xFFFF) - 1)
        return f"{client} of {service}, {self.state(slot)}"

    def state(self, slot: abi.Slot) -> str:
        """The state of a slot and for how long, of one in use when it was seen last."""
        with contextlib.suppress(ValueError):
            state = abi.SlotState(slot.state)
            if state is abi.SlotState.ESTABLISHED:
                idle_s = ((self.now_ns >> 30) - slot.seen_s & 0xFFFF) * _SECOND / 1e9
                return f"established, seen {duration(idle_s)} ago"
            age_ns = max(0, self.now_ns - slot.since_ns)
            return f"{state.name.lower().replace('_', ' ')} for {duration(age_ns / 1e9)}"
        return f"state {slot.state}"

    def health(self, number: int) -> str:
        """What the breaker knows of an endpoint."""
        health = self.tables.health(number)
        said = []
        if health.state == abi.Breaker.OUT:
            left_ns = health.out_until_ns - self.now_ns
            why = explain.REASON.get(health.reason, "") or "ejected"
            said.append(
                f"{why}, for {duration(left_ns / 1e9)} more" if left_ns > 0 else f"{why}, to be probed"
            )
        if health.ewma_us:
            said.append(f"handshakes {health.ewma_us / 1000:.1f} ms")
        if health.unanswered:
            said.append(f"{health.unanswered} unanswered")
        return ", ".join(said)


def interface(ifindex: int) -> str:
    """Its name in this network namespace, or its number when it is gone."""
    return interface_name(ifindex) or f"interface {ifindex}"


def interface_name(ifindex: int) -> str:
    """Its name; empty when there is none in this network namespace."""
    with contextlib.suppress(OSError):
        return socket.if_indextoname(ifindex)
    return ""


def duration(seconds: float) -> str:
    """As people say it: `0.3 s`, `12 s`, `5 min`, `3 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit, size, most in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
