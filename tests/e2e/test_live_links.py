"""Links that go down and come back, and an operator's detach that a restart must not undo."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
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


def neighbours(lab: Lab, cdn: str) -> set[str]:
    """Endpoints of a CDN whose link address the edge knows: they are on its link."""
    site = lab.sites[cdn]
    found = json.loads(ip(lab.topology.edge, "neigh", "show", "dev", site.edge_link))
    return {site.endpoint, site.endpoint6} & {each["dst"] for each in found if "lladdr" in each}


def told(lab: Lab, since_seq: int) -> str:
    """What was told in the frames after this one."""
    newest = frame(lab).seq
    lines = []
    for seq in range(since_seq + 1, newest + 1):
        seen: Frame | None = ask(lab, GetFrame(seq=seq)).frame
        lines += [event.text for event in seen.events] if seen else []
    return "\n".join(lines)


def serves_again(lab: Lab, kernel: Kernel, cdn: str) -> None:
    """New flows complete at a CDN: its handshakes go on."""
    wait_for(f"the neighbours of {cdn}", MENDED_S, lambda: len(neighbours(lab, cdn)) == 2)
    before = kernel.totals(cdn).handshakes
    wait_for(f"handshakes with {cdn}", 25, lambda: kernel.totals(cdn).handshakes > before + 5)


def test_a_lost_carrier_is_mended(lab: Lab, kernel: Kernel, traffic: Traffic) -> None:
    wire, peer = lab.topology.wire, lab.sites["aurora"].edge_peer
    assert len(neighbours(lab, "aurora")) == 2
    ip(wire, "link", "set", peer, "down")
    wait_for("the neighbour to go", 2, lambda: not neighbours(lab, "aurora"))
    ip(wire, "link", "set", peer, "up")
    serves_again(lab, kernel, "aurora")


@pytest.mark.soak
def test_a_link_set_down_and_up_is_mended_and_told(lab: Lab, kernel: Kernel, traffic: Traffic) -> None:
    edge, link, since = lab.topology.edge, lab.sites["borealis"].edge_link, frame(lab).seq
    ip(edge, "link", "set", link, "down")
    time.sleep(INTERVAL_S + 1)
    ip(edge, "link", "set", link, "up")
    lab.topology.route_to_sites()  # they went with the link
    serves_again(lab, kernel, "borealis")
    endpoints = (lab.sites["borealis"].endpoint, lab.sites["borealis"].endpoint6)
    said = [f"no way to endpoint {endpoint}" for endpoint in endpoints]
    said += [f"a way to endpoint {endpoint} again" for endpoint in endpoints]
    said += ["no route"]  # packets were dropped meanwhile
    wait_for("words of it", INTERVAL_S + 1, lambda: all(words in told(lab, since) for words in said))


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
    wait_for("neighbours", 2, lambda: all(len(neighbours(lab, cdn)) == 2 for cdn in lab.sites))
    lab.stop_agent()
    lab.start_agent()
    assert set(programs(lab)) == set(lab.topology.edge_links)
