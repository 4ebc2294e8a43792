"""How sources behave, the features that come of it, the model's score, and what a suspicious one may."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterator

import pytest
from harness import DataPath, seed_of_the_run, zero
from segments import Flag
from session import Session
from shielded import SECOND_MS, Shielded, shielded

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Budget, Feature, Level, Mode, ModelMode, Verdict
from cdnctl.datapath.clients import Client
from cdnctl.datapath.manners import model_of, source_of
from cdnctl.model import FEATURES, Fit

FORWARDED = Verdict.FORWARDED
SOURCE = "10.1.2.3"
ROUNDS = 150
ONE = abi.MANNER_ONE
NOBODY = Fit(name="nobody", weights={"rate": 1}, bias=-(2**40))
EVERYBODY = Fit(name="everybody", bias=1)
UNFINISHED = Fit(name="unfinished", weights={"unfinished": 1}, bias=-128)
"""Suspicious is who has finished half of his handshakes at most."""


@pytest.fixture
def shield(path: DataPath) -> Iterator[Shielded]:
    """At calm, with a model that keeps manners and suspects nobody."""
    made = shielded(path)
    zero(path.map("manners"))
    put(made, NOBODY, ModelMode.OBSERVE)
    yield made
    zero(path.map("manners"))


def put(shield: Shielded, fit: Fit, mode: ModelMode, times: int = 10) -> None:
    """In force from now on, as the engine does it."""
    tables = shield.path.tables
    word = tables.manners.put(tables.settings.model, mode, model_of(fit.row, fit.bias, times))
    shield.path.change(model=word)


def manners(shield: Shielded) -> dict[str, abi.Manner]:
    """Of all sources that have a place."""
    found = (abi.Manner.from_buffer_copy(raw) for raw in shield.path.map("manners").values())
    return {source_of(each): each for each in found if any(each.source)}


def features(shield: Shielded, source: str = SOURCE) -> dict[str, int]:
    """When it last asked for a flow, but those that are 0."""
    row = zip(FEATURES, manners(shield)[source].feature, strict=True)
    return {name: value for name, value in row if value}


def octaves(number: int) -> int:
    """Eight steps an octave, written down once more."""
    if number < 8:
        return (0, 0, 8, 8, 16, 16, 16, 16)[number]
    octave = number.bit_length() - 1
    return octave * 8 + (number * 8 >> octave) - 8


def expected(held: abi.Manner, now: int, length: int) -> list[int]:
    """What the kernel should find of a source that behaved so, when it asks for one more flow."""
    halvings = min(31, (now >> 14) - (held.seen >> 14))
    flows, begun, proven, ended, fruitless = (
        count >> halvings for count in (held.flows, held.begun, held.proven, held.ended, held.fruitless)
    )
    opened = max(0, proven - ended)
    gap = held.gap + ((now - held.seen - held.gap) >> 2) if held.flows else 0
    octets = held.bytes + ((length - held.bytes) >> 2) if held.flows else length

    def share(part: int, whole: int) -> int:
        return min(255, part * 255 // whole) if whole else 0

    return [
        octaves(flows),
        share(max(0, begun - proven), begun),
        octaves(opened),
        share(opened, proven),
        share(fruitless, ended),
        octaves(gap),
        octets >> 3,
        octaves(now - held.first),
    ]


def test_features_and_score_are_exactly_as_reckoned_here(shield: Shielded) -> None:
    """Any manner, any weights: in whole numbers there is nothing to round otherwise."""
    draw = random.Random(seed_of_the_run())
    cells = shield.path.map("manners")
    shield.opens(SOURCE)
    place = next(key for key, raw in cells.items() if any(raw[:8]))
    for _ in range(ROUNDS):
        now = shield.clock.ns >> 20
        held = abi.Manner.from_buffer_copy(cells.get(place) or b"")
        held.first = now - draw.choice((0, 1, 1000, 1 << 20))
        held.seen = now - draw.choice((0, 3, 700, 20_000, 60_000))
        counts = ("flows", "begun", "proven", "ended", "fruitless", "gap")
        for name in counts:
            setattr(held, name, draw.getrandbits(draw.choice((1, 6, 14, 23))))
        held.bytes = draw.randrange(2048)
        cells.put(place, bytes(held))
        fit = Fit(
            name="any",
            weights={name: draw.randrange(-(2**31), 2**31) for name in FEATURES},
            bias=draw.randrange(-(2**40), 2**40),
        )
        put(shield, fit, ModelMode.OBSERVE)
        assert shield.opens(SOURCE) is FORWARDED
        found = abi.Manner.from_buffer_copy(cells.get(place) or b"")
        assert list(found.feature) == expected(held, now, 40), list(bytes(held))
        assert found.score == fit.score(list(found.feature))
        shield.clock.sleep(draw.choice((0, 1, 300)))


def test_weights_and_features_come_to_what_they_can_at_most(shield: Shielded) -> None:
    most = Fit(name="most", weights=dict.fromkeys(FEATURES, 2**31 - 1), bias=2**62)
    put(shield, most, ModelMode.OBSERVE)
    shield.opens(SOURCE)
    found = manners(shield)[SOURCE]
    assert found.score == most.score(list(found.feature)) > 2**62


class TestManner:
    """What is noted of a source."""

    def test_one_who_is_new_has_only_his_packet(self, shield: Shielded) -> None:
        shield.opens(SOURCE)
        assert features(shield) == {"bytes": 40 >> 3}

    def test_handshakes_that_are_not_finished(self, shield: Shielded) -> None:
        for _ in range(5):
            shield.opens(SOURCE)
        found = features(shield)
        assert (found["rate"], found["unfinished"]) == (octaves(4 * ONE), 255)

    def test_those_that_are_count_as_open_until_they_end(self, shield: Shielded) -> None:
        sessions = [Session(shield.path, client=SOURCE).open() for _ in range(4)]
        shield.opens(SOURCE)
        assert (features(shield)["open"], features(shield)["held"]) == (octaves(4 * ONE), 255)
        for session in sessions:
            session.close()
        shield.opens(SOURCE)
        found = features(shield)
        assert found.keys() & {"open", "held"} == set()
        assert found["fruitless"] == 255, "nobody asked for anything"

    def test_an_answer_is_no_fruitless_end(self, shield: Shielded) -> None:
        session = Session(shield.path, client=SOURCE).open()
        session.up(Flag.PSH | Flag.ACK, payload=b"GET")
        session.down(Flag.PSH | Flag.ACK, ack=session.isn + 4, payload=b"200")
        session.up(Flag.RST | Flag.ACK, seq=session.isn + 4, ack=session.cdn_isn + 4)
        shield.opens(SOURCE)
        assert manners(shield)[SOURCE].ended == ONE
        assert "fruitless" not in features(shield)

    def test_a_question_that_nobody_waits_for_is_one(self, shield: Shielded) -> None:
        session = Session(shield.path, client=SOURCE).open()
        session.up(Flag.PSH | Flag.ACK, payload=b"GET")
        session.up(Flag.RST | Flag.ACK, seq=session.isn + 4)
        shield.opens(SOURCE)
        assert features(shield)["fruitless"] == 255

    def test_it_is_forgotten_by_halves(self, shield: Shielded) -> None:
        for _ in range(8):
            shield.opens(SOURCE)
        shield.clock.sleep(17.2 * SECOND_MS)
        shield.opens(SOURCE)
        assert manners(shield)[SOURCE].flows == 8 * ONE // 2 + ONE

    def test_the_time_between_flows(self, shield: Shielded) -> None:
        for _ in range(12):
            shield.opens(SOURCE)
            shield.clock.sleep(200)
        assert features(shield)["gap"] in (octaves(188), octaves(191)), "moments of 1.05 ms"

    def test_of_ipv6_a_64_is_one(self, shield: Shielded) -> None:
        shield.opens("2001:db8:c1:1::1", "solo6")
        shield.opens("2001:db8:c1:1::2", "solo6")
        assert {source: each.flows for source, each in manners(shield).items()} == {
            "2001:db8:c1:1::": 2 * ONE
        }

    def test_who_is_allowed_is_not_looked_at(self, shield: Shielded) -> None:
        allowed = {ipaddress.ip_network(SOURCE): Client(flags=abi.ClientFlag.ALLOWED)}
        shield.path.tables.clients.load(allowed)
        shield.opens(SOURCE)
        assert not manners(shield)

    def test_without_a_model_nothing_is(self, shield: Shielded) -> None:
        shield.path.change(model=0)
        Session(shield.path, client=SOURCE).open().close()
        assert not manners(shield)


class TestPlaces:
    """A flood takes them from its like alone."""

    def test_who_has_finished_a_handshake_keeps_his_through_one(self, shield: Shielded) -> None:
        Session(shield.path, client=SOURCE).open()
        shield.clock.sleep(20 * SECOND_MS)
        fill(shield, proven=False)
        held = manners(shield)
        assert SOURCE in held
        assert len(held) > 0.8 * abi.MANNERS

    def test_others_give_theirs_up_within_a_moment(self, shield: Shielded) -> None:
        fill(shield, proven=False)
        shield.opens("10.250.0.1")
        assert "10.250.0.1" not in manners(shield), "no place is left"
        shield.clock.sleep(300)
        shield.opens("10.250.0.1")
        assert "10.250.0.1" in manners(shield)

    def test_who_finds_none_is_judged_as_one_who_is_new(self, shield: Shielded) -> None:
        fill(shield, proven=True)
        shield.level(Level.SHEDDING, {Budget.SOURCE: 1}, burst_ms=1)
        put(shield, EVERYBODY, ModelMode.ON)
        assert shield.opens("10.250.0.1") is FORWARDED
        assert shield.opens("10.250.0.1") is Verdict.SHED_SOURCE, "by what anybody's budget says"


def fill(shield: Shielded, *, proven: bool) -> None:
    """Every free place is somebody's who has just been here."""
    cells, now = shield.path.map("manners"), shield.clock.ns >> 20
    entries = {}
    for key, raw in cells.items():
        held = abi.Manner.from_buffer_copy(raw)
        if any(held.source) and held.proven:
            continue
        number = int.from_bytes(key, "little")
        source = (0, int.from_bytes(bytes([10, 128 + (number >> 8), number & 255, 77]), "little"))
        entries[key] = bytes(
            abi.Manner(source=source, first=now, seen=now, flows=ONE, proven=ONE if proven else 0)
        )
    cells.put_all(entries)


class TestSuspicion:
    """What it costs."""

    def open_many(self, shield: Shielded, count: int, source: str = SOURCE) -> list[Verdict]:
        return [shield.opens(source) for _ in range(count)]

    def test_it_gets_so_many_times_fewer_flows(self, shield: Shielded) -> None:
        shield.level(Level.SHEDDING, {Budget.SOURCE: 100}, burst_ms=500)
        put(shield, UNFINISHED, ModelMode.ON, times=10)
        assert self.open_many(shield, 5) == [FORWARDED] + [Verdict.SHED_SUSPECT] * 4, "at first it is new"
        passed = 0
        for _ in range(200):
            shield.clock.sleep(10)
            passed += shield.opens(SOURCE) is FORWARDED
        assert 18 <= passed <= 20, "ten a second"

    def test_what_is_refused_makes_nobody_suspicious(self, shield: Shielded) -> None:
        shield.level(Level.SHEDDING, {Budget.SERVICE: 0.001}, burst_ms=1)
        put(shield, UNFINISHED, ModelMode.ON)
        shield.opens("10.9.0.1")
        assert self.open_many(shield, 5) == [Verdict.SHED_SERVICE] * 5
        assert "unfinished" not in features(shield)
        assert manners(shield)[SOURCE].score < 0

    @pytest.mark.parametrize("mode", [ModelMode.OBSERVE, ModelMode.OFF])
    def test_but_only_when_it_is_on(self, shield: Shielded, mode: ModelMode) -> None:
        shield.level(Level.SHEDDING, {Budget.SOURCE: 100}, burst_ms=500)
        put(shield, EVERYBODY, mode)
        if mode is ModelMode.OFF:
            shield.path.change(model=0)
        assert self.open_many(shield, 20) == [FORWARDED] * 20

    def test_nor_at_calm(self, shield: Shielded) -> None:
        shield.level(Level.CALM, {Budget.SOURCE: 1}, burst_ms=1)
        put(shield, EVERYBODY, ModelMode.ON)
        assert self.open_many(shield, 20) == [FORWARDED] * 20

    @pytest.mark.parametrize("mode", [Mode.DISARMED, Mode.OBSERVE])
    def test_nor_when_the_edge_only_watches(self, shield: Shielded, mode: Mode) -> None:
        shield.level(Level.SHEDDING, {Budget.SOURCE: 1}, burst_ms=1)
        put(shield, EVERYBODY, ModelMode.ON)
        shield.path.tables.mode = mode
        assert all(shield.syn(SOURCE)[1].action.name != "DROP" for _ in range(5))

    def test_nobody_is_banned_by_it(self, shield: Shielded) -> None:
        shield.level(Level.SIEGE, {Budget.SOURCE: 20}, burst_ms=500)
        put(shield, EVERYBODY, ModelMode.ON, times=100)
        shield.verify(SOURCE)
        session = Session(shield.path, client=SOURCE).open()
        assert Verdict.SHED_SUSPECT in self.open_many(shield, 3)
        assert session.up(Flag.PSH | Flag.ACK, payload=b"GET").verdict is FORWARDED, "flows under way go on"
        shield.clock.sleep(6 * SECOND_MS)
        assert shield.opens(SOURCE) is FORWARDED

    def test_its_neighbours_have_what_it_may_not_take(self, shield: Shielded) -> None:
        shield.level(Level.SHEDDING, {Budget.SOURCE: 20, Budget.NETWORK: 40}, burst_ms=500)
        noisy = [f"10.1.2.{n}" for n in range(1, 11)]
        for source in noisy * 3:
            shield.opens(source)
        assert shield.opens("10.1.2.99") is Verdict.SHED_NETWORK, "by thresholds alone"
        shield.clock.sleep(20 * SECOND_MS)
        put(shield, UNFINISHED, ModelMode.ON, times=100)
        seen = [shield.opens(source) for source in noisy * 3]
        assert seen == [FORWARDED] * 10 + [Verdict.SHED_SUSPECT] * 20
        assert shield.opens("10.1.2.99") is FORWARDED

    def test_having_proved_where_one_is_helps_no_suspicious_one(self, shield: Shielded) -> None:
        shield.level(Level.SHEDDING, {Budget.SOURCE: 1, Budget.VERIFIED: 1000}, burst_ms=500)
        shield.verify(SOURCE)
        assert self.open_many(shield, 5) == [FORWARDED] * 5
        put(shield, EVERYBODY, ModelMode.ON)
        assert self.open_many(shield, 5) == [Verdict.SHED_SUSPECT] * 5
        shield.clock.sleep(11 * SECOND_MS)
        assert self.open_many(shield, 5) == [FORWARDED] + [Verdict.SHED_SUSPECT] * 4

    def test_a_model_is_changed_between_two_packets(self, shield: Shielded) -> None:
        """The one in force is never written to."""
        shield.level(Level.SHEDDING, {Budget.SOURCE: 1}, burst_ms=1)
        models, words = shield.path.map("models"), []
        for fit in (EVERYBODY, NOBODY, UNFINISHED):
            before, word = models.values(), shield.path.tables.settings.model
            put(shield, fit, ModelMode.ON)
            words.append(shield.path.tables.settings.model)
            in_force = bool(word & abi.MODEL_SECOND)
            assert models.values()[in_force] == before[in_force]
        assert len({bool(word & abi.MODEL_SECOND) for word in words}) == 2
        put(shield, UNFINISHED, ModelMode.OBSERVE)
        assert shield.path.tables.settings.model == words[-1] - ModelMode.ON + ModelMode.OBSERVE


def test_names_are_in_the_kernels_order() -> None:
    assert tuple(each.name.lower() for each in Feature) == FEATURES
