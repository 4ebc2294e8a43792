"""`[metrics]`: where Prometheus finds the agent."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w

from cdnctl import config
from cdnctl.config import Config, ConfigError
from cdnctl.config.differences import differences


def parsed(listen: object = None) -> Config:
    raw = {
        "edge": {"name": "ams1", "interfaces": ["eth0"], "snat": ["203.0.113.10"]},
        "cdn": [{"name": "aurora", "endpoints": ["198.51.100.10:443"]}],
        "service": [{"name": "www", "vip": "203.0.113.80", "port": 443}],
    }
    more = {} if listen is None else {"metrics": {"listen": listen}}
    return config.parse(tomli_w.dumps({**raw, **more}), Path("cdnctl.toml"))


@pytest.mark.parametrize(
    ("listen", "place"),
    [
        (None, ("127.0.0.1", 9469)),
        ("", None),
        ("127.0.0.1:9000", ("127.0.0.1", 9000)),
        ("0.0.0.0:9000", ("0.0.0.0", 9000)),
        ("[::1]:9000", ("::1", 9000)),
        ("[2001:DB8:0::1]:9000", ("2001:db8::1", 9000)),
    ],
)
def test_a_place(listen: str | None, place: tuple[str, int] | None) -> None:
    assert parsed(listen).metrics.place == place


@pytest.mark.parametrize(
    "listen",
    [
        "9469",
        ":9469",
        "localhost:9469",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "::1:9469",
        9469,
        "224.0.0.1:1",
    ],
)
def test_no_place(listen: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(listen)
    (problem,) = caught.value.problems
    assert problem.key == "metrics.listen"
    assert '"127.0.0.1:9469", or "" for none' in problem.expected


def test_beyond_loopback_it_is_noted_who_can_read() -> None:
    def said(listen: str) -> bool:
        return any("metrics.listen" in note for note in config.notes(parsed(listen)))

    assert not said("127.0.0.1:9469")
    assert not said("[::1]:9469")
    assert not said("")
    assert said("0.0.0.0:9469")
    assert said("192.0.2.1:9469")


def test_a_reload_says_that_it_moves() -> None:
    assert differences(parsed(), parsed("127.0.0.1:9000")) == [
        "metrics.listen is 127.0.0.1:9000, was 127.0.0.1:9469"
    ]
