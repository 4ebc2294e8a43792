"""CDNs that go dark, slow or refuse, under real traffic: the kernel's reflex, agent or no agent."""

from __future__ import annotations

import json
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
from live import (
    Figure,
    Kernel,
    after,
    cdn_of,
    cdnctl,
    command_line,
    end_ns,
    failures,
    frame,
    requests_of,
    run,
    sleep_until,
    wait_for,
)

from cdnctl.datapath import abi
from cdnctl.lab.lab import Lab
from cdnctl.lab.topology import PORT
from cdnctl.lab.traffic import Traffic
from cdnctl.model import Cdn
from tests.console.ptys import CONSOLE, Pty

pytestmark = pytest.mark.quiet

CLIENTS = {"rate": 400.0, "share6": 0.5}
NEW_PER_S = 200
"""New connections a second: half of the clients' requests, and of either family half of these."""
DARK_LIMIT_S = 0.5
SLOW_LIMIT_S = 2.0
SLOW_SHARE = 0.05
FAILED_SHARE = 0.01
PAUSE_S = 2.0
"""Of an ejected CDN until it is probed: short, so that a fault sees its probes and is soon over."""
BACK_S = 12.0
"""Enough for the next probe after healing, which failed ones have put off."""
CONFIG = {"reflex": {"out_s": PAUSE_S, "max_out_s": PAUSE_S, "slow_start_s": 1.0}}


BOTH = ["agent runs", "agent stopped"]
KERNEL_GATES = [pytest.param(BOTH[0], marks=pytest.mark.soak), BOTH[1]]
"""With its agent the edge goes through the same in the demo."""


@pytest.fixture(params=BOTH)
def agent_runs(request: pytest.FixtureRequest, lab: Lab, traffic: Traffic) -> Iterator[bool]:
    runs = request.param == "agent runs"
    if not runs:
        lab.pause_agent()
    yield runs
    lab.resume_agent()


def back_in_rotation(lab: Lab, kernel: Kernel, cdn: str, healed_ns: int) -> float:
    """Wait until ordinary new flows go to a healed CDN; returns seconds since it healed."""
    wait_for(
        f"{cdn} is back in rotation",
        BACK_S,
        lambda: all(
            health.state == abi.Breaker.IN and health.last_new_flow_ns > healed_ns
            for health in kernel.healths(cdn)
        ),
    )
    wait_for(f"new flows leave for {cdn}", 2, lambda: lab.tap(cdn).last_syn_ns > healed_ns)
    return (time.monotonic_ns() - healed_ns) / 1e9


def dead(lab: Lab, kernel: Kernel, traffic: Traffic, figure: Figure, seconds: float) -> None:
    """A CDN goes dark for that long: who notices, and for how long."""
    cdn = "aurora"
    assert kernel.is_in(cdn)
    fault_ns = lab.darken(cdn)
    sleep_until(after(fault_ns, DARK_LIMIT_S))
    probes, syns = kernel.totals(cdn).probe_flows, lab.tap(cdn).syns
    sleep_until(after(fault_ns, seconds))
    # The tap first: what it has seen was counted before it left.
    late_syns = lab.tap(cdn).syns - syns
    late_probes = kernel.totals(cdn).probe_flows - probes
    last_ns = kernel.last_new_flow_ns(cdn)
    assert kernel.is_out(cdn)
    healed_ns = lab.heal(cdn)
    back_s = back_in_rotation(lab, kernel, cdn, healed_ns)

    figure("last new flow after the fault, ms", (last_ns - fault_ns) / 1e6)
    figure("late SYNs, late probes", (late_syns, late_probes))
    figure("back in rotation, s", back_s)
    assert fault_ns - last_ns < 1e9, "it was to have traffic at the fault"
    assert last_ns <= after(fault_ns, DARK_LIMIT_S)
    # Each SYN that the tap saw later, a client's second try included, is a probe that was counted.
    assert late_probes >= 1
    assert late_syns <= late_probes

    new = [r for r in requests_of(traffic, fault_ns, healed_ns) if r.opened_ns >= fault_ns]
    figure("requests on new connections, failed", (len(new), len(failures(new))))
    assert len(new) >= 0.9 * NEW_PER_S * seconds
    assert len(failures(new)) <= FAILED_SHARE * len(new), failures(new)[:5]

    open_then = [r for r in traffic.requests[:] if r.opened_ns < fault_ns < end_ns(r)]
    failed = Counter(r.connection for r in failures(open_then) if end_ns(r) < after(healed_ns, 3))
    used = {r.connection: r.cdn for r in traffic.requests[:] if r.ok}
    figure("connections open at the fault, that failed", len(failed))
    assert max(failed.values(), default=0) <= 1
    assert {used.get(connection, cdn) for connection in failed} <= {cdn}, "only the dead CDN's own"


@pytest.mark.parametrize("agent_runs", KERNEL_GATES, indirect=True)
def test_a_dark_cdn_is_left_within_half_a_second(
    lab: Lab, kernel: Kernel, traffic: Traffic, agent_runs: bool, figure: Figure
) -> None:
    dead(lab, kernel, traffic, figure, seconds=3.6)
    if agent_runs:
        assert kernel.ejections("aurora") >= 2
        wait_for("the frame says so", 3, lambda: agrees(cdn_of(frame(lab), "aurora"), kernel))


def agrees(seen: Cdn, kernel: Kernel) -> bool:
    """Both are in motion."""
    return (
        seen.state == "in"
        and seen.ejections_total == kernel.ejections("aurora")
        and seen.probe_flows_total == kernel.totals("aurora").probe_flows
    )


@pytest.mark.soak
def test_a_cdn_dark_for_long_is_left_alone(
    lab: Lab, kernel: Kernel, traffic: Traffic, agent_runs: bool, figure: Figure
) -> None:
    dead(lab, kernel, traffic, figure, seconds=30)


def shares(before: dict[str, int], now: dict[str, int]) -> tuple[dict[str, float], int]:
    grown = {name: now[name] - before[name] for name in now}
    total = sum(grown.values())
    return {name: count / max(1, total) for name, count in grown.items()}, total


def syns(lab: Lab) -> dict[str, int]:
    return {name: lab.tap(name).syns for name in lab.sites}


def slowed(lab: Lab, traffic: Traffic, figure: Figure) -> None:
    """One CDN slows by 150 ms for 4 s: its share of new flows, before, meanwhile and afterwards."""
    cdn = "aurora"
    calm = syns(lab)
    time.sleep(0.7)
    usual, _ = shares(calm, syns(lab))
    fault_ns = lab.slow(cdn, 150)
    sleep_until(after(fault_ns, SLOW_LIMIT_S))
    from_ns, before = time.monotonic_ns(), syns(lab)
    sleep_until(after(fault_ns, 4.0))
    until_ns = time.monotonic_ns()
    left, flows = shares(before, syns(lab))
    lab.heal(cdn)

    figure("share before, from 2 s on", (round(usual[cdn], 3), round(left[cdn], 4)))
    assert usual[cdn] > 0.2
    assert flows >= 0.8 * NEW_PER_S * 2
    assert left[cdn] < SLOW_SHARE

    def returned() -> float:
        before = syns(lab)
        time.sleep(0.7)
        return shares(before, syns(lab))[0][cdn]

    wait_for("its share is back", BACK_S, lambda: returned() > 0.15, every_s=0)
    # By the clients' own word, too: who served those that connected then?
    served = [r for r in traffic.begun(from_ns, until_ns) if r.kind == "new" and r.ok]
    assert len(served) >= 0.9 * flows
    assert sum(r.cdn == cdn for r in served) < SLOW_SHARE * len(served)
    assert not failures(requests_of(traffic, fault_ns, time.monotonic_ns()))


@pytest.mark.parametrize("agent_runs", KERNEL_GATES, indirect=True)
def test_a_slow_cdn_loses_its_share_within_two_seconds(
    lab: Lab, kernel: Kernel, traffic: Traffic, agent_runs: bool, figure: Figure
) -> None:
    slowed(lab, traffic, figure)
    assert kernel.ejections("aurora") >= 1


@pytest.mark.soak
def test_the_latency_policy_alone_does_it_too(
    lab: Lab, kernel: Kernel, traffic: Traffic, figure: Figure
) -> None:
    """With limits beyond reach the breaker stays out of it; a restarted agent puts them into force."""
    kept = lab.config_path.read_text()
    config = tomllib.loads(kept)
    config["reflex"]["dark_connects"] = 1000
    for cdn in config["cdn"]:
        cdn["latency_limit_ms"] = 5000
    lab.config_path.write_text(tomli_w.dumps(config))
    lab.stop_agent()
    lab.start_agent()
    try:
        before = kernel.ejections("aurora")
        slowed(lab, traffic, figure)
        assert kernel.ejections("aurora") == before
    finally:
        lab.config_path.write_text(kept)
        lab.stop_agent()
        lab.start_agent()


def test_a_refusing_cdn_is_left_at_once(lab: Lab, kernel: Kernel, traffic: Traffic, figure: Figure) -> None:
    cdn = "borealis"
    wait_for("nothing is out", BACK_S, lambda: all(kernel.is_in(name) for name in lab.sites))
    from_ns = time.monotonic_ns()
    fault_ns = lab.refuse(cdn)
    sleep_until(after(fault_ns, 3.2))
    last_ns, probes = kernel.last_new_flow_ns(cdn), kernel.totals(cdn).probe_flows
    out = cdn_of(frame(lab), cdn)
    restored_ns = lab.restore(cdn)
    back_in_rotation(lab, kernel, cdn, restored_ns)

    figure("last new flow after the fault, ms", (last_ns - fault_ns) / 1e6)
    assert (out.state, out.reason) == ("probing", "refusing")
    assert out.endpoints[0].address == lab.sites[cdn].endpoint
    assert out.endpoints[0].port == PORT
    assert probes >= 1
    assert last_ns <= after(fault_ns, DARK_LIMIT_S)
    new = [r for r in requests_of(traffic, from_ns, restored_ns) if r.opened_ns >= from_ns]
    failed = failures(new)
    figure("requests on new connections, failed", (len(new), len(failed)))
    assert len(failed) <= FAILED_SHARE * len(new), failed[:8]
    assert {r.outcome for r in failed} <= {"refused", "reset"}


def test_a_console_whose_terminal_has_stopped_holds_up_nothing(
    lab: Lab, kernel: Kernel, traffic: Traffic, figure: Figure, tmp_path: Path
) -> None:
    """The kernel leaves a dark CDN, the agent makes frames and records them; the console is right at once."""
    cdn, recording = "aurora", str(tmp_path / "stall.rec")
    words = (*CONSOLE, "--edge", lab.name)
    console = Pty(words, environment={**lab.environment, "XDG_STATE_HOME": str(tmp_path)})
    try:
        console.shows("● live", "handshake p95")
        cdnctl(lab, "record", recording)
        console.hold()
        time.sleep(1.5)
        first, fault_ns = frame(lab).seq, lab.darken(cdn)
        sleep_until(after(fault_ns, 4.0))
        assert frame(lab).seq - first >= 7, "frames go on"
        assert kernel.last_new_flow_ns(cdn) <= after(fault_ns, DARK_LIMIT_S)
        console.go_on()
        figure("right again, s", console.shows(" dark ", "● live", seconds=3))
        assert cdnctl(lab, "record", "--stop")
        info = json.loads(run(lab, command_line("replay", recording, "--info", "--json")).stdout)
        assert info["frames"] >= 8, "so does the recording"
    finally:
        console.close()
        run(lab, command_line("record", "--stop", "--edge", lab.name))
        back_in_rotation(lab, kernel, cdn, lab.heal(cdn))
