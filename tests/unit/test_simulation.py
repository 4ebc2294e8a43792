"""Policies compared: days made up from seeds, the trap that load sets, and recorded frames."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnctl.cli import main
from cdnctl.cli.simulate import frames
from cdnctl.errors import CdnctlError
from cdnctl.model import Cdn, CdnCell, Frame
from cdnctl.recording.writer import MAGIC, Writer
from cdnctl.steering import planner
from cdnctl.steering.simulation import recorded
from cdnctl.steering.simulation.course import Cell, Course, Part, serve, serve_parts
from cdnctl.steering.simulation.days import day
from cdnctl.steering.simulation.play import Score, play
from cdnctl.steering.simulation.policies import ALL, Failover, Fastest, Planned, Static


def played(seeds: range) -> dict[str, list[Score]]:
    scores: dict[str, list[Score]] = {kind.name: [] for kind in ALL}
    for seed in seeds:
        course = day(seed)
        for kind in ALL:
            scores[kind.name].append(play(course, kind(course), seed))
        for name, each in scores.items():
            last = each[-1]
            print(
                f"seed {seed}, {name}: {100 * last.failed_share:.3f} % failed,"
                f" p95 {last.p95_ms:.0f} ms, {last.shifts} shifts"
            )
    return scores


@pytest.mark.parametrize(
    "seeds", [range(2), pytest.param(range(100), marks=pytest.mark.soak)], ids=["few", "100"]
)
def test_days_beside_other_policies(seeds: range) -> None:
    """Each ratio is the planner's figure over the other policy's: of all failed requests together, and the
    geometric mean of p95. Days with an even seed have no CDN that takes the peak alone."""
    scores = played(seeds)
    ratios = {}
    for what, part in (("tight", slice(0, None, 2)), ("roomy", slice(1, None, 2))):
        ours = scores[Planned.name][part]
        for name in (Static.name, Fastest.name, Failover.name):
            theirs = scores[name][part]
            failed = sum(each.failed for each in ours) / sum(each.failed for each in theirs)
            p95 = math.exp(
                sum(math.log(a.p95_ms / b.p95_ms) for a, b in zip(ours, theirs, strict=True)) / len(ours)
            )
            ratios[what, name] = (failed, p95)
            print(f"{what}, planner / {name}: failed {failed:.3f}, p95 {p95:.3f}")
    busiest = max(each.shifts_in_an_hour for each in scores[Planned.name])
    turning = max(each.turns_in_an_hour for each in scores[Planned.name])
    print(f"planner: at most {busiest} shifts and {turning} turns in an hour")
    for (what, name), (failed, p95) in ratios.items():
        if what == "tight" or name == Static.name:
            assert failed < 0.5, (what, name)
            assert p95 < 0.95, (what, name)
        else:  # everything on the best one costs nothing where each takes everything
            assert p95 < 1.15, (what, name)
    assert busiest <= 60
    assert turning <= 60
    for name in (Static.name, Fastest.name, Failover.name):
        for a, b in zip(scores[Planned.name][0::2], scores[name][0::2], strict=True):
            assert a.p95_ms <= b.p95_ms * 1.05
            assert a.failed_share <= b.failed_share + 0.001


def trap(known: bool, hours: float = 4.0) -> Course:
    """Three CDNs alike but for the capacity; the first cannot take its weight, and nothing ever changes."""
    steps = int(hours * 360)
    capacities = (250.0, 700.0, 700.0)
    cells = [[Cell(30.0, 60.0, capacity) for capacity in capacities]] * steps
    names = ["aurora", "borealis", "cirrus"]
    return Course(
        cdns=names,
        weights=dict.fromkeys(names, 1.0),
        known=dict(zip(names, capacities if known else [None] * 3, strict=True)),
        step_s=10.0,
        traffic=[900.0] * steps,
        cells=cells,
    )


@pytest.mark.parametrize("known", [True, False])
def test_load_that_slows_does_not_swing_it(known: bool) -> None:
    """The classic trap: who is quick gets all, is slow for it, loses all, is quick again."""
    course = trap(known)
    fastest = play(course, Fastest(course))
    assert fastest.turns_in_an_hour > 100, "or this is no trap"
    ours = play(course, Planned(course))
    static = play(course, Static(course))
    print(
        f"known {known}: {ours.shifts} shifts, {ours.turns} turns in 4 h,"
        f" {100 * ours.failed_share:.3f} % failed"
    )
    assert ours.failed < 0.1 * static.failed
    if known:
        assert ours.shifts <= 3
        assert ours.turns == 0
    else:  # once an hour it tries whether more goes well by now
        assert ours.shifts_in_an_hour <= 12
        assert ours.turns_in_an_hour <= 6


def test_the_model_of_load() -> None:
    cell = Cell(30, 60, 100.0)
    quick, busy, full, over = (serve(cell, load, 10) for load in (1, 50, 97, 200))
    assert quick.p50_ms == pytest.approx(30, rel=0.01)
    assert quick.p95_ms < busy.p95_ms < full.p95_ms == over.p95_ms
    assert full.failed == 0
    assert over.failed == pytest.approx(over.flows / 2)
    assert serve(cell._replace(is_dead=True), 10, 10).failed == 100
    assert serve(Cell(30, 60), 10**6, 1).p50_ms == 30


def test_the_same_seed_is_the_same_day() -> None:
    course = day(7, hours=1)
    assert course == day(7, hours=1)
    assert course != day(8, hours=1)
    assert play(course, Planned(course), 1) == play(course, Planned(course), 1)


def frame(step: int, slow: bool) -> Frame:
    cdns = [
        Cdn(
            name=name,
            state="in",
            wanted_weight=50,
            effective_share=0.5,
            share=0.5,
            new_flows_per_s=100.0,
            new_flows_total=50 * step,
            handshakes_total=50 * step,
            samples=400,
            handshake_p50_ms=20.0 * (5 if slow and name == "aurora" else 1),
            handshake_p95_ms=40.0 * (5 if slow and name == "aurora" else 1),
        )
        for name in ("aurora", "borealis")
    ]
    return Frame(seq=step, at_ns=step, monotonic_ns=step * 500_000_000, edge="ams1", armed=True, cdns=cdns)


EU, US = ("eu", "interactive"), ("us", "interactive")


def regional(step: int, slow: bool) -> Frame:
    """Aurora is slow for eu's clients, who are a third of all: with that, its p95 is theirs."""
    made, cdns = frame(step, False), []
    for cdn in made.cdns:
        bad = slow and cdn.name == "aurora"
        cells = [
            CdnCell(region=region, traffic_class="interactive", p50_ms=20.0 * times, p95_ms=40.0 * times,
                    requests=requests, requests_total=requests // 10 * step)
            for region, times, requests in (("eu", 5 if bad else 1, 300), ("us", 1, 600))
        ]  # fmt: skip
        first_byte = {"first_byte_p50_ms": 22.0, "first_byte_p95_ms": 200.0 if bad else 40.0}
        cdns.append(msgspec.structs.replace(cdn, cells=cells, requests=900, **first_byte))
    return msgspec.structs.replace(made, cdns=cdns)


def test_recorded_regions_are_planned_by_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "regional"
    made.write_bytes(b"\n".join(msgspec.json.encode(regional(step, step > 40)) for step in range(1, 241)))
    course, _ = recorded.course(list(frames(made)))
    assert course.mix[0] == pytest.approx({EU: 1 / 3, US: 2 / 3})
    policy = Planned(course)
    play(course, policy)
    assert {shift.cell for _, shift in policy.shifts} == {EU}
    assert policy.in_cells[EU]["aurora"] < 0.3  # type: ignore[index]
    assert US not in policy.in_cells
    assert main(["simulate", str(made), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert all("% of interactive from eu: p95" in each["text"] for each in report["shifts"])
    by_policy = {each["policy"]: each for each in report["scores"]}
    assert by_policy[Planned.name]["p95_ms"] < by_policy[Static.name]["p95_ms"]
    whole = [msgspec.structs.replace(each, cdns=[msgspec.structs.replace(cdn, cells=[]) for cdn in each.cdns])
             for each in frames(made)]  # fmt: skip
    before = Planned(recorded.course(whole).course)
    assert not before.in_cells
    play(recorded.course(whole).course, before)
    assert {shift.cell for _, shift in before.shifts} == {None}, "as recordings of earlier versions"


def test_a_mixture_has_the_figures_of_its_parts() -> None:
    slow, quick = planner.Cell(*EU), planner.Cell(*US)
    cell = Cell(20, 40, parts={slow: Part(200, 400)})
    got = serve_parts(cell, {slow: 10.0, quick: 10.0}, 10.0)
    assert got.flows == 200
    assert got.parts[slow] == (100, 0, 200, 400, {})
    assert got.parts[quick] == (100, 0, 20, 40, {}), "as in all, where nothing else is known"
    assert 30 < got.p50_ms < 60
    assert got.p95_ms > 350
    few = serve_parts(cell, {slow: 0.1, quick: 10.0}, 10.0)
    assert few.p95_ms == pytest.approx(40)
    full = serve_parts(Cell(20, 40, capacity=10.0), {slow: 10.0, quick: 10.0}, 10.0)
    assert full.parts[slow].failed == full.parts[quick].failed == pytest.approx(50)
    dead = serve_parts(Cell(20, 40, is_dead=True), {slow: 10.0}, 10.0)
    assert (dead.failed, dead.parts[slow].failed) == (100, 100)


CONFIG = """
[edge]
name = "ams1"
interfaces = ["eth0"]
snat = ["203.0.113.10"]
[[cdn]]
name = "aurora"
endpoints = ["198.51.100.10:443"]
weight = 80
[[cdn]]
name = "borealis"
endpoints = ["198.51.100.20:443"]
weight = 20
capacity = { flows_per_s = 120 }
[[service]]
name = "www"
vip = "203.0.113.80"
port = 443
"""


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    file = tmp_path / "frames.ndjson"
    file.write_bytes(b"\n".join(msgspec.json.encode(frame(step, step > 40)) for step in range(1, 241)))
    (tmp_path / "cdnctl.toml").write_text(CONFIG)
    return file


def test_simulate_compares_on_recorded_frames(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(recording), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    by_name = {each["policy"]: each for each in report["scores"]}
    assert list(by_name) == [kind.name for kind in ALL]
    assert report["frames"] == 240
    assert by_name["planner"]["requests"] == pytest.approx(200 * 120)
    assert by_name["planner"]["p95_ms"] <= by_name["static weights"]["p95_ms"]
    assert "first_byte" not in report["shifts"][0]["text"]
    assert report["shifts"][0]["text"].startswith("aurora 50.0 -> 4")
    assert 20 < report["shifts"][0]["at_s"] < 24
    assert len(report["notes"]) == 3

    assert main(["simulate", str(recording), "-c", str(recording.parent / "cdnctl.toml")]) == 0
    out = capsys.readouterr().out
    assert "lowest latency wins" in out
    assert "p95 of" in out
    assert "aurora has no known capacity" in out
    assert "borealis has no" not in out


def test_simulate_plays_the_planner_as_configured_and_names_strangers(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = recording.parent / "cdnctl.toml"

    def first_move(more: str, old: str = "", new: str = "") -> tuple[str, list[str]]:
        file.write_text(CONFIG.replace(old, new) + more if old else CONFIG + more)
        assert main(["simulate", str(recording), "--json", "-c", str(file)]) == 0
        report = json.loads(capsys.readouterr().out)
        return report["shifts"][0]["text"].split(":")[0], report["notes"]

    usual, notes = first_move("")
    small, _ = first_move("\n[planner]\nstep = 0.01\n")
    assert usual != small == "aurora 80.0 -> 79.4 %"
    assert not any("not in the recording" in note for note in notes)
    _, notes = first_move("", "borealis", "zeta")
    assert "not in the recording, and so not played: zeta" in notes
    assert any(note.startswith("in the recording, but not in the configuration") for note in notes)


@pytest.mark.parametrize("ended", [True, False], ids=["whole", "cut off"])
def test_what_record_made_is_played_as_it_is(
    ended: bool, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "incident.cdnrec"
    with Writer(made) as writer:
        for step in range(1, 241):
            writer.add(frame(step, step > 40))
    if not ended:
        made.write_bytes(made.read_bytes()[: made.stat().st_size * 3 // 4])
    assert main(["simulate", str(made), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert main(["simulate", str(recording), "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)
    if ended:
        assert report | {"file": ""} == lines | {"file": ""}
    else:
        assert 100 < report["frames"] < 240


def test_a_recording_with_nothing_in_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_bytes(MAGIC)
    assert main(["simulate", str(tmp_path / "x")]) == 1
    assert "cut off or damaged before its first frame" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "too few"),
        ("\n\n", "too few"),
        ("{}", "line 1: this is no frame"),
        ("<html>", "line 1: this is no frame"),
        ("[" * 100_000, "line 1: this is no frame"),
    ],
)
def test_what_is_no_recording_is_refused(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_text(text)
    assert main(["simulate", str(tmp_path / "x")]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "end", [b'{"error":{"message":"the agent ended","remedy":""}}\n', b'{"seq":7,"at_ns']
)
def test_a_recording_may_end_with_the_agent_or_in_the_middle(
    end: bytes, recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording.write_bytes(recording.read_bytes() + b"\n" + end)
    assert main(["simulate", str(recording), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 240


def test_odd_recordings(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = recording.read_bytes().split(b"\n")
    (tmp_path / "back").write_bytes(b"\n".join(lines[::-1]))
    assert main(["simulate", str(tmp_path / "back")]) == 1
    assert "not in the order" in capsys.readouterr().err
    (tmp_path / "far").write_bytes(b"\n".join(lines[::100]))
    assert main(["simulate", str(tmp_path / "far")]) == 1
    assert "s apart" in capsys.readouterr().err
    assert main(["simulate", str(tmp_path / "nowhere")]) == 1
    assert "cannot read" in capsys.readouterr().err
    bare = msgspec.structs.replace(frame(1, False), cdns=[])
    later = msgspec.structs.replace(bare, monotonic_ns=bare.monotonic_ns + 1)
    (tmp_path / "bare").write_bytes(msgspec.json.encode(bare) + b"\n" + msgspec.json.encode(later))
    assert main(["simulate", str(tmp_path / "bare")]) == 1
    assert "no CDN that was measured" in capsys.readouterr().err


NUMBER = st.one_of(
    st.floats(allow_nan=False), st.integers(-(2**63), 2**63), st.sampled_from([0, 1, 1e-300, 0.5])
)
CELLS = st.builds(
    CdnCell,
    region=st.sampled_from(["", "eu"]),
    traffic_class=st.just("video"),
    p50_ms=NUMBER,
    p95_ms=NUMBER,
    requests=st.integers(-1, 2**62),
    requests_total=st.integers(-(2**62), 2**62),
)
FIGURES = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("new_flows_per_s", "share", "capacity_use", "from_cdn_bps", "loss_to_cdn"), NUMBER),
        **dict.fromkeys(("handshake_p50_ms", "handshake_p95_ms", "first_byte_p95_ms", "to_cdn_pps"), NUMBER),
        **dict.fromkeys(("wanted_weight", "samples", "new_flows_total"), st.integers(-(2**62), 2**62)),
        "state": st.sampled_from(["in", "out"]),
        "cells": st.lists(CELLS, max_size=2),
    },
)


@given(st.lists(st.lists(FIGURES, min_size=2, max_size=2), min_size=2, max_size=6))
def test_whatever_a_file_says(steps: list[list[dict[str, object]]]) -> None:
    made = []
    for number, figures in enumerate(steps, 1):
        base = frame(number, False)
        cdns = [msgspec.structs.replace(cdn, **each) for cdn, each in zip(base.cdns, figures, strict=True)]
        made.append(msgspec.structs.replace(base, cdns=cdns))
    try:
        course, _ = recorded.course(made)
    except CdnctlError as error:
        assert error.remedy
        return
    for kind in ALL:
        score = play(course, kind(course))
        assert 0 <= score.failed <= score.requests * 1.000001 + 1e-9


def test_names_in_a_file_do_not_reach_the_terminal_as_commands(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording.write_bytes(recording.read_bytes().replace(b"aurora", rb"a\u001b[2J"))
    assert main(["simulate", str(recording)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_shipped_recording_is_meant_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "incident", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] > 100
    assert main(["train", "incident"]) == 1  # which has no manners in it
    assert "no source's manner is in incident" in capsys.readouterr().err
