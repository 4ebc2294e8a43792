"""Both families, every way to a CDN, and an edge that is reloaded under load: no request fails for it."""

from __future__ import annotations

import select
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from labs import Labs
from live import (
    Figure,
    Kernel,
    after,
    ask,
    cdn_of,
    cdnctl,
    command_line,
    failures,
    forget_paths,
    frame,
    is_answered,
    requests_of,
    sleep_until,
    too_big_said,
    wait_for,
    warm_up,
)
from pyroute2 import IPRoute
from pyroute2.netlink.rtnl import RTMGRP_LINK

from cdnctl.datapath import abi
from cdnctl.lab import netns
from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import start
from cdnctl.lab.topology import SECOND_PORT, VIP, VIP6, vip_for
from cdnctl.model import SetWeights

pytestmark = pytest.mark.soak
"""Minutes, with labs of their own and reloads under load."""

CLIENTS = ("10.1.200.7", "3fff:1:200::7")
FAR_CLIENTS = ("10.4.1.7", "3fff:4:1::7")
RATE, SHARE6 = 200.0, 0.5
NARROW_MTU, TUNNEL_MTU = 1280, 1400
"""Of a hop in the middle: IPv6 in a tunnel needs room for its own least of 1,280."""
SECOND = "api"
"""The service that joins later."""


RELOAD = ("reload", "--program")


def reload(lab: Lab) -> None:
    """Have the agent take the configuration anew, and load and attach the program anew, under traffic."""
    cdnctl(lab, *RELOAD)


# --- an edge that is changed all the while ---------------------------------------------------------


class Much(NamedTuple):
    """How much is done to an edge in one go."""

    reloads: int
    weights: int
    requests: int
    megabytes: int
    mbit: float
    """Of each download, so that it lasts."""


QUICK = Much(reloads=5, weights=20, requests=500, megabytes=12, mbit=5.0)
LESS = Much(reloads=12, weights=50, requests=1000, megabytes=40, mbit=6.0)
FULL = Much(reloads=50, weights=200, requests=2000, megabytes=100, mbit=6.0)

NAT = ("nat", "nat", "nat")
WAYS = [
    pytest.param(NAT, QUICK, id="nat"),
    pytest.param(("ipip", "gue", "nat"), QUICK, id="each another way"),
    pytest.param(NAT, FULL, id="nat in full", marks=pytest.mark.soak),
    pytest.param(("ipip",) * 3, LESS, id="ipip", marks=pytest.mark.soak),
    pytest.param(("gue",) * 3, LESS, id="gue", marks=pytest.mark.soak),
]


class Changes:
    """Reloads and weights, evenly mixed; meanwhile a CDN and a service join and a reload is cut short."""

    def __init__(self, lab: Lab, much: Much, joining: dict[str, Any]) -> None:
        self.lab, self.much, self.joining = lab, much, joining
        self.steps: dict[int, Callable[[], None]] = {
            much.reloads // 4: self.a_cdn_joins,
            much.reloads // 2: self.a_service_joins,
            3 * much.reloads // 4: self.a_reload_is_cut_short,
        }
        self.weights_set = 0

    def run(self) -> None:
        for number in range(self.much.reloads):
            self.steps.get(number, lambda: None)()
            reload(self.lab)
            while self.weights_set * self.much.reloads < (number + 1) * self.much.weights:
                self.weights_set += 1
                weights = {"aurora": 40 + self.weights_set % 60, "borealis": 100 - self.weights_set % 60}
                ask(self.lab, SetWeights(weights=weights))

    def a_cdn_joins(self) -> None:
        config = self.lab.config()
        config["cdn"].append(self.joining)
        self.lab.write_config(config)

    def a_service_joins(self) -> None:
        config = self.lab.config()
        config["service"] += [
            {"name": SECOND, "vip": VIP, "port": SECOND_PORT, "policy": "weighted"},
            {"name": f"{SECOND}6", "vip": VIP6, "port": SECOND_PORT, "policy": "weighted"},
        ]
        self.lab.write_config(config)

    def a_reload_is_cut_short(self) -> None:
        """Killed between two interfaces: old and new program serve side by side until there is an agent."""
        for _ in range(20):
            command = command_line(*RELOAD, "--edge", self.lab.name)
            asking = start(command, stderr=subprocess.DEVNULL, extra=self.lab.environment)
            cut = killed_between_interfaces(self.lab, asking)
            asking.wait(10)
            if cut:
                break
            if self.lab.agent is None:
                self.lab.start_agent()
        else:
            raise AssertionError("every reload was over before it could be cut short")
        time.sleep(0.2)
        self.lab.start_agent()


def killed_between_interfaces(lab: Lab, asking: subprocess.Popen[bytes]) -> bool:
    """Kill the agent as soon as the kernel tells of the first interface; False when that was too late."""
    assert lab.agent is not None
    with netns.entered(lab.topology.edge), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as news:
        news.bind((0, RTMGRP_LINK))
        while asking.poll() is None:
            if select.select([news], [], [], 0.05)[0]:
                lab.agent.kill()
                break
    lab.stop_agent(kill=True)
    with netns.netlink(lab.topology.edge) as ip:
        return len(programs_on(ip)) > 1


def programs_on(ip: IPRoute) -> set[int]:
    """Ids of the programs on the interfaces of a namespace."""
    attached = (link.get_attr("IFLA_XDP") for link in ip.get_links())
    return {identity for xdp in attached if xdp and (identity := xdp.get_attr("IFLA_XDP_PROG_ID"))}


@pytest.mark.parametrize(("modes", "much"), WAYS)
def test_no_request_fails_while_the_edge_is_changed(
    labs: Labs, modes: tuple[str, ...], much: Much, figure: Figure
) -> None:
    lab, joining = two_cdns(labs, modes)
    kernel, tunnelled = Kernel(lab), lab.pops.tunnelled()
    path, checksum = lab.pops.offer(much.megabytes)
    traffic = lab.start_clients(rate=RATE, share6=SHARE6)
    downloads = [lab.download(path, client, mbit=much.mbit) for client in CLIENTS]
    wait_for("traffic", 5, lambda: min(download.bytes for download in downloads) > 100_000)
    begun_ns = time.monotonic_ns()
    before = kernel.from_cdns()

    changes = Changes(lab, much, joining)
    changes.run()
    sleep_until(after(begun_ns, much.requests / RATE))
    changed_s = (time.monotonic_ns() - begun_ns) / 1e9
    read = [download.bytes for download in downloads]
    fetched = [download.result() for download in downloads]
    until_ns = time.monotonic_ns()
    requests = requests_of(traffic, begun_ns, until_ns)
    traffic.set_rate(0)

    six = [request for request in requests if ":" in request.source]
    figure("changed for, s", round(changed_s, 1))
    figure("requests, of IPv6, failed", (len(requests), len(six), len(failures(requests))))
    figure("served by", dict(Counter(request.cdn for request in requests)))
    figure("downloaded while it was changed, share", [round(n / (much.megabytes << 20), 2) for n in read])
    assert not failures(requests), failures(requests)[:8]
    assert changes.weights_set == much.weights
    assert len(requests) >= much.requests
    assert 0.4 < len(six) / len(requests) < 0.6
    assert min(Counter(request.cdn for request in requests)[cdn] for cdn in lab.sites) > 0
    # What was begun before all that came whole, from one CDN, and was not over before its end.
    assert all((f.bytes, f.sha256) == (much.megabytes << 20, checksum) for f in fetched)
    assert max(read) < much.megabytes << 20
    for client in CLIENTS:
        assert is_answered(lab.socket(client), (vip_for(client)[0], SECOND_PORT)), "by the second service"
    assert ways_taken(lab, kernel, tunnelled, before) == dict(zip(lab.sites, modes, strict=True))
    assert {cdn.name: cdn.mode for cdn in frame(lab).cdns} == dict(zip(lab.sites, modes, strict=True))


def two_cdns(labs: Labs, modes: tuple[str, ...]) -> tuple[Lab, dict[str, Any]]:
    """An edge without the last CDN, and what is to be written of that."""
    lab = labs.fresh(agent=False, service={"policy": "weighted"})
    config = lab.config()
    for cdn, mode in zip(config["cdn"], modes, strict=True):
        cdn["mode"] = mode
    late = config["cdn"].pop()
    lab.write_config(config)
    lab.start_agent()
    return lab, late


def ways_taken(
    lab: Lab, kernel: Kernel, tunnelled: dict[str, dict[str, int]], replies: dict[str, int]
) -> dict[str, str]:
    """How packets of both families got to each CDN since then; the answers to tunnels are not ours to see."""
    taken = {}
    for cdn, counts in lab.pops.tunnelled().items():
        used = {kind for kind, count in counts.items() if count > tunnelled[cdn][kind]}
        seen = kernel.from_cdns()[cdn] > replies.get(cdn, 0)
        taken[cdn] = {
            (frozenset(), True): "nat",
            (frozenset({"ipip", "ipip6"}), False): "ipip",
            (frozenset({"gue", "gue6"}), False): "gue",
        }.get((frozenset(used), seen), f"{used}, replies seen: {seen}")
    return taken


# --- hops that are too narrow ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def every_way(labs: Labs) -> Iterator[Lab]:
    """One CDN of each mode, and a narrow hop on the way to each. Of those to tunnels' ends the operator
    knows, and the routes say so: what a router in a tunnel says, nobody could pass on.
    """
    lab = labs.fresh(agent=False, service={"policy": "weighted"})
    config, modes = lab.config(), ("nat", "ipip", "gue")
    for cdn, mode in zip(config["cdn"], modes, strict=True):
        cdn["mode"] = mode
        lab.narrow(cdn["name"], NARROW_MTU if mode == "nat" else TUNNEL_MTU)
    lab.write_config(config)
    lab.topology.route_to_sites(mtu=dict.fromkeys(("borealis", "corona"), TUNNEL_MTU))
    lab.start_agent()
    yield lab
    lab.quiet()


def only(lab: Lab, cdn: str) -> None:
    """Have all new flows go to one CDN, and nobody remember what size of packets got there."""
    ask(lab, SetWeights(weights={name: 100 if name == cdn else 0 for name in lab.sites}))
    forget_paths(lab)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("cdn", ["aurora", "borealis", "corona"], ids=["nat", "ipip", "gue"])
def test_a_path_with_a_narrow_hop_works(every_way: Lab, cdn: str, client: str) -> None:
    """Clients hear of it: from the hop itself, about what was translated; of a tunnel from the edge."""
    lab, kernel = every_way, Kernel(every_way)
    only(lab, cdn)
    before, said = lab.wire_stats()[cdn], kernel.packets(abi.Verdict.SAID_TOO_BIG)
    assert is_answered(lab.socket(client), vip_for(client), digits=30_000)
    ways = zip(lab.wire_stats()[cdn], before, strict=True)
    there, back, *_ = (way["too_big"] - was["too_big"] for way, was in ways)
    if cdn == "aurora":
        assert there > 0, "an error for the client, about what it never sent"
        assert back > 0, "and one for the CDN"
    else:
        assert there == 0
        assert kernel.packets(abi.Verdict.SAID_TOO_BIG) > said


@pytest.mark.parametrize("client", FAR_CLIENTS)
@pytest.mark.parametrize("cdn", ["aurora", "borealis", "corona"], ids=["nat", "ipip", "gue"])
def test_a_narrow_hop_before_the_client_is_heard_of_at_the_cdn(every_way: Lab, cdn: str, client: str) -> None:
    """Its router tells the VIP: the edge passes that on to whoever sent, translated or in the tunnel."""
    lab = every_way
    lab.narrow(cdn, None)
    only(lab, cdn)
    path, checksum = lab.pops.offer(4)
    said = too_big_said(lab)
    fetched = lab.download(path, client).result(15)
    assert (fetched.cdn, fetched.sha256) == (cdn, checksum)
    assert too_big_said(lab) > said


# --- a dark tunnel ---------------------------------------------------------------------------------


def test_a_dark_pop_that_answers_directly_is_ejected(labs: Labs, figure: Figure) -> None:
    """The kernel sees no answer of it, only clients that go on: it is dark when they do not."""
    lab = labs.fresh(
        service={"policy": "weighted"},
        cdn={"mode": "gue"},
        reflex={"out_s": 2.0, "max_out_s": 2.0, "slow_start_s": 0.0},
    )
    kernel, cdn = Kernel(lab), "aurora"
    traffic = lab.start_clients(rate=400, share6=SHARE6)
    warm_up(kernel, traffic, six=True)
    # a handshake's time is SYN to the client's ACK
    wait_for("the PoP's handshakes are in a frame", 5, lambda: cdn_of(frame(lab), cdn).samples)
    fault_ns = lab.darken(cdn)
    sleep_until(after(fault_ns, 1.0))
    assert kernel.is_out(cdn)
    assert {health.reason for health in kernel.healths(cdn)} == {abi.OutReason.DARK}
    last_ns = kernel.last_new_flow_ns(cdn)
    sleep_until(after(fault_ns, 3.0))
    assert not any(kernel.is_out(name) for name in lab.sites if name != cdn)
    healed_ns = lab.heal(cdn)
    wait_for("it is back", 12, lambda: kernel.is_in(cdn) and kernel.last_new_flow_ns(cdn) > healed_ns)
    figure("last new flow after the fault, ms", (last_ns - fault_ns) / 1e6)
    figure("back, s", (time.monotonic_ns() - healed_ns) / 1e9)
    assert last_ns < after(fault_ns, 1.0)
    new = [r for r in requests_of(traffic, fault_ns, healed_ns) if r.opened_ns >= fault_ns]
    figure("requests on new connections, failed", (len(new), len(failures(new))))
    assert len(failures(new)) <= 0.01 * len(new), failures(new)[:5]
