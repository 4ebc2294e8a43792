"""A live edge whose SNAT addresses are the host's as well, and kept for providers: who gets in."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
from labs import Labs
from live import Figure, Kernel, cdnctl, frame, wait_for

from cdnctl.datapath import abi
from cdnctl.lab import netns
from cdnctl.lab.lab import Lab
from cdnctl.lab.topology import SNAT, SNAT6, vip_for

PORTS = [1024, 32_767]
"""Of SNAT: below those that the host's own connections have."""
SERVED = 50_000
"""A port of the host's own."""
STRANGER = {4: "10.1.0.5", 6: "3fff:1::5"}
PEER = {4: "10.2.0.6", 6: "3fff:2::6"}
RANGES = "100.64.0.0/16\n2001:db8:f:2::/64\n"
"""The far ends of links, and of IPv6 that of the second CDN's alone."""
SNATS = {4: SNAT[0], 6: SNAT6[0]}
UNANSWERED_S = 0.3


@pytest.fixture
def hosted(labs: Labs) -> Iterator[Lab]:
    """The SNAT addresses are the host's, which listens there."""
    lab = labs.fresh(edge={"snat_ports": PORTS})
    edge = lab.topology.edge
    subprocess.run(["ip", "-n", edge, "link", "set", "lo", "up"], check=True)
    with contextlib.ExitStack() as stack:
        stack.callback(lab.quiet)
        for address, length in ((SNAT[0], 32), (SNAT6[0], 128)):
            on_lo = f"{address}/{length}", "dev", "lo"
            subprocess.run(["ip", "-n", edge, "addr", "add", *on_lo], check=True)
            stack.callback(subprocess.run, ["ip", "-n", edge, "addr", "del", *on_lo], check=True)
            with netns.entered(edge):
                stack.enter_context(listening(address, SERVED))
        yield lab


def listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=64)


def connects(namespace: str, source: str, target: tuple[str, int], timeout_s: float = UNANSWERED_S) -> bool:
    with netns.entered(namespace):
        try:
            socket.create_connection(target, timeout_s, (source, 0)).close()
        except TimeoutError:
            return False
    return True


def let_in(lab: Lab) -> dict[str, list[bool]]:
    """Of strangers, the second CDN's own host, its router, and a named peer: over IPv4, and over IPv6."""
    site = lab.sites["borealis"]
    link4, link6 = site.link[1]
    sources = {
        "stranger": (lab.topology.clients, STRANGER),
        "endpoint": (site.namespace, {4: site.endpoint, 6: site.endpoint6}),
        "range": (site.namespace, {4: link4, 6: link6}),
        "peer": (lab.topology.clients, PEER),
    }
    return {
        name: [connects(namespace, of[family], (SNATS[family], SERVED)) for family in SNATS]
        for name, (namespace, of) in sources.items()
    }


def asks(lab: Lab) -> list[bool]:
    """Does the host reach somebody who is none of them, by its own connection?"""
    with netns.entered(lab.topology.clients):
        listeners = [listening(STRANGER[family], 5000 + family) for family in SNATS]
    try:
        return [
            connects(lab.topology.edge, SNATS[family], (STRANGER[family], 5000 + family)) for family in SNATS
        ]
    finally:
        for each in listeners:
            each.close()


def test_those_on_the_list_get_in_and_whom_the_host_asks_and_it_is_taken_back(
    hosted: Lab, figure: Figure
) -> None:
    lab, kernel = hosted, Kernel(hosted)
    everybody = {name: [True, True] for name in ("stranger", "endpoint", "range", "peer")}
    assert let_in(lab) == everybody
    assert asks(lab) == [True, True]
    (lab.config_path.parent / "ranges.txt").write_text(RANGES)
    config = lab.config()
    config["edge"] |= {
        "snat_from": "providers",
        "snat_also_from": [f"{PEER[4]}/32", f"{PEER[6]}/128"],
    }
    config["feed"] = [{"name": "ours", "source": "ranges.txt", "kind": "ranges"}]
    lab.write_config(config)
    planned = cdnctl(lab, "reload", "--dry-run")
    assert "it leaves SNAT addresses to providers" in str(planned)
    assert not frame(lab).door.closed
    began = time.monotonic()
    cdnctl(lab, "reload", "--confirm", "60s")
    wait_for("the door is shut", 5, lambda: frame(lab).door.closed)
    figure("shut after, s", round(time.monotonic() - began, 2))

    before = kernel.packets(abi.Verdict.UNINVITED)
    assert let_in(lab) == {**everybody, "stranger": [False, False]}
    assert kernel.packets(abi.Verdict.UNINVITED) >= before + 2
    assert asks(lab) == [True, True]
    for client in STRANGER.values():
        assert connects(lab.topology.clients, client, vip_for(client), 5.0), "clients know of no door"
    assert cdnctl(lab, "diff") == []

    cdnctl(lab, "revert")
    wait_for("it is open again", 5, lambda: not frame(lab).door.closed)
    assert let_in(lab) == everybody
