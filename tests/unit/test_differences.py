"""What a reload says that is different."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdnctl import config
from cdnctl.config.differences import differences

TEXT = """
[edge]
name = "ams1"
interfaces = ["eth0", "eth1"]
snat = ["203.0.113.10"]

[[customer]]
name = "acme"
prefixes = ["192.0.2.0/24"]

[[cdn]]
name = "aurora"
endpoints = ["198.51.100.10:443"]
capacity = { mbit = 100 }

[[cdn]]
name = "borealis"
endpoints = ["198.51.100.20:443"]

[[service]]
name = "www"
vip = "203.0.113.80"
port = 443
"""


def said(old: str, new: str) -> list[str]:
    assert old in TEXT
    before = config.parse(TEXT, Path("t"))
    return differences(before, config.parse(TEXT.replace(old, new), Path("t")))


def test_nothing() -> None:
    assert said("", "") == []
    assert said("[edge]", "# a comment\n[edge]") == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"eth1"]', '"eth2"]', "edge.interfaces has eth2 now and has eth1 no more"),
        ('"eth0", "eth1"', '"eth1", "eth0"', "edge.interfaces is in another order: eth1, eth0"),
        ("[[customer]]", "[reflex]\nslow_start_s = 2.5\n[[customer]]", "reflex.slow_start_s is 2.5, was 30"),
        (
            "[[customer]]",
            "[quota]\nper_source = { pps = 50 }\n[[customer]]",
            "quota.per_source is (pps 50, burst_ms 100), was none",
        ),
        ("snat =", 'management = ["10.0.0.0/8"]\nsnat =', "edge.management is 10.0.0.0/8, was none"),
        ("{ mbit = 100 }", "{ mbit = 200 }", "cdn aurora: capacity is (mbit 200, burst_ms 20), was"),
        ('name = "acme"', 'name = "acme"\npps = 10', "customer acme: pps is 10, was none"),
        ("port = 443", 'port = 443\nclass = "bulk"', "service www: class is bulk, was interactive"),
        ('"198.51.100.20:443"]', '"198.51.100.20:443", "198.51.100.21:443"]', "has 198.51.100.21:443 now"),
    ],
)
def test_a_change(old: str, new: str, words: str) -> None:
    (found,) = said(old, new)
    assert words in found


def test_what_is_new_and_what_is_gone() -> None:
    assert said('"acme"', '"beta"') == ["customer acme is gone", "customer beta is new"]


def test_long_lists_are_cut_short() -> None:
    many = ", ".join(f'"192.0.{number}.0/24"' for number in range(3, 12))
    (found,) = said('["192.0.2.0/24"]', f'["192.0.2.0/24", {many}]')
    assert found.endswith("192.0.6.0/24 and 5 more now")
