"""`cdnctl trace` and `cdnctl doctor` on an edge under traffic, as an operator types them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator

import pytest
from live import Figure, Kernel, cdnctl, command_line, failures, requests_of, run, wait_for

from cdnctl import paths
from cdnctl.datapath import abi
from cdnctl.lab.lab import Lab
from cdnctl.lab.topology import PORT, VIP, VIP6
from cdnctl.lab.traffic import Traffic

CONFIG = {"service": {"policy": "weighted"}}
CLIENTS = {"share6": 0.5}
REGION = "10.1.0.0/16"
"""A third of the honest clients, whom one test blocks."""
TARGET, TARGET6 = f"{VIP}:{PORT}", f"[{VIP6}]:{PORT}"


def live_flow(kernel: Kernel, *, six: bool = False) -> tuple[str, str]:
    """The client's end of an established flow, and its endpoint's address."""
    for raw, value in kernel.tables.established.items():
        key, flow = abi.FlowKey.from_buffer_copy(raw), abi.Flow.from_buffer_copy(value)
        client = abi.show_address(key.client)
        if (":" in client) == six and not flow.flags & abi.FlowFlag.RESET:
            address = abi.show_address(kernel.tables.choice.endpoint(flow.endpoint).address)
            return abi.ends(client, abi.show_port(key.client_port)), address
    raise AssertionError("there is no live flow")


def test_live_flows_and_new_ones_are_explained_and_not_harmed(
    lab: Lab, kernel: Kernel, traffic: Traffic, figure: Figure
) -> None:
    begun_ns = time.monotonic_ns()
    client, address = live_flow(kernel, six=True)
    answer = cdnctl(lab, "trace", client, TARGET6)
    figure("seconds a trace", round((time.monotonic_ns() - begun_ns) / 1e9, 2))
    steps = {step["what"]: step["found"] for step in answer["steps"]}
    assert answer["warnings"] == []
    assert answer["interface"] == "clients"
    if "established" in steps.get("flow", ""):  # it may have ended meanwhile
        assert answer["verdict"] == "forwarded"
        assert address in answer["summary"]
        assert answer["out"] == f"cdn-{answer['cdn']}"
    answer = cdnctl(lab, "trace", "10.1.0.250:40123", TARGET)
    assert answer["cdn"] in lab.sites
    assert answer["summary"].startswith(f"would be FORWARDED to {answer['cdn']} ")
    assert "www (" in {step["what"]: step["found"] for step in answer["steps"]}["service"]
    requests = requests_of(traffic, begun_ns, time.monotonic_ns())
    assert len(requests) > 100
    assert not failures(requests)


def test_real_packets_are_shown_with_what_became_of_them(lab: Lab, kernel: Kernel, traffic: Traffic) -> None:
    cdnctl(lab, "block", REGION, "--for", "1h")
    try:
        words = ["trace", "--live", "--json", "--count", "20", "--edge", lab.name]
        done = run(lab, command_line(*words, *f"src {REGION} and verdict dropped".split()))
        assert done.returncode == 0, done.stderr
        shown = [json.loads(line) for line in done.stdout.splitlines()]
        blocked = [each for each in shown if "verdict" in each]
        assert len(blocked) == 20
        assert {each["verdict"] for each in blocked} == {"blocked"}
        assert all(each["source"].startswith("10.1.") and each["target"] == VIP for each in blocked)
        answer = cdnctl(lab, "trace", "10.1.0.250", TARGET)
        assert answer["summary"] == f"would be dropped: BLOCKED by {REGION}"
    finally:
        cdnctl(lab, "unblock", REGION)
    done = run(lab, command_line("trace", "--live", "--count", "5", "--edge", lab.name, "cdn", "aurora"))
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert all(line.endswith((": forwarded, aurora", ": replied, aurora")) for line in lines)


@pytest.fixture
def alone(lab: Lab, traffic: Traffic) -> Iterator[None]:
    """Its agent has gone, and comes back."""
    lab.stop_agent()
    try:
        yield
    finally:
        lab.start_agent()


@pytest.mark.usefixtures("alone")
def test_without_an_agent_the_pins_are_enough(lab: Lab) -> None:
    done = run(lab, command_line("trace", "10.2.0.250", TARGET, "--edge", lab.name))
    assert done.returncode == 0, done.stderr
    assert any(f"would be FORWARDED to {site} " in done.stdout for site in lab.sites), "by its agent's file"
    report = cdnctl(lab, "doctor", "--config", str(lab.config_path))
    assert {each["what"] for each in report["findings"] if each["level"] == "warn"} >= {"agent"}


@pytest.mark.soak
@pytest.mark.usefixtures("alone")
def test_and_names_are_known_by_a_file_or_not_at_all(lab: Lab, kernel: Kernel) -> None:
    client, _ = live_flow(kernel)
    by_config = cdnctl(lab, "trace", client, TARGET, "--config", str(lab.config_path))
    assert by_config["cdn"] in lab.sites
    paths.start_path(lab.name).unlink()
    done = run(lab, command_line("trace", "10.2.0.250", TARGET, "--edge", lab.name))
    assert "would be FORWARDED to CDN " in done.stdout, "nobody knows its name"


def test_the_doctor_finds_what_is_wrong(lab: Lab, kernel: Kernel, traffic: Traffic) -> None:
    words = ["doctor", "--json", "--config", str(lab.config_path), "--edge", lab.name]

    def failing() -> dict[str, str]:
        report = json.loads(run(lab, command_line(*words)).stdout)
        return {each["what"]: each["remedy"] for each in report["findings"] if each["level"] == "fail"}

    wait_for("a sound edge", 5, lambda: failing() == {})
    site = lab.sites["aurora"]
    peer = f"nsenter --net=/run/netns/{lab.topology.wire}"
    _ip(lab.topology.edge, "route", "del", f"{site.endpoint}/32")
    try:
        inside = f"nsenter --net=/run/netns/{lab.topology.edge}"
        assert failing() == {f"to {site.endpoint}": f"{inside} ip route add {site.endpoint}/32 via GATEWAY"}
    finally:
        lab.topology.route_to_sites()
    _ip(lab.topology.wire, "link", "set", site.edge_peer, "mtu", "1400")
    try:
        report = json.loads(run(lab, command_line(*words)).stdout)
        found = [each for each in report["findings"] if each["what"] == f"{site.edge_link} peer"]
        assert found[-1]["remedy"] == f"{peer} ip link set dev {site.edge_peer} mtu 1500"
    finally:
        _ip(lab.topology.wire, "link", "set", site.edge_peer, "mtu", "1500")


def _ip(namespace: str, *words: str) -> None:
    subprocess.run(["ip", "-n", namespace, *words], check=True)
