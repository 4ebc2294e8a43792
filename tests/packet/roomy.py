"""A second edge, with room: six CDNs, two regions, every policy. And crowds of clients, by the ten thousand.

A crowd's flows are SYNs that nobody answers: they say where new flows go, at some microseconds each.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv4Address

import netbox
from harness import MS, Action, DataPath, Runner, client_port
from segments import Ends, Flag, seal, segment

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Verdict
from cdnctl.engine import clients, steering
from cdnctl.lab import netns

VIP = "203.0.113.90"
FIVE = AURORA, BOREALIS, CORONA, DRACO, ERIDANUS = ("aurora", "borealis", "corona", "draco", "eridanus")
FORNAX = "fornax"
"""The one whose endpoints are bound to regions."""
FOUR, THREE = FIVE[:4], FIVE[:3]
EAST, WEST = "fornax-east", "fornax-west"
ENDPOINTS = {
    **{cdn: f"198.51.100.{10 * number}" for number, cdn in enumerate(FIVE, 1)},
    EAST: "198.51.100.60",
    WEST: "198.51.100.61",
}
"""All on port 80, all behind the same gateway as those of netbox."""
_NAME = {socket.inet_aton(address): name for name, address in ENDPOINTS.items()}
SERVICES = {"all": 80, "four": 81, "order": 82, "near": 83, "marked": 84}
"""`all`, `four`: weighted. `order`: failover. `near`: latency, draco and fornax. `marked`: by DSCP, the three
each other way: interactive weighted, video by latency, bulk in order."""
REGIONS = {"east": 10 << 24 | 64 << 16, "west": 10 << 24 | 65 << 16, "": 10 << 24 | 66 << 16}
"""First addresses of each region's clients, and of clients without one."""

CONFIG = (
    f"""
[edge]
name = "{{name}}"
interfaces = {["clients", *(link.name for link in netbox.LINKS)]}
snat = ["203.0.113.91"]
snat_ports = [20000, 27999]

[limits]
flows = 4096
half_open = 1024
block_entries = 4096
endpoints = 32

[[region]]
name = "east"
prefixes = ["10.64.0.0/16"]

[[region]]
name = "west"
prefixes = ["10.65.0.0/16"]
"""
    + "".join(
        f"""
[[cdn]]
name = "{cdn}"
endpoints = ["{ENDPOINTS[cdn]}:80"]
"""
        for cdn in FIVE
    )
    + f"""
[[cdn]]
name = "{FORNAX}"
endpoints = [
    {{{{ address = "{ENDPOINTS[EAST]}:80", regions = ["east"] }}}},
    {{{{ address = "{ENDPOINTS[WEST]}:80", regions = ["west"] }}}},
]
"""
    + "".join(
        f"""
[[service]]
name = "{service}"
vip = "{VIP}"
port = {SERVICES[service]}
policy = {policy}
class = "{"dscp" if service == "marked" else "interactive"}"
cdns = {list(cdns)}
"""
        for service, policy, cdns in (
            ("all", '"weighted"', FIVE),
            ("four", '"weighted"', FOUR),
            ("order", '"failover"', THREE),
            ("near", '"latency"', (DRACO, FORNAX)),
            ("marked", '{{ interactive = "weighted", video = "latency", bulk = "failover" }}', THREE),
        )
    )
)


class Roomy(DataPath):
    """Few half-open flows are remembered, so ports never run out; nobody is blamed for not answering them."""

    def __init__(self, indexes: dict[str, int]) -> None:
        super().__init__(CONFIG, netbox.name("-roomy"), indexes)
        self._device = indexes[netbox.CLIENTS]

    def fresh(self) -> None:
        """As that of any edge, with its regions; time stands still."""
        super().fresh()
        self.change(dark_connects=1_000_000)
        self.now = 10**15
        self.clock(self.now)
        if hasattr(self, "_device"):
            self.tables.clients.load(clients.merge(self.config, self.layout))

    def sleep(self, ms: float) -> None:
        """Let so much time pass."""
        self.now += round(ms * MS)
        self.clock(self.now)

    def steer(self, weights: Mapping[str, int] | None = None, drained: Collection[str] = ()) -> None:
        """As the engine does it; who is not named weighs 100."""
        every = {cdn.name: 100 for cdn in self.config.cdns} | dict(weights or {})
        steering.apply(self.config, self.layout, self.tables, steering.Steering(every, drained))

    def id_of(self, name: str) -> int:
        """The id of an endpoint, by its name in here."""
        return next(place.id for place in self.layout.endpoints if place.address == ENDPOINTS[name])

    def know(self, name: str, **fields: int) -> None:
        """Change what the breaker knows of an endpoint."""
        health = self.tables.health(self.id_of(name))
        for field, value in fields.items():
            setattr(health, field, value)
        self.tables.put_health(self.id_of(name), health)

    def take_out(self, *names: str, reason: abi.OutReason = abi.OutReason.REFUSING) -> None:
        """Out for the next ten seconds, and their weight with them."""
        for name in names:
            weight = self.tables.choice.endpoint(self.id_of(name)).weight
            self.know(
                name,
                state=abi.Breaker.OUT,
                reason=reason,
                reserved_weight=weight,
                ejected_ns=self.now,
                out_until_ns=self.now + 10_000 * MS,
            )
        steering.reconcile(self.tables)

    def limit_capacity(self, cdn: str, **limits: float) -> None:
        """How much a CDN takes."""
        self.tables.choice.put_capacity(self.layout.cdns[cdn], abi.limit(**limits))

    # -- crowds --

    def crowd(
        self, service: str, count: int, region: str = "", *, tos: int = 0, first: int = 0
    ) -> Counter[str]:
        """So many new flows: how many went to each endpoint, by its name. Every one goes somewhere.

        The same `first` makes the same clients.
        """
        return Counter(self.each(service, count, region, tos=tos, first=first))

    def each(
        self, service: str, count: int, region: str = "", *, tos: int = 0, first: int = 0
    ) -> Iterator[str]:
        """The same, one by one."""
        for out in self._sent(service, range(first, first + count), region, tos):
            yield _NAME[out[30:34]]

    def ports(self, service: str, count: int, *, first: int = 0) -> list[int]:
        """The endpoints' ports that flows go to."""
        return [
            int.from_bytes(out[36:38], "big")
            for out in self._sent(service, range(first, first + count), "", 0)
        ]

    def _sent(self, service: str, numbers: range, region: str, tos: int) -> Iterator[bytes]:
        """SYNs of these clients, as they came out."""
        frame = segment(("10.0.0.1", 1234), (VIP, SERVICES[service]), Flag.SYN, seq=1)
        runner = Runner(self.fd, len(frame), self._device)
        runner.frame.raw = frame
        runner.frame[15] = tos
        out = ctypes.addressof(runner.out)
        for n in numbers:
            struct.pack_into("!I", runner.frame, 26, REGIONS[region] + n * 40503 % 65536)
            struct.pack_into("!H", runner.frame, 34, 1024 + n // 65536 * 7 + n * 48271 % 50000)
            seal(runner.frame)
            assert runner.run() == Action.REDIRECT
            yield ctypes.string_at(out, len(frame))

    # -- single flows --

    def connect(self, service: str, client: int, name: str) -> Ends:
        """A client's connects until one goes to this endpoint: that one, as it came out."""
        end = str(IPv4Address(client))
        for _ in range(100):
            syn = segment((end, client_port()), (VIP, SERVICES[service]), Flag.SYN, seq=1)
            out = Ends(self.run(syn).frame)
            if out.target[0] == ENDPOINTS[name]:
                return out
        raise AssertionError(f"none of 100 flows went to {name}")

    def answer(self, connect: Ends) -> None:
        """The endpoint's SYN-ACK."""
        link = netbox.LINKS[0]
        macs = link.gateway_mac, link.mac
        frame = segment(connect.target, connect.source, Flag.SYN | Flag.ACK, seq=9, ack=2, macs=macs)
        assert self.run(frame, link.name).verdict is Verdict.REPLIED


def load(indexes: dict[str, int]) -> Roomy:
    """Inside the namespace."""
    with netns.netlink(netbox.name()) as ip, contextlib.suppress(Exception):
        for name in (DRACO, ERIDANUS, EAST, WEST):
            ip.route("add", dst=f"{ENDPOINTS[name]}/32", gateway=netbox.LINKS[0].gateway)
    return Roomy(indexes)
