"""A really loaded data path, and single packets through it by BPF_PROG_TEST_RUN."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import random
import struct
import time
from collections.abc import Iterator
from enum import IntEnum
from ipaddress import IPv4Network
from pathlib import Path
from typing import NamedTuple

from netbox import CLIENTS, LINKS, name
from segments import told

from cdnctl import config
from cdnctl.datapath import abi, kernel
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.blocks import KernelBlocks
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.perf import PerfReader, Reflex
from cdnctl.datapath.program import Program
from cdnctl.datapath.tables import CdnTotals, Tables
from cdnctl.engine import layout, steering

VIP, OTHER_VIP = "203.0.113.80", "203.0.113.81"
SNAT = ("203.0.113.10", "203.0.113.11")
PORTS = (20000, 20999)
MANAGEMENT = "192.0.2.0/24"
AURORA, BOREALIS, CORONA = CDNS = ("aurora", "borealis", "corona")
ENDPOINTS = {
    "aurora": (LINKS[0].endpoint, 80),
    "borealis": (LINKS[1].endpoint, 8080),
    "corona": (LINKS[2].endpoint, 80),
}
SERVICES = {
    "www": (VIP, 80),
    "fast": (VIP, 443),
    "solo": (OTHER_VIP, 80),
    "duo": (OTHER_VIP, 443),
}
"""`www` (weighted) and `fast` (latency) have all three CDNs, `solo` has aurora, `duo` aurora and borealis."""
MS = 1_000_000

CONFIG = """
[edge]
name = "{name}"
interfaces = ["clients", "cdn1", "cdn2", "cdn3"]
snat = ["203.0.113.10", "203.0.113.11"]
snat_ports = [20000, 20999]
management = ["192.0.2.0/24"]

[limits]
flows = 4096
half_open = 1024
block_entries = 4096
endpoints = 4

[[cdn]]
name = "aurora"
endpoints = ["198.51.100.10:80"]

[[cdn]]
name = "borealis"
endpoints = ["198.51.100.20:8080"]

[[cdn]]
name = "corona"
endpoints = ["198.51.100.30:80"]

[[service]]
name = "www"
vip = "203.0.113.80"
port = 80
policy = "weighted"

[[service]]
name = "fast"
vip = "203.0.113.80"
port = 443
policy = "latency"

[[service]]
name = "solo"
vip = "203.0.113.81"
port = 80
policy = "weighted"
cdns = ["aurora"]

[[service]]
name = "duo"
vip = "203.0.113.81"
port = 443
policy = "weighted"
cdns = ["aurora", "borealis"]
"""


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

    def __init__(self, text: str, edge: str, indexes: dict[str, int]) -> None:
        self.indexes = indexes
        self.config = parse_config(text.format(name=edge))
        self.program = Program(edge)
        self.program.ensure(self.config)
        self.fd = self.program.open()
        self.tables = Tables(self.program.pins)
        self.blocks = KernelBlocks(self.program.pins)
        self.layout = layout.plan(self.config, self.tables)
        self._reader: PerfReader | None = None
        self._maps: dict[str, Map] = {}
        self._endpoints: dict[int, abi.Endpoint] = {}
        self.fresh()
        weights = {cdn.name: cdn.weight for cdn in self.config.cdns}
        steering.apply(self.config, self.layout, self.tables, weights, [])
        self.tables.set_management([IPv4Network(prefix) for prefix in self.config.edge.management])
        for service in self.config.services:
            self.tables.put_local(service.vip, abi.LocalKind.VIP)
        for index, address in enumerate(self.config.edge.snat):
            self.tables.put_local(address, abi.LocalKind.SNAT, index)
        self.weight_total = self.tables.settings.weight_total
        self._endpoints = {place.id: self.tables.endpoint(place.id) for place in self.layout.endpoints}

    def close(self) -> None:
        """Unload it."""
        if self._reader:
            self._reader.close()
        os.close(self.fd)
        self.program.remove()

    # -- state --

    def map(self, table: str, *, per_cpu: bool = False) -> Map:
        """A map that `Tables` keeps to itself, or has no use for."""
        if table not in self._maps:
            self._maps[table] = Map.pinned(self.program.pins / table, per_cpu=per_cpu)
        return self._maps[table]

    def fresh(self) -> None:
        """No flow, no block, no memory of any CDN, default settings; counters go on."""
        tables = self.tables
        for table in (tables.half_open, tables.established):
            for key in list(table.keys()):
                table.delete(key)
        zero(tables.reverse)
        zero(self.map("health"))
        zero(self.map("weight_out"))
        zero(self.map("hops", per_cpu=True))
        zero(self.map("cpu_states", per_cpu=True))
        if len(self.blocks):
            self.blocks.load({})
        for identity, endpoint in self._endpoints.items():
            self.map("endpoints").put(abi.key(identity), bytes(endpoint))
        tables.mode = abi.Mode(0)
        tables.settings = self._settings()
        if self._reader:
            self.events(0)

    def _settings(self) -> abi.Settings:
        edge, settings = self.config.edge, abi.Settings(generation=1, seed=7)
        settings.port_min_host, settings.ports = (
            edge.snat_ports[0],
            edge.snat_ports[1] - edge.snat_ports[0] + 1,
        )
        settings.snat_count, settings.endpoint_stride = len(edge.snat), self.config.limits.endpoints
        for index, address in enumerate(edge.snat):
            settings.snat[index] = abi.address(address)
        settings.weight_total = getattr(self, "weight_total", 0)
        settings.dark_connects, settings.refused_connects, settings.slow_connects = 5, 3, 5
        settings.distinct_prefixes = 3
        settings.out_ns, settings.max_out_ns, settings.rescue_after_ns = 10_000 * MS, 80_000 * MS, 200 * MS
        return settings

    def change(self, **fields: int) -> None:
        """Change settings by name."""
        settings = self.tables.settings
        for field, value in fields.items():
            setattr(settings, field, value)
        self.tables.settings = settings

    def endpoint_id(self, cdn: str) -> int:
        """The id of a CDN's only endpoint."""
        return self.layout.endpoints_of(cdn)[0].id

    def health(self, cdn: str) -> abi.Health:
        """The breaker's view of a CDN's only endpoint."""
        return self.tables.health(self.endpoint_id(cdn))

    def change_health(self, cdn: str, **fields: int) -> None:
        """Change what the breaker knows of a CDN: how tests make time pass, or a history."""
        health = self.health(cdn)
        for field, value in fields.items():
            setattr(health, field, value)
        self.tables.put_health(self.endpoint_id(cdn), health)

    def change_endpoint(self, cdn: str, **fields: int) -> None:
        """Change weight or limit; the next test finds it as configured."""
        identity = self.endpoint_id(cdn)
        endpoint = self.tables.endpoint(identity)
        for field, value in fields.items():
            setattr(endpoint, field, value)
        self.map("endpoints").put(abi.key(identity), bytes(endpoint))

    def totals(self, cdn: str) -> CdnTotals:
        """A CDN's exact totals."""
        return self.tables.cdn_totals(self.layout.cdns[cdn])

    def slot_index(self, cdn: str, snat: tuple[str, int]) -> int:
        """Where the reverse slot of an endpoint, SNAT address and port is."""
        edge = self.config.edge
        ports = edge.snat_ports[1] - edge.snat_ports[0] + 1
        row = edge.snat.index(snat[0]) * self.config.limits.endpoints + self.endpoint_id(cdn)
        return row * ports + snat[1] - edge.snat_ports[0]

    def slot(self, index: int) -> abi.Slot:
        """A reverse slot."""
        return abi.Slot.from_buffer_copy(self.tables.reverse.get(abi.key(index)) or b"")

    def put_slot(self, index: int, slot: abi.Slot) -> None:
        """Overwrite a reverse slot: how tests make time pass."""
        self.tables.reverse.put(abi.key(index), bytes(slot))

    # -- packets --

    def run(self, frame: bytes, device: str = CLIENTS) -> Seen:
        """One packet in by `device`. It must end in exactly one counted verdict, all its bytes counted."""
        before = list(self.tables.verdicts())
        ran = kernel.test_run(self.fd, frame, ifindex=self.indexes[device])
        deltas = {
            verdict: (packets - old_packets, octets - old_octets)
            for (verdict, packets, octets), (_, old_packets, old_octets) in zip(
                self.tables.verdicts(), before, strict=True
            )
            if packets != old_packets or octets != old_octets
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


def zero(table: Map) -> None:
    """Write zeros into a whole array, in one system call."""
    count = table.info.max_entries
    size = table.info.value_size
    if table.per_cpu:
        size = (size + 7) // 8 * 8 * kernel.possible_cpus()
    keys = struct.pack(f"{count}I", *range(count))
    done = ctypes.c_uint32(count)
    kernel.check(
        kernel.libbpf().bpf_map_update_batch(table.fd, keys, bytes(count * size), ctypes.byref(done), None),
        "bpf_map_update_batch",
    )


_ports = itertools.count(30000)


def client_port() -> int:
    """A client's port that no other test has, and that is no SNAT port."""
    return next(_ports)


def seed_of_the_run() -> int:
    """Another one each time, but on CI; CDNCTL_TEST_SEED repeats a run."""
    told_seed = os.environ.get("CDNCTL_TEST_SEED")
    if told_seed:
        return int(told_seed)
    return 1 if os.environ.get("CI") else random.SystemRandom().getrandbits(32)


def load(indexes: dict[str, int]) -> DataPath:
    """The data path that all tests but those of the tables' limits share."""
    return DataPath(CONFIG, name(), indexes)


def whole(table: Map) -> tuple[bytes, bytes]:
    """All keys and all values of a table, read in one system call."""
    room = table.info.max_entries
    keys = ctypes.create_string_buffer(table.info.key_size * room)
    values = ctypes.create_string_buffer(table.info.value_size * room)
    token, count = ctypes.create_string_buffer(64), ctypes.c_uint32(room)
    result = kernel.libbpf().bpf_map_lookup_batch(
        table.fd, None, ctypes.byref(token), keys, values, ctypes.byref(count), None
    )
    if result < 0 and ctypes.get_errno() != errno.ENOENT:  # which says that this was the end of the table
        kernel.check(result, "bpf_map_lookup_batch")
    return keys.raw[: count.value * table.info.key_size], values.raw[: count.value * table.info.value_size]


class Runner:
    """`kernel.test_run` for hundreds of thousands of packets of one size: everything is set up once."""

    def __init__(self, program: int, size: int, ifindex: int) -> None:
        self.frame = ctypes.create_string_buffer(size)
        self.out = ctypes.create_string_buffer(size)
        self._program, self._run = program, kernel.libbpf().bpf_prog_test_run_opts
        self._context = ctypes.create_string_buffer(struct.pack("6I", 0, size, 0, ifindex, 0, 0), 24)
        self._options = kernel._TestRunOptions(
            sz=ctypes.sizeof(kernel._TestRunOptions),
            data_in=ctypes.addressof(self.frame),
            data_size_in=size,
            data_out=ctypes.addressof(self.out),
            data_size_out=size,
            ctx_in=ctypes.addressof(self._context),
            ctx_size_in=24,
            repeat=1,
        )
        self._reference = ctypes.byref(self._options)

    def run(self) -> int:
        """Run `frame`, which is left as it is, into `out`; the action."""
        kernel.check(self._run(self._program, self._reference), "bpf_prog_test_run_opts")
        return int(self._options.retval)
