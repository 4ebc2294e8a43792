"""Who may talk to SNAT addresses: the setting and its mistakes, who is on the list, and how it is shown."""

from __future__ import annotations

import io
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from metrics_frame import frame
from msgspec.structs import replace
from rich.console import Console

from cdnctl import config
from cdnctl.cli import show
from cdnctl.config import ConfigError
from cdnctl.config.differences import differences
from cdnctl.defence.guests import LINGER_S, Around, guests, passing
from cdnctl.defence.protected import Surroundings
from cdnctl.metrics.text import text as metrics
from cdnctl.model import Door

FILE = Path("/etc/cdnctl/cdnctl.toml")
AROUND = Surroundings(
    ssh_peers=("192.0.2.7", "198.51.100.7", "127.0.0.1", "2001:db8:77::7"),
    gateways=("203.0.113.1", "fe80::1"),
    resolvers=("127.0.0.53", "192.0.2.53"),
    own=("203.0.113.10", "203.0.113.80"),
)


def raw(**edge: object) -> dict[str, Any]:
    return {
        "edge": {
            "name": "ams1",
            "interfaces": ["eth0"],
            "snat": ["203.0.113.10"],
            "management": ["192.0.2.0/28"],
            "snat_from": "providers",
            **edge,
        },
        "dns": {"servers": ["192.0.2.54"]},
        "feed": [
            {"name": "bad", "source": "bad.txt"},
            {"name": "ours", "source": "ours.json", "kind": "ranges"},
        ],
        "cdn": [{"name": "aurora", "endpoints": ["198.51.100.10:443", "[2001:db8:a::10]:443"]}],
        "service": [{"name": "www", "vip": "203.0.113.80", "port": 443}],
    }


def read(made: dict[str, Any]) -> config.Config:
    return config.parse(tomli_w.dumps(made), FILE)


def remarks(made: dict[str, Any]) -> list[str]:
    return [note for note in config.notes(read(made)) if "snat_from" in note or "edge.snat is" in note]


# -- the setting --


def test_by_default_anyone_may() -> None:
    made = raw()
    del made["edge"]["snat_from"], made["feed"]
    edge = read(made).edge
    assert (edge.snat_from, edge.snat_also_from) == ("anyone", ())
    assert remarks(made) == []


@pytest.mark.parametrize(
    ("edge", "key", "expected"),
    [
        ({"snat_from": "nobody"}, "edge.snat_from", '"anyone" or "providers"'),
        ({"snat_from": True}, "edge.snat_from", '"anyone" or "providers"'),
        ({"snat_also_from": ["192.0.2.1/24"]}, "edge.snat_also_from[1]", "host bits"),
        ({"snat_also_from": ["192.0.2.0/24"] * 257}, "edge.snat_also_from", "at most 256"),
    ],
)
def test_what_is_wrong_is_said(edge: dict[str, object], key: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(raw(**edge))
    (problem,) = caught.value.problems
    assert problem.key == key
    assert expected in problem.expected


@pytest.mark.parametrize("feeds", [[], [{"name": "bad", "source": "bad.txt"}]])
def test_without_a_feed_of_ranges_it_is_refused(feeds: list[dict[str, str]]) -> None:
    with pytest.raises(ConfigError) as caught:
        read({**raw(), "feed": feeds})
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == ("edge.snat_from", '"providers"')
    assert 'needs a [[feed]] of kind = "ranges"' in problem.expected


def test_a_feed_of_a_wrong_kind_is_the_only_mistake() -> None:
    with pytest.raises(ConfigError) as caught:
        read({**raw(), "feed": [{"name": "ours", "source": "ours.json", "kind": "rangs"}]})
    assert [problem.key for problem in caught.value.problems] == ["feed[1].kind"]


def test_check_says_what_it_does() -> None:
    (said,) = remarks(raw())
    assert "the prefixes of 1 feed (ours)" in said
    assert "dropped (uninvited)" in said
    _, lonely = remarks(raw(management=[]))
    assert "nobody gets in" in lonely
    (useless,) = remarks(raw(snat_from="anyone", snat_also_from=["192.0.2.0/24"]))
    assert "snat_also_from is of no use" in useless
    made = raw(snat=[])
    made["cdn"][0] |= {"mode": "ipip", "endpoints": ["198.51.100.10:443"]}
    (nothing,) = remarks(made)
    assert "no address of edge.snat" in nothing


def test_a_reload_tells_of_it() -> None:
    before, after = read(raw(snat_from="anyone")), read(raw(snat_also_from=["45.0.0.0/24"]))
    assert differences(before, after) == [
        "edge.snat_from is providers, was anyone",
        "edge.snat_also_from is 45.0.0.0/24, was none",
    ]


def test_its_list_is_counted_among_what_tables_take() -> None:
    row = "prefixes of providers"
    assert row not in config.memory(read(raw(snat_from="anyone")))
    assert config.memory(read(raw()))[row] > 10_000_000


# -- the list --


def test_whom_no_block_may_cover_is_on_it_but_for_the_boxs_own_addresses() -> None:
    found = guests(read(raw(snat_also_from=["45.0.0.0/24"])), AROUND)
    assert found == set(
        map(
            ip_network,
            (
                "198.51.100.10", "2001:db8:a::10", "192.0.2.0/28", "45.0.0.0/24", "192.0.2.54", "192.0.2.7",
                "198.51.100.7", "2001:db8:77::7", "203.0.113.1", "fe80::1", "192.0.2.53",
            ),
        )
    )  # fmt: skip


def test_who_is_on_it_only_while_logged_in_is_named() -> None:
    assert passing(read(raw()), AROUND) == ["198.51.100.7", "2001:db8:77::7"]
    assert passing(read(raw(snat_also_from=["198.51.100.0/24"])), AROUND) == ["2001:db8:77::7"]


def test_who_was_logged_in_stays_for_an_hour() -> None:
    around = Around()
    around.note(AROUND, 100.0)
    around.note(AROUND._replace(ssh_peers=("45.9.9.9",)), 100.0 + LINGER_S - 1)
    assert set(around.lately.ssh_peers) == {*AROUND.ssh_peers, "45.9.9.9"}
    assert around.now.ssh_peers == ("45.9.9.9",)
    around.note(AROUND._replace(ssh_peers=()), 100.0 + LINGER_S)
    assert set(around.lately.ssh_peers) == {"45.9.9.9"}


def test_what_cannot_be_read_is_as_it_was() -> None:
    around = Around()
    around.note(AROUND, 0.0)
    blind = Surroundings(resolvers=("192.0.2.99",), unread=("cannot find out who is logged in",))
    around.note(blind, 2 * LINGER_S)
    assert set(around.lately.ssh_peers) == set(AROUND.ssh_peers)
    assert set(around.now.gateways) == set(AROUND.gateways)
    assert (around.now.resolvers, around.now.unread) == (blind.resolvers, blind.unread)


# -- how it is shown --


def status(door: Door) -> str:
    out = Console(file=io.StringIO(), width=400)
    show._headline(out, replace(frame(), door=door))
    return out.file.getvalue()  # type: ignore[attr-defined, no-any-return]


SAID: list[tuple[Door, Callable[[str], bool]]] = [
    (Door(), lambda said: "SNAT" not in said),
    (
        Door(wanted="providers", closed=True, prefixes=1234),
        lambda said: "SNAT addresses for 1,234 prefixes alone" in said and "OPEN" not in said,
    ),
    (
        Door(wanted="providers", trouble="feed ours has never been read"),
        lambda said: "OPEN TO ANYBODY: SNAT addresses; feed ours has never been read" in said,
    ),
    (
        Door(wanted="providers", closed=True, prefixes=7, trouble="the kernel refuses"),
        lambda said: "OLD LIST" in said and "for 7 prefixes alone" in said,
    ),
]


@pytest.mark.parametrize(("door", "is_right"), SAID)
def test_status_says_how_it_is(door: Door, is_right: Callable[[str], bool]) -> None:
    assert is_right(status(door)), status(door)


def test_metrics_tell_of_it_where_it_is_wanted() -> None:
    assert b"snat_closed" not in metrics(frame(), {})
    said = metrics(replace(frame(), door=Door(wanted="providers", closed=True, prefixes=9)), {})
    assert b"\ncdnctl_snat_closed 1" in said
    assert b"\ncdnctl_snat_invited_prefixes 9" in said
    assert b"\ncdnctl_snat_closed 0" in metrics(replace(frame(), door=Door(wanted="providers")), {})
