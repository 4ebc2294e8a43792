"""Tables of another layout: every flow that has a place there goes on, and everything that was counted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harness import PORTS, SNAT, SNAT6, VIP
from moved import LARGER, MORE_PORTS, Busy, goes_on, homes, is_whole, totals
from reloaded import EDGE, OPERATOR, Edge
from segments import Flag, segment
from session import Session

from cdnctl import paths
from cdnctl.datapath import abi, build, moving
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.choice import EndpointKey
from cdnctl.datapath.numbering import Numbering, Shape, endpoint_numbers
from cdnctl.model import Allow, BlockPrefix, SetWeights

SHARED = ("www", "www6", "quic", "fast")


# --- what moves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        LARGER,
        ("half_open = 1024", "half_open = 2000"),
        ("block_entries = 4096", "block_entries = 2048"),
        ("endpoints = 40", "endpoints = 64"),
        ("endpoints = 40", "endpoints = 12"),
        MORE_PORTS,
        (str([*SNAT, *SNAT6]), str([*reversed(SNAT), "2001:db8:203::12", *SNAT6])),
        (str([*SNAT, *SNAT6]), str([*SNAT, "203.0.113.12", *SNAT6])),
    ],
    ids=[
        "flows",
        "half-open",
        "blocks",
        "endpoints",
        "fewer endpoints",
        "ports",
        "order",
        "more addresses",
    ],
)
def test_every_flow_goes_on_in_other_tables(served: Edge, old: str, new: str) -> None:
    edge = served
    for command in (
        BlockPrefix(prefix="10.66.0.0/16"),
        BlockPrefix(prefix="10.77.1.1"),
        Allow(prefix="10.66.6.0/24"),
        SetWeights(weights={"aurora": 70}),
    ):
        assert edge.engine.execute(command, OPERATOR).ok
    busy, before, pins = Busy(edge), edge.programs(), edge.program.pins
    learned = edge.health("aurora").baseline_us
    edge.engine.frame()
    counted, seed = totals(edge), edge.tables.settings.seed
    edge.file.replace(old, new)
    outcome = edge.reloaded()
    assert "other tables, and all flows into them" in outcome.text
    assert outcome.warnings == [
        "the weight of aurora is 70, as operators set it, and not the configuration's 100"
    ]
    assert totals(edge) == counted
    assert len(edge.programs()) == 1
    assert edge.programs() != before
    assert homes() == sorted([edge.program.pins.name, paths.CURRENT])
    assert edge.program.pins != pins
    assert paths.tables_dir(EDGE).resolve() == edge.program.pins
    assert edge.tables.settings.seed == seed
    assert edge.tables.mode == abi.Mode(0)
    assert edge.health("aurora").baseline_us == learned > 0
    is_whole(edge)
    busy.go_on()
    is_whole(edge)
    for service in SHARED:
        assert Session(edge, service).syn().verdict is Verdict.FORWARDED
    assert edge.run(segment(("10.66.0.1", 1), (VIP, 80), Flag.SYN)).verdict is Verdict.BLOCKED
    assert edge.run(segment(("10.77.1.1", 1), (VIP, 80), Flag.SYN)).verdict is Verdict.BLOCKED
    assert edge.run(segment(("10.66.6.1", 1), (VIP, 80), Flag.SYN)).verdict is Verdict.FORWARDED
    frame = edge.engine.frame()
    assert (frame.blocks_wanted, frame.blocks_enforced, frame.allowed) == (2, 2, 1)
    assert not edge.program.prepare(edge.config), "nothing is left to do"


def test_flows_without_a_place_are_cut_and_counted(served: Edge) -> None:
    edge = served
    edge.file.replace(str([*SNAT, *SNAT6]), str([*SNAT, "203.0.113.12", *SNAT6]))
    edge.reloaded()
    busy = Busy(edge)
    going = [flow for flow in busy.flows if flow.snat[0] == SNAT[0]]
    open_before = {cdn: edge.totals(cdn).promoted - edge.totals(cdn).closed for cdn in edge.layout.cdns}
    ended = dict.fromkeys(open_before, 0)
    for flow in going:
        ended[flow.cdn] += flow in busy.proven
    edge.file.replace(str([*SNAT, "203.0.113.12", *SNAT6]), str([SNAT[1], "203.0.113.12", *SNAT6]))
    outcome = edge.reloaded()
    assert f"{len(going)} {moving.CUT}" in outcome.warnings
    for cdn, count in open_before.items():
        assert edge.totals(cdn).promoted - edge.totals(cdn).closed == count - ended[cdn]
    busy.go_on(but=SNAT[0])
    is_whole(edge)
    cut = next(flow for flow in busy.sessions if flow in going)
    assert cut.up(Flag.ACK | Flag.PSH, payload=b"GET").verdict is Verdict.RESET_CLIENT
    assert Session(edge, "www").open().snat[0] != SNAT[0]
    edge.reloaded(program=True)
    busy.go_on(but=SNAT[0])


def test_ports_that_are_gone_cut_only_their_flows(served: Edge) -> None:
    edge = served
    low = [Session(edge, "www", port=PORTS[0] + n).open() for n in range(20)]
    high = [Session(edge, "www", port=PORTS[1] - n).open() for n in range(20)]
    assert all(flow.snat[1] == flow.client[1] for flow in (*low, *high)), "each has kept its port"
    edge.file.replace(str(list(PORTS)), f"[{PORTS[0] + 500}, {PORTS[1] + 500}]")
    assert f"20 {moving.CUT}" in edge.reloaded().warnings
    for session in high:
        goes_on(session)
    for session in low:
        assert session.up(Flag.ACK).verdict is Verdict.RESET_CLIENT


def test_a_restart_moves_as_a_reload_does(begin: Callable[[], Edge]) -> None:
    edge = begin()
    busy, counted = Busy(edge), totals(edge)
    edge.file.replace(*MORE_PORTS)
    later = begin()
    assert totals(later) == counted
    is_whole(later)
    busy.follow(later)
    busy.go_on()
    assert homes() == sorted([later.program.pins.name, paths.CURRENT])


def test_every_table_is_moved_or_left_behind_on_purpose(served: Edge) -> None:
    edge = served
    lists = [
        moving.WRITTEN, moving.BLOCKS, moving.BLOCKED, moving.BY_ENDPOINT, ("endpoint_ids",), moving.LEARNED,
        moving.COUNTED, moving.FLOWS, moving.QUIC, moving.NOT_MOVED,
    ]  # fmt: skip
    named = [name for each in lists for name in each]
    assert len(named) == len(set(named))
    assert {pin.name for pin in edge.program.pins.iterdir()} - set(build.PINNED) == set(named)


def test_it_is_told_and_moved_back(served: Edge) -> None:
    edge = served
    busy = Busy(edge)
    edge.file.replace(*LARGER)
    edge.reloaded()
    edge.file.replace(*reversed(LARGER))
    edge.reloaded()
    busy.go_on()
    entries = list(edge.engine.journal.read())
    assert [entry.text for entry in entries] == [
        "reloaded: other tables, and all flows into them; limits.flows is 8192, was 4096",
        "reloaded: other tables, and all flows into them; limits.flows is 4096, was 8192",
    ]


# --- numbers -------------------------------------------------------------------------------------------


def test_endpoints_keep_their_numbers_as_long_as_there_is_room() -> None:
    keys = [EndpointKey(f"198.51.100.{n}", 80, 6) for n in range(6)]
    held = {key: number for number, key in enumerate(keys)}
    assert endpoint_numbers(held, keys, 8) == {n: n for n in range(6)}
    assert endpoint_numbers(held, keys[:4], 4) == {n: n for n in range(4)}
    assert endpoint_numbers(held, [keys[0], keys[5]], 4) == {0: 0, 2: 2, 3: 3, 5: 1}, "it takes a leaver's"
    sparse = {keys[0]: 0, keys[4]: 4, keys[5]: 5}
    assert endpoint_numbers(sparse, keys, 3) == {0: 0, 4: 1, 5: 2}
    assert endpoint_numbers(sparse, [keys[5]], 1) == {5: 0}


def test_ports_that_shift_are_runs_of_slots() -> None:
    held = {EndpointKey("198.51.100.1", 80, 6): 2}
    old = Shape(1000, 1000, 2, (["203.0.113.1", "203.0.113.2"], []))
    for new in (
        old,
        Shape(500, 2500, 2, (["203.0.113.2", "203.0.113.3"], [])),
        Shape(1500, 1000, 3, (["203.0.113.9", "203.0.113.1"], [])),
        Shape(100, 1000, 1, (["203.0.113.1"], [])),
        Shape(5000, 100, 2, (["203.0.113.1"], [])),
    ):
        numbering = Numbering(held, {2: 1}, old, new)
        going = {run.old + n: run.new + n for run in numbering.runs for n in range(run.length)}
        cut = {first + n for first, count in numbering.cut for n in range(count)}
        assert going.keys() | cut == set(range(4000, 6000))
        assert not going.keys() & cut
        for slot in range(4000, 6000):
            assert numbering.slot(slot) == going.get(slot, -1)
            assert numbering.endpoint_of(slot) == 2
