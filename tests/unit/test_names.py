"""Names of endpoints and files of regions: what a configuration only names becomes endpoints and prefixes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from cdnctl import config
from cdnctl.config import Config
from cdnctl.engine.expansion import families, host_names, with_addresses, with_regions
from cdnctl.engine.names import Names, Which
from cdnctl.errors import CdnctlError
from cdnctl.steering.discovery import Answer

HOST = "edge.example.net"
GOOD: dict[str, Any] = {
    "edge": {"name": "ams1", "interfaces": ["eth0"], "snat": ["203.0.113.10"]},
    "cdn": [
        {"name": "aurora", "names": [f"{HOST}:443"], "probe": "tls"},
        {"name": "borealis", "endpoints": ["198.51.100.20:443"]},
    ],
    "service": [{"name": "www", "vip": "203.0.113.80", "port": 443}],
}


def read(directory: Path, **more: Any) -> Config:
    return config.parse(tomli_w.dumps({**GOOD, **more}), directory / "cdnctl.toml")


class Dns:
    """Answers as it is told to."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], Answer] = {}
        self.asked: list[tuple[str, int]] = []

    async def ask(self, host: str, family: int, config: Config) -> Answer:
        self.asked.append((host, family))
        return self.answers.get((host, family), Answer(failure=f"{host}: no such name"))

    def say(self, *addresses: str, ttl_s: float = 30.0, family: int = 4) -> None:
        self.answers[HOST, family] = Answer(addresses=addresses, ttl_s=ttl_s)


@pytest.fixture
def dns() -> Dns:
    return Dns()


def test_addresses_of_a_name_are_endpoints_of_its_cdn(tmp_path: Path, dns: Dns) -> None:
    made, names = read(tmp_path), Names(tmp_path, dns.ask)
    dns.say("192.0.2.1", "192.0.2.2")
    asyncio.run(names.learn(made))
    assert dns.asked == [(HOST, 4)], "no service is of IPv6"
    expanded = with_addresses(made, names.addresses)
    assert [each.address for each in expanded.cdns[0].endpoints] == ["192.0.2.1:443", "192.0.2.2:443"]
    assert expanded.cdns[1] == made.cdns[1]
    assert host_names(made, names.addresses) == {"192.0.2.1:443": HOST, "192.0.2.2:443": HOST}
    asyncio.run(names.learn(made))
    assert len(dns.asked) == 1, "what is known is asked for at its TTL only"


def test_the_last_good_addresses_outlive_the_agent(tmp_path: Path, dns: Dns) -> None:
    made, names = read(tmp_path), Names(tmp_path, dns.ask)
    dns.say("192.0.2.1")
    asyncio.run(names.learn(made))
    again = Names(tmp_path, Dns().ask)
    assert again.addresses(HOST, 4) == ["192.0.2.1"]
    (found,) = asyncio.run(again.due(made))
    assert (found.refresh.added, found.refresh.removed) == ([], [])
    assert again.addresses(HOST, 4) == ["192.0.2.1"]
    again.take([found])
    (picture,) = again.picture(made)
    assert "no such name" in picture.trouble
    assert picture.addresses == ["192.0.2.1"]
    assert picture.failures == 1


def test_a_change_that_cannot_come_into_force_is_forgotten(tmp_path: Path, dns: Dns) -> None:
    made, names = read(tmp_path), Names(tmp_path, dns.ask)
    dns.say("192.0.2.1", ttl_s=60)
    asyncio.run(names.learn(made))
    names._due_s[Which(HOST, 4)] = 0.0
    dns.say("192.0.2.1", "192.0.2.9")
    found = asyncio.run(names.due(made))
    before = names.take(found)
    assert names.addresses(HOST, 4) == ["192.0.2.1", "192.0.2.9"]
    names.put_back(found, before)
    assert names.addresses(HOST, 4) == ["192.0.2.1"]
    assert names.wait_s() < 5, "it is tried again soon"


def test_our_own_addresses_are_never_endpoints(tmp_path: Path, dns: Dns) -> None:
    made, names = read(tmp_path), Names(tmp_path, dns.ask)
    dns.say("203.0.113.80", "203.0.113.10", "192.0.2.1")
    asyncio.run(names.learn(made))
    (endpoint,) = with_addresses(made, names.addresses).cdns[0].endpoints
    assert endpoint.host == "192.0.2.1"


def test_no_more_addresses_are_used_than_there_is_room_for(tmp_path: Path, dns: Dns) -> None:
    made, names = read(tmp_path, limits={"endpoints": 3}), Names(tmp_path, dns.ask)
    dns.say("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")
    asyncio.run(names.learn(made))
    assert with_addresses(made, names.addresses).endpoint_count() == 3


def test_a_service_that_nobody_is_left_for_is_refused_with_the_remedy(tmp_path: Path, dns: Dns) -> None:
    made = read(tmp_path, cdn=GOOD["cdn"][:1])
    with pytest.raises(CdnctlError) as caught:
        with_addresses(made, lambda host, family: [])
    assert HOST in str(caught.value)
    assert "[dns] servers" in caught.value.remedy


def test_families_are_those_that_services_and_snat_allow(tmp_path: Path) -> None:
    service = {"name": "six", "vip": "2001:db8::80", "port": 443, "cdns": ["aurora"]}
    edge = {**GOOD["edge"], "snat": ["203.0.113.10", "2001:db8::10"]}
    made = read(tmp_path, edge=edge, service=[*GOOD["service"], service])
    assert families(made, made.cdns[0]) == [4, 6]
    assert families(made, made.cdns[1]) == [4]


def test_regions_have_prefixes_from_files(tmp_path: Path) -> None:
    (tmp_path / "regions.csv").write_text(
        "cidr,label\n192.0.2.0/25,eu\n192.0.2.128/25,eu\n2001:db8::/32,us\n"
    )
    region = {"name": "eu", "file": "regions.csv", "prefixes": ["198.51.100.0/24"]}
    made = with_regions(read(tmp_path, region=[region]))
    assert made.regions[0].prefixes == ("198.51.100.0/24", "192.0.2.0/24")


@pytest.mark.parametrize(
    ("text", "said", "remedy"),
    [
        (None, "No such file", "relative"),
        ("192.0.2.0/25,us\n", "no prefix of eu", "its labels are us"),
        ("192.0.2.0/25\n", "line 1", "a prefix and a label"),
    ],
)
def test_a_file_of_regions_that_is_wrong_is_named_with_the_remedy(
    tmp_path: Path, text: str | None, said: str, remedy: str
) -> None:
    if text is not None:
        (tmp_path / "regions.csv").write_text(text)
    made = read(tmp_path, region=[{"name": "eu", "file": "regions.csv"}])
    with pytest.raises(CdnctlError) as caught:
        with_regions(made)
    assert said in str(caught.value)
    assert remedy in caught.value.remedy
