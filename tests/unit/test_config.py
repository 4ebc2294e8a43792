"""The operator's file: what is right is read, what is wrong is all reported at once."""

from __future__ import annotations

import ctypes
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from cdnctl import config, paths
from cdnctl.config import ConfigError, Problem, schema
from cdnctl.datapath import abi

FILE = Path("cdnctl.toml")


def good() -> dict[str, Any]:
    return {
        "edge": {"name": "ams1", "interfaces": ["eth0"], "snat": ["203.0.113.10", "203.0.113.11"]},
        "cdn": [
            {"name": "aurora", "endpoints": ["198.51.100.10:443"], "weight": 60},
            {"name": "borealis", "endpoints": ["198.51.100.20:443", "198.51.100.21:443"]},
        ],
        "service": [{"name": "www", "vip": "203.0.113.80", "port": 443}],
    }


def problems(raw: dict[str, Any]) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        config.parse(tomli_w.dumps(raw), FILE)
    return caught.value.problems


def only_problem(raw: dict[str, Any]) -> Problem:
    (problem,) = problems(raw)
    return problem


def test_defaults() -> None:
    read = config.parse(tomli_w.dumps(good()), FILE)
    assert read.edge.attach == "auto"
    assert read.edge.snat_ports == (1024, 65535)
    assert read.edge.management == ()
    assert (read.limits.flows, read.limits.half_open) == (1_000_000, 65_536)
    assert (read.limits.block_entries, read.limits.endpoints) == (1_000_000, 16)
    assert (read.reflex.out_s, read.reflex.max_out_s) == (10.0, 300.0)
    assert read.cdns[1].weight == 100
    assert read.cdns[1].latency_limit_ms is None
    assert read.services[0].protocol == ("tcp",)
    assert read.services[0].policy == "latency"
    assert read.path == FILE


def test_the_example_is_right_and_names_every_key() -> None:
    example = paths.share_dir() / "cdnctl.toml.example"
    config.load(example)
    uncommented = "\n".join(
        line.removeprefix("# ") if " = " in line else line for line in example.read_text().splitlines()[4:]
    )
    raw = tomllib.loads(uncommented)
    named = {
        config.Edge: raw["edge"],
        config.Limits: raw["limits"],
        config.Reflex: raw["reflex"],
        config.CdnConfig: raw["cdn"][0],
        config.ServiceConfig: raw["service"][0],
    }
    for table, keys in named.items():
        assert set(keys) == set(table.__struct_fields__)
    # What is commented out shows the defaults, so that switching a line on changes nothing.
    read = config.parse(uncommented, example)
    assert (read.limits, read.reflex) == (config.Limits(), config.Reflex())


def test_services_name_their_cdns() -> None:
    raw = good()
    raw["service"].append({"name": "api", "vip": "203.0.113.80", "port": 80, "cdns": ["borealis"]})
    read = config.parse(tomli_w.dumps(raw), FILE)
    assert [cdn.name for cdn in read.cdns_of(read.services[0])] == ["aurora", "borealis"]
    assert [cdn.name for cdn in read.cdns_of(read.services[1])] == ["borealis"]


@pytest.mark.parametrize(
    ("where", "value", "key", "expected"),
    [
        (("edge", "name"), "Ams 1", "edge.name", "a-z"),
        (("edge", "name"), "../etc", "edge.name", "a-z"),
        (("edge", "name"), "x\n", "edge.name", "a-z"),
        (("edge", "interfaces"), [], "edge.interfaces", "one or more"),
        (("edge", "interfaces"), ["a-name-that-is-too-long"], "edge.interfaces[1]", "interface"),
        (("edge", "interfaces"), "eth0", "edge.interfaces", "list"),
        (("edge", "attach"), "offload", "edge.attach", '"native"'),
        (("edge", "snat"), ["203.0.113.10", "2001:db8::1"], "edge.snat[2]", "IPv4"),
        (("edge", "snat"), ["224.0.0.1", "203.0.113.11"], "edge.snat[1]", "one host"),
        (("edge", "snat_ports"), [65535, 1024], "edge.snat_ports", "first port before"),
        (("edge", "snat_ports"), [0, 65535], "edge.snat_ports", "first and the last"),
        (("edge", "management"), ["10.0.0.1/8"], "edge.management[1]", "host bits"),
        (("edge", "management"), ["10.0.0.0/8", "2001:db8::/32"], "edge.management[2]", "IPv4"),
        (("edge", "managment"), [], "edge.managment", "management"),
        (("limits",), {"flows": 10}, "limits.flows", "1024"),
        (("limits",), {"flows": True}, "limits.flows", "1024"),
        (("limits",), {"endpoints": 2}, "limits.endpoints", "at least 3"),
        (("limits",), 7, "limits", "[limits]"),
        (("reflex",), {"out_s": float("nan")}, "reflex.out_s", "seconds"),
        (("reflex",), {"out_s": 30, "max_out_s": 20}, "reflex.out_s", "20"),
        (("reflex",), {"dark_connects": 0}, "reflex.dark_connects", "1 to 1000"),
        (("cdn", 0, "weight"), 1001, "cdn[1].weight", "0 to 1000"),
        (("cdn", 0, "weight"), "60", "cdn[1].weight", "0 to 1000"),
        (("cdn", 0, "capacity"), {"mbit": 1}, "cdn[1].capacity", "no such key"),
        (("cdn", 0, "latency_limit_ms"), 0, "cdn[1].latency_limit_ms", "milliseconds"),
        (("cdn", 1, "endpoints"), ["198.51.100.20"], "cdn[2].endpoints[1]", "and a port"),
        (("cdn", 1, "endpoints"), ["198.51.100.20:0443"], "cdn[2].endpoints[1]", "and a port"),
        (("cdn", 1, "endpoints"), ["198.51.100.20:65536"], "cdn[2].endpoints[1]", "and a port"),
        (
            ("cdn", 1, "endpoints"),
            ["198.51.100.10:443"],
            "cdn[2].endpoints[1]",
            "first at cdn[1].endpoints[1]",
        ),
        (("cdn", 1, "endpoints"), ["203.0.113.80:443"], "cdn[2].endpoints[1]", "VIP"),
        (("cdn", 1, "endpoints"), ["203.0.113.11:443"], "cdn[2].endpoints[1]", "edge.snat"),
        (("cdn", 1, "name"), "aurora", "cdn[2].name", "cdn[1].name"),
        (("service", 0, "vip"), "203.0.113.10", "service[1].vip", "edge.snat"),
        (("service", 0, "vip"), "127.0.0.1", "service[1].vip", "one host"),
        (("service", 0, "port"), 65536, "service[1].port", "1 to 65535"),
        (("service", 0, "protocol"), ["tcp", "udp"], "service[1].protocol[2]", '"tcp"'),
        (("service", 0, "policy"), "fastest", "service[1].policy", '"weighted"'),
        (("service", 0, "cdns"), ["cirrus"], "service[1].cdns[1]", "aurora, borealis"),
        (("extra",), {}, "extra", "no such table"),
    ],
)
def test_one_mistake(where: tuple[Any, ...], value: object, key: str, expected: str) -> None:
    raw = good()
    place: Any = raw
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value
    problem = only_problem(raw)
    assert problem.key == key
    assert problem.file == str(FILE)
    assert expected in problem.expected
    assert problem.value


@pytest.mark.parametrize("missing", ["name", "interfaces", "snat"])
def test_what_is_needed(missing: str) -> None:
    raw = good()
    del raw["edge"][missing]
    problem = only_problem(raw)
    assert (problem.key, problem.value) == (f"edge.{missing}", "")
    assert problem.expected.startswith("is needed")


@pytest.mark.parametrize("missing", ["edge", "cdn", "service"])
def test_tables_that_are_needed(missing: str) -> None:
    raw = good()
    del raw[missing]
    assert [problem.key for problem in problems(raw)] == [missing]


def test_two_services_at_one_place() -> None:
    raw = good()
    raw["service"].append({**raw["service"][0], "name": "api"})
    assert only_problem(raw).value == '"203.0.113.80:443"'


def test_shortfall_of_ports_shows_the_sum() -> None:
    raw = good()
    raw["edge"]["snat_ports"] = [1024, 11023]
    assert config.parse(tomli_w.dumps(raw), FILE).limits.half_open == 20000, "the default fits itself"
    raw["limits"] = {"half_open": 65536}
    problem = only_problem(raw)
    assert problem.key == "limits.half_open"
    assert "2 addresses of edge.snat x 10000 ports = 20000" in problem.expected
    assert f"{65536 - 20000} short" in problem.expected
    raw["limits"] = {"half_open": 20000}
    config.parse(tomli_w.dumps(raw), FILE)


def test_no_more_than_the_data_path_has_room_for() -> None:
    raw = good()
    raw["service"] = [{"name": f"s{n}", "vip": "203.0.113.80", "port": n} for n in range(1, 34)]
    problem = only_problem(raw)
    assert (problem.key, problem.value) == ("service", "33")
    header = (paths.bpf_dir() / "abi.h").read_text()
    for name in ("MAX_CDNS", "MAX_ENDPOINTS", "MAX_SERVICES", "MAX_SNAT"):
        assert f"#define {name} {getattr(schema, name)}\n" in header


def test_some_cdn_needs_a_weight() -> None:
    raw = good()
    raw["cdn"][1]["weight"] = 0
    config.parse(tomli_w.dumps(raw), FILE)
    raw["service"][0]["cdns"] = ["borealis"]
    assert "weight 0" in only_problem(raw).expected
    del raw["service"][0]["cdns"]
    raw["cdn"][0]["weight"] = 0
    assert "weight 0" in only_problem(raw).expected


def test_all_mistakes_at_once() -> None:
    """Also clashes among values of a table that has other mistakes."""
    raw = good()
    raw["what"] = 1
    raw["edge"] |= {"name": "?", "snat": ["x", "203.0.113.10"], "attach": "no"}
    raw["cdn"][0] |= {"weight": -1, "endpoints": ["198.51.100.20:443", "nonsense"]}
    raw["service"][0] |= {"vip": "203.0.113.10", "port": "https", "colour": "red"}
    found = {problem.key for problem in problems(raw)}
    assert found == {
        "what",
        "edge.name",
        "edge.snat[1]",
        "edge.attach",
        "cdn[1].weight",
        "cdn[1].endpoints[2]",
        "cdn[2].endpoints[1]",
        "service[1].vip",
        "service[1].port",
        "service[1].colour",
    }


def test_a_problem_reads_as_one_line() -> None:
    raw = good()
    raw["cdn"][0]["weight"] = 2000
    assert (
        str(only_problem(raw)) == "cdnctl.toml: cdn[1].weight = 2000: expected a whole number from 0 to 1000"
    )


@pytest.mark.parametrize("data", [b"edge = [", b"\xff\xfe", b"edge = 1\nedge = 2"])
def test_files_that_are_no_toml(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"broken\.toml"):
        config.load(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        config.load(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="directory"):
        config.load(tmp_path)


def test_costs() -> None:
    read = config.parse(tomli_w.dumps(good()), FILE)
    assert config.ports(read) == 64512
    assert config.slots(read) == 2 * 16 * 64512
    assert config.memory(read)["reverse slots"] == config.slots(read) * ctypes.sizeof(abi.Slot)
    (note,) = config.notes(read)
    assert str(2 * 3 * 64512) in note


ANYTHING = st.recursive(
    st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


TABLE = st.dictionaries(
    st.sampled_from(["name", "snat", "snat_ports", "endpoints", "vip", "port", "cdns", "out_s"]), ANYTHING
)


@given(
    st.dictionaries(
        st.sampled_from(["edge", "limits", "reflex", "cdn", "service", "other"]), TABLE | st.lists(TABLE)
    )
)
def test_nonsense_is_reported_never_crashes(raw: dict[str, Any]) -> None:
    found = problems(raw)
    assert all(problem.expected for problem in found)
