"""Endpoints that are reached by an interface which the configuration does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdnctl import config
from cdnctl.engine.ways import astray

ROUTES = {"198.51.100.10": "up0", "198.51.100.20": "up1", "fd77:2::2": "up1"}


def edge(interfaces: str, mode: str = "nat") -> config.Config:
    return config.parse(
        f"""
[edge]
name = "ams1"
interfaces = [{interfaces}]
snat = ["203.0.113.10", "203.0.113.11", "2001:db8::10", "2001:db8::11"]

[[cdn]]
name = "aurora"
endpoints = ["198.51.100.10:443"]

[[cdn]]
name = "borealis"
mode = "{mode}"
endpoints = ["198.51.100.20:443", "[fd77:2::2]:443"]

[[service]]
name = "www"
vip = "203.0.113.80"
port = 443

[[service]]
name = "www6"
vip = "2001:db8::80"
port = 443
""",
        Path("test.toml"),
    )


def way(address: str) -> str:
    return ROUTES.get(address, "")


def test_what_an_interface_that_goes_leads_to_is_said() -> None:
    assert astray(edge('"up0", "up1"'), way) == []
    assert astray(edge('"up0"'), way) == [
        (
            "up1 is not in edge.interfaces, and the routes to borealis (198.51.100.20:443, [fd77:2::2]:443)"
            " leave by it: what is steered there is dropped (no_link)"
        ),
        "service www6 has no other CDN: all of its flows are lost",
    ]
    assert [each for each in astray(edge('"clients"'), way) if each.startswith("service")] == [
        "service www has no other CDN: all of its flows are lost",
        "service www6 has no other CDN: all of its flows are lost",
    ]


def test_what_the_hosts_own_stack_sends_may_go_anywhere() -> None:
    assert astray(edge('"up0"', mode="pass"), way) == []


def test_what_has_no_route_is_another_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ROUTES, "198.51.100.20", "")
    monkeypatch.setitem(ROUTES, "fd77:2::2", "")
    assert astray(edge('"up0"'), way) == []
