"""A ban that sets itself, on a live edge: within 2 s, of the abuser alone, and over when he is."""

from __future__ import annotations

import time

import pytest
from live import Figure, cdnctl, failures, frame, requests_of, run, wait_for
from live import command_line as line

from cdnctl.lab.lab import Lab
from cdnctl.lab.traffic import Traffic
from cdnctl.model import Event

pytestmark = pytest.mark.quiet

QUIET_S = 2.0
CONFIG = {"autoban": {"mode": "on", "source": {"failed_per_s": 200.0}, "ban_s": 20.0, "quiet_s": QUIET_S}}
ABUSER, ABUSER_PPS = "10.66.5.66", 1_500
"""He opens connections and drops every answer: behind his address nobody is."""
NEIGHBOUR, NEIGHBOUR_PPS = "10.66.5.67", 60
WITHIN_S = 2.0


def told(lab: Lab, words: str) -> Event | None:
    """The event that says so, of the newest frame."""
    return next((event for event in frame(lab).events if event.kind == "ban" and words in event.text), None)


def test_an_abuser_is_banned_within_two_seconds_and_let_in_again(
    lab: Lab, traffic: Traffic, figure: Figure
) -> None:
    neighbour = lab.flood(NEIGHBOUR_PPS, seconds=20, prefix=f"{NEIGHBOUR}/32")
    began_ns = time.monotonic_ns()
    abuse = lab.flood(ABUSER_PPS, seconds=20, prefix=f"{ABUSER}/32")
    ban = wait_for("a ban", 4, lambda: told(lab, f"banned {ABUSER} "))
    figure("ban after, s", round((ban.monotonic_ns - abuse.offered.begun_ns) / 1e9, 2))
    assert ban.monotonic_ns - abuse.offered.begun_ns <= WITHIN_S * 1e9
    assert "failed handshakes/s, over 200" in ban.text
    time.sleep(2 * QUIET_S)
    picture = frame(lab)
    (held,) = picture.autoban.bans
    assert held.prefix == ABUSER, "nobody else, and still: it goes on"
    assert held.dropped_pps == pytest.approx(ABUSER_PPS, rel=0.3)
    assert f"{ABUSER}  " in run(lab, line("autoban", "--edge", lab.name)).stdout
    abuse.stop()
    over_ns = time.monotonic_ns()
    lifted = wait_for("the ban is lifted", 10, lambda: told(lab, f"lifted the ban of {ABUSER}"))
    figure("lifted after, s", round((lifted.monotonic_ns - over_ns) / 1e9, 2))
    assert lifted.monotonic_ns - over_ns >= 0.5 * QUIET_S * 1e9
    assert frame(lab).autoban.bans == []
    neighbour.stop()
    requests = requests_of(traffic, began_ns, over_ns)
    assert len(requests) > 500
    assert len(failures(requests)) <= 0.01 * len(requests), failures(requests)[:8]


def test_a_dry_run_names_him_and_lets_him_be(lab: Lab, traffic: Traffic) -> None:
    assert cdnctl(lab, "autoban", "dry-run")["ok"]
    abuse = lab.flood(ABUSER_PPS, seconds=10, prefix=f"{ABUSER}/32")
    try:
        event = wait_for("it is told", 4, lambda: told(lab, f"would ban {ABUSER}"))
        assert event.monotonic_ns - abuse.offered.begun_ns <= WITHIN_S * 1e9
        said = run(lab, line("autoban", "--dry-run", "--edge", lab.name)).stdout
        assert said.startswith(f"would ban {ABUSER}: ")
    finally:
        abuse.stop()
        assert cdnctl(lab, "autoban", "on")["ok"]
    assert frame(lab).autoban.mode == "on"
