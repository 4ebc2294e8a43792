"""The planner in an engine on the real data path: its moves are in the kernel, the journal and the frames."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from changing import do, successor, weight_in_force
from harness import AURORA, BOREALIS, CORONA, DataPath
from msgspec.structs import replace

from cdnctl.engine import planning
from cdnctl.engine.engine import Engine
from cdnctl.model import (
    AskPlanner,
    Cdn,
    Diff,
    Difference,
    Disarm,
    Drain,
    Frame,
    SetPlanner,
    SetWeights,
    Undo,
)
from cdnctl.steering.probes import Health, Probe, Result

SOUND_MS, BAD_MS = 40.0, 200.0
SICK = Result("status", "it answers 503, not 200 to 399")
"""What a probe hears."""


class Rounds:
    """Frames with figures of our own, a round each, on a clock of our own."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.now_s, self.seq = engine, 1000.0, 0
        self.flows: dict[str, int] = dict.fromkeys(engine.layout.cdns, 0)
        self.p95_ms: dict[str, float] = dict.fromkeys(engine.layout.cdns, SOUND_MS)
        engine.planning.clock = lambda: self.now_s

    def play(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.now_s += 0.5
            self.seq += 1
            self.engine.planning.tick(self.frame())

    def frame(self) -> Frame:
        cdns = []
        for name in self.engine.layout.cdns:
            self.flows[name] += 30
            cdns.append(
                Cdn(
                    name=name,
                    state="in",
                    wanted_weight=100,
                    effective_share=0.3,
                    share=0.3,
                    handshake_p95_ms=self.p95_ms[name],
                    samples=300,
                    new_flows_per_s=60.0,
                    new_flows_total=self.flows[name],
                    handshakes_total=self.flows[name],
                )
            )
        return Frame(
            seq=self.seq,
            at_ns=time.time_ns(),
            monotonic_ns=int(self.now_s * 1e9),
            edge="test",
            armed=True,
            cdns=cdns,
        )


@pytest.fixture
def rounds(engine: Engine) -> Iterator[Rounds]:
    engine.steer()
    yield Rounds(engine)
    engine.planning.acts = False  # the data path is others' as well
    engine.state = replace(engine.state, planner="", drained=[], weights={}, pinned=[], armed=True)
    engine.steer()


def shares(path: DataPath) -> dict[str, float]:
    weights = {cdn: weight_in_force(path, cdn) for cdn in (AURORA, BOREALIS)}
    return {cdn: weight / sum(weights.values()) for cdn, weight in weights.items()}


def steered_otherwise(engine: Engine) -> list[Difference]:
    """What the kernel picks otherwise than wanted."""
    found = do(engine, Diff()).differences or []
    return [each for each in found if each.what in ("endpoint", "service")]


def entries(engine: Engine) -> list[dict[str, object]]:
    return [entry.command for entry in engine.journal.read() if entry.user == "planner"]


def test_a_bad_cdn_gets_less_in_the_kernel_and_the_journal_says_why(
    engine: Engine, path: DataPath, rounds: Rounds
) -> None:
    before = shares(path)[AURORA]
    assert do(engine, SetPlanner(mode="on")).ok
    rounds.play(3)
    assert shares(path)[AURORA] == pytest.approx(before)
    rounds.p95_ms[AURORA] = BAD_MS
    rounds.play(4)
    assert shares(path)[AURORA] < before - 0.05
    (shift, *_) = entries(engine)
    assert (shift["verb"], shift["cdn"], shift["code"]) == ("shift", AURORA, "handshake")
    assert shift["numbers"]["own"] == BAD_MS
    assert shift["numbers"]["peers"] == SOUND_MS
    told = [event for event in engine._ticker.take() if event.kind == "shift"]
    assert f"{AURORA} " in told[0].text
    assert "its peers' 40 ms" in told[0].text
    picture = engine.planning.picture()
    assert (picture.mode, picture.acts) == ("on", True)
    assert picture.shifts[-1].code == "handshake"
    assert engine.planning.plans()[AURORA].factor < 1
    why = do(engine, AskPlanner(cdn=AURORA)).text
    assert "p95 of handshakes is 200 ms" in why
    assert steered_otherwise(engine) == []


def test_it_only_says_what_it_would_do_while_it_observes(
    engine: Engine, path: DataPath, rounds: Rounds
) -> None:
    before = shares(path)
    rounds.p95_ms[AURORA] = BAD_MS
    rounds.play(10)
    assert engine.planning.picture().mode == "observe"
    assert engine.planning.picture().shifts
    assert shares(path) == before
    assert not entries(engine)
    assert do(engine, SetPlanner(mode="off")).ok
    rounds.play(2)
    rounds_before = engine.planning.rounds
    rounds.play(2)
    assert engine.planning.rounds == rounds_before


def test_operators_words_win(engine: Engine, path: DataPath, rounds: Rounds) -> None:
    do(engine, SetPlanner(mode="on"))
    rounds.p95_ms[BOREALIS] = BAD_MS
    rounds.play(10)
    low = shares(path)[BOREALIS]
    assert do(engine, SetPlanner(pin=BOREALIS)).ok
    rounds.play(2)
    pinned = shares(path)[BOREALIS]
    assert pinned > low
    rounds.play(20)
    assert shares(path)[BOREALIS] == pytest.approx(pinned)
    assert do(engine, Drain(cdn=BOREALIS)).ok
    assert weight_in_force(path, BOREALIS) == 0
    rounds.play(5)
    assert weight_in_force(path, BOREALIS) == 0
    assert do(engine, Undo()).ok
    assert do(engine, SetPlanner(unpin=BOREALIS)).ok
    assert not do(engine, SetPlanner(pin="nobody")).ok
    assert not do(engine, SetPlanner()).ok
    assert do(engine, SetWeights(weights={BOREALIS: 0})).ok
    rounds.play(2)
    assert weight_in_force(path, BOREALIS) == 0


@pytest.mark.parametrize("away", [SetPlanner(mode="observe"), SetPlanner(mode="off"), Disarm()])
def test_what_it_moved_is_taken_back_when_it_is_not_to_act(
    engine: Engine, path: DataPath, rounds: Rounds, away: SetPlanner | Disarm
) -> None:
    before = shares(path)
    do(engine, SetPlanner(mode="on"))
    rounds.p95_ms[AURORA] = BAD_MS
    rounds.play(10)
    assert shares(path) != before
    assert do(engine, away).ok
    rounds.play(2)
    assert shares(path) == pytest.approx(before)


def test_what_it_knows_outlives_the_agent(engine: Engine, path: DataPath, rounds: Rounds) -> None:
    do(engine, SetPlanner(mode="on"))
    rounds.p95_ms[AURORA] = BAD_MS
    rounds.play(10)
    low = shares(path)[AURORA]
    engine.planning.close()
    after = successor(engine, path)
    try:
        assert shares(path)[AURORA] == pytest.approx(low)
        assert after.planning.plans()[AURORA].code == "handshake"
        assert after.planning.acts
    finally:
        after.planning.acts = False


def test_a_fault_in_it_costs_neither_frame_nor_weights(
    engine: Engine, path: DataPath, rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(engine, SetPlanner(mode="on"))
    rounds.p95_ms[AURORA] = BAD_MS
    rounds.play(10)
    low = shares(path)
    engine._ticker.take()

    def broken(*_: object) -> None:
        raise ZeroDivisionError("a round")

    monkeypatch.setattr(planning, "plan", broken)
    rounds.play(5)
    assert shares(path) == low
    assert engine.planning.picture().trouble == "ZeroDivisionError: a round"
    warnings = [event for event in engine._ticker.take() if event.severity == "warning"]
    assert len(warnings) == 1, "it is said once, not twice a second"


@pytest.mark.parametrize("word", [SetPlanner(pin=AURORA), SetPlanner(mode="off")])
@pytest.mark.parametrize("broken", ["SHIFTS_AN_HOUR", "plan"])
def test_operators_words_count_while_no_round_is_made(
    engine: Engine,
    path: DataPath,
    rounds: Rounds,
    monkeypatch: pytest.MonkeyPatch,
    word: SetPlanner,
    broken: str,
) -> None:
    before = shares(path)[AURORA]
    do(engine, SetPlanner(mode="on"))
    rounds.p95_ms[AURORA] = BAD_MS
    rounds.play(10)
    assert shares(path)[AURORA] < before - 0.05
    monkeypatch.setattr(planning, broken, 0)
    rounds.play(1)
    assert shares(path)[AURORA] < before - 0.05
    assert do(engine, word).ok
    rounds.play(2)
    assert shares(path)[AURORA] == pytest.approx(before)
    assert steered_otherwise(engine) == []


def test_mode_off_counts_even_if_traffic_cannot_be_counted(
    engine: Engine, path: DataPath, rounds: Rounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(engine, SetPlanner(mode="on"))
    rounds.play(1)
    monkeypatch.setattr(engine.planning.traffic, "add", None)
    assert engine.planning.acts
    assert do(engine, SetPlanner(mode="off")).ok
    rounds.play(1)
    assert not engine.planning.acts


def endpoint_of(path: DataPath, cdn: str) -> str:
    return path.layout.endpoints_of(cdn)[0].key


def hear(engine: Engine, path: DataPath, cdn: str, result: Result, state: str) -> None:
    for place in path.layout.endpoints_of(cdn):
        health = Health(state=state, fault=result.fault, text=result.text)
        engine.planning.hear(place.key, cdn, Probe(kind="http"), result, health)


def test_an_endpoint_whose_probes_are_bad_gets_no_new_flows_at_once(
    engine: Engine, path: DataPath, rounds: Rounds
) -> None:
    do(engine, SetPlanner(mode="on"))
    rounds.play(1)
    hear(engine, path, CORONA, SICK, "ill")
    assert weight_in_force(path, CORONA) == 0
    plan = engine.planning.plans()[CORONA]
    assert plan.code == "probes"
    assert "it answers 503" in plan.probe_text
    assert any("503" in str(event.text) for event in engine._ticker.take())
    assert [entry["code"] for entry in entries(engine)][:1] == ["probes"]
    assert "503" in do(engine, AskPlanner(cdn=CORONA)).text
    assert steered_otherwise(engine) == []
    hear(engine, path, CORONA, Result(), "well")
    rounds.play(2)
    back = weight_in_force(path, CORONA)
    assert back, "it is there again"
    assert back < weight_in_force(path, AURORA) / 5, "with little at first"


def test_the_last_cdn_but_one_that_is_left_out_can_be_drained(
    engine: Engine, path: DataPath, rounds: Rounds
) -> None:
    do(engine, SetPlanner(mode="on"))
    rounds.play(1)
    hear(engine, path, CORONA, SICK, "ill")
    assert weight_in_force(path, CORONA) == 0
    for_all = [replace(service, cdns=()) for service in engine.config.services]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "config", replace(engine.config, services=tuple(for_all)))
        for cdn in (AURORA, BOREALIS):
            drained = do(engine, Drain(cdn=cdn))
            assert drained.ok, drained.text
        assert weight_in_force(path, CORONA), "nobody else could take them"
        assert steered_otherwise(engine) == []
        rounds.play(2)
        assert weight_in_force(path, CORONA)
    texts = [event.text for event in engine._ticker.take()]
    assert any("again: nobody else could take them" in text for text in texts)


def test_plans_give_the_shares_that_the_planner_leaves_and_so_does_the_kernel(
    engine: Engine, path: DataPath, rounds: Rounds
) -> None:
    do(engine, SetPlanner(mode="on"))
    rounds.p95_ms[AURORA] = BAD_MS
    rounds.play(10)
    hear(engine, path, CORONA, SICK, "ill")
    change = SetWeights(weights={BOREALIS: 150})
    planned = do(engine, replace(change, dry_run=True)).shares
    assert planned is not None
    assert do(engine, change).ok
    assert planned == pytest.approx({**shares(path), CORONA: 0})
    alone = do(engine, Drain(cdn=BOREALIS, dry_run=True))
    assert alone.shares == {AURORA: 1, BOREALIS: 0, CORONA: 0}
    assert alone.risk, "the only other one is left out"


def test_nobody_is_left_out_whom_the_others_cannot_do_without(
    engine: Engine, path: DataPath, rounds: Rounds
) -> None:
    do(engine, SetPlanner(mode="on"))
    rounds.play(1)
    for cdn in path.layout.cdns:
        hear(engine, path, cdn, SICK, "ill")
    rounds.play(1)
    assert any(weight_in_force(path, cdn) for cdn in path.layout.cdns)
    told = [event for event in engine._ticker.take() if "nobody could take them" in event.text]
    assert told
    for failing in range(3):  # its figures change with every round
        for cdn in path.layout.cdns:
            hear(engine, path, cdn, Result("status", f"it answers {500 + failing}"), "ill")
        rounds.play(1)
    assert not [event for event in engine._ticker.take() if "nobody could take them" in event.text]
