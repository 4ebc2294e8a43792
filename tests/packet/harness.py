"""A really loaded data path, and single packets through it by BPF_PROG_TEST_RUN."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import random
import struct
import time
from collections.abc import Iterator, Sequence
from enum import IntEnum
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

from netbox import CLIENTS, LINKS, name
from rawmaps import Runner as Runner
from rawmaps import owner_word as owner_word
from rawmaps import unpinned, zero
from rawmaps import whole as whole
from segments import told

from cdnctl import config
from cdnctl.config.cost import block_lines, snat_rows
from cdnctl.datapath import abi, kernel
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.blocks import KernelBlocks
from cdnctl.datapath.build import SWEEP
from cdnctl.datapath.counters import CdnTotals
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.lines import shift_of
from cdnctl.datapath.links import Links
from cdnctl.datapath.perf import PerfReader, Reflex
from cdnctl.datapath.program import Program
from cdnctl.datapath.sweep import Sweep
from cdnctl.datapath.tables import Tables
from cdnctl.engine import layout, steering

VIP, OTHER_VIP = "203.0.113.80", "203.0.113.81"
VIP6, OTHER_VIP6 = "2001:db8:203::80", "2001:db8:203::81"
SNAT = ("203.0.113.10", "203.0.113.11")
SNAT6 = ("2001:db8:203::10", "2001:db8:203::11")
PORTS = (20000, 20999)
MANAGEMENT = "192.0.2.0/24"
AURORA, BOREALIS, CORONA = CDNS = ("aurora", "borealis", "corona")
CDN_PORTS = {AURORA: 80, BOREALIS: 8080, CORONA: 80}
ENDPOINTS = {cdn: (link.endpoint, CDN_PORTS[cdn]) for cdn, link in zip(CDNS, LINKS, strict=True)}
ENDPOINTS6 = {cdn: (link.endpoint6, CDN_PORTS[cdn]) for cdn, link in zip(CDNS, LINKS, strict=True)}
SERVICES = {
    "www": (VIP, 80),
    "fast": (VIP, 443),
    "solo": (OTHER_VIP, 80),
    "duo": (OTHER_VIP, 443),
    "www6": (VIP6, 80),
    "solo6": (OTHER_VIP6, 80),
    "quic": (VIP, 443),
    "dns": (OTHER_VIP, 53),
    "quic6": (VIP6, 443),
    "dns6": (OTHER_VIP6, 53),
}
"""`www` (weighted) and `fast` (latency) have all three CDNs, `solo` has aurora, `duo` aurora and borealis;
`quic` has all three, `dns` aurora. With a 6 the same over IPv6."""
PROTOCOL = dict.fromkeys(("quic", "dns", "quic6", "dns6"), abi.UDP)
"""Of the services; TCP when not in here."""
_ONLY = {"solo": [AURORA], "dns": [AURORA], "duo": [AURORA, BOREALIS]}
MS = 1_000_000
RESTED_NS = 67_000 * MS
"""After so long a port of a flow that has ended may be another's."""
TRUST_NS = 600_000 * MS
"""A source is verified for so long."""
TEST_CLOCK = "-DTEST_CLOCK"
"""Time as the map `clock` says: `DataPath.clock`."""


def _text() -> str:
    tables = [
        f"""
[edge]
name = "{{name}}"
interfaces = {["clients", *(link.name for link in LINKS)]}
snat = {[*SNAT, *SNAT6]}
snat_ports = {list(PORTS)}
management = ["{MANAGEMENT}"]

[limits]
flows = 4096
half_open = 1024
block_entries = 4096
endpoints = 12
"""
    ]
    for cdn in CDNS:
        ends = [abi.ends(*where[cdn]) for where in (ENDPOINTS, ENDPOINTS6)]
        tables.append(f"""
[[cdn]]
name = "{cdn}"
endpoints = {ends}
""")
    for service, (vip, port) in SERVICES.items():
        tables.append(f"""
[[service]]
name = "{service}"
vip = "{vip}"
port = {port}
protocol = ["{abi.PROTOCOL_NAMES[PROTOCOL.get(service, abi.TCP)]}"]
policy = "{"latency" if service == "fast" else "weighted"}"
cdns = {_ONLY.get(service.rstrip("6"), list(CDNS))}
""")
    return "".join(tables)


CONFIG = _text()


class Action(IntEnum):
    """enum xdp_action."""

    ABORTED = 0
    DROP = 1
    PASS = 2
    TX = 3
    REDIRECT = 4


class Seen(NamedTuple):
    """What became of one packet."""

    sent: bytes
    verdict: Verdict
    action: Action
    frame: bytes

    def __repr__(self) -> str:
        return f"{self.verdict.name} ({self.action.name}) for\n  {told(self.sent)}"


def parse_config(text: str) -> config.Config:
    """Through the operator's own door."""
    return config.parse(text, Path("test.toml"))


class DataPath:
    """The data path of one test process: loaded, pinned, configured. Use it inside the namespace."""

    def __init__(
        self, text: str, edge: str, indexes: dict[str, int], cflags: Sequence[str] = (TEST_CLOCK,)
    ) -> None:
        self.indexes = indexes
        self.config = parse_config(text.format(name=edge))
        self.program = Program(edge, cflags=cflags)
        self.program.ensure(self.config)
        self.fd = self.program.open()
        self.tables = Tables(self.program.pins)
        self.blocks = KernelBlocks(self.program.pins)
        self.layout = layout.plan(self.config, self.tables)
        self.links = Links(self.tables, self.config.edge.interfaces)
        self._reader: PerfReader | None = None
        self._maps: dict[str, Map] = {}
        self._endpoints: dict[int, abi.Endpoint] = {}
        self._weight_totals = [0] * abi.POOLS
        self._clocked = TEST_CLOCK in cflags
        self.fresh()
        self.links.refresh()
        self._steer()
        self.tables.set_management([ip_network(prefix) for prefix in self.config.edge.management])
        for vip, number in self.layout.vips.items():
            self.tables.put_local(vip, abi.LocalKind.VIP, number)
        for family in (4, 6):
            for index, address in enumerate(self.config.edge.snat_of(family)):
                self.tables.put_local(address, abi.LocalKind.SNAT, index)
        self._weight_totals = list(self.tables.settings.weight_total)
        self._endpoints = {place.id: self.tables.choice.endpoint(place.id) for place in self.layout.endpoints}

    def close(self) -> None:
        """Unload it."""
        if self._reader:
            self._reader.close()
        self.links.close()
        os.close(self.fd)
        self.program.remove()

    # -- state --

    def map(self, table: str, *, per_cpu: bool = False) -> Map:
        """A map that `Tables` keeps to itself, or has no use for; also one that is not pinned."""
        if table not in self._maps:
            pin = self.program.pins / table
            fd = kernel.obj_get(pin) if pin.exists() else unpinned(self.fd, table)
            self._maps[table] = Map(fd, per_cpu=per_cpu)
        return self._maps[table]

    def fresh(self, ports: int = 0) -> None:
        """No flow, no block, no memory of any CDN or client, default settings; counters go on.

        With `ports`, where no more were in use since the last time, it is six times as fast.
        """
        tables = self.tables
        for table in (tables.half_open, tables.established, tables.datagrams):
            table.delete_all(list(table.keys()))
        for many in ("sources", "verified", "fragments", "quic_ids", "quic_offers"):
            self.map(many).delete_all(list(self.map(many).keys()))
        zero(tables.reverse, self.config.limits.endpoints * snat_rows(self.config) * ports)
        for one in (
            "health",
            "weight_out",
            "loads",
            "meters",
            "capacities",
            "customer_limits",
            "sweeps",
            "heard_of",
        ):
            zero(self.map(one))
        for own in ("hops", "sketches", "cpu_states"):
            zero(self.map(own, per_cpu=True))
        tables.clients.load({})
        tables.invite(())
        tables.announce({})
        if len(self.blocks):
            self.blocks.load({})
        endpoints = self.map("endpoints")
        moved = [
            number
            for number, held in self._endpoints.items()
            if endpoints.get(abi.key(number)) != bytes(held)
        ]
        for number in moved:
            endpoints.put(abi.key(number), bytes(self._endpoints[number]))
        if moved:  # and the slots with them
            self._steer()
        if self._clocked:
            self.clock(0)
        tables.mode = abi.Mode(0)
        tables.shield.now = abi.Shield(trust_ns=TRUST_NS, patience_ns=900 * MS)
        tables.settings = self._settings()
        if self._reader:
            self.events(0)

    def _steer(self) -> None:
        weights = {cdn.name: cdn.weight for cdn in self.config.cdns}
        steering.apply(self.config, self.layout, self.tables, steering.Steering(weights))

    def _settings(self) -> abi.Settings:
        edge, settings = self.config.edge, abi.Settings(generation=1, seed=7)
        settings.port_min_host, settings.ports = (
            edge.snat_ports[0],
            edge.snat_ports[1] - edge.snat_ports[0] + 1,
        )
        settings.snat_rows = snat_rows(self.config)
        settings.block_line_shift = shift_of(block_lines(self.config))
        for row, family in enumerate((4, 6)):
            settings.snat_count[row] = len(edge.snat_of(family))
            for index, address in enumerate(edge.snat_of(family)):
                settings.snat[row][index] = abi.address(address)
        for pool, weight in enumerate(self._weight_totals):
            settings.weight_total[pool] = weight
        settings.dark_connects, settings.refused_connects, settings.slow_connects = 5, 3, 5
        settings.distinct_prefixes = 3
        settings.established_s, settings.udp_s = 3600, 180
        settings.source_busy = 1000
        settings.busy_share = settings.source_busy // kernel.possible_cpus()
        settings.out_ns, settings.max_out_ns, settings.rescue_after_ns = 10_000 * MS, 80_000 * MS, 200 * MS
        return settings

    def change(self, **fields: int) -> None:
        """Change settings by name; those that are many, all alike."""
        settings = self.tables.settings
        for field, value in fields.items():
            held = getattr(settings, field)
            if isinstance(held, ctypes.Array):
                for index in range(len(held)):
                    held[index] = value
            else:
                setattr(settings, field, value)
        self.tables.settings = settings

    def clock(self, ns: int) -> None:
        """From now on it is so late for the kernel, until the next call; 0: as late as it is."""
        self.map("clock").put(abi.key(0), struct.pack("Q", ns))

    def sweep(self) -> dict[int, dict[abi.SlotState, int]]:
        """A whole round of the collector: slots in use, by endpoint and state."""
        with contextlib.closing(Sweep(self.program.open(SWEEP), self.program.pins)) as collector:
            while not collector.step():
                pass
            return {
                endpoint: {abi.SlotState(state): count for state, count in enumerate(row) if count}
                for endpoint, row in collector.open.items()
            }

    def endpoint_id(self, cdn: str, pool: abi.Pool = abi.Pool.TCP4) -> int:
        """The id of a CDN's only endpoint of that family and protocol."""
        return next(place.id for place in self.layout.endpoints_of(cdn) if place.pool == pool)

    def health(self, cdn: str, pool: abi.Pool = abi.Pool.TCP4) -> abi.Health:
        """The breaker's view of a CDN's only endpoint of that family and protocol."""
        return self.tables.health(self.endpoint_id(cdn, pool))

    def change_health(self, cdn: str, pool: abi.Pool = abi.Pool.TCP4, **fields: int) -> None:
        """Change what the breaker knows of a CDN: how tests make time pass, or a history."""
        health = self.health(cdn, pool)
        for field, value in fields.items():
            setattr(health, field, value)
        self.tables.put_health(self.endpoint_id(cdn, pool), health)

    def change_endpoint(self, cdn: str, pool: abi.Pool = abi.Pool.TCP4, **fields: int) -> None:
        """Change weight, limit, transport and so on; the next test finds it as configured."""
        identity = self.endpoint_id(cdn, pool)
        endpoint = self.tables.choice.endpoint(identity)
        for field, value in fields.items():
            setattr(endpoint, field, value)
        self.map("endpoints").put(abi.key(identity), bytes(endpoint))

    def totals(self, cdn: str) -> CdnTotals:
        """A CDN's exact totals."""
        return self.tables.counters.cdn(self.layout.cdns[cdn])

    def slot_index(self, cdn: str, snat: tuple[str, int], pool: abi.Pool = abi.Pool.TCP4) -> int:
        """Where the reverse slot of an endpoint, SNAT address and port is, by the settings in force."""
        settings, family = self.tables.settings, 6 if ":" in snat[0] else 4
        row = self.endpoint_id(cdn, pool) * settings.snat_rows
        row += self.config.edge.snat_of(family).index(snat[0])
        return int(row * settings.ports + snat[1] - settings.port_min_host)

    def slot(self, index: int) -> abi.Slot:
        """A reverse slot."""
        return abi.Slot.from_buffer_copy(self.tables.reverse.get(abi.key(index)) or b"")

    def put_slot(self, index: int, slot: abi.Slot) -> None:
        """Overwrite a reverse slot: how tests make time pass."""
        self.tables.reverse.put(abi.key(index), bytes(slot))

    # -- packets --

    def run(self, frame: bytes, device: str = CLIENTS) -> Seen:
        """One packet in by `device`. It must end in exactly one counted verdict, all its bytes counted."""
        counts = self.map("verdicts", per_cpu=True)
        before = counts.values()
        ran = kernel.test_run(self.fd, frame, ifindex=self.indexes[device])
        deltas = {
            Verdict(number): _grown(old, new)
            for number, (old, new) in enumerate(zip(before, counts.values(), strict=True))
            if new != old
        }
        assert list(deltas.values()) == [(1, len(frame))], f"counted {deltas} for\n  {told(frame)}"
        return Seen(frame, next(iter(deltas)), Action(ran.action), ran.frame)

    def events(self, count: int, timeout_s: float = 1.0) -> list[Reflex]:
        """The reflex events so far, at least `count` of them; what the kernel told, not what it did."""
        found: list[Reflex] = []
        deadline = time.monotonic() + timeout_s
        while True:
            found += self.reader.take_events()
            if len(found) >= count or time.monotonic() > deadline:
                return found
            time.sleep(0.002)

    @property
    def reader(self) -> PerfReader:
        """Opened by the first test that asks: only from then on is anything told."""
        if self._reader is None:
            self._reader = PerfReader(self.program.pins)
        return self._reader

    @contextlib.contextmanager
    def counting(self, cdn: str) -> Iterator[dict[str, int]]:
        """What changes meanwhile in a CDN's totals, filled in at the end of the block."""
        changed: dict[str, int] = {}
        before = self.totals(cdn)
        yield changed
        after = self.totals(cdn)
        changed.update(
            {
                field: new - old
                for field, new, old in zip(before._fields, after, before, strict=True)
                if new != old
            }
        )


_ports = itertools.count(30000)


def client_port() -> int:
    """A client's port that no other test has, and that is no SNAT port."""
    return next(_ports)


def _grown(old: bytes, new: bytes) -> tuple[int, int]:
    """Packets and bytes that were counted meanwhile, on all CPUs."""
    words = [struct.unpack(f"{len(raw) // 8}Q", raw) for raw in (old, new)]
    packets, octets = (sum(words[1][n::2]) - sum(words[0][n::2]) for n in (0, 1))
    return packets, octets


def seed_of_the_run() -> int:
    """Another one each time, but on CI; CDNCTL_TEST_SEED repeats a run."""
    told_seed = os.environ.get("CDNCTL_TEST_SEED")
    if told_seed:
        return int(told_seed)
    return 1 if os.environ.get("CI") else random.SystemRandom().getrandbits(32)


def load(indexes: dict[str, int]) -> DataPath:
    """The data path that all tests but those of the tables' limits share."""
    return DataPath(CONFIG, name(), indexes)
