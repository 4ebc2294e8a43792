"""Loads that stay at a threshold, live: the level changes at most once in a minute."""

from __future__ import annotations

import itertools
import time

import pytest
from live import Figure, cdnctl, frame

from cdnctl.defence.shed import DWELL_S
from cdnctl.lab.lab import Lab

pytestmark = pytest.mark.soak

FLOWS_PER_S = 400
CONFIG = {"shield": {"flows_per_s": FLOWS_PER_S}}
LOOK_S = 0.4
HELD_S = 150.0
PER_CENT_OVER = 2
"""So that a threshold is sure to be reached; what is measured still lies on both sides of it."""


def changes(lab: Lab, seconds: float) -> tuple[list[tuple[float, str]], list[float]]:
    """When the level changed, to what; and the loads that were read."""
    found, loads, level = list[tuple[float, str]](), list[float](), frame(lab).shield.level
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(LOOK_S)
        picture = frame(lab)
        loads.append(picture.shield.offered_flows_per_s)
        if picture.shield.level != level:
            level = picture.shield.level
            found.append((picture.shield.since_ns / 1e9, level))
    return found, loads


@pytest.mark.parametrize("what", ["busy", "siege"])
def test_the_level_changes_at_most_once_in_a_minute(lab: Lab, figure: Figure, what: str) -> None:
    at_threshold = FLOWS_PER_S / 2 * (1 + PER_CENT_OVER / 100)
    cdnctl(lab, "shield", "calm")
    cdnctl(lab, "shield", "auto")
    if what == "busy":
        lab.start_clients(rate=at_threshold, pool=0)
    else:
        lab.flood(at_threshold, seconds=HELD_S + 30)
    found, loads = changes(lab, HELD_S)
    lab.quiet()
    figure(
        f"changes at {at_threshold:g} flows/s",
        [(round(at_s - found[0][0], 1), level) for at_s, level in found],
    )
    figure("loads read", (round(min(loads[20:])), round(max(loads[20:]))))
    assert found, "it was reached"
    assert what in {level for _, level in found}
    assert all(later - at_s >= DWELL_S - 0.1 for (at_s, _), (later, _) in itertools.pairwise(found))
    cdnctl(lab, "shield", "calm")
    cdnctl(lab, "shield", "auto")
