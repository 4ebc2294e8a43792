"""The tables of the planner, of probes, names and feeds: read, and every mistake with place and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from cdnctl import config
from cdnctl.config import ConfigError, EndpointConfig, NameConfig
from cdnctl.config.differences import differences

FILE = Path("/etc/cdnctl/cdnctl.toml")


def good() -> dict[str, Any]:
    return {
        "edge": {"name": "ams1", "interfaces": ["eth0"], "snat": ["203.0.113.10"]},
        "planner": {"mode": "on"},
        "feed": [
            {"name": "drop", "source": "https://example.net/drop.txt"},
            {"name": "ours", "source": "ours.json", "kind": "ranges", "cdn": "aurora"},
        ],
        "region": [{"name": "eu", "file": "regions.csv"}],
        "cdn": [
            {"name": "aurora", "names": ["Edge.Example.NET.:443"], "probe": "tcp", "price": 0.02},
            {
                "name": "borealis",
                "endpoints": [
                    {"address": "198.51.100.20:443", "probe": {"kind": "https", "status": [200, 204]}}
                ],
                "names": [{"name": "b.example.net:443", "regions": ["eu"], "most": 2}],
            },
        ],
        "service": [{"name": "www", "vip": "203.0.113.80", "port": 443}],
    }


def read(raw: dict[str, Any]) -> config.Config:
    return config.parse(tomli_w.dumps(raw), FILE)


def test_all_of_it_is_read() -> None:
    made = read(good())
    aurora, borealis = made.cdns
    assert made.planner.mode == "on"
    assert aurora.names == (NameConfig(name="edge.example.net:443"),)
    assert (aurora.names[0].host, aurora.names[0].port) == ("edge.example.net", 443)
    assert aurora.probe == config.ProbeConfig(kind="tcp")
    assert aurora.endpoints == ()
    assert borealis.endpoints == (
        EndpointConfig(
            address="198.51.100.20:443", probe=config.ProbeConfig(kind="https", status=(200, 204))
        ),
    )
    assert [feed.place(FILE.parent / "x.toml") for feed in made.feeds] == [
        "https://example.net/drop.txt",
        "/etc/cdnctl/ours.json",
    ]


@pytest.mark.parametrize(
    ("where", "value", "key", "expected"),
    [
        (("planner", "mode"), "maybe", "planner.mode", '"observe"'),
        (("planner", "most_moved"), 0.6, "planner.most_moved", "at most 0.5"),
        (("planner", "speed"), 1, "planner.speed", "no such key"),
        (("feed", 0, "source"), "ftp://example.net/x", "feed[1].source", "https://"),
        (("feed", 0, "cdn"), "aurora", "feed[1].cdn", 'kind = "ranges"'),
        (("feed", 1, "cdn"), "nobody", "feed[2].cdn", "there are aurora, borealis"),
        (("feed", 1, "name"), "drop", "feed[2].name", "first at feed[1].name"),
        (("feed", 0, "every_s"), 0, "feed[1].every_s", "from 1"),
        (("cdn", 0, "names"), ["192.0.2.1:443"], "cdn[1].names[1]", "endpoints"),
        (("cdn", 0, "names"), ["no port"], "cdn[1].names[1]", "a DNS name and a port"),
        (("cdn", 0, "names"), ["b.example.net:443"], "cdn[2].names[1]", "given twice"),
        (("cdn", 0, "names"), [], "cdn[1].endpoints", "is needed"),
        (("cdn", 0, "probe"), "ping", "cdn[1].probe", '"https"'),
        (("cdn", 0, "probe"), {"kind": "http", "path": "health"}, "cdn[1].probe.path", '"/health"'),
        (("cdn", 0, "probe"), {"kind": "http", "status": [300, 200]}, "cdn[1].probe.status", "before"),
        (("cdn", 0, "probe"), {"kind": "tcp", "timeout_s": 9.0}, "cdn[1].probe.timeout_s", "every_s"),
        (("cdn", 0, "price"), 0, "cdn[1].price", "above 0"),
        (("cdn", 1, "names", 0, "regions"), ["us"], "cdn[2].names[1].regions[1]", "there are eu"),
        (("region", 0), {"name": "eu"}, "region[1].prefixes", "or a file"),
        (("dns",), {"servers": ["resolver"]}, "dns.servers[1]", "192.0.2.53"),
    ],
)
def test_a_mistake_is_named_with_place_and_remedy(
    where: tuple[Any, ...], value: object, key: str, expected: str
) -> None:
    raw: Any = good()
    *path, last = where
    place = raw
    for step in path:
        place = place[step]
    place[last] = value
    with pytest.raises(ConfigError) as caught:
        read(raw)
    (problem,) = caught.value.problems
    assert problem.key.startswith(key)
    assert expected in problem.expected


def test_what_is_different_is_said_in_words() -> None:
    after = good()
    after["planner"]["mode"] = "off"
    after["feed"] = after["feed"][:1]
    after["cdn"][0]["names"].append("two.example.net:443")
    assert differences(read(good()), read(after)) == [
        "planner.mode is off, was on",
        "cdn aurora: names has two.example.net:443 now",
        "feed ours is gone",
    ]
