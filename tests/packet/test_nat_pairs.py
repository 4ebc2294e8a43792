"""Forward and reverse table together, far beyond the size of the forward one.

200,000 flows go through a table of 10,000. After every 1,000: each forward entry has a reverse slot whose
owner is that very flow; slots whose forward entry was evicted are given to others or rebuilt by a reply;
and no reply ever reaches a client that it is not for.
"""

from __future__ import annotations

import math
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
from harness import Action, DataPath, Runner, owner_word, seed_of_the_run, whole
from netbox import CLIENTS, LINKS, name
from segments import HEADERS, Flag, mac, segment

from cdnctl.datapath import abi
from cdnctl.datapath.abi import SlotState
from cdnctl.lab import netns

REST_S = 60
"""How long a closed port is not given away, at least."""
CHECKED_EVERY = 1_000
REBUILT_PER_CHECK = 40
TABLE = 10_000
VIP = "203.0.113.80"
_CONFIG = f"""
[edge]
name = "{{name}}"
interfaces = ["clients", "cdn1", "cdn2"]
snat = ["203.0.113.10", "203.0.113.11"]
snat_ports = [20000, 28191]

[limits]
flows = {TABLE}
half_open = 2048
block_entries = 1024
endpoints = 2

[[cdn]]
name = "aurora"
endpoints = ["198.51.100.10:80"]

[[cdn]]
name = "borealis"
endpoints = ["198.51.100.20:8080"]

[[service]]
name = "www"
vip = "{VIP}"
port = 80
policy = "weighted"
"""
_ENDS = struct.Struct("!4s4sHH")
_NUMBERS = struct.Struct("!IIBB")
_ENDS_AT, _NUMBERS_AT, _MACS_AT = 26, 38, 0
_ISN, _CDN_ISN = 1_000_000, 0x7000_0000
_ACK, _SYN_ACK, _RST = Flag.ACK, Flag.SYN | Flag.ACK, bytes([Flag.RST])


class Flow(NamedTuple):
    """A client's connection: what it knows of itself."""

    client: bytes
    port: int
    isn: int

    @property
    def key(self) -> bytes:
        """In the forward tables."""
        client = abi.address(socket.inet_ntoa(self.client))
        ports = {"client_port": abi.port(self.port), "vip_port": abi.port(80)}
        return bytes(abi.FlowKey(client=client, vip=0, protocol=abi.TCP, **ports))


Place = tuple[bytes, bytes, int, int]
"""CDN and SNAT address, CDN's and SNAT port: what the CDN knows of a connection."""


class Traffic:
    """Clients, CDNs, and what each CDN believes its connections to be."""

    def __init__(self, path: DataPath) -> None:
        self.path = path
        vip = (VIP, 80)
        self._up = Runner(path.fd, HEADERS, path.indexes[CLIENTS])
        self._up.frame[:HEADERS] = segment(("10.0.0.1", 1), vip, Flag.SYN)
        self._down = Runner(path.fd, HEADERS, path.indexes["cdn1"])
        self._down.frame[:HEADERS] = segment((LINKS[0].endpoint, 80), ("203.0.113.10", 1), Flag.SYN)
        self._down.frame[0:12] = mac(LINKS[0].mac) + mac(LINKS[0].gateway_mac)
        self._vip = socket.inet_aton(VIP)
        self.owners: dict[Place, Flow] = {}
        """Who sent the last SYN from there."""
        self.closed: dict[Place, float] = {}
        """When; on a busy machine a port may have rested before it is wanted again."""
        self.count: Counter[str] = Counter()

    def up(self, flow: Flow, flags: int, seq: int, ack: int) -> Place | None:
        """A client's segment, and where it came out."""
        _ENDS.pack_into(self._up.frame, _ENDS_AT, flow.client, self._vip, flow.port, 80)
        _NUMBERS.pack_into(self._up.frame, _NUMBERS_AT, seq, ack, 0x50, flags)
        if self._up.run() < Action.TX:
            return None
        snat, cdn, port, cdn_port = _ENDS.unpack_from(self._up.out, _ENDS_AT)
        return cdn, snat, cdn_port, port

    def down(self, place: Place, flags: int, seq: int, ack: int) -> tuple[int, bytes, int, bytes]:
        """A CDN's segment: the action, for which client and port it came out, and its flags."""
        cdn, snat, cdn_port, port = place
        _ENDS.pack_into(self._down.frame, _ENDS_AT, cdn, snat, cdn_port, port)
        _NUMBERS.pack_into(self._down.frame, _NUMBERS_AT, seq, ack, 0x50, flags)
        action = self._down.run()
        _, client, _, client_port = _ENDS.unpack_from(self._down.out, _ENDS_AT)
        return action, client, client_port, self._down.out[47]

    def reply(self, place: Place, flags: int = _ACK, seq: int = _CDN_ISN + 1) -> bool:
        """Whether a reply gets out; if so it must be to the place's owner."""
        flow = self.owners[place]
        action, client, port, _ = self.down(place, flags, seq, flow.isn + 1)
        if action != Action.REDIRECT:
            return False  # dropped, or answered by a reset
        assert (client, port) == (flow.client, flow.port), f"a reply for {flow} reached {client}:{port}"
        return True

    def syn(self, flow: Flow) -> Place | None:
        """Begin; None when no port was found. What the CDN still sends to the last owner reaches nobody."""
        place = self.up(flow, Flag.SYN, flow.isn, 0)
        if place is None:
            self.count["without a port"] += 1
            return None
        before = self.owners.get(place)
        if before is not None:
            closed = self.closed.pop(place, -math.inf)
            assert time.monotonic() - closed > REST_S, "a port that was closed just now must rest"
            self.count["slots taken over"] += 1
            raw = self.path.tables.established.get(before.key) or self.path.tables.half_open.get(before.key)
            assert raw is None or before == flow, "the old owner's entry outlived its slot"
            action, target, _, flags = self.down(place, _ACK, _CDN_ISN + 1, before.isn + 1)
            assert action == Action.DROP or (action, target, flags) == (Action.TX, place[0], _RST), (
                "for the old owner"
            )
            self.count["old connections reset"] += action == Action.TX
        self.owners[place] = flow
        return place

    def open(self, flow: Flow) -> Place | None:
        """A whole handshake."""
        place = self.syn(flow)
        if place is not None:
            assert self.reply(place, _SYN_ACK, _CDN_ISN)
            assert self.up(flow, _ACK, flow.isn + 1, _CDN_ISN + 1) == place
        return place

    def try_open(self, flow: Flow) -> None:
        """A handshake while others take ports; what gets out must be for this flow."""
        place = self.up(flow, Flag.SYN, flow.isn, 0)
        if place is None:
            return
        self.owners[place] = flow
        if self.reply(place, _SYN_ACK, _CDN_ISN):
            self.up(flow, _ACK, flow.isn + 1, _CDN_ISN + 1)

    def close(self, flow: Flow, place: Place) -> None:
        """FINs both ways."""
        assert self.up(flow, Flag.FIN | _ACK, flow.isn + 1, _CDN_ISN + 1) == place
        assert self.reply(place, Flag.FIN | _ACK)
        self.closed[place] = time.monotonic()


def flows(chance: random.Random) -> Iterator[Flow]:
    """No two alike; half of them want a port that is one of ours, and many the same."""
    for number in range(1, 2**22):
        client = struct.pack("!I", 0x0A00_0000 | number)
        port = 20000 + number % 8192 if number % 2 else chance.randrange(1024, 65536)
        yield Flow(client, port, _ISN + 7 * number)


class Tables:
    """Both tables at one moment."""

    def __init__(self, path: DataPath) -> None:
        tables = path.tables
        self.slots = (abi.Slot * tables.reverse.info.max_entries).from_buffer_copy(whole(tables.reverse)[1])
        self.held = set[int]()
        """Slots that have a forward entry."""
        self.entries: dict[str, int] = {}
        for table in ("established", "half_open"):
            keys, values = whole(getattr(tables, table))
            count = len(values) // abi.size(abi.Flow)
            self.entries[table] = count
            forward = (abi.Flow * count).from_buffer_copy(values)
            for key, flow in zip((abi.FlowKey * count).from_buffer_copy(keys), forward, strict=True):
                slot = self.slots[flow.slot]
                assert slot.owner == owner_word(key, flow), (
                    f"a forward entry without its own slot: {flow.slot}"
                )
                assert flow.slot not in self.held, "two forward entries with one slot"
                self.held.add(flow.slot)

    def orphans(self, path: DataPath) -> list[tuple[int, Place]]:
        """Slots of live sessions whose forward entry was evicted."""
        rows, ports = len(path.config.edge.snat), 8192
        endpoints = path.tables.choice.endpoint_entries()
        found = []
        for index, slot in enumerate(self.slots):
            if slot.owner and slot.state == SlotState.ESTABLISHED and index not in self.held:
                row, port = divmod(index, ports)
                endpoint, snat = divmod(row, rows)
                cdn = endpoints[endpoint]
                address = bytes(cdn.address)[12:], socket.inet_aton(path.config.edge.snat[snat])
                found.append((index, (*address, abi.show_port(cdn.port), 20000 + port)))
        return found


def rebuild_some(traffic: Traffic, tables: Tables, chance: random.Random) -> None:
    """A reply to an orphaned slot reaches its client and brings the forward entry back."""
    path = traffic.path
    orphans = tables.orphans(path)
    for index, place in chance.sample(orphans, min(REBUILT_PER_CHECK, len(orphans))):
        slot = path.slot(index)
        slot.seen_s = 0  # or the reply looks at the forward entry only in a second's time
        path.put_slot(index, slot)
        flow = traffic.owners[place]
        assert traffic.reply(place)
        raw = path.tables.established.get(flow.key)
        assert raw is not None, "not rebuilt"
        assert abi.Flow.from_buffer_copy(raw).slot == index
        assert traffic.up(flow, _ACK, flow.isn + 1, _CDN_ISN + 1) == place, "rebuilt otherwise than it was"
        traffic.count["rebuilt by a reply"] += 1


@pytest.fixture(scope="module")
def small_loaded(indexes: dict[str, int]) -> Iterator[DataPath]:
    """A data path with room for 10,000 flows."""
    with netns.entered(name()):
        path = DataPath(_CONFIG, name("-pairs"), indexes)
    yield path
    path.close()


@pytest.fixture
def small(small_loaded: DataPath, inside: dict[str, int]) -> DataPath:
    """The same, with nothing in it."""
    small_loaded.fresh()
    return small_loaded


@pytest.mark.race
@pytest.mark.parametrize("count", [20_000, pytest.param(200_000, marks=pytest.mark.soak)])
def test_no_forward_entry_without_its_slot_and_no_reply_to_a_stranger(small: DataPath, count: int) -> None:
    seed = seed_of_the_run()
    print(f"CDNCTL_TEST_SEED={seed}")
    chance = random.Random(seed)
    traffic, peak = Traffic(small), 0
    for number, flow in zip(range(1, count + 1), flows(chance), strict=False):
        fate = chance.random()
        if fate < 0.05:
            traffic.syn(flow)
        elif fate < 0.08:
            place = traffic.syn(flow)
            assert place is None or traffic.reply(place, _SYN_ACK, _CDN_ISN)
        else:
            place = traffic.open(flow)
            if place is not None and fate < 0.10:
                traffic.close(flow, place)
        if number % CHECKED_EVERY == 0:
            tables = Tables(small)
            peak = max(peak, tables.entries["established"])
            rebuild_some(traffic, tables, chance)
            for place in chance.sample(list(traffic.owners), 20):
                traffic.count["stray replies that got out"] += traffic.reply(place)
    print(dict(traffic.count), peak)
    assert peak > 0.9 * TABLE
    assert traffic.count["rebuilt by a reply"] > 0.9 * REBUILT_PER_CHECK * (count - 2 * TABLE) / CHECKED_EVERY
    assert traffic.count["slots taken over"] > count / 2 - TABLE
    # nearly half the slots are held all the time, and the search for a port is bounded
    assert traffic.count["without a port"] < count / 200


@pytest.mark.race
def test_two_cpus_after_the_same_ports_at_once(small: DataPath) -> None:
    def contend(traffic: Traffic, first: int) -> None:
        for number in range(first, first + 2000):
            client = struct.pack("!I", 0x0A00_0000 | number)
            traffic.try_open(Flow(client, 20000 + number % 512, _ISN))

    for start in range(1, 80_001, 20_000):
        small.fresh()
        small.change(ports=512, snat_count=1)
        with ThreadPoolExecutor(2) as pool:  # new threads are in this one's namespace
            cpus = [pool.submit(contend, Traffic(small), start + 10_000 * cpu) for cpu in range(2)]
            for cpu in cpus:
                cpu.result()
        assert sum(Tables(small).entries.values()) > 500
