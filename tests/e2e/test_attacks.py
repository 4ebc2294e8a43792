"""Attacks as `cdnctl demo` plays them: honest clients hardly notice, and nothing stays."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from demos import NAME, end_without_a_trace, remains, start, wait_for

from cdnctl.lab import record
from cdnctl.lab.attacks.kinds import ATTACKS, Crowd
from cdnctl.lab.topology import SPOOFED_PREFIX

ALLOWED = 45_000
"""Of a flood of two seconds: 20,000 a second, and what may come at once."""


def play(attack: str, tmp_path: Path, *more: str) -> dict[str, Any]:
    """Its report, whose claims hold; every connection, packet and process of it is accounted for."""
    file = tmp_path / "report.json"
    demo = start("--scenario", attack, "--json", str(file), *more)
    said, _ = demo.communicate(timeout=120)
    report: dict[str, Any] = json.loads(file.read_text())
    assert [claim for claim in report["claims"] if claim["gate"] and not claim["holds"]] == [], said
    assert demo.returncode == 0, said
    assert report["finished"]
    assert remains() == []
    return report


def value(report: dict[str, Any], name: str) -> float:
    return float(next(claim["value"] for claim in report["claims"] if claim["name"] == name))


@pytest.mark.soak
def test_a_spoofed_flood_dies_at_the_edge_and_its_report_says_what_became_of_it(tmp_path: Path) -> None:
    report = play("syn-flood", tmp_path, "--seconds", "2", "--rate", "100000")
    offered = next(c for c in report["claims"] if c["name"] == "attack: offered" and c["unit"] == "packets")
    assert offered["value"] >= 0.4 * 200_000, "or it is no flood"
    received = value(report, "attack: received by the edge, honest packets included")
    lost = value(report, "attack: lost in the cable's ring")
    assert received + lost >= 0.98 * offered["value"]
    leaked = value(report, "attack: flood packets sent on to CDNs")
    assert leaked <= ALLOWED, "what the data path lets in before anybody has looked"
    assert value(report, "attack: answered, challenged") >= 0.8 * (received - leaked)
    assert [level for _, level in report["levels"]][-1] == "siege"
    (label,) = report["labels"]
    assert (label["attack"], label["sources"]) == ("syn-flood", [SPOOFED_PREFIX])
    step = next(step for step in report["steps"] if step["name"] == "syn-flood")
    assert (label["from_ns"], label["to_ns"]) == (step["start_ns"], step["end_ns"])
    assert 1.9e9 < label["to_ns"] - label["from_ns"] < 2.5e9


@pytest.mark.soak
@pytest.mark.parametrize("attack", ATTACKS)
def test_honest_clients_are_served_in_every_attack(attack: str, tmp_path: Path) -> None:
    report = play(attack, tmp_path)
    if isinstance(ATTACKS[attack].load, Crowd):
        assert value(report, "attack: connections that came about") > 1_000


@pytest.mark.soak
def test_without_a_file_the_report_is_all_of_stdout() -> None:
    words = ["--scenario", "ack-flood", "--seconds", "2", "--rate", "20000", "--json"]
    demo = start(*words, apart=True)
    said, told = demo.communicate(timeout=60)
    assert json.loads(said)["attack"] == "ack-flood", told
    assert "calm, before ack-flood" in told


@pytest.mark.soak
@pytest.mark.parametrize("attack", ["syn-flood", "connection-exhaustion"])
def test_an_attack_that_is_killed_goes_on_nowhere_and_the_next_cleans_up(attack: str) -> None:
    demo = start("--scenario", attack)
    wait_for(demo, f"{attack}: ")
    time.sleep(1.0)  # it is under way
    generators = record.load(NAME)
    assert generators is not None
    demo.kill()
    demo.wait(5)
    assert remains()
    demo = start("--scenario", attack)
    wait_for(demo, "removed what an earlier lab left")
    assert not any(process.alive() for process in generators.processes), "they die with whoever began them"
    wait_for(demo, f"{attack}: ")
    end_without_a_trace(demo, signal.SIGINT)
