"""An edge under traffic that gets new programs and tables, its agent killed meanwhile; links that go."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from live import (
    Figure,
    Kernel,
    cdnctl,
    command_line,
    failures,
    frame,
    programs,
    requests_of,
    run,
    wait_for,
)

from cdnctl import paths
from cdnctl.agent.client import Client
from cdnctl.datapath import abi
from cdnctl.errors import AgentUnreachable
from cdnctl.lab import netns
from cdnctl.lab.lab import Lab
from cdnctl.lab.traffic import Traffic
from cdnctl.model import Outcome, Reload

CONFIG = {"service": {"policy": "weighted"}}
CLIENTS = {"rate": 200, "share6": 0.5}
RELOADS = 6
"""Some fifty in test_live_wide.py."""
SIZES = ({"flows": 150_000}, {"endpoints": 16}, {"flows": 100_000, "endpoints": 12})
"""No flow loses its place."""
TIMEOUT_S = 60.0
AGAIN_S = 2.0
SPARE = "spare"


def reload(lab: Lab, **how: bool) -> Outcome:
    with Client(paths.socket_path(lab.name), client="test") as client:
        outcome = client.request(Reload(**how), TIMEOUT_S)
    assert outcome.ok, outcome.text
    return outcome


def changed(lab: Lab, table: str, **keys: Any) -> None:
    """Write other values into a table of the operator's file."""
    config = lab.config()
    config[table] = {**config.get(table, {}), **keys}
    lab.write_config(config)


@contextlib.contextmanager
def no_request_fails(traffic: Traffic, figure: Figure) -> Iterator[None]:
    """None that begins within this block."""
    began_ns = time.monotonic_ns()
    yield
    requests = requests_of(traffic, began_ns, time.monotonic_ns())
    figure("requests, failed", (len(requests), len(failures(requests))))
    figure("slowest, ms", round(max(request.total_ms for request in requests)))
    assert len(requests) > 50
    assert not failures(requests), failures(requests)[:8]


def test_new_programs_under_traffic(lab: Lab, kernel: Kernel, traffic: Traffic, figure: Figure) -> None:
    took, before = [], programs(lab)
    with no_request_fails(traffic, figure):
        for _ in range(RELOADS):
            began = time.monotonic()
            reload(lab, program=True)
            took.append(time.monotonic() - began)
            now = programs(lab)
            assert len(set(now.values())) == 1
            assert now.keys() == before.keys()
            assert now != before
            before = now
    figure("reload, s, median and longest", (round(statistics.median(took), 2), round(max(took), 2)))
    assert kernel.packets(abi.Verdict.NO_STAGE) == 0
    assert frame(lab).sampling.received_per_s > 0, "the new program's samples arrive"


@pytest.mark.soak
def test_other_tables_under_traffic(lab: Lab, traffic: Traffic, figure: Figure) -> None:
    before = Kernel(lab).accounts()
    with no_request_fails(traffic, figure):
        for sizes in SIZES:
            changed(lab, "limits", **sizes)
            began = time.monotonic()
            outcome = reload(lab)
            figure("flows moved, s", round(time.monotonic() - began, 2))
            assert "other tables" in outcome.text
            after = Kernel(lab).accounts()
            fallen = [name for name, count in after.items() if count < before[name]]
            assert fallen == []
            before = after
    assert len(list(paths.pin_dir(lab.name).iterdir())) == 2, "one set of tables, and the link to it"


@pytest.mark.soak
def test_a_log_of_ports_begins_and_ends_with_a_reload(lab: Lab, traffic: Traffic, figure: Figure) -> None:
    """A line for each connection of the clients', with our port as the CDN saw it."""
    with no_request_fails(traffic, figure):
        changed(lab, "log", nat=True)
        reload(lab)
        began_ns = time.monotonic_ns()
        time.sleep(2)
        ended_ns = time.monotonic_ns()
        time.sleep(1.2)
        changed(lab, "log", nat=False)
        reload(lab)
    log = lab.directory / "state" / lab.name / "nat.log"
    found = log.read_text().splitlines()
    assert not [line for line in found if line.startswith("#")]
    requests = [
        each
        for each in requests_of(traffic, began_ns, ended_ns)
        if each.outcome == "ok" and each.kind == "new"
    ]
    figure("requests, lines", (len(requests), len(found)))
    assert len(found) >= len(requests) > 50
    ports = [tuple(line.split()[4:6]) for line in found]
    assert len(set(ports)) == len(ports), "no port was two clients' within two seconds"
    snat = set(lab.config()["edge"]["snat"])
    assert {port.rpartition(":")[0].strip("[]") for port, _ in ports} <= snat
    time.sleep(1)
    assert len(log.read_text().splitlines()) == len(found)


@pytest.mark.parametrize(
    ("what", "kills"),
    [
        pytest.param("program", 2, marks=pytest.mark.soak),
        pytest.param("program", 12, marks=pytest.mark.soak),
        pytest.param("tables", 3, marks=pytest.mark.soak),
    ],
)
def test_killed_at_any_moment_of_a_reload(
    lab: Lab, traffic: Traffic, figure: Figure, what: str, kills: int
) -> None:
    """At random, as often as it takes for most moments to come up."""
    chance = random.Random(os.environ.get("CDNCTL_TEST_SEED", "1"))
    with no_request_fails(traffic, figure):
        for number in range(kills):
            over = threading.Event()
            reloading = threading.Thread(target=keep_reloading, args=(lab, what, number, over))
            reloading.start()
            time.sleep(chance.uniform(0.05, 1.0))
            over.set()
            lab.stop_agent(kill=True)
            reloading.join(10)
            figure("programs left behind", len(set(programs(lab).values())))
            lab.start_agent()
            assert set(programs(lab)) == set(lab.topology.edge_links)
            assert len(set(programs(lab).values())) == 1
            assert len(list(paths.pin_dir(lab.name).iterdir())) == 2
            assert Kernel(lab).tables.mode == abi.Mode(0)
    assert reload(lab, program=True).ok


def keep_reloading(lab: Lab, what: str, number: int, over: threading.Event) -> None:
    for turn in range(number, 100):
        if what == "tables":
            changed(lab, "limits", **SIZES[turn % len(SIZES)])
        with contextlib.suppress(AgentUnreachable, AssertionError):
            reload(lab, program=True)
        if over.is_set():
            return


def test_a_hangup_reloads(lab: Lab, traffic: Traffic) -> None:
    config = lab.config()
    config["cdn"][0]["weight"] = 37
    lab.write_config(config)
    assert lab.agent is not None
    lab.agent.send_signal(signal.SIGHUP)
    wait_for("the new weight", 5, lambda: frame(lab).cdns[0].wanted_weight == 37)


# --- links ---------------------------------------------------------------------------------------------


@pytest.fixture
def spare(lab: Lab) -> Iterator[str]:
    """One more interface of the edge's, which nothing else needs."""
    make(lab)
    config = lab.config()
    config["edge"]["interfaces"].append(SPARE)
    lab.write_config(config)
    assert "edge.interfaces has spare now" in cdnctl(lab, "reload")["changed"]
    yield SPARE
    config["edge"]["interfaces"].remove(SPARE)
    lab.write_config(config)
    assert "edge.interfaces has spare no more" in cdnctl(lab, "reload")["changed"]
    ip(lab, "link", "del", SPARE)


def make(lab: Lab) -> None:
    ip(lab, "link", "add", SPARE, "type", "veth", "peer", "name", f"{SPARE}-far")
    ip(lab, "link", "set", SPARE, "up")


def ip(lab: Lab, *words: str) -> None:
    subprocess.run(["ip", "-n", lab.topology.edge, *words], check=True)


def test_an_interface_that_is_made_anew_gets_the_program(lab: Lab, traffic: Traffic, spare: str) -> None:
    assert spare in programs(lab)
    others = {name: program for name, program in programs(lab).items() if name != spare}
    ip(lab, "link", "del", spare)
    time.sleep(1.0)
    make(lab)
    wait_for("the program on it", AGAIN_S, lambda: spare in programs(lab))
    assert {name: program for name, program in programs(lab).items() if name != spare} == others
    wait_for("its mode", 1, lambda: all(each.mode == "native" for each in frame(lab).interfaces))


def test_a_program_that_was_dropped_is_put_on_again(lab: Lab, traffic: Traffic, figure: Figure) -> None:
    """As by a driver that is reset."""
    name = lab.sites["aurora"].edge_link
    ip(lab, "link", "set", "dev", name, "xdp", "off")
    wait_for("the program on it", AGAIN_S, lambda: name in programs(lab))
    # what came in meanwhile was the host's, which resets connections that it does not know
    began_ns = time.monotonic_ns()
    time.sleep(1.0)
    requests = requests_of(traffic, began_ns, time.monotonic_ns())
    opened = [request for request in requests if request.opened_ns > began_ns]
    figure("requests on new connections, failed", (len(opened), len(failures(opened))))
    assert len(opened) > 50
    assert not failures(opened), failures(opened)[:8]
    assert f"attached to {name} again" in lab.log("agent")


@pytest.mark.soak
def test_who_detached_it_past_the_agent_has_his_will(lab: Lab, traffic: Traffic) -> None:
    """The panic button works also when the agent hangs: it does not undo that when it wakes up."""
    lab.pause_agent()
    inside = ["nsenter", f"--net={netns.path(lab.topology.edge)}"]
    done = run(lab, [*inside, *command_line("detach", "--edge", lab.name, "--yes")])
    assert done.returncode == 0, done.stderr
    assert programs(lab) == {}
    lab.resume_agent()
    time.sleep(AGAIN_S + 1)
    assert programs(lab) == {}
    assert "unloaded past this agent" in lab.log("agent")
