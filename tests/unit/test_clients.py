"""Customers, regions and allowed prefixes as the kernel needs them: each prefix complete by itself."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdnctl import config
from cdnctl.datapath import abi
from cdnctl.datapath.clients import Client
from cdnctl.engine.clients import kernel_limits, merge
from cdnctl.engine.layout import Layout
from cdnctl.state import CustomerLimit

REGIONS = {"eu": 1, "us": 2}
CUSTOMERS = {"acme": 1, "beta": 2}
ALLOWED = abi.ClientFlag.ALLOWED
TEXT = """
[edge]
name = "ams1"
interfaces = ["eth0"]
snat = ["203.0.113.10", "203.0.113.11"]
[[cdn]]
name = "aurora"
endpoints = ["198.51.100.10:80"]
[[service]]
name = "www"
vip = "203.0.113.80"
port = 80
"""


def configured(
    regions: dict[str, list[str]], customers: dict[str, list[str]], **limits: float
) -> config.Config:
    tables = [f'[[region]]\nname = "{name}"\nprefixes = {prefixes}' for name, prefixes in regions.items()]
    tables += [
        f'[[customer]]\nname = "{name}"\nprefixes = {prefixes}\n'
        + "\n".join(f"{key} = {value}" for key, value in limits.items())
        for name, prefixes in customers.items()
    ]
    return config.parse(TEXT + "\n".join(tables), Path("test.toml"))


def layout() -> Layout:
    return Layout({}, (), (), {}, REGIONS, CUSTOMERS)


def merged(
    regions: dict[str, list[str]], customers: dict[str, list[str]], allowed: tuple[str, ...] = ()
) -> dict[str, Client]:
    found = merge(configured(regions, customers), layout(), allowed)
    return {str(network): client for network, client in found.items()}


def test_what_a_prefix_does_not_say_it_has_from_the_one_around_it() -> None:
    assert merged(
        {"eu": ["192.0.2.0/24"], "us": ["192.0.2.128/25"]},
        {"acme": ["192.0.0.0/16"], "beta": ["192.0.2.192/26"]},
        ("192.0.2.200/32",),
    ) == {
        "192.0.0.0/16": Client(1, 0),
        "192.0.2.0/24": Client(1, 1),
        "192.0.2.128/25": Client(1, 2),
        "192.0.2.192/26": Client(2, 2),
        "192.0.2.200/32": Client(2, 2, ALLOWED),
    }


def test_one_prefix_may_say_several_things_and_neighbours_inherit_nothing() -> None:
    assert merged(
        {"eu": ["2001:db8::/32"]}, {"acme": ["2001:db8::/32"], "beta": ["2001:db9::/32"]}, ("10.0.0.0/8",)
    ) == {
        "2001:db8::/32": Client(1, 1),
        "2001:db9::/32": Client(2, 0),
        "10.0.0.0/8": Client(flags=ALLOWED),
    }


def test_the_families_are_apart() -> None:
    assert merged({}, {"acme": ["0.0.0.0/0"], "beta": ["2000::/3"]})["0.0.0.0/0"] == Client(1)


PREFIXES = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 8)), max_size=6, unique=True).map(
    lambda some: sorted(
        {str(ipaddress.ip_network((f"10.0.0.{at}", 24 + size), strict=False)) for at, size in some}
    )
)


def longest(prefixes: dict[str, list[str]], address: ipaddress.IPv4Address) -> str:
    """The plain rule, applied to one address: the longest prefix that says it wins."""
    found = [
        (network.prefixlen, name)
        for name, some in prefixes.items()
        for network in map(ipaddress.IPv4Network, some)
        if address in network
    ]
    return max(found)[1] if found else ""


@given(PREFIXES, PREFIXES, PREFIXES, PREFIXES, PREFIXES, st.integers(0, 255))
def test_the_longest_entry_alone_says_what_all_prefixes_say(
    eu: list[str], us: list[str], acme: list[str], beta: list[str], allowed: list[str], host: int
) -> None:
    regions = {"eu": eu, "us": [each for each in us if each not in eu]}
    customers = {"acme": acme, "beta": [each for each in beta if each not in acme]}
    regions, customers = (
        {name: some for name, some in all_.items() if some} for all_ in (regions, customers)
    )
    address = ipaddress.IPv4Address(f"10.0.0.{host}")
    entries = merge(configured(regions, customers), layout(), allowed)
    covering = [network for network in entries if address in network]
    got = entries[max(covering, key=lambda network: network.prefixlen)] if covering else Client()
    assert got.region == REGIONS.get(longest(regions, address), 0)
    assert got.customer == CUSTOMERS.get(longest(customers, address), 0)
    assert bool(got.flags & ALLOWED) == any(address in ipaddress.IPv4Network(each) for each in allowed)


def test_limits_are_the_configurations_unless_an_operator_set_others() -> None:
    read = configured({}, {"acme": ["10.0.0.0/8"], "beta": ["11.0.0.0/8"]}, pps=1000, burst_ms=10)
    limits = kernel_limits(read, layout(), {"beta": CustomerLimit(mbit=8.192)})
    assert bytes(limits[1]) == bytes(abi.Limit(packet_ticks=16_000_000, burst_ticks=160_000_000))
    assert bytes(limits[2]) == bytes(abi.Limit(kib_ticks=16_000_000, burst_ticks=160_000_000))
    slow = kernel_limits(read, layout(), {"acme": CustomerLimit(pps=5), "beta": CustomerLimit(mbit=0.1)})
    assert slow[1].burst_ticks == 2 * slow[1].packet_ticks, "three packets may come together"
    assert slow[2].burst_ticks == pytest.approx(2 * slow[2].kib_ticks * 1500 / 1024)
    assert kernel_limits(read, layout(), {"acme": CustomerLimit()}).keys() == {2}, "set to no limit at all"


@pytest.mark.parametrize("count", [20_000])
def test_many_prefixes_are_merged_quickly(count: int) -> None:
    prefixes = [str(ipaddress.IPv4Network((0x0A000000 + (n << 8), 24))) for n in range(count)]
    read = configured({"eu": ["10.0.0.0/8"]}, {"acme": prefixes})
    assert len(merge(read, layout(), ())) == count + 1
