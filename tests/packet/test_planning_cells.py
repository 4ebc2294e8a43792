"""A CDN that is slow for the clients of one region only, from the kernel's histograms to its pick tables."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import netbox
import pytest

from cdnctl import config, paths
from cdnctl.datapath import abi, kernel
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.program import Program
from cdnctl.engine import plan_cells, steering
from cdnctl.engine.engine import Engine
from cdnctl.lab import netns
from cdnctl.model import Actor, AskPlanner, Diff, Disarm, Drain, Event, Frame, SetPlanner

EDGE = netbox.name("-cells")
DEVICE = "celled"
OPERATOR = Actor(user="root", uid=0, pid=1, role="operate")
CDNS = AURORA, BOREALIS, CIRRUS = ("aurora", "borealis", "cirrus")
INTERACTIVE, VIDEO, BULK = abi.TrafficClass
SOUND, BAD = 15, 17
"""Octaves of microseconds: 33 and 131 ms."""
TEXT = f"""
[edge]
name = "{EDGE}"
interfaces = ["{DEVICE}"]
snat = ["203.0.113.10"]
snat_ports = [40000, 41023]

[limits]
flows = 4096
half_open = 1024
block_entries = 4096
endpoints = 12

[[region]]
name = "eu"
prefixes = ["192.0.2.0/24"]

[[region]]
name = "us"
prefixes = ["192.0.3.0/24"]

[planner]
mode = "on"

[[cdn]]
name = "{AURORA}"
endpoints = ["198.51.100.10:443"]

[[cdn]]
name = "{BOREALIS}"
endpoints = ["198.51.100.20:443"]

[[cdn]]
name = "{CIRRUS}"
endpoints = ["198.51.100.30:443"]

[[service]]
name = "www"
vip = "203.0.113.80"
port = 443
class = "dscp"
policy = {{ interactive = "weighted", video = "latency", bulk = "failover" }}

[[service]]
name = "without"
vip = "203.0.113.81"
port = 443
policy = "weighted"
cdns = ["{BOREALIS}", "{CIRRUS}"]
"""


class Edge:
    """An engine whose CDNs take as long as is said: what the kernel would have counted is written there."""

    def __init__(self, text: str) -> None:
        self.engine = Engine(config.parse(text, Path("t")))
        self.engine.start()
        self.octaves: dict[tuple[str, str], int] = {}
        """By CDN and region, of interactive; not named: sound."""
        self.counted: dict[tuple[int, int], list[int]] = {}
        self.now_s, self.flows = 1000.0, 0
        self.events: list[Event] = []
        self.engine.planning.clock = lambda: self.now_s
        self.engine.frame()

    def play(self, seconds: float) -> Frame:
        """Twice a second a frame, with a hundred flows, and requests in each cell, since the last one."""
        for _ in range(int(2 * seconds)):
            self.now_s += 0.5
            self.flows += 100
            for name, cdn in self.engine.layout.cdns.items():
                _write("cdn_counts", cdn, bytes(abi.CdnCount(new_flows=self.flows)))
                for region, number in {"": 0, **self.engine.layout.regions}.items():
                    self._count(name, number, self.octaves.get((name, region), SOUND))
            frame = self.engine.frame()
            self.events += frame.events
        return frame

    def _count(self, name: str, region: int, octave: int) -> None:
        cdn = self.engine.layout.cdns[name]
        cells = self.counted.setdefault((cdn, region), [0] * abi.HISTOGRAM_BUCKETS)
        cells[octave * 8] += 100
        row = (cdn * abi.MAX_REGIONS + region) * abi.CLASSES + INTERACTIVE
        _write("first_bytes", row, struct.pack(f"={len(cells)}Q", *cells))

    def tables(self, service: str = "www") -> dict[tuple[str, int], int]:
        """The numbers of the pick tables, by region and class."""
        place = next(each for each in self.engine.layout.services if each.name == service)
        entry = self.engine.tables.choice.service(place.id)
        regions = {"": 0, **self.engine.layout.regions}
        return {
            (region, traffic_class): entry.table[number][traffic_class]
            for region, number in regions.items()
            for traffic_class in abi.TrafficClass
        }

    def share(self, name: str, region: str, traffic_class: int = INTERACTIVE) -> float:
        """Of the slots that a cell has in the kernel."""
        picks = self.engine.tables.choice.picks(self.tables()[region, traffic_class])
        ours = {place.id for place in self.engine.layout.endpoints_of(name)}
        return sum(each in ours for each in picks) / abi.PICK_SLOTS

    def do(self, command: object) -> str:
        """As an operator; the answer's text."""
        outcome = self.engine.execute(command, OPERATOR)  # type: ignore[arg-type]
        assert outcome.ok, outcome.text
        return outcome.text


def _write(table: str, row: int, counted: bytes) -> None:
    """On the first CPU."""
    held = Map.pinned(paths.tables_dir(EDGE) / table, per_cpu=True)
    held.put(abi.key(row), counted + bytes(len(counted) * (kernel.possible_cpus() - 1)))


Start = Callable[[], Edge]


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
    """Starts an agent's engine; the one before has ended."""
    monkeypatch.setenv("CDNCTL_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("CDNCTL_STATE_DIR", str(tmp_path / "state"))
    started: list[Edge] = []

    def begin() -> Edge:
        for edge in started:
            edge.engine.close()
        started[:] = []
        started.append(Edge(TEXT))
        return started[0]

    yield begin
    for edge in started:
        edge.engine.tables.mode = abi.Mode(0)
        edge.engine.close()
        cells = abi.MAX_CDNS * abi.MAX_REGIONS * abi.CLASSES
        table = Map.pinned(paths.tables_dir(EDGE) / "first_bytes", per_cpu=True)
        table.put_all({abi.key(row): bytes(2048 * kernel.possible_cpus()) for row in range(cells)})


@pytest.fixture
def slow(start: Start) -> Edge:
    """Aurora has been slow for the clients in eu for half a minute."""
    edge = start()
    edge.octaves[AURORA, "eu"] = BAD
    edge.play(30)
    return edge


def test_it_loses_that_region_s_table_and_no_other(start: Start) -> None:
    edge = start()
    edge.play(3)
    before, without = edge.tables(), edge.tables("without")
    edge.octaves[AURORA, "eu"] = BAD
    edge.play(3)
    first = edge.share(AURORA, "eu")
    assert 1 / 3 - 0.1 - 1e-3 <= first < 1 / 3 - 0.03
    frame = edge.play(30)
    assert edge.share(AURORA, "eu") < 0.07
    assert edge.share(BOREALIS, "eu") == pytest.approx(edge.share(CIRRUS, "eu"), abs=0.01)
    changed = {cell for cell, number in edge.tables().items() if number != before[cell]}
    assert changed == {("eu", INTERACTIVE)}
    assert edge.tables("without") == without, "who is not in it loses nothing there"
    assert edge.share(AURORA, "us") == pytest.approx(1 / 3, abs=1e-3)
    plan = next(cdn.plan for cdn in frame.cdns if cdn.name == AURORA)
    assert plan.factor == 1, "as a whole it is what it was"
    assert not edge.engine.execute(Diff(), OPERATOR).differences


def test_each_shift_says_where_and_why(slow: Edge) -> None:
    frame = slow.play(1)
    (aurora, *_) = frame.cdns
    assert {(each.region, each.traffic_class) for each in aurora.cells} == {
        ("", "interactive"),
        ("eu", "interactive"),
        ("us", "interactive"),
    }
    in_eu = next(each for each in aurora.cells if each.region == "eu")
    assert in_eu.p95_ms == pytest.approx(140, rel=0.1)
    assert 20 <= in_eu.requests <= in_eu.requests_total
    (cell,) = aurora.plan.cells
    assert (cell.region, cell.traffic_class, cell.code) == ("eu", "interactive", "first_byte")
    assert cell.factor < 0.2
    assert "p95 of first bytes is" in cell.why
    assert frame.planner is not None
    shift = frame.planner.shifts[-1]
    assert (shift.cdn, shift.region, shift.traffic_class) == (AURORA, "eu", "interactive")
    assert shift.before == pytest.approx(1 / 3)
    told = [event.text for event in slow.events if event.kind == "shift"]
    assert len(told) == len(frame.planner.shifts)
    assert all(text.startswith("aurora ") and "% of interactive from eu: p95" in text for text in told)
    lines = [entry.command for entry in slow.engine.journal.read() if entry.user == "planner"]
    assert lines[0]["verb"] == "shift"
    assert (lines[0]["region"], lines[0]["traffic_class"], lines[0]["code"]) == (
        "eu",
        "interactive",
        "first_byte",
    )
    assert lines[0]["numbers"]["own"] > lines[0]["numbers"]["limit"] > lines[0]["numbers"]["peers"]
    why = slow.do(AskPlanner(cdn=AURORA))
    assert "of interactive from eu it has 10 % of that (first_byte): p95 of first bytes" in why
    assert "nothing is held against it" in slow.do(AskPlanner(cdn=BOREALIS))


def test_what_it_knows_outlives_the_agent(slow: Edge, start: Start) -> None:
    low, before = slow.share(AURORA, "eu"), slow.tables()
    after = start()
    assert after.tables() == before
    assert after.share(AURORA, "eu") == low
    (cell,) = after.engine.planning.plans()[AURORA].cells
    assert (cell.region, cell.code) == ("eu", "first_byte")


def test_operators_words_win_at_once(slow: Edge) -> None:
    slow.do(SetPlanner(pin=AURORA))
    slow.engine.steer()
    assert slow.share(AURORA, "eu") == pytest.approx(1 / 3, abs=1e-3)
    slow.play(10)
    assert slow.share(AURORA, "eu") == pytest.approx(1 / 3, abs=1e-3)
    slow.do(SetPlanner(unpin=AURORA))
    slow.do(Drain(cdn=BOREALIS))
    slow.play(30)
    assert slow.share(BOREALIS, "eu") == 0
    assert 0 < slow.share(AURORA, "eu") < 0.2


@pytest.mark.parametrize("away", [SetPlanner(mode="observe"), SetPlanner(mode="off"), Disarm()])
def test_it_is_taken_back_when_the_planner_is_not_to_act(slow: Edge, away: SetPlanner | Disarm) -> None:
    slow.do(away)
    slow.play(1)
    assert slow.share(AURORA, "eu") == pytest.approx(1 / 3, abs=1e-3)


def test_a_region_that_is_no_more_is_forgotten(slow: Edge) -> None:
    slow.engine.planning.cells.follow(["us"])
    assert not slow.engine.planning.cells.memory


def test_where_tables_are_too_few_cells_have_what_cdns_have(
    slow: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = slow.engine.steering()
    assert wanted.cells
    assert steering.has_room(slow.engine.config, slow.engine.layout, wanted)
    monkeypatch.setattr(abi, "MAX_TABLES", 4)
    slow.engine.steer()
    assert slow.share(AURORA, "eu") == pytest.approx(1 / 3, abs=1e-3)
    assert "too many pick tables" in slow.engine.planning.picture().trouble
    slow.do(SetPlanner(mode="off"))
    slow.play(1)
    assert not slow.engine.planning.picture().trouble


def test_too_many_shifts_of_cells_leave_the_whole_its_own(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_cells, "SHIFTS_AN_HOUR", 1)
    edge = start()
    edge.octaves[AURORA, "eu"] = BAD
    edge.play(12)
    assert len([event for event in edge.events if event.kind == "shift"]) == 1
    assert "of regions and classes: they stay" in edge.engine.planning.picture().trouble
    edge.octaves.update({(AURORA, region): BAD for region in ("", "us")})
    edge.play(6)
    assert edge.engine.planning.plans()[AURORA].factor < 1
