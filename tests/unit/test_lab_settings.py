"""What a lab writes is a configuration that holds together, and its addresses are for documentation."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import tomli_w

from cdnctl.config import Config, load
from cdnctl.lab import settings, topology
from cdnctl.lab.topology import Topology


@pytest.fixture
def lab() -> Topology:
    return Topology.plan("t-unit", ["aurora", "borealis", "corona"], [5.0, 6.5, 8.0])


def config(lab: Topology, path: Path, **extra: dict[str, object]) -> Config:
    file = path / "cdnctl.toml"
    file.write_text(tomli_w.dumps(settings.document(lab, [100, 50, 50], extra)))
    return load(file)


def test_there_is_a_service_of_each_family_at_every_cdn(lab: Topology, tmp_path: Path) -> None:
    found = config(lab, tmp_path)
    assert [(service.name, service.vip) for service in found.services] == [
        ("www", topology.VIP),
        ("www6", topology.VIP6),
    ]
    assert all(len(found.cdns_of(service)) == 3 for service in found.services)
    assert [cdn.weight for cdn in found.cdns] == [100, 50, 50]
    assert found.edge.interfaces == ("clients", "cdn-aurora", "cdn-borealis", "cdn-corona")
    assert (len(found.edge.snat_of(4)), len(found.edge.snat_of(6))) == (2, 2)


def test_more_can_be_said(lab: Topology, tmp_path: Path) -> None:
    found = config(
        lab,
        tmp_path,
        cdn={"mode": "gue"},
        service={"policy": "failover"},
        limits={"endpoints": 8},
        quota={"busy_pps": 50},
    )
    assert {cdn.mode for cdn in found.cdns} == {"gue"}
    assert {service.policy for service in found.services} == {"failover"}
    assert (found.limits.endpoints, found.quota.busy_pps) == (8, 50)


def test_addresses_are_nobodys(lab: Topology) -> None:
    private = [ip_network(net) for net in ("10.0.0.0/8", "100.64.0.0/10")]
    documentation = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")
    allowed = [*private, *map(ip_network, documentation)]
    hosts = [topology.VIP, topology.VIP6, *topology.SNAT, *topology.SNAT6]
    for site in lab.sites:
        hosts += [site.endpoint, site.endpoint6, *site.routers]
        hosts += [address for end in (*site.link, *site.way_back) for address in end]
    assert len(set(hosts)) == len(hosts)
    assert all(any(ip_address(host) in net for net in allowed) for host in hosts)
    for region in (*topology.REGIONS, *topology.REGIONS6, *topology.FAR_REGION, topology.FLOOD_PREFIX):
        network = ip_network(region)
        assert any(
            network.subnet_of(side)
            for side in map(ip_network, topology.CLIENT_SIDE)
            if side.version == network.version
        )


@pytest.mark.parametrize("names", [["edge"], ["far"], ["a", "a"], ["twelve-chars"], []])
def test_names_that_do_not_fit_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="lab"):
        Topology.plan("t-unit", names, [5.0] * len(names))
