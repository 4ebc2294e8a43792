"""The planner, round by round: when it moves, how far, why, and whom it obeys."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnctl import model
from cdnctl.steering.planner import (
    USUAL,
    Capacity,
    Costs,
    Latency,
    Memory,
    Plan,
    Reading,
    Shift,
    Tariff,
    Usage,
    Wants,
    plan,
    readings,
    words,
)
from cdnctl.steering.planner import shares as arithmetic
from cdnctl.steering.planner.cost import SAMPLE_S, factors
from cdnctl.steering.planner.judge import judge

EVEN = {"aurora": 50.0, "borealis": 50.0, "cirrus": 50.0}
ROUND_S = 1.0


def well(p95_ms: float = 60, **more: float | None) -> Reading:
    fields = {"load": 100.0, "attempts": 500, "segments": 5000, **more}
    return Reading(first_byte=Latency(p95_ms, 500), **fields)  # type: ignore[arg-type]


class Rounds:
    """Plays rounds, each with new samples."""

    def __init__(self, wants: Wants | None = None) -> None:
        self.wants = wants or Wants(weights=EVEN)
        self.memory: dict[str, Memory] = {}
        self.now_s = 1000.0
        self.samples = 0
        self.shifts: list[Shift] = []
        self.last: Plan | None = None

    def play(self, rounds: int, **by_cdn: Reading) -> Plan:
        for _ in range(rounds):
            self.samples += 100
            self.now_s += ROUND_S
            given = {cdn: by_cdn.get(cdn, well()) for cdn in self.wants.weights}
            given = {cdn: each._replace(samples_total=self.samples) for cdn, each in given.items()}
            self.last = plan(self.memory, given, self.wants, self.now_s)
            self.memory = self.last.memory
            self.shifts += self.last.shifts
        assert self.last
        return self.last


def test_all_well_keeps_operators_weights() -> None:
    done = Rounds(Wants(weights={"aurora": 60, "borealis": 30, "cirrus": 10})).play(50)
    assert done.weights == {"aurora": 60, "borealis": 30, "cirrus": 10}
    assert not done.shifts


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (well(121), "first_byte"),
        (well(loss=0.05), "loss"),
        (well(failures=0.05), "failures"),
        (well(500, failures=0.05, loss=0.5), "failures"),
        (Reading(handshake=Latency(200, 30)), "handshake"),
    ],
)
def test_who_is_bad_three_times_is_left_step_by_step(bad: Reading, code: str) -> None:
    rounds = Rounds()
    others = {}
    if code == "handshake":
        others = {cdn: Reading(handshake=Latency(60, 30)) for cdn in ("borealis", "cirrus")}
    assert rounds.play(2, aurora=bad, **others).shares["aurora"] == pytest.approx(1 / 3)
    first = rounds.play(1, aurora=bad, **others)
    assert first.shifts[0].code == code
    assert first.shifts[0].cdn == "aurora"
    assert len(first.shifts) == 1
    assert 1 / 3 - 0.1 <= first.shares["aurora"] < 1 / 3
    last = rounds.play(60, aurora=bad, **others)
    assert last.weights["aurora"] == pytest.approx(0.1 * 50, rel=0.1)
    assert {shift.code for shift in rounds.shifts} == {code}


@pytest.mark.parametrize(
    "fine",
    [
        well(89),  # less than half as slow again
        well(79, loss=0.019, failures=0.019),
        well(300)._replace(first_byte=Latency(300, 19)),
        Reading(),
        well(300)._replace(is_out=True),
    ],
)
def test_good_enough_or_unknown_is_left_alone(fine: Reading) -> None:
    assert not Rounds().play(20, aurora=fine).shifts
    assert not Rounds().play(20, aurora=fine, borealis=fine, cirrus=fine).shifts


def test_few_milliseconds_are_no_difference() -> None:
    quick = {"borealis": well(2), "cirrus": well(2)}
    assert not Rounds().play(20, aurora=well(21), **quick).shifts
    assert Rounds().play(20, aurora=well(23), **quick).shares["aurora"] < 0.3


def test_all_bad_alike_is_nobodys_fault() -> None:
    bad = well(500, loss=0.1, failures=0.1)
    assert not Rounds().play(20, aurora=bad, borealis=bad, cirrus=bad).shifts


def test_rounds_without_new_samples_do_not_count() -> None:
    rounds = Rounds()
    rounds.play(2, aurora=well(500))
    stale = well(500)._replace(samples_total=rounds.samples + USUAL.min_samples - 1)
    for _ in range(10):
        rounds.now_s += ROUND_S
        done = plan(
            rounds.memory, {**dict.fromkeys(EVEN, well()), "aurora": stale}, rounds.wants, rounds.now_s
        )
        rounds.memory = done.memory
        assert not done.shifts


def test_it_comes_back_slowly_and_wholly() -> None:
    rounds = Rounds()
    rounds.play(60, aurora=well(300, load=10.0))
    low = rounds.play(9).shares["aurora"]
    assert rounds.play(1).shares["aurora"] > low
    assert rounds.shifts[-1].code == "recovered"
    took = 0
    while rounds.play(1).shares["aurora"] < 1 / 3 - 1e-9:
        took += 1
        assert took < 400
    assert took > 40, "ten seconds a step"
    assert rounds.last is not None
    assert rounds.last.weights["aurora"] == 50


def test_it_gets_back_less_than_it_went_bad_with_and_tries_more_later() -> None:
    """Its load is what made it slow: a fixed share of it would bring the same again."""
    rounds = Rounds()
    rounds.play(3, aurora=well(300, load=100.0))
    share = lambda: rounds.last.shares["aurora"]  # type: ignore[union-attr]  # noqa: E731
    for _ in range(600):
        rounds.play(1, aurora=well(load=300 * share()))
    assert 300 * share() <= 0.9 * 100
    assert share() > 0.25
    for _ in range(4000):
        rounds.play(1, aurora=well(load=300 * share()))
    assert share() == pytest.approx(1 / 3)


def test_who_flaps_stays_away_longer_each_time_up_to_a_bound() -> None:
    rounds = Rounds()
    waits = []

    def play(p95_ms: float, rounds_: int = 1) -> float:
        for _ in range(rounds_):
            share = rounds.last.shares["aurora"] if rounds.last else 1 / 3
            rounds.play(1, aurora=well(p95_ms, load=300 * share))
        assert rounds.last
        return rounds.last.shares["aurora"]

    for _ in range(8):
        while play(300) > 0.25:
            pass
        low = play(300, 10)
        began_s = rounds.now_s
        while play(60) <= low:
            pass
        waits.append(rounds.now_s - began_s)
    assert waits[0] <= 12
    assert max(waits) > 60
    assert rounds.memory["aurora"].is_suppressed is False
    assert max(waits) < 1.1 * USUAL.try_s


def test_too_few_flows_to_judge_by_is_no_life_sentence() -> None:
    rounds = Rounds()
    rounds.play(60, aurora=well(300))
    low = rounds.last.shares["aurora"]  # type: ignore[union-attr]
    for _ in range(int(USUAL.blind_s) + 1):
        rounds.now_s += ROUND_S
        known = {cdn: well()._replace(samples_total=rounds.samples) for cdn in EVEN}
        done = plan(rounds.memory, known, rounds.wants, rounds.now_s)
        rounds.memory = done.memory
    assert done.shares["aurora"] > low
    assert rounds.memory["aurora"].code == "untested"


def test_operators_come_first() -> None:
    rounds = Rounds()
    rounds.play(60, aurora=well(300), borealis=well(60, room=0.2))
    rounds.wants = Wants(weights=EVEN, pinned=["aurora"], drained=["cirrus"])
    done = rounds.play(1, aurora=well(300, failures=1.0))
    assert done.shares["cirrus"] == 0
    assert done.shares["aurora"] == pytest.approx(0.5), "at once, whatever is measured"
    rounds.wants = Wants(weights={**EVEN, "borealis": 150})
    assert rounds.play(1, aurora=well(300)).shares["borealis"] > 0.5
    rounds.wants = Wants(weights=EVEN, drained=list(EVEN))
    assert set(rounds.play(1).weights.values()) == {0}


def test_never_more_than_half_is_moved_away() -> None:
    rounds = Rounds()
    done = rounds.play(200, aurora=well(300), borealis=well(250), cirrus=well(40))
    assert done.shares["cirrus"] <= 1 / 3 + 0.5 + 1e-9
    done = Rounds(Wants(weights={"aurora": 90, "borealis": 10})).play(200, aurora=well(failures=0.9))
    assert done.shares["borealis"] <= 0.6 + 1e-9


def test_nobody_gets_more_than_he_takes_and_the_rest_goes_to_who_has_room() -> None:
    rounds = Rounds(Wants(weights={"aurora": 60, "borealis": 30, "cirrus": 10}))
    done = rounds.play(10, aurora=well(room=0.4), borealis=well(room=0.5), cirrus=well(room=5.0))
    assert done.shares["aurora"] == pytest.approx(0.85 * 0.4)
    assert done.shares["borealis"] <= 0.85 * 0.5 + 1e-9
    assert sum(done.shares.values()) == pytest.approx(1)
    assert rounds.shifts[0].code == "capacity"
    count = len(rounds.shifts)
    for room in (0.41, 0.39, 0.42, 0.38, 0.4):
        rounds.play(5, aurora=well(room=room), borealis=well(room=0.5), cirrus=well(room=5.0))
    assert len(rounds.shifts) == count, "traffic is never still"
    rounds.play(10, aurora=well(room=2.0), borealis=well(room=2.0), cirrus=well(room=5.0))
    assert rounds.last is not None
    assert rounds.last.weights == {"aurora": 60, "borealis": 30, "cirrus": 10}


def test_when_all_are_too_small_all_are_over_alike() -> None:
    done = Rounds().play(20, aurora=well(room=0.4), borealis=well(room=0.2), cirrus=well(room=0.2))
    assert done.shares["aurora"] == pytest.approx(0.5, abs=0.02)


def test_a_predicted_peak_moves_weights_beforehand() -> None:
    rounds = Rounds(Wants(weights=EVEN, growth=1.5))
    done = rounds.play(10, aurora=well(room=0.45), borealis=well(room=2), cirrus=well(room=2))
    assert done.shares["aurora"] == pytest.approx(0.85 * 0.45 / 1.5)
    assert rounds.shifts[0].code == "forecast"
    assert "1.50 times that is expected" in words(rounds.shifts[0])


def test_prices_and_commits() -> None:
    cheap, dear = Costs(tariff=Tariff(price=0.01)), Costs(tariff=Tariff(price=0.04))
    done = Rounds(Wants(weights=EVEN, costs={"aurora": dear, "borealis": cheap})).play(20)
    assert done.weights["aurora"] == pytest.approx(done.weights["borealis"] / 2)
    committed = Tariff(commit_mbit=1000)
    for mbit, used, factor in [(2000, 0.5, 1.0), (700, 0.9, 1.0), (900, 0.9, 0.6), (2000, 0.9, 0.2)]:
        cost = Costs(tariff=committed, mbit=mbit, bursts_used=used)
        assert factors({"aurora": cost}, USUAL)["aurora"] == pytest.approx(factor)
    rounds = Rounds(Wants(weights=EVEN, costs={"aurora": Costs(tariff=committed, mbit=990, bursts_used=1)}))
    rounds.play(20)
    assert rounds.shifts[0].code == "cost"


def test_the_month_is_billed_by_its_95th_percentile() -> None:
    usage, tariff = Usage(), Tariff(commit_mbit=500)
    for sample in range(1000):
        for _ in range(3):
            usage.add(900.0 if sample % 25 == 0 else 100.0, SAMPLE_S / 3, "2026-11", tariff)
    assert usage.samples == 1000
    assert usage.over == 40
    assert usage.p95_mbit == 100, "four in a hundred are free"
    for _ in range(20):
        usage.add(900.0, SAMPLE_S, "2026-11", tariff)
    assert usage.p95_mbit == 900
    assert 0.1 < usage.bursts_used < 0.2
    again = msgspec.json.decode(msgspec.json.encode(usage), type=Usage)
    assert again == usage
    usage.add(1.0, SAMPLE_S, "2026-12", tariff)
    assert (usage.samples, usage.over, usage.p95_mbit) == (1, 0, 1)


READING = st.builds(
    lambda p95, loss, failures, room, load, samples, is_out: Reading(
        first_byte=Latency(p95, samples),
        loss=loss,
        segments=5000,
        failures=failures,
        attempts=samples,
        load=load,
        room=room,
        is_out=is_out,
    ),
    st.floats(1, 1000),
    st.sampled_from([0.0, 0.0, 0.01, 0.2]),
    st.sampled_from([0.0, 0.0, 0.01, 1.0]),
    st.none() | st.floats(0.001, 5),
    st.floats(0, 1000),
    st.sampled_from([0, 19, 500]),
    st.sampled_from([False, False, False, True]),
)
WANTS = st.builds(
    lambda weights, drained, pinned, growth: Wants(
        weights=dict(zip("abcd", map(float, weights), strict=False)),
        drained=drained,
        pinned=pinned,
        growth=growth,
    ),
    st.lists(st.integers(0, 1000), min_size=1, max_size=4),
    st.sets(st.sampled_from("abcd"), max_size=2),
    st.sets(st.sampled_from("abcd"), max_size=2),
    st.sampled_from([1.0, 1.0, 1.5]),
)


@given(WANTS, st.lists(st.fixed_dictionaries(dict.fromkeys("abcd", READING)), min_size=1, max_size=30))
def test_whatever_is_measured(wants: Wants, course: list[dict[str, Reading]]) -> None:
    memory: dict[str, Memory] = {}
    weights = {cdn: 0.0 if cdn in wants.drained else weight for cdn, weight in wants.weights.items()}
    asked = arithmetic.normal(weights)
    before = asked
    for number, found in enumerate(course * 2):
        found = {cdn: each._replace(samples_total=100 * number) for cdn, each in found.items()}
        done = plan(memory, found, wants, 10.0 * number)
        assert done == plan(memory, found, wants, 10.0 * number), "the same arguments, the same plan"
        memory = msgspec.json.decode(msgspec.json.encode(done.memory), type=dict[str, Memory])
        assert memory == done.memory, "kept over restarts"
        assert sum(done.shares.values()) == pytest.approx(1 if any(weights.values()) else 0)
        assert all(done.shares[cdn] == 0 for cdn in wants.drained if cdn in done.shares)
        assert all(done.shares[cdn] >= 0 for cdn in done.shares)
        assert arithmetic.moved(before, done.shares) <= USUAL.step + 1e-6
        for cdn in wants.pinned:
            if cdn in asked:
                assert done.shares[cdn] == pytest.approx(asked[cdn], abs=1e-6)
        given = arithmetic.normal(done.weights)
        assert all(given[cdn] == pytest.approx(done.shares[cdn], abs=1e-6) for cdn in given)
        assert bool(done.shifts) == (arithmetic.moved(before, done.shares) > 1e-6)
        for shift in done.shifts:
            assert shift.code
            assert words(shift).startswith(shift.cdn)
        before = done.shares


def test_a_lone_cdn_has_everything() -> None:
    done = Rounds(Wants(weights={"aurora": 7})).play(20, aurora=well(900, failures=1.0, room=0.1))
    assert done.shares == {"aurora": 1}


def test_judging_names_its_numbers() -> None:
    verdict = judge(well(121), [well(60), well(80), well(1000)], USUAL)
    assert (verdict.fault, verdict.own, verdict.peers, verdict.limit) == ("first_byte", 121, 80, 120)
    assert not judge(well(119), [well(60), well(80), well(1000)], USUAL).fault
    assert judge(well(60), [well(60)], USUAL).is_good
    lone = judge(well(60), [], USUAL)
    assert (lone.fault, lone.is_good) == ("", False)


def cdn(name: str, **more: object) -> model.Cdn:
    fields = {"state": "in", "wanted_weight": 1, "effective_share": 0.5, "share": 0.5, **more}
    return model.Cdn(name=name, **fields)  # type: ignore[arg-type]


def frame(*cdns: model.Cdn) -> model.Frame:
    return model.Frame(seq=1, at_ns=1, monotonic_ns=1, edge="ams1", armed=True, cdns=list(cdns))


def test_readings_of_frames() -> None:
    first = frame(cdn("aurora", new_flows_total=1000, rescued_from_total=7), cdn("borealis", state="out"))
    second = frame(
        cdn(
            "aurora",
            new_flows_total=1100,
            rescued_from_total=12,
            reset_dark_total=50,
            new_flows_per_s=200.0,
            handshake_p95_ms=40.0,
            samples=150,
            handshakes_total=900,
            loss_from_cdn=0.03,
            loss_to_cdn=0.01,
            from_cdn_pps=900.0,
            from_cdn_bps=3e8,
        ),
        cdn("borealis", state="out", new_flows_per_s=200.0, from_cdn_bps=1e8, share=0.5, capacity_use=2.0),
    )
    found = readings(second, first, {"aurora": Capacity(flows_per_s=300, mbit=200)})
    aurora, borealis = found["aurora"], found["borealis"]
    assert aurora.handshake == Latency(40, 150)
    assert aurora.first_byte is None
    assert (aurora.loss, aurora.segments) == (0.03, 4500)
    assert (aurora.failures, aurora.attempts) == (0.05, 100)
    assert aurora.samples_total == 2000
    assert aurora.room == pytest.approx(0.5), "the fuller of its limits"
    assert borealis.is_out
    assert borealis.room == 0.25
    assert readings(second)["aurora"].attempts == 0
