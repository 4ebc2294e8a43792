"""Nobody locks themselves out, or blocks what the edge lives on."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnctl import config
from cdnctl.defence import protected as module
from cdnctl.defence.blocklist import Network
from cdnctl.defence.protected import Protected, Surroundings, protected, refusal, resolvers, surroundings
from cdnctl.lab import netns

CONFIG = config.parse(
    """
    [edge]
    name = "ams1"
    interfaces = ["eth0"]
    snat = ["203.0.113.10", "203.0.113.11", "2001:db8:cd::10"]
    management = ["10.0.0.0/8", "2001:db8:aa::/48"]
    [[cdn]]
    name = "aurora"
    endpoints = ["198.51.100.10:443", "[2001:db8:e::10]:443"]
    [[service]]
    name = "www"
    vip = "203.0.113.80"
    port = 443
    [[service]]
    name = "www6"
    vip = "2001:db8:80::80"
    port = 443
    """,
    Path("cdnctl.toml"),
)
AROUND = Surroundings(
    ssh_peers=("192.0.2.4", "2001:db8:1::9"),
    gateways=("192.0.2.1", "fe80::1"),
    resolvers=("192.0.2.53", "2001:db8:53::53"),
    own=("127.0.0.1", "::1", "2001:db8:2::2"),
)


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("203.0.113.80", "is 203.0.113.80, the VIP of service www"),
        ("203.0.113.64/26", "covers 203.0.113.80, the VIP of service www"),
        ("203.0.113.11", "an SNAT address"),
        ("198.51.100.0/24", "covers 198.51.100.10, an endpoint of aurora"),
        ("10.66.0.0/16", "lies in 10.0.0.0/8, a management prefix"),
        ("10.0.0.0/8", "is 10.0.0.0/8, a management prefix"),
        ("192.0.2.4", "an operator logged in over SSH"),
        ("192.0.2.1", "a default gateway"),
        ("192.0.2.53", "a name server"),
        ("2001:db8:80::80", "is 2001:db8:80::80, the VIP of service www6"),
        ("2001:db8:cd::/64", "covers 2001:db8:cd::10, an SNAT address"),
        ("2001:db8:e::/48", "covers 2001:db8:e::10, an endpoint of aurora"),
        ("2001:db8:aa:1::/64", "lies in 2001:db8:aa::/48, a management prefix"),
        ("2001:db8:1::/64", "covers 2001:db8:1::9, an operator logged in over SSH"),
        ("fe80::/16", "covers fe80::1, a default gateway"),
        ("2001:db8:53::53", "a name server"),
        ("2001:db8:2::/48", "covers 2001:db8:2::2, an address of this box"),
        ("::1", "an address of this box"),
        ("::ffff:192.0.2.1", "a default gateway"),
    ],
)
def test_what_is_refused_and_why(prefix: str, reason: str) -> None:
    said = refusal(prefix, protected(CONFIG, AROUND))
    assert said is not None
    assert reason in said


@pytest.mark.parametrize(
    "prefix", ["203.0.113.81", "198.51.100.11", "192.0.2.128/25", "11.0.0.0/8", "2400::/16", "2001:db8:e::11"]
)
def test_what_may_be_blocked(prefix: str) -> None:
    assert refusal(prefix, protected(CONFIG, AROUND)) is None


def test_many_reasons_are_cut_short() -> None:
    said = refusal("192.0.0.0/8", [Protected(ip_network(f"192.0.2.{n}"), "a test") for n in range(9)])
    assert said is not None
    assert said.endswith("and 6 more")


def test_no_prefix_is_an_error() -> None:
    with pytest.raises(ValueError, match="neither"):
        refusal("nonsense", [])


PREFIX = st.builds(
    lambda address, length: IPv4Network((address, length), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(8, 32),
) | st.builds(
    lambda address, length: IPv6Network((address, length), strict=False),
    st.integers(0, 2**128 - 1) | st.integers(0, 3).map(lambda top: top << 126),
    st.integers(1, 128),
)


@given(PREFIX, PREFIX)
def test_overlap_in_either_direction_is_refused(one: Network, other: Network) -> None:
    overlap = one.version == other.version and one.overlaps(other)
    assert (refusal(one, [Protected(other, "x")]) is not None) == overlap


def test_resolvers(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(
        "# nameserver 1.1.1.1\nsearch x\nnameserver 192.0.2.53\nnameserver\n"
        "nameserver fe80::1%eth0\nnameserver junk\n"
    )
    assert resolvers(file) == ("192.0.2.53", "fe80::1")
    assert resolvers(tmp_path / "absent") == ()


def test_gateways_of_both_families() -> None:
    name = f"unit-{os.getpid()}"
    netns.create(name)
    try:
        with netns.entered(name):
            netns.sysctl("net.ipv6.conf.all.disable_ipv6", 0)
            for command in (
                "link add near type veth peer name far",
                "link set near up",
                "addr add 192.0.2.2/24 dev near",
                "addr add 2001:db8::2/64 dev near nodad",
                "-4 route add 0.0.0.0/0 nexthop via 192.0.2.1 dev near nexthop via inet6 fe80::9 dev near",
                "-6 route add ::/0 nexthop via 2001:db8::1 dev near nexthop via fe80::1 dev near",
            ):
                subprocess.run(["ip", *command.split()], check=True)
            found = surroundings()
    finally:
        netns.remove(name)
    assert set(found.gateways) == {"192.0.2.1", "fe80::9", "2001:db8::1", "fe80::1"}
    assert {"192.0.2.2", "2001:db8::2", "127.0.0.1"} <= set(found.own)


def test_what_cannot_be_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> set[str]:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(module, "ssh_peers", forbidden)
    around = surroundings()
    assert around.ssh_peers == ()
    assert any("SSH" in sentence for sentence in around.unread)


def test_works_under_a_running_event_loop() -> None:
    async def plan() -> Surroundings:
        return surroundings()

    assert asyncio.run(plan()).unread == ()


DAEMON = """
import socket, sys
server = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
print(server.getsockname()[1], flush=True)
session, _ = server.accept()
print("accepted", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["sshd", "httpd"])
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A process of that name, listening on both families, with its port as the first line it says."""
    program = tmp_path / request.param
    shutil.copy(Path(sys.executable).resolve(), program)
    with subprocess.Popen(
        [program, "-c", DAEMON], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield request.param, process
        process.communicate("")


@pytest.mark.parametrize(("target", "source"), [("127.0.0.1", "127.0.0.77"), ("::1", "::1")])
def test_peers_of_sshd_are_found(daemon: tuple[str, subprocess.Popen[str]], target: str, source: str) -> None:
    name, process = daemon
    assert process.stdout is not None
    port = int(process.stdout.readline())
    with socket.create_connection((target, port), source_address=(source, 0)):
        assert process.stdout.readline() == "accepted\n"
        assert (source in module.ssh_peers()) == (name == "sshd")
