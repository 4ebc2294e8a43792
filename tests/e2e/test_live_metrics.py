"""The exporter on a live edge: what it says is what `status` says of that frame, and the kernel counts."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import time
from typing import Any

import pytest
from live import Figure, Kernel, cdnctl, command_line, run, wait_for
from prometheus_client.parser import text_string_to_metric_families

from cdnctl.lab import netns
from cdnctl.lab.lab import Lab
from cdnctl.lab.traffic import Traffic

HOST, PORT = "127.0.0.1", 9469
CONFIG = {"service": {"policy": "weighted"}}
CLIENTS = {"share6": 0.3}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(lab: Lab) -> str:
    """One GET, in the edge's namespace, where the agent listens on loopback."""
    with netns.entered(lab.topology.edge):
        connection = http.client.HTTPConnection(HOST, PORT, timeout=5)
        connection.connect()
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    text = answer.read().decode()
    connection.close()
    return text


def parsed(text: str) -> Samples:
    families = text_string_to_metric_families(text)
    return {
        (each.name, frozenset(each.labels.items())): each.value for one in families for each in one.samples
    }


def of(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_it_equals_status_at_the_same_frame(lab: Lab, traffic: Traffic, figure: Figure) -> None:
    cdnctl(lab, "block", "10.71.0.0/16", "--reason", "shown")
    wait_for("tables counted", 3, lambda: cdnctl(lab, "status")["maps"])
    text = scrape(lab)
    said = parsed(text)
    frame = cdnctl(lab, "status", "--frame", str(int(of(said, "cdnctl_frame_seq"))))
    figure("samples, bytes", (len(said), len(text)))
    expected = expected_of(frame)
    assert {key: said.get(key) for key in expected} == expected
    # and nothing is said that was not looked at here, but for histograms and what is not in a frame
    others = {name for name, _ in said.keys() - expected.keys()}
    assert others == {
        *(
            f"cdnctl_cdn_{what}_seconds_{part}"
            for what in ("handshake", "first_byte")
            for part in ("bucket", "count", "sum")
        ),
        "cdnctl_build_info",
        "cdnctl_commit_pending",
        "cdnctl_clients",
    }


def expected_of(frame: dict[str, Any]) -> Samples:
    """By hand, from the frame's JSON: what each metric is to be."""
    found: Samples = {}

    def put(name: str, value: float | None, **labels: str) -> None:
        if value is not None:
            found[f"cdnctl_{name}", frozenset(labels.items())] = float(value)

    put("frame_seq", frame["seq"])
    put("frame_timestamp_seconds", frame["at_ns"] / 1e9)
    put("agent_start_time_seconds", frame["agent_started_ns"] / 1e9)
    for state in ("loaded", "armed", "bypassed", "observing"):
        put(f"edge_{state}", frame[state])
    put("policy_generation", frame["generation"])
    for level in ("calm", "busy", "shedding", "siege"):
        put("shield_level", frame["shield"]["level"] == level, level=level)
    for mode in ("off", "observe", "on"):
        put("model_mode", frame["suspicion"]["mode"] == mode, mode=mode)
    put("suspicious_sources", frame["suspicion"]["suspicious"])
    for each in frame["interfaces"]:
        put("interface_attached", each["mode"] != "detached", interface=each["name"])
        put("interface_native", each["mode"] == "native", interface=each["name"])
    for each in frame["verdicts"]:
        put("verdict_packets_total", each["packets_total"], verdict=each["name"])
        put("verdict_bytes_total", each["bytes_total"], verdict=each["name"])
        if each["drop"]:
            put("drop_packets_total", each["packets_total"], reason=each["name"])
            put("drop_bytes_total", each["bytes_total"], reason=each["name"])
    totals, sampling, collector = frame["totals"], frame["sampling"], frame["collector"]
    put("flows_established_total", totals["promoted_total"])
    put("flows_rescued_total", totals["rescued_total"])
    put("half_open_flows", totals["half_open"])
    put("perf_samples_total", sampling["received_total"])
    put("perf_lost_samples_total", sampling["lost_total"])
    put("sampling_interval_packets", sampling["one_in"])
    put("perf_reader_age_seconds", sampling["stale_s"])
    put("blocklist_desired_entries", 1, source="manual")
    put("blocklist_desired_prefixes", frame["blocks_wanted"])
    put("blocklist_enforced_entries", frame["blocks_enforced"])
    put("allowed_prefixes", frame["allowed"])
    for each in frame["maps"]:
        put("map_entries", each["entries"], map=each["name"])
        put("map_max_entries", each["room"], map=each["name"])
        put("map_pressure_ratio", each["entries"] / each["room"], map=each["name"])
    put("ports_freed_total", collector["freed_total"])
    put("ports_held_ratio", collector["tightest"])
    put("collector_cpu_ratio", collector["cpu"])
    for each in frame["services"]:
        put(
            "service_new_flows_total",
            each["new_flows_total"],
            service=each["name"],
            protocol=each["protocol"],
        )
    put("customers", frame["customers_total"])
    put("planner_acting", frame["planner"]["acts"])
    put("planner_shifts_total", frame["planner"]["shifts_total"])
    for cdn in frame["cdns"]:
        expected_of_cdn(put, cdn)
    return found


def expected_of_cdn(put: Any, cdn: dict[str, Any]) -> None:
    name = cdn["name"]
    put("cdn_up", cdn["state"] not in ("out", "probing"), cdn=name)
    put("cdn_wanted", cdn["wanted_weight"] > 0 and cdn["state"] != "drained", cdn=name)
    for state in ("in", "partly", "out", "probing", "drained"):
        put("cdn_state", cdn["state"] == state, cdn=name, state=state)
    put("cdn_endpoints", len(cdn["endpoints"]), cdn=name)
    put("cdn_endpoints_in", cdn["endpoints_in"], cdn=name)
    put("cdn_weight", cdn["wanted_weight"], cdn=name)
    put("cdn_weight_ratio", cdn["effective_share"], cdn=name)
    put("cdn_video_kept_ratio", cdn["video_kept"], cdn=name)
    put("cdn_new_flows_total", cdn["new_flows_total"], cdn=name)
    put("cdn_probe_flows_total", cdn["probe_flows_total"], cdn=name)
    put("cdn_ejections_total", cdn["ejections_total"], cdn=name)
    put("cdn_rescued_to_total", cdn["rescued_to_total"], cdn=name)
    for reason, field in (("unanswered", "rescued_from"), ("full", "spilled"), ("dark", "reset_dark")):
        put("cdn_failovers_total", cdn[f"{field}_total"], **{"from": name, "to": "others", "reason": reason})
    for direction in ("to", "from"):
        put("cdn_packets_total", cdn[f"{direction}_cdn_packets_total"], cdn=name, direction=direction)
        put("cdn_bytes_total", cdn[f"{direction}_cdn_bytes_total"], cdn=name, direction=direction)
        put("cdn_loss_ratio", cdn[f"loss_{direction}_cdn"], cdn=name, direction=direction)
    put("cdn_planned_ratio", cdn["plan"]["factor"], cdn=name)
    put("cdn_traffic_bytes_per_second", 125_000 * cdn["plan"]["mbit"], cdn=name)
    put("cdn_open_flows", cdn["open_flows"], cdn=name)
    put("cdn_capacity_used_ratio", cdn["capacity_use"], cdn=name)
    put("cdn_ports_held_ratio", max(each["ports_held"] for each in cdn["endpoints"]), cdn=name)
    ends = [each["ports_gone_in_s"] for each in cdn["endpoints"] if each["ports_gone_in_s"] is not None]
    put("cdn_ports_exhausted_in_seconds", min(ends, default=None), cdn=name)


def test_histograms_are_the_kernels_own(lab: Lab, kernel: Kernel, traffic: Traffic) -> None:
    """Between two looks at the kernel's buckets, and cumulative over the very limits of these."""
    from cdnctl.datapath import abi

    number = kernel.totals("aurora")
    identity = int(kernel.tables.choice.endpoint(kernel.endpoint("aurora")).cdn)
    earlier = parsed(scrape(lab))
    before = kernel.tables.counters.handshakes(identity)
    time.sleep(0.6)  # so that a frame lies between
    said = parsed(scrape(lab))
    after = kernel.tables.counters.handshakes(identity)
    assert number.handshakes > 0
    limits = sorted(
        (float(dict(labels)["le"]), labels)
        for name, labels in said
        if name == "cdnctl_cdn_handshake_seconds_bucket" and dict(labels)["cdn"] == "aurora"
    )
    assert len(limits) == 33
    for limit_s, labels in limits:
        below = [n for n in range(len(after)) if abi.bucket_limits_us(n)[1] <= limit_s * 1e6 * (1 + 1e-9)]
        value = said["cdnctl_cdn_handshake_seconds_bucket", labels]
        assert sum(before[n] for n in below) <= value <= sum(after[n] for n in below)
    count = of(said, "cdnctl_cdn_handshake_seconds_count", cdn="aurora")
    assert count == said["cdnctl_cdn_handshake_seconds_bucket", limits[-1][1]] > 0
    # since the earlier look: what faults took before that is none of these
    more = count - of(earlier, "cdnctl_cdn_handshake_seconds_count", cdn="aurora")
    sums = [of(each, "cdnctl_cdn_handshake_seconds_sum", cdn="aurora") for each in (earlier, said)]
    assert more > 0
    assert 0.9 * 10e-3 < (sums[1] - sums[0]) / more < 3 * 10e-3, "aurora's round trip takes 10 ms"


def test_the_command_line_prints_the_same(lab: Lab, traffic: Traffic) -> None:
    done = run(lab, command_line("metrics", "--edge", lab.name))
    assert (done.returncode, done.stderr) == (0, "")
    names = {name for name, _ in parsed(done.stdout)}
    assert names == {name for name, _ in parsed(scrape(lab))}
    assert json.loads(run(lab, command_line("metrics", "--edge", lab.name, "--json")).stdout)["metrics"]


@pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is missing: `.ci/setup.sh test` installs it"
)
def test_promtool_finds_no_fault(lab: Lab, traffic: Traffic) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=scrape(lab), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_reload_moves_it_and_takes_it_away(lab: Lab, traffic: Traffic) -> None:
    def listens(port: int) -> bool:
        with netns.entered(lab.topology.edge):
            connection = http.client.HTTPConnection(HOST, port, timeout=2)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return False
        connection.close()
        return True

    config = lab.config()
    assert listens(PORT)
    for listen, ports in (("127.0.0.1:9470", {9470}), ("", set[int]()), ("127.0.0.1:9469", {PORT})):
        lab.write_config({**config, "metrics": {"listen": listen}})
        answer = cdnctl(lab, "reload")
        assert f"metrics.listen is {listen}" in answer["text"]
        wait_for(
            f"listening at {ports}",
            2,
            lambda ports=ports: {port for port in (PORT, 9470) if listens(port)} == ports,
        )
