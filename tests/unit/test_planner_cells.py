"""The planner by cell: who is bad in one region or class has less of that, and keeps the rest."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnctl import model
from cdnctl.steering.planner import (
    USUAL,
    Cell,
    CellMemory,
    CellPlan,
    Latency,
    Memory,
    Plan,
    Reading,
    Shift,
    Timed,
    Wants,
    factors,
    plan,
    plan_cells,
    readings,
    words,
)
from cdnctl.steering.planner import shares as arithmetic

EVEN = {"aurora": 50.0, "borealis": 50.0, "cirrus": 50.0}
EU, US, VIDEO = Cell("eu", "interactive"), Cell("us", "interactive"), Cell("eu", "video")
ROUND_S = 1.0
SOUND_MS = 60.0


def measured(ms: dict[Cell, float], requests: dict[Cell, int] | None = None, **more: object) -> Reading:
    """First bytes take so long; the whole's p95 is that of its slowest cell with a twentieth of them."""
    counts = dict.fromkeys(ms, 200) | (requests or {})
    telling = [p95 for cell, p95 in ms.items() if counts[cell] >= 0.05 * sum(counts.values())]
    fields: dict[str, object] = {"load": 100.0, "attempts": 500, "segments": 5000, **more}
    return Reading(
        first_byte=Latency(max(telling), sum(counts.values())),
        cells={cell: Timed(Latency(p95, counts[cell]), 0) for cell, p95 in ms.items()},
        **fields,  # type: ignore[arg-type]
    )


def sound(**more: object) -> Reading:
    return measured({EU: SOUND_MS, US: SOUND_MS}, **more)  # type: ignore[arg-type]


def bad_in_eu(ms: float = 300, **more: object) -> Reading:
    return measured({EU: ms, US: SOUND_MS}, **more)  # type: ignore[arg-type]


class Rounds:
    """Plays rounds of the whole and of its cells, each with new samples."""

    def __init__(self, wants: Wants | None = None) -> None:
        self.wants = wants or Wants(weights=EVEN)
        self.whole: Plan | None = None
        self.memory: dict[str, Memory] = {}
        self.cells: CellMemory = {}
        self.now_s, self.samples = 1000.0, 0
        self.shifts: list[Shift] = []

    def play(self, rounds: int, *, samples: int = 100, **by_cdn: Reading) -> CellPlan:
        for _ in range(rounds):
            self.samples += samples
            self.now_s += ROUND_S
            given = {cdn: self._later(by_cdn.get(cdn, sound())) for cdn in self.wants.weights}
            self.whole = plan(self.memory, given, self.wants, self.now_s)
            done = plan_cells(self.cells, given, self.wants, self.whole, self.now_s)
            self.memory, self.cells = self.whole.memory, done.memory
            self.shifts += [*self.whole.shifts, *done.shifts]
        return done

    def _later(self, reading: Reading) -> Reading:
        cells = {cell: each._replace(total=self.samples) for cell, each in reading.cells.items()}
        return reading._replace(samples_total=self.samples, cells=cells)

    def share(self, cdn: str, cell: Cell) -> float:
        """What a CDN has of a cell."""
        assert self.whole
        kept = factors(self.cells.get(cell, {}), self.wants.pinned)
        weights = {each: weight * kept.get(each, 1.0) for each, weight in self.whole.weights.items()}
        return arithmetic.normal(weights)[cdn]


def test_who_is_bad_in_one_region_has_less_of_that_and_keeps_the_rest() -> None:
    rounds = Rounds()
    assert not rounds.play(2, aurora=bad_in_eu()).shifts
    (shift,) = rounds.play(1, aurora=bad_in_eu()).shifts
    assert (shift.cdn, shift.code, shift.cell) == ("aurora", "first_byte", EU)
    assert shift.numbers == {"own": 300, "peers": 60, "limit": 90}
    assert shift.before == pytest.approx(1 / 3)
    assert 1 / 3 - 0.1 <= shift.after < 1 / 3 - 0.05
    assert "aurora 33.3 -> " in words(shift)
    assert " % of interactive from eu: p95 of first bytes is 300 ms" in words(shift)
    rounds.play(60, aurora=bad_in_eu())
    assert rounds.share("aurora", EU) == pytest.approx(0.1 / 2.1, rel=0.1)
    assert rounds.share("aurora", US) == pytest.approx(1 / 3)
    assert {each.cell for each in rounds.shifts} == {EU}, "the whole has nothing against it"
    assert all(each.before - each.after <= 0.1 + 1e-9 for each in rounds.shifts)


def test_shares_in_a_cell_are_those_of_the_whole_at_first() -> None:
    rounds = Rounds()
    rounds.play(30, borealis=sound(loss=0.2))
    assert rounds.whole
    has = rounds.whole.shares["aurora"]
    assert has > 0.4
    (shift,) = rounds.play(3, borealis=sound(loss=0.2), aurora=bad_in_eu()).shifts
    assert shift.before == pytest.approx(has)


def test_of_one_class_likewise() -> None:
    rounds = Rounds()
    quick = measured({EU: 60, VIDEO: 60})
    rounds.play(20, aurora=measured({EU: 60, VIDEO: 200}), borealis=quick, cirrus=quick)
    assert rounds.share("aurora", VIDEO) < 0.25
    assert rounds.share("aurora", EU) == pytest.approx(1 / 3)
    assert "of video from eu" in words(rounds.shifts[-1])


def test_who_is_bad_in_all_of_them_is_bad_as_a_whole() -> None:
    rounds = Rounds()
    done = rounds.play(60, aurora=measured({EU: 300, US: 300}))
    assert {each.cell for each in rounds.shifts} == {None}
    assert not done.memory
    assert rounds.share("aurora", EU) == rounds.share("aurora", US) < 0.06


def test_more_clients_far_away_make_nobody_worse() -> None:
    """Everybody takes as long as his peers in each cell; one has most of the farther."""
    near, far = {EU: 60.0, US: 250.0}, {EU: 1000, US: 20}
    rounds = Rounds()
    usual = measured(near, far)
    assert usual.first_byte == Latency(60, 1020)
    far_one = measured(near, {EU: 500, US: 500})
    assert far_one.first_byte == Latency(250, 1000)
    rounds.play(20, aurora=far_one, borealis=usual, cirrus=usual)
    assert not rounds.shifts
    alone = {cdn: each._replace(cells={}) for cdn, each in {"aurora": far_one, "borealis": usual}.items()}
    rounds.play(20, **alone, cirrus=usual._replace(cells={}))
    assert rounds.shifts, "without cells it looks bad"


def test_what_cells_do_not_explain_is_the_whole_s() -> None:
    """Most of its requests are in cells of too few each to be judged; the one that can be is sound."""
    few = {Cell(f"r{n}", "bulk"): 19 for n in range(8)}
    aurora = measured({US: 60, **dict.fromkeys(few, 400.0)}, few)
    rounds = Rounds()
    rounds.play(20, aurora=aurora)
    assert {each.cell for each in rounds.shifts} == {None}
    explained = measured({US: 60, EU: 400, **dict.fromkeys(few, 400.0)}, few)
    rounds = Rounds()
    rounds.play(20, aurora=explained)
    assert {each.cell for each in rounds.shifts} == {EU}


@pytest.mark.parametrize(
    "fine",
    [
        bad_in_eu(89),
        bad_in_eu(requests={EU: 19}),
        bad_in_eu(is_out=True),
    ],
)
def test_good_enough_or_unknown_is_left_alone(fine: Reading) -> None:
    rounds = Rounds()
    done = rounds.play(20, aurora=fine)
    assert not [each for each in rounds.shifts if each.cell]
    assert not done.memory


def test_rounds_without_new_samples_do_not_count() -> None:
    rounds = Rounds()
    rounds.play(2, aurora=bad_in_eu())
    done = rounds.play(4, samples=4, aurora=bad_in_eu())
    assert not done.shifts
    assert rounds.play(1, samples=4, aurora=bad_in_eu()).shifts, "twenty by now"


def test_a_round_without_requests_is_none() -> None:
    rounds = Rounds()
    rounds.play(2, aurora=bad_in_eu())
    rounds.play(1, aurora=measured({US: SOUND_MS}))
    assert rounds.play(1, aurora=bad_in_eu()).shifts


def test_who_is_out_is_neither_judged_nor_compared_with() -> None:
    rounds = Rounds()
    rounds.play(2, aurora=bad_in_eu())
    rounds.play(3, aurora=bad_in_eu(is_out=True))
    assert not rounds.shifts
    rounds = Rounds()
    rounds.play(3, aurora=bad_in_eu(100), cirrus=bad_in_eu(90, is_out=True))
    assert [each.numbers["peers"] for each in rounds.shifts] == [60]


def test_it_comes_back_slowly_and_wholly_and_is_forgotten() -> None:
    rounds = Rounds()
    rounds.play(60, aurora=bad_in_eu())
    low = rounds.share("aurora", EU)
    rounds.play(9)
    assert rounds.share("aurora", EU) == low
    took = 9
    while rounds.share("aurora", EU) < 1 / 3 - 1e-9:
        rounds.play(1)
        took += 1
        assert took < 400
    assert took > 40, "ten seconds a step"
    assert rounds.shifts[-1].code == "recovered"
    assert EU in rounds.cells, "for a while it is remembered that it turned"
    rounds.play(900)
    assert not rounds.cells


def test_who_turns_often_stays_away_longer() -> None:
    rounds, waits = Rounds(), []
    for _ in range(5):
        while rounds.share("aurora", EU) > 0.25 if rounds.whole else True:
            rounds.play(1, aurora=bad_in_eu())
        low, began_s = rounds.share("aurora", EU), rounds.now_s
        while rounds.share("aurora", EU) <= low:
            rounds.play(1)
        waits.append(rounds.now_s - began_s)
    assert waits[0] <= 12
    assert max(waits) > 60


def test_too_few_flows_to_judge_by_is_no_life_sentence() -> None:
    rounds = Rounds()
    rounds.play(60, aurora=bad_in_eu())
    low = rounds.share("aurora", EU)
    gone = measured({US: SOUND_MS})
    moved_s = rounds.now_s - rounds.cells[EU]["aurora"].moved_at_s
    rounds.play(int(USUAL.blind_s - moved_s) - 1, aurora=gone)
    assert rounds.share("aurora", EU) == low
    rounds.play(10, aurora=gone._replace(is_out=True))
    assert rounds.share("aurora", EU) == low
    rounds.play(1, aurora=gone)
    assert rounds.share("aurora", EU) > low
    assert rounds.shifts[-1].code == "untested"


def test_nothing_is_held_against_it_while_it_is_bad_as_a_whole() -> None:
    rounds = Rounds()
    rounds.play(2, aurora=bad_in_eu())
    rounds.play(4, aurora=bad_in_eu(loss=0.2))
    assert {each.cell for each in rounds.shifts} == {None}
    assert not rounds.cells
    rounds.play(2, aurora=bad_in_eu())
    assert {each.cell for each in rounds.shifts} == {None}, "three rounds anew"
    rounds.play(1, aurora=bad_in_eu())
    assert {each.cell for each in rounds.shifts} == {None, EU}


def test_both_are_multiplied() -> None:
    rounds = Rounds()
    rounds.play(60, aurora=bad_in_eu())
    in_eu, in_us = rounds.share("aurora", EU), rounds.share("aurora", US)
    rounds.play(30, borealis=sound(loss=0.2), aurora=bad_in_eu())
    assert rounds.whole
    assert rounds.whole.shares["borealis"] < 0.2
    assert rounds.share("aurora", US) > in_us, "of what borealis leaves, in both"
    assert in_eu < rounds.share("aurora", EU) < 0.2 * rounds.share("aurora", US)


@pytest.mark.parametrize(("in_us", "comes_back"), [(SOUND_MS, True), (80.0, False)])
def test_a_bad_region_does_not_keep_it_from_coming_back_elsewhere(in_us: float, comes_back: bool) -> None:
    """As a whole it is what it is where it is not bad: good, or in the band."""
    rounds = Rounds()
    rounds.play(30, aurora=measured({EU: 300, US: in_us}, loss=0.2))
    low = rounds.share("aurora", US)
    assert low < 0.1
    rounds.play(60, aurora=measured({EU: 300, US: in_us}, load=10.0))
    assert (rounds.share("aurora", US) > low) == comes_back


def test_what_moves_with_the_whole_says_so() -> None:
    """Half is the most: with another weight, more of the same CDN stays."""
    rounds = Rounds()
    rounds.play(60, aurora=bad_in_eu())
    rounds.wants = Wants(weights={"aurora": 90, "borealis": 5, "cirrus": 5})
    (shift,) = rounds.play(1, aurora=bad_in_eu()).shifts
    assert (shift.cdn, shift.code) == ("aurora", "whole")
    assert shift.after > shift.before


def test_operators_come_first() -> None:
    rounds = Rounds()
    rounds.play(60, aurora=bad_in_eu(), borealis=bad_in_eu(280))
    rounds.wants = Wants(weights=EVEN, pinned=["aurora"], drained=["cirrus"])
    assert factors(rounds.cells[EU], ["aurora"]) == {}, "at once"
    done = rounds.play(1, aurora=bad_in_eu())
    assert rounds.share("aurora", EU) == pytest.approx(0.5)
    assert rounds.share("cirrus", EU) == 0
    assert all("cirrus" not in each or not each["cirrus"] for each in done.shares.values())
    rounds.wants = Wants(weights={"aurora": 60, "borealis": 20, "cirrus": 20}, pinned=["aurora"])
    rounds.play(60, aurora=bad_in_eu(), borealis=bad_in_eu())
    assert rounds.share("aurora", EU) == pytest.approx(0.6), "exactly its weight, whatever others keep"
    assert rounds.share("borealis", EU) < 0.1


def test_never_more_than_half_nor_the_last_one() -> None:
    rounds = Rounds(Wants(weights={"aurora": 90, "borealis": 10}))
    rounds.play(200, aurora=bad_in_eu())
    assert rounds.share("borealis", EU) <= 0.6 + 1e-9
    rounds = Rounds()
    rounds.play(200, aurora=bad_in_eu(300), borealis=bad_in_eu(290))
    assert rounds.share("cirrus", EU) <= 1 / 3 + 0.5 + 1e-9


def test_only_who_serves_a_region_counts_there() -> None:
    """A tenth and half are of the cell, in which the heaviest has nothing."""
    far = frozenset(["us"])
    cirrus = measured({US: SOUND_MS}, regions=far)
    rounds = Rounds(Wants(weights={"aurora": 10, "borealis": 10, "cirrus": 80}))
    (shift,) = rounds.play(3, aurora=bad_in_eu(), cirrus=cirrus).shifts
    assert shift.before == 0.5
    assert 0.4 <= shift.after < 0.46
    rounds.play(60, aurora=bad_in_eu(), cirrus=cirrus)
    assert set(rounds.cells[EU]) == {"aurora", "borealis"}
    rounds = Rounds()
    nobody_s = {"borealis": sound(regions=far), "cirrus": sound(regions=far)}
    rounds.play(3, aurora=bad_in_eu(regions=far), **nobody_s)
    assert rounds.shifts, "where nobody is for a region's clients all are"
    lone = Rounds(Wants(weights={"aurora": 50, "cirrus": 50}))
    assert not lone.play(20, aurora=bad_in_eu(), cirrus=cirrus).shifts


LATENCY = st.builds(
    lambda p95, samples: Timed(Latency(p95, samples), 0), st.floats(1, 1000), st.sampled_from([0, 19, 500])
)
READING = st.builds(
    lambda cells, loss, is_out, regions: Reading(
        first_byte=Latency(
            max((each.latency.p95_ms for each in cells.values()), default=1.0),
            sum(each.latency.samples for each in cells.values()),
        ),
        loss=loss,
        segments=5000,
        cells=cells,
        is_out=is_out,
        regions=frozenset(regions),
    ),
    st.dictionaries(st.sampled_from([EU, US, VIDEO]), LATENCY),
    st.sampled_from([0.0, 0.0, 0.0, 0.2]),
    st.sampled_from([False, False, False, True]),
    st.sampled_from([(), (), ("eu",), ("us",)]),
)
WANTS = st.builds(
    lambda weights, drained, pinned: Wants(
        weights=dict(zip("abcd", map(float, weights), strict=False)), drained=drained, pinned=pinned
    ),
    st.lists(st.integers(0, 1000), min_size=1, max_size=4),
    st.sets(st.sampled_from("abcd"), max_size=2),
    st.sets(st.sampled_from("abcd"), max_size=1),
)


@given(WANTS, st.lists(st.fixed_dictionaries(dict.fromkeys("abcd", READING)), min_size=1, max_size=12))
def test_whatever_is_measured(wants: Wants, course: list[dict[str, Reading]]) -> None:
    memory: dict[str, Memory] = {}
    cells: CellMemory = {}
    for number, found in enumerate(course * 3):
        total, now_s = 100 * number, 10.0 * number
        found = {
            cdn: each._replace(
                samples_total=total,
                cells={cell: timed._replace(total=total) for cell, timed in each.cells.items()},
            )
            for cdn, each in found.items()
        }
        whole = plan(memory, found, wants, now_s)
        done = plan_cells(cells, found, wants, whole, now_s)
        assert done == plan_cells(cells, found, wants, whole, now_s), "the same arguments, the same plan"
        for cell, after in done.shares.items():
            weights = {cdn: whole.weights[cdn] for cdn in after}
            assert all(weights.values()), "nobody without a weight has anything"
            assert sum(after.values()) == pytest.approx(1)
            assert all(after.values()), "nobody is moved away from wholly"
            kept = factors(done.memory[cell], wants.pinned)
            in_force = arithmetic.normal({cdn: each * kept.get(cdn, 1.0) for cdn, each in weights.items()})
            assert in_force == pytest.approx(after, abs=1e-6)
            asked = arithmetic.normal(weights)
            if not wants.pinned:
                assert arithmetic.moved(asked, after) <= USUAL.most_moved + 1e-6
            for cdn in wants.pinned & after.keys():
                assert after[cdn] == pytest.approx(asked[cdn], abs=1e-6)
            old = {cdn: cells.get(cell, {}).get(cdn, Memory()).factor for cdn in weights}
            if not wants.pinned:
                before = arithmetic.normal({cdn: weights[cdn] * old[cdn] for cdn in weights})
                assert arithmetic.moved(before, after) <= USUAL.step + 1e-6
                told = [shift for shift in done.shifts if shift.cell == cell]
                assert bool(told) == (arithmetic.moved(before, after) > 1e-6)
        for shift in done.shifts:
            assert shift.code in ("first_byte", "recovered", "untested", "whole")
            assert f"% of {shift.cell}: " in words(shift)
        memory, cells = whole.memory, done.memory
        again = {
            cell: msgspec.json.decode(msgspec.json.encode(each), type=dict[str, Memory])
            for cell, each in cells.items()
        }
        assert again == cells, "kept over restarts"


def test_cells_of_frames() -> None:
    def endpoint(address: str, *regions: str) -> model.Endpoint:
        return model.Endpoint(address=address, port=443, regions=list(regions), state="in")

    cell = model.CdnCell(
        region="eu", traffic_class="video", p50_ms=40.0, p95_ms=90.0, requests=30, requests_total=7000
    )
    usual = {"state": "in", "wanted_weight": 1, "effective_share": 0.5, "share": 0.5}
    bound = [endpoint("198.51.100.1", "eu"), endpoint("198.51.100.2", "us", "eu")]
    aurora = model.Cdn(name="aurora", cells=[cell], endpoints=bound, **usual)  # type: ignore[arg-type]
    free = [endpoint("198.51.100.3", "eu"), endpoint("198.51.100.4")]
    borealis = model.Cdn(name="borealis", endpoints=free, **usual)  # type: ignore[arg-type]
    frame = model.Frame(seq=1, at_ns=1, monotonic_ns=1, edge="ams1", armed=True, cdns=[aurora, borealis])
    found = readings(frame)
    assert found["aurora"].cells == {VIDEO: Timed(Latency(90.0, 30), 7000)}
    assert found["aurora"].regions == {"eu", "us"}
    assert found["borealis"].regions == frozenset()
    assert found["borealis"].cells == {}
