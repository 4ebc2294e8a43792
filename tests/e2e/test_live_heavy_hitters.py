"""Talkers under attack: the true ones, within the bounds that are told, at a price that no attack sets."""

from __future__ import annotations

import time

import pytest
from live import Figure, frame, wait_for

from cdnctl.lab.attacks.assault import attacker_cpu, launch
from cdnctl.lab.attacks.kinds import ATTACKS
from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import cpu_s
from cdnctl.model import RATE_WINDOW_S, Frame, Talker

pytestmark = pytest.mark.soak

FLOOD_PPS = 200_000.0
"""From some eight million sources: none of them is a talker."""
EDGE_ITSELF = ("192.0.2.1", 9)
"""The edge's own address: what is sent there passes untouched."""
LOUD = {f"10.{70 + n}.{n}.7": 2000.0 * 1.25**n for n in range(10)}
"""Packets a second."""
SOFT = {f"10.{90 + n}.1.1": 700.0 for n in range(5)}
SURE, CERTAIN = 1.96, 4.0
"""Standard errors that the truth is within 19 times in 20, and as good as always."""
SLACK = 0.03
"""What the senders themselves are off by, in five seconds."""
SAMPLES_PER_S, AGENT_CPU = 6_000, 0.15
ONSET_S = 0.5
"""By then sampling has thinned out."""


def off(talker: Talker) -> float:
    """By how many standard errors it is wrong, beyond what the senders are."""
    wrong = abs(talker.pps / LOUD[talker.prefix] - 1)
    return max(0.0, wrong - SLACK) / max(talker.error, 1e-9)


def test_the_true_top_ten_within_their_bounds_under_a_flood_of_millions_of_sources(
    lab: Lab, figure: Figure
) -> None:
    seconds = 2 * RATE_WINDOW_S + 6
    loads = [lab.senders({**LOUD, **SOFT}, seconds=seconds, kind="udp", target=EDGE_ITSELF)]
    time.sleep(RATE_WINDOW_S)
    calm = frame(lab)
    flood = launch(lab, ATTACKS["syn-flood"], FLOOD_PPS, seconds, attacker_cpu())
    began = time.monotonic()
    thinned: Frame = wait_for(
        "sampling thins out", 3, lambda: got if (got := frame(lab)).sampling.one_in >= 16 else None
    )
    thinned_s = time.monotonic() - began
    assert lab.agent is not None
    cpu, began = cpu_s(lab.agent.pid), time.monotonic()
    time.sleep(RATE_WINDOW_S + 1)
    picture = frame(lab)
    agent_cpu = (cpu_s(lab.agent.pid) - cpu) / (time.monotonic() - began)
    offered = flood.stop()
    for load in loads:
        load.stop()

    found = {talker.prefix: talker for talker in picture.talkers[:10]}
    figure("one in, calm and flood", (calm.sampling.one_in, picture.sampling.one_in))
    figure("thinned out after, s; samples lost until then", (thinned_s, thinned.sampling.lost_total))
    figure("samples/s, lost/s", (picture.sampling.received_per_s, picture.sampling.lost_per_s))
    figure("agent's share of a processor", agent_cpu)
    figure(
        "off by standard errors", {prefix: round(off(t), 2) for prefix, t in found.items() if prefix in LOUD}
    )
    figure("told error", {prefix: round(talker.error, 3) for prefix, talker in found.items()})
    assert offered.pps > 0.5 * FLOOD_PPS, "or it is none"
    assert set(found) == set(LOUD)
    assert max(map(off, found.values())) <= CERTAIN
    assert sum(off(talker) <= SURE for talker in found.values()) >= 8
    assert max(talker.error for talker in found.values()) < 0.25, "bounds that say something"
    assert picture.sampling.one_in >= 32
    assert picture.sampling.received_per_s <= SAMPLES_PER_S
    assert picture.sampling.lost_per_s <= 0.01 * SAMPLES_PER_S, "once it has thinned out nothing is lost"
    assert thinned_s <= 3 * ONSET_S, "a frame comes twice a second"
    assert agent_cpu <= AGENT_CPU
