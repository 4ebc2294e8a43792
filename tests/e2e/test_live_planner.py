"""The planner over a live edge: what packets do not show is seen, and left, before clients pay for it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from labs import Labs
from live import (
    Figure,
    Kernel,
    after,
    ask,
    cdn_of,
    failures,
    frame,
    requests_of,
    sleep_until,
    wait_for,
)

from cdnctl.lab import netns
from cdnctl.lab.lab import Lab
from cdnctl.lab.topology import PORT
from cdnctl.model import AskPlanner
from cdnctl.paths import journal_path

EVERY_S = 1.0
PROBE = {"kind": "http", "path": "/512", "every_s": EVERY_S, "timeout_s": 0.5}
ON = {"mode": "on"}
TLS_PORT = 8443
DNS_PORT, TTL_S = 5353, 5
HERE = Path(__file__).parent


@pytest.fixture
def at_rest(labs: Labs) -> Iterator[None]:
    """The next module finds the lab without our load."""
    yield
    if labs._lab is not None:
        labs._lab.quiet()


def begin(lab: Lab, rate: float = 200.0) -> tuple[Kernel, Any]:
    kernel = Kernel(lab)
    traffic = lab.start_clients(rate=rate, pool=0)
    wait_for("every CDN has new flows", 10, lambda: all(n > 20 for n in kernel.new_flows().values()))
    return kernel, traffic


def test_a_cdn_that_answers_503_is_left_within_two_probe_intervals(
    labs: Labs, at_rest: None, figure: Figure
) -> None:
    lab = labs.fresh(planner=ON, cdn={"probe": PROBE})
    kernel, _ = begin(lab)
    wait_for(
        "probes say that all are well",
        10,
        lambda: all(cdn.plan.probes == "well" for cdn in frame(lab).cdns),
    )
    sick_ns = lab.sicken("borealis")
    wait_for("it is left out", 2 * EVERY_S + 1, lambda: cdn_of(frame(lab), "borealis").state == "out")
    last_ns = kernel.last_new_flow_ns("borealis")
    figure("intervals until the last new flow", round((last_ns - sick_ns) / 1e9 / EVERY_S, 2))
    assert last_ns - sick_ns <= 2 * EVERY_S * 1e9
    cdn = cdn_of(frame(lab), "borealis")
    assert cdn.reason == "probes"
    assert "it answers 503" in cdn.plan.probe_text
    assert "503" in (ask(lab, AskPlanner(cdn="borealis")).text)
    assert "503" in journal_path_text(lab)
    lab.restore("borealis")
    before = kernel.new_flows()["borealis"]
    wait_for("it gets new flows again", 8, lambda: kernel.new_flows()["borealis"] > before)


def journal_path_text(lab: Lab) -> str:
    """What the planner wrote down."""
    state = Path(lab.environment["CDNCTL_STATE_DIR"])
    lines = (state / lab.name / journal_path(lab.name).name).read_text().splitlines()
    return "\n".join(line for line in lines if '"planner"' in line)


@pytest.mark.soak
def test_a_certificate_that_ends_soon_is_warned_of(labs: Labs, at_rest: None, tmp_path: Path) -> None:
    lab = labs.fresh(agent=False)
    site = lab.sites["borealis"]
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = (
        f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3 -keyout {key} -out {cert}"
    )
    named = ["-subj", "/CN=cdn.test", "-addext", "subjectAltName=DNS:cdn.test"]
    subprocess.run(["openssl", *made.split(), *named], check=True, capture_output=True)
    server = ["openssl", "s_server", "-accept", str(TLS_PORT), "-cert", str(cert), "-key", str(key), "-quiet"]
    lab.run_beside(server, site.namespace, "a TLS server")
    config = lab.config()
    probe = {"kind": "tls", "port": TLS_PORT, "host": "cdn.test", "ca_file": str(cert), "every_s": 1.0}
    for cdn in config["cdn"]:
        if cdn["name"] == "borealis":
            cdn["probe"] = {**probe, "timeout_s": 1.0}
    lab.write_config({**config, "planner": ON})
    lab.start_agent()
    plan = wait_for(
        "the warning", 10, lambda: (each := cdn_of(frame(lab), "borealis").plan).probe_text and each
    )
    assert "its certificate ends in 3 days" in plan.probe_text
    assert plan.probes == "well", "it still serves"
    assert 2 < plan.certificate_days <= 3
    told = wait_for("the event", 5, lambda: [text for text in events(lab) if "certificate" in text])
    assert told


def events(lab: Lab) -> list[str]:
    """What the ticker has had so far."""
    return lab.log("agent", 400).splitlines()


@pytest.mark.soak
def test_a_change_of_dns_is_adopted_within_its_ttl_and_no_request_fails(
    labs: Labs, at_rest: None, tmp_path: Path, figure: Figure
) -> None:
    lab = labs.fresh(agent=False, without="corona")
    addresses = tmp_path / "addresses"
    old, new = lab.sites["aurora"].endpoint, lab.sites["corona"].endpoint
    addresses.write_text(f"{old}\n")
    server = [
        sys.executable,
        str(HERE / "name_server.py"),
        "127.0.0.1",
        str(DNS_PORT),
        str(addresses),
        str(TTL_S),
    ]
    with netns.entered(lab.topology.edge):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    lab.run_beside(server, lab.topology.edge, "a name server")
    config = lab.config()
    config["dns"] = {"servers": ["127.0.0.1"], "port": DNS_PORT}
    aurora = next(cdn for cdn in config["cdn"] if cdn["name"] == "aurora")
    aurora |= {"endpoints": [], "names": [f"edge.lab.test:{PORT}"]}
    config["service"] = [service for service in config["service"] if service["name"] == "www"]
    lab.write_config(config)
    time.sleep(0.5)  # the name server begins
    lab.start_agent()
    traffic = lab.start_clients(rate=150.0, pool=20, targets=[("203.0.113.80", PORT)])
    began_ns = time.monotonic_ns()

    def endpoints() -> list[str]:
        return [each.address for each in cdn_of(frame(lab), "aurora").endpoints]

    assert wait_for("its first address", 5, endpoints) == [old]
    sleep_until(after(time.monotonic_ns(), 3))
    addresses.write_text(f"{new}\n")
    changed_ns = time.monotonic_ns()
    wait_for("the new address", TTL_S + 2, lambda: new in endpoints())
    took_s = (time.monotonic_ns() - changed_ns) / 1e9
    figure("seconds until the new address was in force", round(took_s, 2))
    assert took_s <= TTL_S + 0.6, "its TTL, and a frame"
    wait_for("requests served by it", 5, lambda: any(r.cdn == "corona" for r in traffic.begun(changed_ns)))
    wait_for("the old address goes", 6 * TTL_S, lambda: endpoints() == [new])
    until_ns = after(time.monotonic_ns(), 3)
    requests = requests_of(traffic, began_ns, until_ns)
    figure("requests", len(requests))
    assert len(requests) > 1000
    assert failures(requests) == []


@pytest.mark.soak
def test_congestion_is_left_before_one_request_in_a_hundred_fails(
    labs: Labs, at_rest: None, figure: Figure
) -> None:
    lab = labs.fresh(planner=ON)
    _, traffic = begin(lab, 260.0)
    sleep_until(after(time.monotonic_ns(), 6))
    bad_ns = lab.set_link("aurora", loss=0.05)
    wait_for("it has little left", 45, lambda: cdn_of(frame(lab), "aurora").plan.factor <= 0.2, 0.5)
    left_ns = time.monotonic_ns()
    requests = requests_of(traffic, bad_ns, left_ns)
    failed = failures(requests)
    figure("seconds until it had a fifth of its weight", round((left_ns - bad_ns) / 1e9, 1))
    figure("requests, failed", (len(requests), len(failed)))
    assert len(failed) < 0.01 * len(requests)
    cdn = cdn_of(frame(lab), "aurora")
    assert cdn.plan.code in ("loss", "failures"), "connects that are lost are rescued, and count as failed"
    assert ", its peers' 0" in cdn.plan.why
