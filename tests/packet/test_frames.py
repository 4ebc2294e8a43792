"""An engine on tables of its own: numbers outlive restarts, and frames say what the kernel counted."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import netbox
import pytest
from msgspec.structs import replace

from cdnctl import config, paths
from cdnctl.datapath import abi, kernel, panic
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.perf import Reflex
from cdnctl.datapath.program import Program
from cdnctl.engine.engine import Engine
from cdnctl.lab import netns
from cdnctl.model import Actor, Arm, Cdn, Disarm, Frame

EDGE = netbox.name("-frame")
DEVICE = "framed"
TEXT = f"""
[edge]
name = "{EDGE}"
interfaces = ["{DEVICE}"]
snat = ["203.0.113.10", "203.0.113.11", "2001:db8:5::10"]
snat_ports = [40000, 41023]
fragments = "drop"

[limits]
flows = 4096
half_open = 1024
block_entries = 4096
endpoints = 12

[reflex]
slow_start_s = 7.5
established_s = 900
udp_s = 60

[quota]
per_source = {{ pps = 1000, flows_per_s = 10, burst_ms = 50 }}
busy_pps = 500

[[region]]
name = "eu"
prefixes = ["192.0.2.0/24", "2001:db8:e0::/44"]

[[region]]
name = "us"
prefixes = ["192.0.3.0/24"]

[[customer]]
name = "acme"
prefixes = ["192.0.2.0/26"]
mbit = 8.192

[[customer]]
name = "beta"
prefixes = ["192.0.4.0/24"]

[[cdn]]
name = "aurora"
endpoints = [
  {{ address = "198.51.100.10:443", regions = ["eu"] }},
  "198.51.100.11:443",
  "[2001:db8:a::10]:443",
]
weight = 60
capacity = {{ flows_per_s = 100, mbit = 10 }}

[[cdn]]
name = "borealis"
endpoints = ["198.51.100.20:443"]
weight = 40
mode = "gue"
mss = 1400
reset_on_eject = false
latency_limit_ms = 250

[[service]]
name = "www"
vip = "203.0.113.80"
port = 443
protocol = ["tcp", "udp"]
policy = {{ bulk = "failover" }}
class = "dscp"
cdns = ["borealis", "aurora"]

[[service]]
name = "www6"
vip = "2001:db8:80::80"
port = 443
protocol = ["udp"]
policy = "weighted"
"""
Start = Callable[..., Engine]


@pytest.fixture(scope="module")
def device(indexes: dict[str, int]) -> Iterator[None]:
    """An interface of its own. What is loaded stays for the next test, so that one compile does."""
    with netns.entered(netbox.name()), netns.netlink(netbox.name()) as ip:
        ip.link("add", ifname=DEVICE, kind="veth", peer={"ifname": f"{DEVICE}-far"})
        index = ip.link_lookup(ifname=DEVICE)[0]
        ip.link("set", index=index, state="up")
        yield
        ip.link("del", index=index)
        Program(EDGE).remove()


@pytest.fixture
def start(
    device: None, inside: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """Starts an agent's engine; the one before was killed."""
    monkeypatch.setenv("CDNCTL_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("CDNCTL_STATE_DIR", str(tmp_path / "state"))
    started: list[Engine] = []

    def begin(wanted: config.Config | str = TEXT) -> Engine:
        for engine in started:
            engine.close()
        engine = Engine(config.parse(wanted, Path("t")) if isinstance(wanted, str) else wanted)
        engine.start()
        started[:] = [engine]
        return engine

    yield begin
    for engine in started:
        engine.close()


def per_cpu(table: str, number: int, values: list[int]) -> None:
    """Count so much, on the first CPU."""
    words = struct.pack(f"={len(values)}Q", *values)
    opened = Map.pinned(paths.tables_dir(EDGE) / table, per_cpu=True)
    opened.put(abi.key(number), words + bytes(len(words) * (kernel.possible_cpus() - 1)))


def cell_of(cdn: int, traffic_class: int, region: int = 0) -> int:
    """The place of a histogram of first bytes."""
    return (cdn * abi.MAX_REGIONS + region) * abi.CLASSES + traffic_class


def counted(**named: int) -> list[int]:
    """A struct cdn_count with these fields."""
    names = ["to_packets", "to_bytes", "from_packets", "from_bytes"]
    names += [name for name, _ in abi.CdnCount._fields_[2:]]
    return [named.get(name, 0) for name in names]


def cdn(frame: Frame, name: str) -> Cdn:
    return next(each for each in frame.cdns if each.name == name)


def test_everything_is_in_the_kernel(start: Start) -> None:
    engine = start()
    tables, layout = engine.tables, engine.layout
    settings = tables.settings
    assert (settings.snat_rows, list(settings.snat_count)) == (2, [2, 1])
    assert str(settings.snat[1][0]) == "2001:db8:5::10"
    assert (settings.port_min_host, settings.ports) == (40000, 1024)
    assert settings.fragments == abi.FragmentPolicy.DROP
    assert (settings.established_s, settings.udp_s, settings.slow_start_ns) == (900, 60, 7_500_000_000)
    assert bytes(settings.source_limit) == bytes(abi.limit(pps=1000, flows_per_s=10, burst_ms=50))
    assert (settings.source_busy, settings.busy_share) == (500, -(-500 // kernel.possible_cpus()))
    assert len(layout.endpoints) == 7 == len({place.id for place in layout.endpoints})
    # Weights stand in each pool by themselves: of TCP4 aurora has two endpoints, of UDP6 one.
    assert list(settings.weight_total) == [200, 200, 0, 60]
    by_id = {place.id: tables.choice.endpoint(place.id) for place in layout.endpoints}
    aurora, borealis = layout.endpoints_of("aurora"), layout.endpoints_of("borealis")
    assert [by_id[place.id].weight for place in aurora] == [60, 60, 60, 60, 60]
    assert [by_id[place.id].weight for place in borealis] == [80, 80]
    gue = by_id[borealis[0].id]
    assert (gue.transport, gue.mss, gue.tunnel_port) == (abi.Transport.GUE, 1400, 6080)
    assert (gue.flags, gue.limit_us) == (0, 250_000)
    assert by_id[aurora[0].id].flags == abi.EndpointFlag.RESETS
    assert set(tables.choice.services().values()) == {place.id for place in layout.services}
    assert tables.links().keys() == set(engine.attachment.links.ids.values())
    assert not engine.program.maps().isdisjoint({tables.identity})


def test_tables_by_region_and_class(start: Start) -> None:
    engine = start()
    choice, layout = engine.tables.choice, engine.layout
    tcp = next(place for place in layout.services if (place.name, place.protocol) == ("www", "tcp"))
    entry = choice.service(tcp.id)
    assert list(entry.policy) == [abi.Policy.LATENCY, abi.Policy.LATENCY, abi.Policy.FAILOVER]
    assert entry.traffic_class == abi.CLASS_BY_DSCP
    bound, plain, borealis = (
        next(place.id for place in layout.endpoints if place.key == key and place.protocol == "tcp")
        for key in ("198.51.100.10:443", "198.51.100.11:443", "198.51.100.20:443")
    )
    nowhere = abi.NOWHERE
    everywhere = choice.picks(entry.table[0][0])
    assert set(everywhere) == {plain, borealis, nowhere}
    assert everywhere.count(plain) / abi.PICK_SLOTS == pytest.approx(0.6, abs=0.001)
    eu = choice.picks(entry.table[layout.regions["eu"]][0])
    assert eu.count(bound) == pytest.approx(eu.count(plain), abs=2), "aurora's share, in two halves"
    assert eu.count(borealis) / abi.PICK_SLOTS == pytest.approx(0.4, abs=0.001)
    assert list(entry.table[layout.regions["us"]]) == list(entry.table[0]), "the same tables are shared"
    assert list(choice.picks(entry.table[0][2])[:3]) == [borealis, plain, nowhere], "the service's order"
    order = choice.picks(entry.table[layout.regions["eu"]][2])
    assert list(order[:4]) == [borealis, bound, plain, nowhere]


def test_numbers_outlive_restarts_and_changes_of_the_file(start: Start) -> None:
    first = start()
    before = first.layout
    links = dict(first.attachment.links.ids)
    # Everything the other way round, and newcomers in front.
    parts = TEXT.split("\n\n")
    head, tables = [p for p in parts if not p.lstrip().startswith("[[")], [p for p in parts if "[[" in p]
    fresh = [
        '[[region]]\nname = "ap"\nprefixes = ["192.0.9.0/24"]',
        '[[customer]]\nname = "gamma"\nprefixes = ["192.0.9.0/25"]',
        '[[cdn]]\nname = "cirrus"\nendpoints = ["198.51.100.30:443"]',
        '[[service]]\nname = "api"\nvip = "203.0.113.79"\nport = 1',
    ]
    after = start("\n\n".join([*head, *fresh, *reversed(tables)])).layout
    for name in ("cdns", "vips", "regions", "customers"):
        assert getattr(before, name).items() <= getattr(after, name).items(), name
        numbers = list(getattr(after, name).values())
        assert len(set(numbers)) == len(numbers) == len(getattr(before, name)) + 1
    known = {place.kernel_key: place.id for place in after.endpoints}
    assert all(known[place.kernel_key] == place.id for place in before.endpoints)
    services = {place.kernel_key: (place.id, place.vip_index) for place in after.services}
    assert all(services[place.kernel_key] == (place.id, place.vip_index) for place in before.services)
    third = start()
    assert third.layout == before
    assert third.attachment.links.ids == links
    assert set(third.tables.choice.services().values()) == {place.id for place in before.services}


def test_frames_say_what_was_counted(start: Start) -> None:
    engine = start()
    aurora = engine.layout.cdns["aurora"]
    engine.frame()
    per_cpu(
        "cdn_counts",
        aurora,
        counted(
            to_bytes=1000, new_flows=50, promoted=40, closed=30, spilled=7, reset_dark=2,
            segments_to=100, resent_to=3, segments_from=1000, resent_from=20,
        ),
    )  # fmt: skip
    buckets = [0] * abi.HISTOGRAM_BUCKETS
    buckets[17 * 8] = 10  # 131 to 147 ms
    per_cpu("first_bytes", cell_of(aurora, abi.TrafficClass.VIDEO), buckets)
    per_cpu("customer_counts", engine.layout.customers["acme"], [100, 1000, 20, 200, 5, 4])
    frame = engine.frame()
    found = cdn(frame, "aurora")
    assert (found.open_flows, found.spilled_total, found.reset_dark_total) == (10, 7, 2)
    assert (found.loss_to_cdn, found.loss_from_cdn) == (0.03, 0.02)
    assert found.requests == 10
    assert found.first_byte_p95_ms == pytest.approx(140, rel=0.1)
    assert found.handshake_p50_ms is None
    assert found.capacity_use == pytest.approx(found.new_flows_per_s / 100)
    assert cdn(frame, "borealis").capacity_use is None
    assert (found.mode, cdn(frame, "borealis").mode) == ("nat", "gue")
    assert cdn(frame, "borealis").open_flows is None, "who knows?"
    assert found.state == "in"
    acme, beta = frame.customers
    assert (acme.name, acme.packets_total, acme.dropped_total, acme.refused_total) == ("acme", 100, 20, 4)
    assert acme.pps == pytest.approx(5 * acme.dropped_pps)
    assert acme.pps > 0
    assert (acme.mbit_limit, acme.pps_limit, acme.limited_by) == (8.192, None, "config")
    assert (beta.packets_total, beta.mbit_limit) == (0, None)
    assert [(each.name, each.protocol, each.family) for each in frame.services] == [
        ("www", "tcp", 4),
        ("www", "udp", 4),
        ("www6", "udp", 6),
    ]
    assert frame.services[0].policy == "interactive latency, video latency, bulk failover"
    assert frame.services[0].cdns == ["borealis", "aurora"]
    assert [(each.address, each.protocol, each.regions) for each in found.endpoints] == [
        ("198.51.100.10", "tcp", ["eu"]),
        ("198.51.100.10", "udp", ["eu"]),
        ("198.51.100.11", "tcp", []),
        ("198.51.100.11", "udp", []),
        ("2001:db8:a::10", "udp", []),
    ]
    assert not frame.observing
    assert [each.mode for each in frame.interfaces] == ["native"]


@pytest.mark.parametrize("past_the_agent", [False, True])
def test_what_was_dropped_before_the_edge_was_disarmed_is_dropped_no_more(
    start: Start, past_the_agent: bool
) -> None:
    engine = start()  # on tables that others have counted in
    for verdict in (abi.Verdict.BLOCKED, abi.Verdict.FORWARDED):
        per_cpu("verdicts", verdict, [0, 0])
    per_cpu("customer_counts", engine.layout.customers["acme"], [0] * 6)
    engine = start()
    operator = Actor(user="root", uid=0, pid=1, role="operate")

    def count(blocked: int) -> None:
        per_cpu("verdicts", abi.Verdict.BLOCKED, [blocked, 100 * blocked])
        per_cpu("verdicts", abi.Verdict.FORWARDED, [blocked, 100 * blocked])
        per_cpu("customer_counts", engine.layout.customers["acme"], [0, 0, blocked, 100 * blocked, 0, 0])

    def rates() -> tuple[float, float, float, float]:
        frame = engine.frame()
        totals, acme = frame.totals, next(each for each in frame.customers if each.name == "acme")
        return totals.dropped_pps, totals.forwarded_pps, acme.dropped_pps, acme.dropped_bps

    engine.frame()
    count(1000)
    assert all(rate > 0 for rate in rates())
    if past_the_agent:
        panic.disarm(EDGE)
    else:
        assert engine.execute(Disarm(), operator).ok
    dropped, forwarded, *acme = rates()
    assert (dropped, *acme) == (0, 0, 0)
    assert forwarded > 0, "what does not depend on the switch goes on"
    count(1500)
    assert all(rate > 0 for rate in rates()), "what is dropped all the same is counted"
    assert engine.execute(Arm(), operator).ok


def test_what_the_kernel_tells_is_told(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = start()
    engine.frame()
    endpoint = engine.layout.endpoints_of("aurora")[0].id

    def reflex(kind: abi.EventKind, value: int = 0) -> Reflex:
        return Reflex(1, kind, 0, endpoint, 0, value, 0)

    monkeypatch.setattr(
        engine.reader,
        "take_events",
        lambda: [
            reflex(abi.EventKind.NO_HOP, abi.Verdict.NO_LINK),
            reflex(abi.EventKind.PORTS_GONE),
            reflex(abi.EventKind.SPILL),
        ],
    )
    no_way, ports, spill = engine.frame().events[-3:]
    assert "198.51.100.10:443" in no_way.text
    assert "not in [edge] interfaces" in no_way.text
    assert (ports.severity, ports.cdn) == ("alarm", "aurora")
    assert "aurora is at its capacity" in spill.text


def test_the_collector_counts_and_ports_are_foretold(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = start()
    place = engine.layout.endpoints_of("aurora")[2]
    first = place.id * 2 * 1024
    reverse = Map.pinned(paths.tables_dir(EDGE) / "reverse")

    def hold(count: int) -> None:
        for number in range(count):
            slot = abi.Slot(owner=1 << 20 | number, state=abi.SlotState.ESTABLISHED, seen_s=now_s & 0xFFFF)
            reverse.put(abi.key(first + number), bytes(slot))

    now_s = int(time.monotonic())
    for moment, count in ((0.0, 512), (60.0, 1024)):
        hold(count)
        while not engine.sweep.step():
            pass
        engine.ports.note({number: sum(row) for number, row in engine.sweep.open.items()}, now_s + moment)
    outlook = engine.ports.outlook(place.id)
    assert outlook.held == pytest.approx(0.5)
    assert outlook.gone_in_s == pytest.approx(120, rel=0.01)
    frame = engine.frame()
    (said,) = [event for event in frame.events if event.kind == "ports"]
    assert "198.51.100.11:443 run out in about 2 min: 50 % are held" in said.text
    found = cdn(frame, "aurora").endpoints[2]
    assert (found.ports_held, found.ports_gone_in_s) == (outlook.held, outlook.gone_in_s)
    assert frame.collector.rounds_total >= 2


def test_video_leaves_and_bulk_stays(start: Start) -> None:
    engine = start()
    choice, cdns = engine.tables.choice, engine.layout.cdns
    tcp = next(place for place in engine.layout.services if place.protocol == "tcp")
    interactive, video = abi.TrafficClass.INTERACTIVE, abi.TrafficClass.VIDEO
    aurora = {place.id for place in engine.layout.endpoints_of("aurora")}
    before = list(choice.service(tcp.id).table[0])
    assert before[interactive] == before[video]

    def share(traffic_class: int) -> float:
        table = choice.picks(choice.service(tcp.id).table[0][traffic_class])
        return sum(table.count(endpoint) for endpoint in aurora) / abi.PICK_SLOTS

    def round_of(number: int) -> Frame:
        for name, octave in (("aurora", 18), ("borealis", 14)):  # a quarter of a second, and 16 ms
            buckets = [0] * abi.HISTOGRAM_BUCKETS
            buckets[octave * 8] = 1000 + 20 * number
            per_cpu("first_bytes", cell_of(cdns[name], video), buckets)
        return engine.frame()

    found = [round_of(number) for number in range(1, 8)]
    kept = [cdn(frame, "aurora").video_kept for frame in found]
    assert sorted(kept, reverse=True) == kept
    assert kept[0] == 1.0
    assert 60 * (1 - kept[-1]) <= 50
    assert share(video) == pytest.approx(60 * kept[-1] / (60 * kept[-1] + 40), abs=0.01)
    assert share(interactive) == pytest.approx(0.6, abs=0.001)
    assert list(choice.service(tcp.id).table[0])[abi.TrafficClass.BULK] == before[abi.TrafficClass.BULK]
    said = [event for frame in found for event in frame.events if event.kind == "shift"]
    assert said
    assert all("video leaves aurora" in event.text and "p95 of first bytes" in event.text for event in said)
    # Weights that an operator sets go on top of it; an edge that is disarmed shifts nothing.
    engine.state.weights = {"aurora": 40}
    engine.steer()
    assert share(interactive) == pytest.approx(0.5, abs=0.001)
    assert share(video) < 0.45
    engine.tables.mode = abi.Mode.DISARMED
    engine.frame()
    assert share(video) == pytest.approx(0.5, abs=0.001)
    engine.tables.mode = abi.Mode(0)
    engine.frame()


def test_services_that_leave_are_not_reached(start: Start) -> None:
    whole = start().config
    (www6,) = (service for service in whole.services if service.name == "www6")
    again = start(replace(whole, services=(www6,)))
    (key,) = again.tables.choice.services()
    assert key.vip == "2001:db8:80::80"
    (place,) = (place for place in again.layout.endpoints if place.serves)
    assert place.key == "[2001:db8:a::10]:443"
    weights = {each.id: again.tables.choice.endpoint(each.id).weight for each in again.layout.endpoints}
    assert [number for number, weight in weights.items() if weight] == [place.id]
