"""Which request counts to which step, and what the claims make of it."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from msgspec import structs
from rich.console import Console

from cdnctl.lab import printed, report
from cdnctl.lab.loads import Offered
from cdnctl.lab.played import Step
from cdnctl.lab.scenario import Flood, _done_ns
from cdnctl.lab.tap import Tap
from cdnctl.lab.traffic import Request, quantile, summary
from cdnctl.model import Block, Event, Frame, Verdict

S = 1_000_000_000


def request(
    start_s: float, total_ms: float = 20.0, *, opened_s: float | None = None, ok: bool = True
) -> Request:
    opened = start_s if opened_s is None else opened_s
    return Request(
        start_ns=int(start_s * S),
        kind="new" if opened_s is None else "keepalive",
        opened_ns=int(opened * S),
        connection=int(opened * 1000),
        connect_ms=10.0,
        total_ms=total_ms,
        outcome="ok" if ok else "timeout",
        cdn="aurora" if ok else "",
        source="10.1.1.1",
    )


def step(name: str, start_s: float, end_s: float, fault_s: float = 0.0) -> Step:
    return Step(name, int(start_s * S), int(end_s * S), int(fault_s * S))


STEPS = [step("calm", 10, 20), step("dark", 20, 30, 20.1), step("calm again", 30, 40)]


def test_a_request_counts_where_it_began() -> None:
    chosen = report.assign(STEPS, [request(11), request(25), request(31), request(39.99)])
    assert [len(chosen[name]) for name in ("calm", "dark", "calm again")] == [1, 1, 2]


def test_a_request_under_way_at_a_fault_counts_to_the_fault() -> None:
    chosen = report.assign(STEPS, [request(19.9, 3000.0, ok=False), request(20.05, 10.0)])
    assert chosen["calm"] == []
    assert len(chosen["dark"]) == 2


def test_what_is_before_and_after_counts_nowhere() -> None:
    chosen = report.assign(STEPS, [request(9), request(40), request(400)])
    assert not any(chosen.values())


def claim(lines: list[report.Claim], name: str) -> report.Claim:
    return next(line for line in lines if line.name == name)


def test_failures_on_connections_open_at_the_fault_are_apart() -> None:
    dark = STEPS[1]
    requests = [request(21 + i / 250) for i in range(2250)]
    requests += [request(22, 3000.0, opened_s=15 + i / 1000, ok=False) for i in range(20)]
    lines = report._step(dark, requests)
    assert claim(lines, "dark: requests sent").value == 2270
    assert claim(lines, "dark: requests failed").value == 0
    assert claim(lines, "dark: failed on connections open at the fault").value == 20
    once = claim(lines, "dark: failures of one connection open at the fault")
    assert (once.value, once.holds, once.gate) == (1, True, True)
    lines = report._step(dark, [*requests, request(24, 3000.0, opened_s=15, ok=False)])
    assert not claim(lines, "dark: failures of one connection open at the fault").holds


def test_more_than_one_in_a_hundred_failing_after_a_fault_does_not_hold() -> None:
    good = [request(21 + i / 250) for i in range(1980)]
    bad = [request(22 + i / 100, ok=False) for i in range(20)]
    assert claim(report._step(STEPS[1], good + bad), "dark: requests failed").holds
    assert not claim(report._step(STEPS[1], good[1:] + bad + bad[:1]), "dark: requests failed").holds


def test_calm_forgives_nothing() -> None:
    lines = report._step(STEPS[0], [request(11 + i / 300) for i in range(2500)] + [request(12, ok=False)])
    assert not claim(lines, "calm: requests failed").holds


def test_a_step_that_was_cut_short_claims_nothing() -> None:
    assert report._step(Step("calm", 10 * S), [request(11)]) == []


def test_what_was_not_measured_does_not_hold() -> None:
    assert not report.at_most("x", None, 1, "ms").holds
    assert not report.at_least("x", None, 1, "ms").holds
    assert report.at_most("x", 1.0, 1, "ms").holds
    assert report.clean_up([]).holds
    assert not report.clean_up(["a namespace"]).holds


def flood(pps: int, dropped_share: float) -> Flood:
    """Eight seconds of it, and ten more after the block."""

    def frame(blocked: int) -> Frame:
        verdict = Verdict(
            name="blocked", drop=True, explanation="", packets_total=blocked, bytes_total=0, pps=0, bps=0
        )
        return Frame(seq=1, at_ns=0, monotonic_ns=0, edge="demo", armed=True, verdicts=[verdict])

    return Flood(
        begun_ns=40 * S,
        blocked_ns=48 * S,
        before=frame(0),
        after=frame(int(10 * pps * dropped_share)),
        taps_after={"aurora": Tap(0, 0, 0, 0, 0, 0)},
        offered=Offered(18 * pps, 40 * S, 58 * S, True, {}),
        offered_before_block=8 * pps,
        received=18 * pps,
    )


@pytest.mark.parametrize("pps", [60_000, 31_000])
def test_the_edge_is_judged_by_what_it_was_offered(pps: int) -> None:
    steps = [step("flood", 40, 48), step("blocked", 48, 58)]
    honest = [request(48 + i / 100) for i in range(900)]
    lines = report._flood(flood(pps, 0.97), honest, steps)
    assert [line.name for line in lines if line.gate and not line.holds] == []
    offered = claim(lines, "flood: offered")
    assert (offered.value, offered.gate, offered.holds) == (pps, False, pps > 50_000)
    assert report.shortfalls(lines) == (
        [] if pps > 50_000 else ["flood: offered: 31,000 packets/s, wanted >= 50000"]
    )
    lines = report._flood(flood(pps, 0.7), honest, steps)
    assert [line.name for line in lines if line.gate and not line.holds] == [
        "flood: dropped by the block, answers to it included"
    ]


def test_clients_that_ask_little_are_no_fault_of_the_edge_and_prove_nothing_by_silence() -> None:
    lines = report._step(STEPS[0], [request(11 + i / 300) for i in range(300)])
    assert [line for line in lines if line.gate and not line.holds] == []
    assert report.shortfalls(lines) == ["calm: requests sent: 300 requests, wanted >= 2000"]
    assert not claim(report._step(STEPS[0], []), "calm: requests failed").holds


def test_a_cdn_is_avoided_from_when_the_next_hundred_hardly_go_there() -> None:
    there = [request(20.1 + i / 100) for i in range(50)]
    elsewhere = [request(20.6 + i / 100)._replace(cdn="corona") for i in range(200)]
    assert report.avoided_ms(there + elsewhere, "aurora", STEPS[1].fault_ns) == 450.0  # the last five may
    assert report.avoided_ms(there * 4, "aurora", STEPS[1].fault_ns) is None
    assert report.avoided_ms(elsewhere[:50], "aurora", STEPS[1].fault_ns) is None


def test_a_viewers_block_counts_from_when_the_agent_told_of_it() -> None:
    block = Block(prefix="10.66.0.0/16", created_ns=1_000_050)
    event = Event(seq=1, at_ns=0, kind="command", text="root: blocked 10.66.0.0/16 for 4h", monotonic_ns=77)
    frame = Frame(seq=1, at_ns=1_000_000, monotonic_ns=20, edge="demo", armed=True, events=[event])
    assert _done_ns(frame, block) == 77
    assert _done_ns(structs.replace(frame, events=[]), block) == 70


def test_figures() -> None:
    figures = summary([request(1, 10.0), request(2, 30.0), request(3, ok=False)])
    assert (figures.sent, figures.failed) == (3, 1)
    assert (figures.total_p50_ms, figures.total_p95_ms) == (30.0, 30.0)
    assert quantile([], 0.5) is None
    assert quantile([1.0], 0.95) == 1.0


def test_a_demo_that_was_left_is_said_to_have_ended_early() -> None:
    for left_early, said in ((True, "ended early"), (False, "do not hold")):
        out = Console(file=io.StringIO(), width=130)
        printed.table(out, "x", [report.missing()], {}, left_early=left_early)
        assert said in out.file.getvalue()  # type: ignore[attr-defined]


def test_a_last_packet_that_left_before_the_block_is_told_so() -> None:
    for last_s, name, value in ((38, "before", 10_000), (0, "before", None), (49, "after", 1_000)):
        taps = {"aurora": Tap(0, 0, 0, 0, 0, 0)._replace(last_flood_ns=last_s * S)}
        steps = [step("flood", 40, 48), step("blocked", 48, 58)]
        lines = report._flood(replace(flood(60_000, 0.97), taps_after=taps), [], steps)
        assert claim(lines, f"flood: last packet to leave, {name} the block").value == value
