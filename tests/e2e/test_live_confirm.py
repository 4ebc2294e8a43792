"""Changes that wait to be confirmed, on a live edge: they revert on time, whoever has died meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
from live import (
    Figure,
    Kernel,
    after,
    ask,
    cdn_of,
    cdnctl,
    command_line,
    failures,
    frame,
    requests_of,
    run,
    sleep_until,
    wait_for,
)

from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import environment
from cdnctl.lab.traffic import Traffic
from cdnctl.model import Drain, Reload, SetWeights

CONFIG = {"service": {"policy": "weighted"}}
WARM = 20
LATE_S = 1.0
"""What a revert may be late, at most."""
DUE_S = 6.0
"""Longer than an agent takes to start on a busy machine."""


@pytest.fixture(autouse=True)
def served(lab: Lab) -> None:
    """Also after a test that has failed without an agent."""
    if lab.agent is None:
        lab.start_agent()


def wait_for_new_flow(kernel: Kernel, cdn: str, since_ns: int, seconds: float) -> int:
    """When its next new flow came, by the kernel's clock."""
    last: int = wait_for(
        f"a new flow to {cdn}",
        seconds,
        lambda: (at := kernel.last_new_flow_ns(cdn)) > since_ns and at,
        every_s=0.01,
    )
    return last


def test_what_nobody_confirms_reverts_on_time(
    lab: Lab, kernel: Kernel, traffic: Traffic, figure: Figure
) -> None:
    answer = cdnctl(lab, "drain", "aurora", "--confirm", "2", "--reason", "a test")
    drained_ns = answer["applied_monotonic_ns"]
    shown = frame(lab).pending
    assert shown is not None
    assert shown.cli == "cdnctl drain aurora --confirm 2 --reason 'a test'"
    assert 0 < shown.left_s <= 2
    said = run(lab, command_line("status", "--edge", lab.name)).stdout
    assert "TO BE CONFIRMED" in said
    sleep_until(after(drained_ns, 1.9))
    quiet_ns = kernel.last_new_flow_ns("aurora")
    assert quiet_ns < after(drained_ns, 0.05), "it was drained meanwhile"
    back_ns = wait_for_new_flow(kernel, "aurora", quiet_ns, 4)
    figure("reverted late by, s", (back_ns - drained_ns) / 1e9 - 2)
    assert 2 <= (back_ns - drained_ns) / 1e9 <= 2 + LATE_S
    assert frame(lab).pending is None
    assert not failures(requests_of(traffic, drained_ns, back_ns))


@pytest.mark.soak
def test_it_reverts_although_the_session_was_cut(lab: Lab, kernel: Kernel, traffic: Traffic) -> None:
    """The command is killed with its whole session as soon as its change is in force."""
    command = subprocess.Popen(
        command_line("weight", "corona=0", "--confirm", "2", "--edge", lab.name),
        env=environment(lab.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for("it is in force", 10, lambda: cdn_of(frame(lab), "corona").wanted_weight == 0, every_s=0.02)
    os.killpg(command.pid, signal.SIGKILL)
    command.wait()
    pending = frame(lab).pending
    assert pending is not None
    left_s, seen_ns = pending.left_s, time.monotonic_ns()
    back_ns = wait_for_new_flow(kernel, "corona", seen_ns, 5)
    assert (back_ns - seen_ns) / 1e9 <= left_s + LATE_S
    assert cdn_of(frame(lab), "corona").wanted_weight == 100


def test_an_overdue_one_reverts_when_a_killed_agent_is_started_again(
    lab: Lab, kernel: Kernel, traffic: Traffic, figure: Figure
) -> None:
    drained_ns = ask(lab, Drain(cdn="borealis", confirm_s=1)).applied_monotonic_ns
    lab.stop_agent(kill=True)
    sleep_until(after(drained_ns, 1.5))
    quiet_ns = kernel.last_new_flow_ns("borealis")
    assert quiet_ns < after(drained_ns, 0.05), "nobody is there to revert it"
    started_ns = time.monotonic_ns()
    lab.start_agent()
    ready_ns = time.monotonic_ns()
    back_ns = wait_for_new_flow(kernel, "borealis", quiet_ns, 3)
    figure(
        "reverted after the start, s; ready, s", ((back_ns - started_ns) / 1e9, (ready_ns - started_ns) / 1e9)
    )
    assert back_ns <= after(ready_ns, LATE_S)
    assert frame(lab).pending is None


@pytest.mark.soak
def test_one_that_is_not_due_yet_goes_on_counting(lab: Lab, kernel: Kernel, traffic: Traffic) -> None:
    drained_ns = ask(lab, Drain(cdn="borealis", confirm_s=DUE_S)).applied_monotonic_ns
    lab.stop_agent(kill=True)
    lab.start_agent()
    assert time.monotonic_ns() < after(drained_ns, DUE_S - 0.1), "the agent took too long to start"
    pending = frame(lab).pending
    assert pending is not None
    assert pending.left_s < DUE_S
    back_ns = wait_for_new_flow(kernel, "borealis", after(drained_ns, 0.1), DUE_S + 2)
    assert DUE_S <= (back_ns - drained_ns) / 1e9 <= DUE_S + LATE_S + 0.1  # wall time and the kernel's clock


@pytest.mark.soak
def test_what_is_confirmed_stays_and_undo_takes_it_back(lab: Lab, kernel: Kernel) -> None:
    ask(lab, SetWeights(weights={"aurora": 70}, confirm_s=1.5))
    refused = run(lab, command_line("drain", "corona", "--confirm", "5", "--edge", lab.name))
    assert refused.returncode == 1
    assert "waits to be confirmed" in refused.stderr
    cdnctl(lab, "confirm")
    time.sleep(2)
    assert cdn_of(frame(lab), "aurora").wanted_weight == 70
    (newest, *_) = cdnctl_list(lab, "state")
    cdnctl(lab, "undo")
    assert cdn_of(frame(lab), "aurora").wanted_weight == 100
    cdnctl(lab, "undo", "--to", str(newest["number"]))
    assert cdn_of(frame(lab), "aurora").wanted_weight == 70
    assert cdnctl_list(lab, "diff") == []
    cdnctl(lab, "undo")


def cdnctl_list(lab: Lab, *words: str) -> list[dict[str, object]]:
    done = run(lab, command_line(*words, "--edge", lab.name, "--json"))
    assert done.returncode == 0, (done.stdout, done.stderr)
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


@pytest.mark.soak
def test_a_reloaded_configuration_reverts_and_does_not_come_back(lab: Lab, traffic: Traffic) -> None:
    """The file is the operator's and says what it says; but what nobody confirmed is not in force."""
    config = lab.config()
    config["cdn"][0]["weight"] = 40
    lab.write_config(config)
    began_ns = time.monotonic_ns()
    assert ask(lab, Reload(confirm_s=2)).ok
    assert cdn_of(frame(lab), "aurora").wanted_weight == 40
    wait_for("it has reverted", 6, lambda: cdn_of(frame(lab), "aurora").wanted_weight == 100)
    assert time.monotonic_ns() - began_ns > 2e9
    lab.stop_agent(kill=True)
    lab.start_agent()
    assert cdn_of(frame(lab), "aurora").wanted_weight == 100
    assert "was not confirmed and is not in force" in lab.log("agent")
    assert ask(lab, Reload()).ok
    assert cdn_of(frame(lab), "aurora").wanted_weight == 40
    assert not failures(requests_of(traffic, began_ns, time.monotonic_ns()))
