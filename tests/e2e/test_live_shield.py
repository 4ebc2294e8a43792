"""The shield on a live edge: what siege costs an honest client, also behind firewalls; a spoofed flood."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import json
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator

import pytest
from live import Figure, Kernel, after, cdnctl, command_line, failures, frame, requests_of, run, wait_for

from cdnctl.datapath import abi
from cdnctl.datapath.kernel import Map
from cdnctl.lab import netns
from cdnctl.lab.lab import Lab
from cdnctl.lab.topology import FLOOD_PREFIX, PORT, UPLINK, VIP, VIP6
from cdnctl.lab.traffic import Traffic
from cdnctl.paths import tables_dir

pytestmark = pytest.mark.quiet

FLOOD_PPS = 60_000
FLOOD = ipaddress.ip_network(FLOOD_PREFIX)
FLOOD_S = 2.4
FIRST_MORE_MS, BEHIND_MS = 50.0, 1500.0
CLIENTS_OF_EACH = 9
_hosts = itertools.count(1)


def took_ms(source: str, target: str = VIP) -> float:
    """A request on a connection of its own, from an address of the namespace that this thread is in."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(10)
        client.bind((source, 0))
        began = time.perf_counter()
        client.connect((target, PORT))
        client.sendall(b"GET /512?n=7 HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")
        assert b"".join(iter(lambda: client.recv(65536), b"")).startswith(b"HTTP/1.1 200")
        return (time.perf_counter() - began) * 1e3


def fresh(six: bool = False) -> str:
    """The address of a client that has not been here yet."""
    n = next(_hosts)
    return f"3fff:1:{n:x}::7" if six else f"10.1.{150 + n // 250}.{n % 250 + 1}"


@pytest.fixture
def siege(lab: Lab) -> Iterator[None]:
    """While the test runs."""
    cdnctl(lab, "shield", "siege")
    yield
    cdnctl(lab, "shield", "calm")


def forget(lab: Lab) -> None:
    """Nobody is verified."""
    known = Map.pinned(tables_dir(lab.name) / "verified")
    known.delete_all(list(known.keys()))


@contextlib.contextmanager
def rules(namespace: str, text: str) -> Iterator[None]:
    """nftables' rules in a table of their own."""
    script = f"table ip shieldtest {{\n{text}\n}}\n"
    nft = ["ip", "netns", "exec", namespace, "nft"]
    subprocess.run([*nft, "-f", "-"], input=script, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run([*nft, "delete", "table", "ip", "shieldtest"], check=True)


# These two come first: after a flood, what the load asks for stays up for a minute.


def test_an_operators_word_holds_and_is_noted(lab: Lab, kernel: Kernel) -> None:
    cdnctl(lab, "shield", "auto")
    answer = cdnctl(lab, "shield", "shedding", "--reason", "to see")
    assert answer["ok"]
    assert kernel.tables.shield.now.level == abi.Level.SHEDDING
    assert frame(lab).shield.wish == "shedding"
    line = json.loads((lab.directory / "state" / lab.name / "journal.jsonl").read_text().splitlines()[-1])
    assert "cdnctl shield shedding --reason 'to see'" in line.values()
    assert (line["before"]["shield"], line["after"]["shield"]) == ("auto", "shedding")
    cdnctl(lab, "shield", "calm", "--dry-run")
    assert kernel.tables.shield.now.level == abi.Level.SHEDDING
    cdnctl(lab, "shield", "calm")
    cdnctl(lab, "shield", "auto")
    assert kernel.tables.shield.now.level == abi.Level.CALM
    assert run(lab, command_line("shield", "worse", "--edge", lab.name)).returncode == 2


def test_by_itself_it_goes_to_siege_and_says_why(
    lab: Lab, kernel: Kernel, traffic: Traffic, figure: Figure
) -> None:
    cdnctl(lab, "shield", "auto")
    assert kernel.tables.shield.now.level == abi.Level.CALM
    began = time.monotonic()
    flood = lab.flood(FLOOD_PPS, seconds=2 * FLOOD_S)
    shield = wait_for(
        "siege", 2 * FLOOD_S, lambda: found if (found := frame(lab).shield).level == "siege" else None
    )
    figure("siege after, s", time.monotonic() - began)
    flood.stop()
    assert "unverified" in shield.why or "half-open" in shield.why
    assert kernel.tables.shield.now.level == abi.Level.SIEGE
    shown = run(lab, command_line("shield", "--edge", lab.name))
    assert shown.stdout.startswith("siege (following the load)"), shown.stdout
    assert json.loads(json.dumps(cdnctl(lab, "shield")))["level"] == "siege"


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_the_first_connection_in_siege_costs_little_and_the_second_nothing(
    lab: Lab, kernel: Kernel, traffic: Traffic, figure: Figure, six: bool
) -> None:
    target = VIP6 if six else VIP
    with netns.entered(lab.topology.clients):
        calm = [took_ms(fresh(six), target) for _ in range(CLIENTS_OF_EACH)]
        cdnctl(lab, "shield", "siege")
        try:
            before = kernel.packets(abi.Verdict.PROVED)
            sources = [fresh(six) for _ in range(CLIENTS_OF_EACH)]
            first = [took_ms(source, target) for source in sources]
            proved = kernel.packets(abi.Verdict.PROVED) - before
            challenged = kernel.packets(abi.Verdict.CHALLENGED)
            second = [took_ms(source, target) for source in sources]
        finally:
            cdnctl(lab, "shield", "calm")
    calm_ms, first_ms, second_ms = map(statistics.median, (calm, first, second))
    figure("median request in calm, first and second in siege, ms", (calm_ms, first_ms, second_ms))
    assert proved >= CLIENTS_OF_EACH, "each was challenged and answered"
    assert first_ms - calm_ms <= FIRST_MORE_MS
    assert second_ms - calm_ms <= 10.0
    assert challenged


_MASQUERADE = f"""
chain out {{
    type nat hook postrouting priority srcnat;
    oifname "{UPLINK}" ip saddr 10.4.0.0/16 masquerade;
}}"""
_STRICT = """
chain through {
    type filter hook forward priority filter;
    ct state invalid drop;
}
chain in {
    type filter hook input priority filter;
    ct state invalid drop;
}"""
_HUNGRY = """
chain through {
    type filter hook forward priority filter;
    ip saddr 10.4.0.0/16 tcp flags & rst == rst drop;
}"""
FIREWALLS = {
    "masquerade": _MASQUERADE,
    "invalid drop": _STRICT,
    "both": _MASQUERADE + _STRICT,
    "one that eats the proof": _HUNGRY,
}
SHORTLY = ("both", "one that eats the proof")
"""Those that every run has."""
"""Of the router before the fourth region."""
OF_EACH = 2
"""Conntrack's mind depends on numbers that chance picks."""


@pytest.mark.usefixtures("siege")
@pytest.mark.parametrize(
    "what", [each if each in SHORTLY else pytest.param(each, marks=pytest.mark.soak) for each in FIREWALLS]
)
def test_behind_a_firewall_it_takes_a_second_at_most(lab: Lab, figure: Figure, what: str) -> None:
    with rules(lab.topology.clients, FIREWALLS[what]), netns.entered(lab.topology.far):
        took = []
        for _ in range(OF_EACH):
            forget(lab)
            took.append(took_ms(f"10.4.7.{next(_hosts)}"))
    figure(f"first requests behind {what}, ms", took)
    assert max(took) <= BEHIND_MS


@pytest.mark.usefixtures("siege")
def test_of_a_spoofed_flood_nothing_gets_through_and_nobody_is_cut_off(
    lab: Lab, kernel: Kernel, traffic: Traffic, figure: Figure
) -> None:
    before = {cdn: lab.tap(cdn).flood_packets for cdn in lab.sites}
    verified = Map.pinned(tables_dir(lab.name) / "verified")
    tables = (kernel.tables.half_open, kernel.tables.established, verified)
    known = {key for table in tables for key in table.keys()}  # some are of a flood before siege
    with netns.entered(lab.topology.clients), socket.create_connection((VIP, PORT), 10) as held:
        challenged = kernel.packets(abi.Verdict.CHALLENGED)
        begun_ns = time.monotonic_ns()
        flood = lab.flood(FLOOD_PPS, seconds=FLOOD_S)
        time.sleep(FLOOD_S / 2)
        picture = frame(lab)
        requests = requests_of(traffic, after(begun_ns, 0.3), after(begun_ns, FLOOD_S - 0.3))
        offered = flood.stop()
        held.sendall(b"GET /512?n=7 HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n")
        assert held.recv(16).startswith(b"HTTP/1.1 200"), "open before, open after"
    time.sleep(0.3)
    leaked = {cdn: lab.tap(cdn).flood_packets - before[cdn] for cdn in lab.sites}
    challenged = kernel.packets(abi.Verdict.CHALLENGED) - challenged
    now = {key for table in tables for key in table.keys()}
    spoofed = [key for key in now - known if abi.host(key[:16]) in FLOOD]
    figure("flood offered, pps; challenged", (round(offered.pps), challenged))
    figure("flood packets at the origins", leaked)
    figure("honest requests, failed", (len(requests), len(failures(requests))))
    assert offered.sent > 30_000, "or it is no flood"
    assert challenged >= 0.95 * offered.sent
    assert leaked == dict.fromkeys(lab.sites, 0)
    assert not spoofed
    assert len(failures(requests)) <= 0.01 * len(requests), failures(requests)[:8]
    assert picture.shield.level == "siege"
    assert picture.shield.challenged_per_s > 1_000
    assert picture.shield.unverified_share > 0.9
