"""An agent that is killed, stopped and started again: what the kernel keeps, and what comes back."""

from __future__ import annotations

import signal
import time

import pytest
from live import (
    Figure,
    Kernel,
    after,
    ask,
    cdn_of,
    cdnctl,
    failures,
    frame,
    programs,
    requests_of,
    sleep_until,
    wait_for,
)

from cdnctl import paths
from cdnctl.agent.client import Client
from cdnctl.cli import pages
from cdnctl.datapath import abi
from cdnctl.lab.lab import Lab
from cdnctl.lab.traffic import Traffic
from cdnctl.model import Block, BlockPrefix, Drain, Frame, GetFrame, SetWeights

CONFIG = {"service": {"policy": "weighted"}}
WARM = 40
PERMANENT, PASSING = "10.77.0.1", "10.78.0.0/24"
"""Blocked for an hour, and for so short that it ends while no agent runs."""
SENDERS = {PERMANENT: 200.0, "10.78.0.9": 200.0}
LIFETIME_S = 2.0
EXPIRY_LATE_S = 0.25
"""The kernel judges expiry by its coarse clock, at a packet; and this test looks every 20 ms."""


@pytest.fixture(autouse=True)
def served(lab: Lab) -> None:
    """Also after a test that has failed without an agent."""
    if lab.agent is None:
        lab.start_agent()


def blocks(lab: Lab) -> dict[str, Block]:
    return {block.prefix: block for block in pages.blocks(lambda query: ask(lab, query)).blocks or []}


def first_frame(lab: Lab) -> Frame:
    """The one that an agent takes as soon as it runs."""
    with Client(paths.socket_path(lab.name), client="test") as client:
        found: Frame = wait_for("a first frame", 3, lambda: client.request(GetFrame(seq=1)).frame)
    return found


def test_a_killed_agent_is_not_missed_and_its_successor_takes_over(
    lab: Lab, kernel: Kernel, traffic: Traffic, figure: Figure
) -> None:
    load = lab.senders(SENDERS, seconds=20)
    ask(lab, SetWeights(weights={"aurora": 70}))
    ask(lab, Drain(cdn="corona"))
    ask(lab, BlockPrefix(prefix=PERMANENT, lifetime_s=3600, reason="kept"))
    passing_ns = ask(lab, BlockPrefix(prefix=PASSING, lifetime_s=LIFETIME_S)).applied_monotonic_ns
    before = wait_for("a frame of it all", 2, lambda: (f := frame(lab)).monotonic_ns > passing_ns and f)
    known, attached, counts = blocks(lab), programs(lab), kernel.accounts()
    expires_ns = known[PASSING].expires_ns - time.time_ns() + time.monotonic_ns()
    killed_ns = time.monotonic_ns()
    lab.stop_agent(kill=True)

    # Nobody is there to lift it: the kernel ends it on time.
    last_two = last_drop_of_two(kernel, after(expires_ns, 0.8))
    dropped = kernel.packets(abi.Verdict.BLOCKED)
    time.sleep(0.3)
    assert kernel.packets(abi.Verdict.BLOCKED) > dropped, "the other block goes on"
    assert last_two == pytest.approx(expires_ns, abs=EXPIRY_LATE_S * 1e9)
    assert programs(lab) == attached
    assert kernel.totals("corona").new_flows == cdn_of(before, "corona").new_flows_total, "still drained"

    lab.start_agent()
    started_ns = time.monotonic_ns()
    attach = next(event for event in first_frame(lab).events if event.kind == "attach")
    now = frame(lab)
    figure("without an agent, s", (started_ns - killed_ns) / 1e9)
    assert "taken over as it was" in attach.text
    assert programs(lab) == attached
    assert now.agent_pid != before.agent_pid

    # What operators had changed.
    assert {cdn.name: cdn.wanted_weight for cdn in now.cdns} == {"aurora": 70, "borealis": 100, "corona": 100}
    assert {cdn.name: cdn.state for cdn in now.cdns} == {
        "aurora": "in",
        "borealis": "in",
        "corona": "drained",
    }
    (left,) = blocks(lab).values()
    assert (left.prefix, left.expires_ns, left.reason) == (PERMANENT, known[PERMANENT].expires_ns, "kept")
    assert (now.blocks_wanted, now.blocks_enforced) == (1, 1)
    assert now.armed

    # Nothing was counted anew.
    fallen = {name: (n, kernel.accounts()[name]) for name, n in counts.items() if kernel.accounts()[name] < n}
    assert fallen == {}
    assert all(
        new.packets_total >= old.packets_total for old, new in zip(before.verdicts, now.verdicts, strict=True)
    )
    assert cdn_of(now, "aurora").new_flows_total > cdn_of(before, "aurora").new_flows_total

    # And no client noticed.
    until_ns = after(started_ns, 0.5)
    requests = requests_of(traffic, killed_ns, until_ns)
    figure("requests, failed", (len(requests), len(failures(requests))))
    assert len(requests) >= 0.95 * 260 * (until_ns - killed_ns) / 1e9
    assert not failures(requests)
    load.stop()


def last_drop_of_two(kernel: Kernel, until_ns: int) -> int:
    """When both blocked senders were last dropped, by the rate of drops: 400 a second, then 200."""
    look_ns, last_ns, count = time.monotonic_ns(), 0, kernel.packets(abi.Verdict.BLOCKED)
    while look_ns < until_ns:
        sleep_until(after(look_ns, 0.1))
        from_ns, before = look_ns, count
        look_ns, count = time.monotonic_ns(), kernel.packets(abi.Verdict.BLOCKED)
        if (count - before) / (look_ns - from_ns) > 300 / 1e9:
            last_ns = look_ns
    return last_ns


def test_an_agent_that_is_told_to_end_leaves_the_data_path(
    lab: Lab, kernel: Kernel, traffic: Traffic
) -> None:
    """And whoever comes next finds the edge armed or not as it was left, even past the agent."""
    attached, from_ns = programs(lab), time.monotonic_ns()
    cdnctl(lab, "disarm")
    assert lab.agent is not None
    lab.agent.send_signal(signal.SIGTERM)
    assert lab.agent.wait(5) == 0
    assert not paths.socket_path(lab.name).exists()
    assert programs(lab) == attached
    lab.start_agent()
    assert not first_frame(lab).armed
    lab.stop_agent(kill=True)
    assert "without it" in cdnctl(lab, "arm")["warnings"][0]
    lab.start_agent()
    assert first_frame(lab).armed, "as root had it, not as the state file remembers"
    assert first_frame(lab).cdns[0].wanted_weight == 70
    until_ns = time.monotonic_ns()
    assert programs(lab) == attached
    assert not failures(requests_of(traffic, from_ns, until_ns))


def test_state_outlives_the_data_path_too(lab: Lab, kernel: Kernel, traffic: Traffic) -> None:
    """After a boot there are no pins: new tables take everything from the state file."""
    cdnctl(lab, "disarm")
    assert lab.agent is not None
    cdnctl(lab, "detach", "--stop", "--yes")
    lab.agent.wait(5)
    assert not paths.pin_dir(lab.name).exists()
    lab.start_agent()
    seen = first_frame(lab)
    assert not seen.armed
    assert {cdn.name: cdn.wanted_weight for cdn in seen.cdns} == {
        "aurora": 70,
        "borealis": 100,
        "corona": 100,
    }
    assert cdn_of(seen, "corona").state == "drained"
    assert [block.prefix for block in seen.blocks] == [PERMANENT]
    assert seen.blocks_enforced == 1
    assert "loaded" in next(event.text for event in seen.events if event.kind == "attach")
