"""What the host itself uses, and the words when SNAT would use it too."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cdnctl import config
from cdnctl.cli import check
from cdnctl.datapath import host

TEXT = """
[edge]
name = "ams1"
interfaces = ["eth0"]
snat = ["203.0.113.10"]
snat_ports = [{}, {}]

[[cdn]]
name = "aurora"
endpoints = ["198.51.100.10:443"]

[[service]]
name = "www"
vip = "203.0.113.80"
port = 443
"""


@pytest.mark.parametrize(
    ("wanted", "held", "free"),
    [
        ((1024, 65535), (32768, 60999), (1024, 32767)),
        ((40000, 50000), (32768, 60999), (1024, 32767)),
        ((40000, 65535), (32768, 60999), (61000, 65535)),
        ((1024, 65535), (1024, 40000), (40001, 65535)),
        ((1024, 30000), (1024, 65535), None),
        ((1024, 65535), (500, 65534), None),
    ],
)
def test_free_ports(wanted: tuple[int, int], held: tuple[int, int], free: tuple[int, int] | None) -> None:
    assert host.free_ports(wanted, held) == free


@pytest.mark.parametrize("ports", [(40000, 50000), (1024, 65535)])
def test_a_clash_with_the_hosts_own_ports_names_the_key_and_ports_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ports: tuple[int, int]
) -> None:
    monkeypatch.setattr(host, "ephemeral_ports", lambda: (32768, 60999))
    monkeypatch.setattr(host, "is_own", lambda _, **_more: True)
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "eth0")])
    monkeypatch.setattr(host, "is_ethernet", lambda name: name == "eth0")
    path = tmp_path / "cdnctl.toml"
    path.write_text(TEXT.format(*ports))
    (problem,) = check.examine(path).problems
    assert (problem.key, problem.value) == ("edge.snat_ports", str(list(ports)))
    assert "expected snat_ports = [1024, 32767]" in problem.expected
    assert "203.0.113.10 is the host's own address" in problem.expected
    path.write_text(TEXT.format(1024, 32767))
    assert not check.examine(path).problems
    assert not host.port_clashes(config.load(path))


def test_loopback_is_no_interface_of_an_edge(tmp_path: Path) -> None:
    path = tmp_path / "cdnctl.toml"
    path.write_text(TEXT.format(1024, 2047).replace("eth0", "lo"))
    (problem,) = check.examine(path).problems
    assert problem.key == "edge.interfaces[1]"
    assert "Ethernet" in problem.expected
    assert (host.mtu("lo"), host.mtu("no-such"), host.is_ethernet("no-such")) == (65536, 0, False)


@pytest.mark.parametrize(("mss", "odd"), [(1460, False), (1461, True), (536, False)])
def test_an_mss_that_no_interface_carries_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mss: int, odd: bool
) -> None:
    monkeypatch.setattr(host, "mtu", lambda _: 1500)
    path = tmp_path / "cdnctl.toml"
    path.write_text(TEXT.format(1024, 2047).replace(':443"]', f':443"]\nmss = {mss}'))
    found = [note for note in check.examine(path).notes if f"mss {mss}, and no interface" in note]
    assert len(found) == odd
