"""The model of sources' manners on a live edge: switched, recorded, trained; honest clients under attack."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from live import LIMITS, Figure, Kernel, cdnctl, command_line, frame, run, wait_for

from cdnctl import paths
from cdnctl.agent.client import Client
from cdnctl.cli.suspicion import read_fit
from cdnctl.datapath import abi
from cdnctl.lab.attacks.assault import Assault
from cdnctl.lab.attacks.claims import Honest, honest
from cdnctl.lab.attacks.kinds import ATTACKS
from cdnctl.lab.lab import Lab
from cdnctl.lab.traffic import Traffic
from cdnctl.model import FEATURES, Fit

NAME = "e2e-model"
CLIENTS = {"rate": 120, "share6": 0.25}
LESSONS = {"connection-exhaustion": 400.0, "syn-flood-bots": 2_000.0}
"""What a model learns from, and how fast it comes: of all others it has seen nothing."""
SCHOOL_S, EXAM_S = 6.0, 9.0
PORTS = [20_000, 21_299]
"""Of each SNAT address: 7,800 connections at once by IPv4, and a closed one rests for a minute. Slow sources
hold as many within eight seconds, unless somebody keeps them from it."""
TIMES = 1000
AS_GOOD = 1.0
"""Per cent of honest requests that a run may differ by from the next, all else alike."""


@pytest.mark.soak
def test_it_is_switched_and_shown_and_taken_back(
    lab: Lab, kernel: Kernel, traffic: Traffic, tmp_path: Path
) -> None:
    settings = kernel.tables.settings
    assert settings.model == 0
    assert not frame(lab).manners
    refused = run(lab, command_line("model", "on", "--edge", lab.name, "--json"))
    assert refused.returncode == 1
    assert "cdnctl train" in refused.stdout
    cdnctl(lab, "model", "observe")
    assert kernel.tables.settings.model & ~abi.MODEL_SECOND == abi.ModelMode.OBSERVE
    seen = wait_for("manners of honest clients", 5, lambda: frame(lab).manners)
    assert all(len(each.features) == len(FEATURES) for each in seen)
    assert {each.source.split(".")[0] for each in seen if "." in each.source} == {"10"}
    file = tmp_path / "held.json"
    fit = Fit(name="held", weights={"held": 3, "bytes": -1}, bias=-7)
    file.write_text(json.dumps({"form": 1, "name": fit.name, "weights": fit.weights, "bias": fit.bias}))
    cdnctl(lab, "model", "load", str(file), "--reason", "to see")
    answer = cdnctl(lab, "model", "on")
    assert "200 times fewer flows" in answer["text"]
    word = kernel.tables.settings.model
    model = kernel.tables.manners.model(word)
    assert word & ~abi.MODEL_SECOND == abi.ModelMode.ON
    assert (list(model.weight), model.bias, model.times) == ([0, 0, 0, 3, 0, 0, -1, 0], -7, 200)
    scored = wait_for("scores by it", 5, lambda: [each for each in frame(lab).manners if each.score])
    assert all(each.score == fit.score(each.features) for each in scored if each.score)
    shown = run(lab, command_line("model", "--edge", lab.name)).stdout
    assert shown.startswith("on  held")
    lines = (lab.directory / "state" / lab.name / "journal.jsonl").read_text().splitlines()
    assert any(f"cdnctl model load {file} --reason 'to see'" in line for line in lines)
    cdnctl(lab, "undo")
    assert kernel.tables.settings.model & ~abi.MODEL_SECOND == abi.ModelMode.OBSERVE
    cdnctl(lab, "undo")
    assert frame(lab).suspicion.fit == Fit()
    cdnctl(lab, "model", "off")
    assert kernel.tables.settings.model == 0
    assert not frame(lab).manners
    assert run(lab, command_line("diff", "--edge", lab.name)).returncode == 0


# --- under attack -----------------------------------------------------------------------------------


def play(
    attack: str, fit: Path | None, rate: float = 0.0, seconds: float = EXAM_S, record: str = ""
) -> Honest:
    """How the honest fare: in a flood at the level that it leads to, by thresholds alone or with a model."""
    shape = ATTACKS[attack]
    lab = Lab(
        NAME,
        edge={"snat_ports": PORTS},
        limits=LIMITS,
        service={"policy": "weighted", **shape.service},
        model={"times": TIMES},
        agent=True,
    )
    with lab:
        if not shape.is_live:  # few enough flows for calm: an operator who knows better
            cdnctl(lab, "shield", "shedding")
        if fit is not None:
            cdnctl(lab, "model", "load", str(fit))
            cdnctl(lab, "model", "on")
        if record:
            cdnctl(lab, "model", "observe")
            cdnctl(lab, "record", record)
        with Client(paths.socket_path(NAME), client="test") as client:
            assault = Assault(lab, client, shape, rate=rate, seconds=seconds)
            assault.run()
        if record:
            cdnctl(lab, "record", "--stop")
        traffic = lab.traffic
        assert traffic is not None
        traffic.wait(time.monotonic_ns())
        step = next(step for step in assault.steps if step.name == attack)
        return honest(traffic.requests, step.start_ns, step.end_ns)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two attacks."""
    directory = tmp_path_factory.mktemp("school")
    recordings = [directory / f"{name}.cdnrec" for name in LESSONS]
    for (name, rate), file in zip(LESSONS.items(), recordings, strict=True):
        play(name, None, rate, SCHOOL_S, str(file))
    made = directory / "made.json"
    done = run_here("train", *map(str, recordings), "-o", str(made))
    print(done)
    return made


def run_here(*words: str) -> str:
    """A verb that needs no agent."""
    done = subprocess.run(command_line(*words), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.soak
@pytest.mark.parametrize("attack", ATTACKS)
def test_honest_clients_fare_no_worse_with_it_and_better_among_slow_sources(
    attack: str, trained: Path, figure: Figure
) -> None:
    assert read_fit(str(trained)).name == "made"
    alone, with_it = play(attack, None), play(attack, trained)
    known = "learned from" if attack in LESSONS else "never seen"
    figure(
        f"{attack} ({known}): honest new requests served, thresholds alone and with the model, %",
        (alone.served_percent, with_it.served_percent),
    )
    figure("of so many; request p95, ms", (alone.new, with_it.new, alone.total_p95_ms, with_it.total_p95_ms))
    assert alone.served_percent is not None
    assert with_it.served_percent is not None
    assert with_it.served_percent >= alone.served_percent - AS_GOOD
    if attack == "slow-sources":
        assert with_it.served_percent > alone.served_percent + AS_GOOD
