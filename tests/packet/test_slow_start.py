"""Who comes back gets a tenth of its share, and the whole step by step."""

from __future__ import annotations

import pytest
from harness import AURORA, BOREALIS, MS, DataPath
from roomy import CORONA, DRACO, FOUR, Roomy
from session import Session

from cdnctl.datapath import abi

SLOW_START_MS = 30_000
FLOWS = 6000


@pytest.fixture
def edge(edge: Roomy) -> Roomy:
    """Aurora was reopened just now."""
    edge.change(slow_start_ns=SLOW_START_MS * MS)
    edge.know(AURORA, reopened_ns=edge.now)
    return edge


@pytest.mark.parametrize(
    ("age_ms", "part"), [(0, 0.1), (5_000, 0.25), (15_000, 0.55), (29_999, 1.0), (40_000, 1.0)]
)
def test_from_a_tenth_to_the_whole_over_thirty_seconds(edge: Roomy, age_ms: int, part: float) -> None:
    edge.sleep(age_ms)
    found = edge.crowd("four", FLOWS)
    assert found[AURORA] / FLOWS == pytest.approx(0.25 * part, abs=0.015)
    for cdn in FOUR[1:]:
        assert found[cdn] / FLOWS == pytest.approx((1 - 0.25 * part) / 3, abs=0.02)


def test_two_at_once(edge: Roomy) -> None:
    edge.know(BOREALIS, reopened_ns=edge.now)
    found = edge.crowd("four", FLOWS)
    for cdn, share in {AURORA: 0.025, BOREALIS: 0.025, CORONA: 0.475, DRACO: 0.475}.items():
        assert found[cdn] / FLOWS == pytest.approx(share, abs=0.015)


def test_a_start_is_better_than_nothing(edge: Roomy) -> None:
    edge.take_out(BOREALIS, CORONA)
    assert edge.crowd("order", 200) == {AURORA: 200}


def test_the_same_client_is_among_the_first_or_not(edge: Roomy) -> None:
    before = list(edge.each("four", 500))
    edge.fresh()  # or they would be known still
    edge.change(slow_start_ns=SLOW_START_MS * MS)
    edge.know(AURORA, reopened_ns=edge.now - 10_000 * MS)
    after = list(edge.each("four", 500))
    early = [n for n, cdn in enumerate(before) if cdn == AURORA]
    assert all(after[n] == AURORA for n in early)
    assert after.count(AURORA) > len(early)


@pytest.mark.parametrize("how", ["disarmed", "no slow start"])
def test_at_once(edge: Roomy, how: str) -> None:
    if how == "disarmed":
        edge.tables.mode = abi.Mode.DISARMED
    else:
        edge.change(slow_start_ns=0)
    assert edge.crowd("four", FLOWS)[AURORA] / FLOWS == pytest.approx(0.25, abs=0.02)


def test_a_reopening_begins_it(path: DataPath) -> None:
    """Three good probes bring aurora back; then it starts slowly."""
    now = 10**15
    path.clock(now)
    path.change(slow_start_ns=SLOW_START_MS * MS, dark_connects=1_000_000)
    path.change_health(AURORA, state=abi.Breaker.OUT, out_until_ns=now - 1, reserved_weight=0)
    for n in range(3):
        tries = (Session(path, "www", client=f"10.9.{n}.{i}") for i in range(1, 100))
        next(each for each in tries if each.syn() and each.cdn == AURORA).syn_ack()
    assert path.health(AURORA).state == abi.Breaker.IN
    assert path.health(AURORA).reopened_ns == now
    new = [Session(path, "www", client=f"10.10.{n}.1") for n in range(200)]
    assert sum(bool(each.syn()) and each.cdn == AURORA for each in new) < 20
