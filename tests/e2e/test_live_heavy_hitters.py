"""Talkers under attack: the true ones, within the bounds that are told, at a price that no attack sets."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
from live import Figure, frame, wait_for

from cdnctl.lab.attacks.assault import attacker_cpu, launch
from cdnctl.lab.attacks.kinds import ATTACKS
from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import cpu_s
from cdnctl.model import RATE_WINDOW_S, Talker

pytestmark = pytest.mark.soak

FLOOD_PPS = 200_000.0
"""From some eight million sources: none of them is a talker."""
EDGE_ITSELF = ("192.0.2.1", 9)
"""The edge's own address: what is sent there passes untouched."""
LOUD = {f"10.{70 + n}.{n}.7": 800.0 * 1.25**n for n in range(10)}
"""Packets a second."""
SOFT = {f"10.{90 + n}.1.1": 300.0 for n in range(5)}
SURE, CERTAIN = 1.96, 4.0
"""Standard errors that the truth is within 19 times in 20, and as good as always."""
SLACK = 0.02
"""By how much the truth itself is off: it was read a moment before or after the frame."""
SAMPLES_PER_S, AGENT_CPU = 6_000, 0.15
THINNED_S = 1.5
"""A frame comes twice a second, and is asked for a little later."""
READ_S = 0.25


class Truth:
    """What arrives at the edge from each source, counted by its own stack behind the data path."""

    def __init__(self, lab: Lab) -> None:
        self._nft = ["ip", "netns", "exec", lab.topology.edge, "nft"]
        self._read: list[tuple[float, dict[str, int]]] = []

    def __enter__(self) -> Truth:
        rules = "\n".join(f"ip saddr {source} counter" for source in LOUD)
        table = (
            f"table ip truth {{\nchain seen {{\ntype filter hook prerouting priority raw\n{rules}\n}}\n}}\n"
        )
        subprocess.run([*self._nft, "-f", "-"], input=table, text=True, check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([*self._nft, "delete", "table", "ip", "truth"], check=True)

    def note(self, seconds: float) -> None:
        """Read the counters again and again for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            said = subprocess.run([*self._nft, "-j", "list", "table", "ip", "truth"], capture_output=True)
            counts = {}
            for entry in json.loads(said.stdout)["nftables"]:
                if rule := entry.get("rule"):
                    match, counter = rule["expr"]
                    counts[match["match"]["right"]] = counter["counter"]["packets"]
            self._read.append((time.monotonic(), counts))
            time.sleep(READ_S)

    def rates(self, until_s: float) -> dict[str, float]:
        """Packets a second over the window of a frame of that moment."""
        times = [at_s for at_s, _ in self._read]
        first, last = (
            min(range(len(times)), key=lambda n: abs(times[n] - at_s))
            for at_s in (until_s - RATE_WINDOW_S, until_s)
        )
        span_s = times[last] - times[first]
        return {s: (self._read[last][1][s] - self._read[first][1][s]) / span_s for s in LOUD}


def off(talker: Talker, true_pps: float) -> float:
    """By how many standard errors it is wrong, beyond what the truth is."""
    return max(0.0, abs(talker.pps / true_pps - 1) - SLACK) / max(talker.error, 1e-9)


def test_the_true_top_ten_within_their_bounds_under_a_flood_of_millions_of_sources(
    lab: Lab, figure: Figure
) -> None:
    seconds = 2 * RATE_WINDOW_S + 8
    loud = lab.senders({**LOUD, **SOFT}, seconds=seconds, kind="udp", target=EDGE_ITSELF)
    time.sleep(RATE_WINDOW_S)
    calm = frame(lab)
    flood = launch(lab, ATTACKS["syn-flood"], FLOOD_PPS, seconds, attacker_cpu())
    began = time.monotonic()
    wait_for("sampling thins out", 5, lambda: frame(lab).sampling.one_in > calm.sampling.one_in)
    thinned_s, lost = time.monotonic() - began, frame(lab).sampling.lost_total
    assert lab.agent is not None
    cpu, began = cpu_s(lab.agent.pid), time.monotonic()
    with Truth(lab) as truth:
        truth.note(RATE_WINDOW_S + 1)
        picture = frame(lab)
        truth.note(2 * READ_S)
    agent_cpu = (cpu_s(lab.agent.pid) - cpu) / (time.monotonic() - began)
    offered = flood.stop()
    loud.stop()

    rates = truth.rates(picture.monotonic_ns / 1e9)
    found = {talker.prefix: talker for talker in picture.talkers[:10]}
    wrong = {prefix: off(talker, rates[prefix]) for prefix, talker in found.items() if prefix in LOUD}
    figure("flood offered, pps", round(offered.pps))
    figure("one in, calm and flood", (calm.sampling.one_in, picture.sampling.one_in))
    figure("thinned out after, s; samples lost until then", (round(thinned_s, 2), lost))
    figure("samples/s, lost/s", (picture.sampling.received_per_s, picture.sampling.lost_per_s))
    figure("agent's share of a processor", agent_cpu)
    figure("off by standard errors", {prefix: round(by, 2) for prefix, by in wrong.items()})
    figure("told error", {prefix: round(talker.error, 3) for prefix, talker in found.items()})
    assert offered.pps > 0.4 * FLOOD_PPS, "or it is none"
    assert set(found) == set(LOUD)
    assert max(wrong.values()) <= CERTAIN
    assert sum(by <= SURE for by in wrong.values()) >= 8
    assert max(talker.error for talker in found.values()) < 0.25, "bounds that say something"
    assert picture.sampling.received_per_s <= SAMPLES_PER_S
    assert picture.sampling.lost_per_s <= 0.01 * SAMPLES_PER_S, "once it has thinned out nothing is lost"
    assert thinned_s <= THINNED_S
    assert agent_cpu <= AGENT_CPU
