"""Links that go down and come back, and an operator's detach that a restart must not undo."""

from __future__ import annotations

import json
import subprocess
import time

from live import Kernel, ask, cdnctl, forwarding, frame, programs, wait_for

from cdnctl.datapath.neighbours import INTERVAL_S
from cdnctl.lab.lab import Lab
from cdnctl.lab.traffic import Traffic
from cdnctl.model import Attach, Frame, GetFrame

CONFIG = {"service": {"policy": "weighted"}, "reflex": {"out_s": 1.0, "max_out_s": 1.0, "slow_start_s": 0.0}}
MENDED_S = INTERVAL_S + 1.5
"""A round of neighbours, a frame to begin it in, and an answer to ARP."""


def ip(namespace: str, *words: str) -> str:
    return subprocess.run(
        ["ip", "-j", "-n", namespace, *words], check=True, capture_output=True, text=True
    ).stdout


def neighbours(lab: Lab, cdn: str) -> list[str]:
    """Those with an address on the edge's link towards a CDN."""
    link = lab.sites[cdn].edge_link
    return [
        each["dst"]
        for each in json.loads(ip(lab.topology.edge, "neigh", "show", "dev", link))
        if "lladdr" in each
    ]


def events(lab: Lab, since_seq: int) -> list[str]:
    """What was told in the frames after this one."""
    newest = frame(lab).seq
    told = []
    for seq in range(since_seq + 1, newest + 1):
        seen: Frame | None = ask(lab, GetFrame(seq=seq)).frame
        told += [event.text for event in seen.events] if seen else []
    return told


def serves_again(lab: Lab, kernel: Kernel, cdn: str) -> None:
    """New flows complete at a CDN: its handshakes go on."""
    wait_for(f"the neighbour of {cdn}", MENDED_S, lambda: neighbours(lab, cdn))
    before = kernel.totals(cdn).handshakes
    wait_for(f"handshakes with {cdn}", 25, lambda: kernel.totals(cdn).handshakes > before + 5)


def test_a_lost_carrier_is_mended(lab: Lab, kernel: Kernel, traffic: Traffic) -> None:
    wire, peer = lab.topology.wire, lab.sites["aurora"].edge_peer
    assert neighbours(lab, "aurora")
    ip(wire, "link", "set", peer, "down")
    wait_for("the neighbour to go", 2, lambda: not neighbours(lab, "aurora"))
    ip(wire, "link", "set", peer, "up")
    serves_again(lab, kernel, "aurora")


def test_a_link_set_down_and_up_is_mended_and_told(lab: Lab, kernel: Kernel, traffic: Traffic) -> None:
    edge, link, since = lab.topology.edge, lab.sites["borealis"].edge_link, frame(lab).seq
    ip(edge, "link", "set", link, "down")
    time.sleep(INTERVAL_S + 1)
    ip(edge, "link", "set", link, "up")
    ip(edge, "route", "add", lab.sites["borealis"].endpoint, "dev", link)  # it went with the link
    serves_again(lab, kernel, "borealis")
    told = "\n".join(events(lab, since))
    endpoint = lab.sites["borealis"].endpoint
    assert f"no way to endpoint {endpoint}" in told
    assert f"a way to endpoint {endpoint} again" in told
    assert "no route" in told, "packets were dropped meanwhile"


def test_an_operators_detach_outlives_the_agent(lab: Lab, kernel: Kernel, traffic: Traffic) -> None:
    cdnctl(lab, "detach", "--yes")
    assert programs(lab) == {}
    assert not any(neighbours(lab, cdn) for cdn in lab.sites), "no managed neighbour is left"
    lab.stop_agent()
    lab.start_agent()
    assert programs(lab) == {}
    assert not any(forwarding(lab).values())
    seen = frame(lab)
    assert {interface.mode for interface in seen.interfaces} == {"detached"}
    assert ask(lab, Attach()).ok
    assert set(programs(lab)) == set(lab.topology.edge_links)
    wait_for("neighbours", 2, lambda: all(neighbours(lab, cdn) for cdn in lab.sites))
    lab.stop_agent()
    lab.start_agent()
    assert set(programs(lab)) == set(lab.topology.edge_links)
