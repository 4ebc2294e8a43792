"""What operators do to an edge under traffic: weights, drains, blocks, the panic verbs, detach."""

from __future__ import annotations

import os
import time
import tomllib

import pytest
from live import (
    Figure,
    Kernel,
    after,
    ask,
    cdn_of,
    cdnctl,
    command_line,
    end_ns,
    failures,
    forwarding,
    frame,
    left_behind,
    programs,
    requests_of,
    run,
    sleep_until,
    wait_for,
)

from cdnctl import paths
from cdnctl.datapath import abi
from cdnctl.lab.lab import Lab
from cdnctl.lab.traffic import Request, Traffic
from cdnctl.model import Drain, Undrain

RATE = 400.0
CONFIG = {"service": {"policy": "weighted"}}
CLIENTS = {"rate": RATE}
WARM = 60
REGION = "10.1.0.0/16"
"""A third of the honest clients, whom the operators of this test block."""
IN_FLIGHT_NS = 10_000_000
"""A packet that the other CPU had begun with before a change may be so late."""
READ_NS = 100_000_000
"""And a client on a busy machine may be so late to read what came, or the agent to stamp what it did."""


def blocked_ones(requests: list[Request]) -> list[Request]:
    return [request for request in requests if request.source.startswith("10.1.")]


# --- steering --------------------------------------------------------------------------------------


def test_new_weights_move_the_shares(lab: Lab, kernel: Kernel, traffic: Traffic, figure: Figure) -> None:
    wanted = {"aurora": 0.6, "borealis": 0.3, "corona": 0.1}
    answer = cdnctl(lab, "weight", "aurora=60", "borealis=30", "corona=10", "--reason", "cheaper")
    assert answer["shares"] == pytest.approx(wanted)
    before = kernel.new_flows()
    time.sleep(2.5)
    grown = {cdn: flows - before[cdn] for cdn, flows in kernel.new_flows().items()}
    total = sum(grown.values())
    figure("shares for 60, 30 and 10", {cdn: round(flows / total, 3) for cdn, flows in grown.items()})
    assert total >= 0.4 * RATE * 2.5
    for cdn, share in wanted.items():
        # Four standard deviations of so many independent choices.
        margin = 4 * (share * (1 - share) / total) ** 0.5
        assert grown[cdn] / total == pytest.approx(share, abs=margin)
    assert {cdn.name: cdn.wanted_weight for cdn in frame(lab).cdns} == {
        "aurora": 60,
        "borealis": 30,
        "corona": 10,
    }
    state = tomllib.loads((lab.directory / "state" / lab.name / "state.toml").read_text())
    assert state["weights"] == {"aurora": 60, "borealis": 30, "corona": 10}
    cdnctl(lab, "weight", "aurora=100", "borealis=100", "corona=100")


def test_a_drain_stops_new_flows_and_keeps_live_ones(lab: Lab, kernel: Kernel, traffic: Traffic) -> None:
    drained_ns = ask(lab, Drain(cdn="aurora")).applied_monotonic_ns
    time.sleep(1.5)
    last_ns = kernel.health("aurora").last_new_flow_ns
    seen = wait_for("a frame of it", 2, lambda: (f := frame(lab)).monotonic_ns > after(drained_ns, 1) and f)
    undrained_ns = ask(lab, Undrain(cdn="aurora")).applied_monotonic_ns
    assert drained_ns - last_ns < 5e8, "it was to have new flows until then"
    assert last_ns <= drained_ns + IN_FLIGHT_NS
    assert cdn_of(seen, "aurora").state == "drained"
    assert cdn_of(seen, "aurora").effective_share == 0
    wait_for("new flows again", 2, lambda: kernel.health("aurora").last_new_flow_ns > undrained_ns)
    requests = requests_of(traffic, drained_ns + IN_FLIGHT_NS, undrained_ns)
    assert not failures(requests)
    # Whoever had to repeat its SYN until after that may have got there by then.
    kept = [r for r in requests if r.cdn == "aurora" and end_ns(r) < undrained_ns - READ_NS]
    assert len(kept) >= 20
    late = [r for r in kept if r.kind != "keepalive" or r.opened_ns >= drained_ns + IN_FLIGHT_NS]
    assert late == []


# --- blocks and panic ------------------------------------------------------------------------------


def test_a_block_cuts_at_once_disarm_lets_through_and_arm_cuts_again(
    lab: Lab, kernel: Kernel, traffic: Traffic
) -> None:
    """Disarmed past a stopped agent: by root's own hand, as in an emergency."""
    begun_ns = time.monotonic_ns()
    blocked_ns = cdnctl(lab, "block", REGION, "--for", "1h", "--reason", "a test")["applied_monotonic_ns"]
    sleep_until(after(blocked_ns, 1.0))
    drops = kernel.packets(abi.Verdict.BLOCKED)
    lab.pause_agent()
    from_ns = time.monotonic_ns()
    answer = cdnctl(lab, "disarm")
    lab.resume_agent()
    disarmed_ns = time.monotonic_ns()
    assert any("without it" in warning for warning in answer["warnings"])
    time.sleep(1.5)
    disarmed = frame(lab)
    armed_ns = cdnctl(lab, "arm")["applied_monotonic_ns"]
    sleep_until(after(armed_ns, 0.7))
    unblocked_ns = cdnctl(lab, "unblock", REGION)["applied_monotonic_ns"]
    sleep_until(after(unblocked_ns, 0.6))
    until_ns = time.monotonic_ns()
    requests = requests_of(traffic, begun_ns, until_ns)

    def served(from_ns: int, until_ns: int) -> int:
        return sum(r.ok and from_ns <= end_ns(r) < until_ns for r in blocked_ones(requests))

    assert drops > 100
    assert served(begun_ns, blocked_ns) > 0
    assert served(blocked_ns + READ_NS, from_ns) == 0, "live connections are cut, too"
    assert not disarmed.armed
    begun_disarmed = blocked_ones(traffic.begun(disarmed_ns, after(armed_ns, -0.5)))
    assert len(begun_disarmed) > 60
    assert not failures(begun_disarmed)
    assert served(armed_ns + READ_NS, unblocked_ns - READ_NS) == 0
    after_all = blocked_ones(traffic.begun(unblocked_ns, until_ns))
    assert len(after_all) > 20, "new ones alone are 40, as old connections may not have given up yet"
    assert not [r for r in failures(after_all) if r.opened_ns >= unblocked_ns]
    others = [r for r in requests if r not in set(blocked_ones(requests))]
    assert len(others) > 1000
    assert not failures(others)


@pytest.mark.soak
def test_bypass_passes_everything_untouched_until_armed(lab: Lab, kernel: Kernel, traffic: Traffic) -> None:
    refused = run(lab, command_line("bypass", "--edge", lab.name))
    assert refused.returncode == 2, "without a yes nothing is cut"
    assert "translated flows" in refused.stderr
    answer = cdnctl(lab, "bypass", "--yes")
    bypassed_ns = answer["applied_monotonic_ns"]
    before, passed = {cdn: lab.tap(cdn) for cdn in lab.sites}, kernel.packets(abi.Verdict.BYPASSED)
    time.sleep(0.7)
    assert {cdn: lab.tap(cdn).syns for cdn in lab.sites} == {cdn: tap.syns for cdn, tap in before.items()}
    assert kernel.packets(abi.Verdict.BYPASSED) - passed > 100
    assert frame(lab).bypassed
    armed_ns = cdnctl(lab, "arm")["applied_monotonic_ns"]
    sleep_until(after(armed_ns, 0.6))
    requests = requests_of(traffic, bypassed_ns, time.monotonic_ns())
    assert not [r for r in requests if r.ok and bypassed_ns + READ_NS < end_ns(r) < armed_ns - READ_NS]
    fresh = [r for r in requests if r.opened_ns >= armed_ns]
    assert len(fresh) > 80
    assert not failures(fresh)


# --- the agent's place -----------------------------------------------------------------------------


def test_a_second_agent_on_the_same_edge_is_refused(lab: Lab, kernel: Kernel, traffic: Traffic) -> None:
    first = frame(lab)
    done = run(lab, command_line("agent", "-c", str(lab.config_path), "--netns", lab.topology.edge))
    assert done.returncode == 3
    assert f"an agent serves edge {lab.name} already (pid {first.agent_pid})" in done.stderr
    assert "Traceback" not in done.stderr
    assert frame(lab).agent_pid == first.agent_pid
    assert set(programs(lab)) == set(lab.topology.edge_links)


def test_detach_leaves_nothing_and_a_new_agent_begins_afresh(
    lab: Lab, kernel: Kernel, traffic: Traffic
) -> None:
    assert lab.agent is not None
    assert set(programs(lab)) == set(lab.topology.edge_links)
    assert all(forwarding(lab).values())
    asked = cdnctl(lab, "detach", "--stop", "--yes")
    assert asked["ok"]
    lab.agent.wait(5)
    assert left_behind(lab) == []
    assert not paths.lock_path(lab.name).read_text(), "nobody holds the edge"
    lab.stop_agent()
    lab.start_agent()
    started_ns = time.monotonic_ns()
    sleep_until(after(started_ns, 0.6))
    fresh = [r for r in requests_of(traffic, started_ns, after(started_ns, 0.6)) if r.kind == "new"]
    assert len(fresh) > 50
    assert not failures(fresh)


def test_an_agent_may_take_the_data_path_along_when_it_ends(lab: Lab) -> None:
    lab.stop_agent()
    assert paths.pin_dir(lab.name).exists()
    assert set(programs(lab)) == set(lab.topology.edge_links)
    lab.start_agent("--detach-on-exit")
    assert lab.agent is not None
    assert os.path.exists(paths.socket_path(lab.name))
    lab.stop_agent()
    assert left_behind(lab) == []
