"""The operator's file: what is right is read, what is wrong is all reported at once."""

from __future__ import annotations

import ctypes
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cdnctl import config, paths
from cdnctl.config import ConfigError, Problem, cost, picks, schema
from cdnctl.datapath import abi

FILE = Path("cdnctl.toml")
MAXIMA = (
    "MAX_CDNS",
    "MAX_ENDPOINTS",
    "MAX_SERVICES",
    "MAX_SNAT",
    "MAX_LINKS",
    "MAX_REGIONS",
    "MAX_TABLES",
    "MAX_CUSTOMERS",
)


def good() -> dict[str, Any]:
    return {
        "edge": {"name": "ams1", "interfaces": ["eth0"], "snat": ["203.0.113.10", "203.0.113.11"]},
        "region": [{"name": "eu", "prefixes": ["192.0.2.0/25"]}],
        "customer": [{"name": "acme", "prefixes": ["192.0.2.0/25", "192.0.2.128/26"]}],
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
    assert read.services[0].policy_of("bulk") == "latency"
    assert read.services[0].traffic_class == "interactive"
    assert (read.cdns[0].mode, read.cdns[0].reset_on_eject, read.cdns[0].capacity) == ("nat", True, None)
    assert read.quota == config.Quota()
    assert (read.shield, read.autoban) == (config.ShieldConfig(), config.AutobanConfig())
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
        config.Quota: raw["quota"],
        config.ShieldConfig: raw["shield"],
        config.AutobanConfig: raw["autoban"],
        config.BanLimits: raw["autoban"]["source"],
        config.PlannerConfig: raw["planner"],
        config.DnsConfig: raw["dns"],
        config.FeedConfig: raw["feed"][0],
        config.ProbeConfig: raw["cdn"][0]["probe"],
        config.PerSource: raw["quota"]["per_source"],
        config.RegionConfig: raw["region"][0],
        config.CustomerConfig: raw["customer"][0],
        config.CdnConfig: raw["cdn"][0],
        config.Capacity: raw["cdn"][0]["capacity"],
        config.ServiceConfig: raw["service"][0],
    }
    for table, keys in named.items():
        assert set(keys) == set(table.__struct_encode_fields__)
    # What is commented out shows the defaults, so that switching a line on changes nothing.
    read = config.parse(uncommented, example)
    assert (read.limits, read.reflex) == (config.Limits(), config.Reflex())
    assert (read.shield, read.autoban) == (config.ShieldConfig(), config.AutobanConfig())
    assert read.quota.busy_pps == config.Quota().busy_pps
    assert read.planner == config.PlannerConfig()
    assert replace(read.cdns[0].probe, kind="tcp", port=None, host=None, path="/", header=None, body="") == (
        config.ProbeConfig(kind="tcp")
    )
    fresh = config.CdnConfig(name="x", endpoints=(config.EndpointConfig(address="192.0.2.1:1"),))
    for name in ("mode", "tunnel_port", "reset_on_eject"):
        assert getattr(read.cdns[0], name) == getattr(fresh, name)


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
        (("edge", "interfaces"), [], "edge.interfaces", "1 to 64"),
        (("edge", "interfaces"), ["a-name-that-is-too-long"], "edge.interfaces[1]", "interface"),
        (("edge", "interfaces"), "eth0", "edge.interfaces", "list"),
        (("edge", "attach"), "offload", "edge.attach", '"native"'),
        (("edge", "snat"), ["203.0.113.10", "fe80::1"], "edge.snat[2]", "one host"),
        (("edge", "snat"), ["203.0.113.10", "::ffff:198.51.100.1"], "edge.snat[2]", "one host"),
        (("edge", "snat"), [f"203.0.113.{n}" for n in range(1, 10)], "edge.snat", "at most 8"),
        (("edge", "snat"), [], "edge.snat", "is needed"),
        (("edge", "snat"), ["2001:db8::1"], "edge.snat", "an IPv4 address"),
        (("edge", "fragments"), "keep", "edge.fragments", '"follow"'),
        (("edge", "snat"), ["224.0.0.1", "203.0.113.11"], "edge.snat[1]", "one host"),
        (("edge", "snat_ports"), [65535, 1024], "edge.snat_ports", "first port before"),
        (("edge", "snat_ports"), [0, 65535], "edge.snat_ports", "first and the last"),
        (("edge", "management"), ["10.0.0.1/8"], "edge.management[1]", "host bits"),
        (("edge", "management"), ["10.0.0.0/8", "2001:db8::1/32"], "edge.management[2]", "host bits"),
        (("edge", "management"), ["::ffff:10.0.0.0/104"], "edge.management[1]", "prefix"),
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
        (("cdn", 0, "capacity"), {"gbit": 1, "mbit": 1}, "cdn[1].capacity.gbit", "mbit"),
        (("cdn", 0, "capacity"), {"mbit": 0}, "cdn[1].capacity.mbit", "Mbit/s"),
        (("cdn", 0, "capacity"), {"burst_ms": 5}, "cdn[1].capacity", "limits nothing"),
        (("cdn", 0, "capacity"), 5000, "cdn[1].capacity", "a table, as in"),
        (("cdn", 0, "mode"), "gre", "cdn[1].mode", '"ipip"'),
        (("cdn", 0, "mss"), 100, "cdn[1].mss", "536"),
        (("cdn", 0, "reset_on_eject"), 1, "cdn[1].reset_on_eject", "true or false"),
        (("cdn", 0, "speed"), 1, "cdn[1].speed", "no such key"),
        (("service", 0, "cdns"), [], "service[1].cdns", "one or more names of CDNs; none would be nobody"),
        (("quota",), {"per_source": {"burst_ms": 5}}, "quota.per_source", "limits nothing"),
        (("quota",), {"per_source": {"pps": "many"}}, "quota.per_source.pps", "above 0"),
        (("quota",), {"busy_pps": 0}, "quota.busy_pps", "1 to"),
        (("shield",), {"flows_per_s": 0}, "shield.flows_per_s", "above 0"),
        (("shield",), {"syn_data": "refuse"}, "shield.syn_data", '"allow" or "drop"'),
        (("shield",), {"outside": ["eth9"]}, "shield.outside[1]", "is not in edge.interfaces"),
        (("shield",), {"amplifiers": [0]}, "shield.amplifiers[1]", "1 to 65535"),
        (("shield",), {"amplifiers": [53, 53]}, "shield.amplifiers[2]", "given twice"),
        (("edge", "announced"), ["0.0.0.0/1"], "edge.announced[1]", "a /8 at the widest"),
        (("edge", "announced"), ["2000::/3"], "edge.announced[1]", "a /16 at the widest"),
        (("edge", "announced"), ["203.0.113.0/24", "224.0.0.0/8"], "edge.announced[2]", "that hosts have"),
        (("edge", "announced"), ["ff02::/16"], "edge.announced[1]", "that hosts have"),
        (("autoban",), {"mode": "yes"}, "autoban.mode", '"off", "dry-run" or "on"'),
        (("autoban",), {"source": {"pps": 0}}, "autoban.source.pps", "above 0"),
        (("autoban",), {"network": 5000}, "autoban.network", "a table, as in"),
        (("autoban",), {"most": 0}, "autoban.most", "1 to 10000"),
        (("reflex",), {"established_s": 65536}, "reflex.established_s", "36000"),
        (("reflex",), {"slow_start_s": -1}, "reflex.slow_start_s", "0 to 3600"),
        (("limits",), {"endpoints": 129}, "limits.endpoints", "1 to 128"),
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
        (("cdn", 1, "endpoints"), ["2001:db8::1:443"], "cdn[2].endpoints[1]", "and a port"),
        (("cdn", 1, "endpoints"), ["[198.51.100.20]:443"], "cdn[2].endpoints[1]", "and a port"),
        (("cdn", 1, "endpoints"), [{"regions": []}], "cdn[2].endpoints[1].address", "is needed"),
        (("cdn", 1, "endpoints"), [{"address": "x"}], "cdn[2].endpoints[1].address", "and a port"),
        (
            ("cdn", 1, "endpoints"),
            [{"address": "198.51.100.20:443", "regions": ["mars"]}],
            "cdn[2].endpoints[1].regions[1]",
            "no such region; there are eu",
        ),
        (("region", 0, "prefixes"), [], "region[1].prefixes", "one or more"),
        (("region", 0, "prefixes"), ["10.0.0.0/8", "10.0.0.0/8"], "region[1].prefixes[2]", "twice"),
        (("customer", 0, "pps"), 0, "customer[1].pps", "above 0"),
        (
            ("customer", 0, "prefixes"),
            ["2001:db8::/33", "2001:DB8:0::/33"],
            "customer[1].prefixes[2]",
            "twice",
        ),
        (("cdn", 1, "endpoints"), ["203.0.113.80:443"], "cdn[2].endpoints[1]", "VIP"),
        (("cdn", 1, "endpoints"), ["203.0.113.11:443"], "cdn[2].endpoints[1]", "edge.snat"),
        (("cdn", 1, "name"), "aurora", "cdn[2].name", "cdn[1].name"),
        (("service", 0, "vip"), "203.0.113.10", "service[1].vip", "edge.snat"),
        (("service", 0, "vip"), "127.0.0.1", "service[1].vip", "one host"),
        (("service", 0, "vip"), "::ffff:1.2.3.4", "service[1].vip", "write 1.2.3.4"),
        (("region", 0, "prefixes"), ["::/0"], "region[1].prefixes[1]", "all of IPv4, too"),
        (("region", 0, "prefixes"), ["::ffff:1.2.3.0/120"], "region[1].prefixes[1]", "write it as IPv4"),
        (("cdn", 1, "endpoints"), ["[fe80::1]:443"], "cdn[2].endpoints[1]", "link-local"),
        (("cdn", 1, "endpoints"), ["[::ffff:1.2.3.4]:443"], "cdn[2].endpoints[1]", "write 1.2.3.4"),
        (("service", 0, "port"), 65536, "service[1].port", "1 to 65535"),
        (("service", 0, "vip"), "2001:db8::80", "service[1].vip", "has an IPv6 endpoint"),
        (("service", 0, "protocol"), ["tcp", "sctp"], "service[1].protocol[2]", '"udp"'),
        (("service", 0, "protocol"), ["tcp", "tcp"], "service[1].protocol[2]", "twice"),
        (("service", 0, "protocol"), [], "service[1].protocol", '["udp"]'),
        (("service", 0, "policy"), {"bulk": "fast"}, "service[1].policy.bulk", '"weighted"'),
        (("service", 0, "policy"), {"audio": "latency"}, "service[1].policy.audio", "bulk"),
        (("service", 0, "class"), "audio", "service[1].class", '"dscp"'),
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
    assert problem.value or problem.expected.startswith("is needed")


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
    assert only_problem(raw).value == '"203.0.113.80:443/tcp"'
    raw["service"][1]["protocol"] = ["udp"]
    config.parse(tomli_w.dumps(raw), FILE)
    raw["service"][1]["protocol"] = ["udp", "tcp"]
    assert only_problem(raw).value == '"203.0.113.80:443/tcp"'


def test_shortfall_of_ports_shows_the_sum() -> None:
    raw = good()
    raw["edge"]["snat_ports"] = [1024, 11023]
    assert config.parse(tomli_w.dumps(raw), FILE).limits.half_open == 20000, "the default fits itself"
    raw["limits"] = {"half_open": 65536}
    problem = only_problem(raw)
    assert problem.key == "limits.half_open"
    assert "2 IPv4 addresses of edge.snat x 10000 ports = 20000" in problem.expected
    assert f"{65536 - 20000} short" in problem.expected
    raw["limits"] = {"half_open": 20000}
    config.parse(tomli_w.dumps(raw), FILE)


@pytest.mark.parametrize("limits", [{}, {"half_open": 1024}, {"half_open": 65536}])
def test_ports_that_suffice_for_nothing_are_themselves_the_mistake(limits: dict[str, int]) -> None:
    raw = good()
    raw["edge"]["snat_ports"] = [40000, 40010]
    raw["limits"] = limits
    problem = only_problem(raw)
    assert (problem.key, problem.value) == ("edge.snat_ports", "[40000, 40010]")
    assert "expected 512 ports or more: 2 IPv4 addresses of edge.snat x 11 ports = 22" in problem.expected
    raw["edge"]["snat_ports"] = [40000, 40511]
    raw["limits"] = {}
    assert config.parse(tomli_w.dumps(raw), FILE).limits.half_open == least_half_open()


def least_half_open() -> int:
    """The least that may stand in the file."""
    raw = good()
    raw["limits"] = {"half_open": 1}
    match = re.search(r"from (\d+)", only_problem(raw).expected)
    assert match
    return int(match[1])


def test_the_family_with_fewer_addresses_counts() -> None:
    raw = good()
    raw["edge"]["snat"].append("2001:db8::10")
    assert config.parse(tomli_w.dumps(raw), FILE).limits.half_open == 64512
    raw["limits"] = {"half_open": 65536}
    assert "1 IPv6 address of edge.snat x 64512 ports" in only_problem(raw).expected


def both_families() -> dict[str, Any]:
    raw = good()
    raw["edge"]["snat"] += ["2001:db8::10", "2001:db8::11"]
    raw["cdn"][0]["endpoints"].append("[2001:db8:a::10]:443")
    raw["service"][0]["protocol"] = ["tcp", "udp"]
    raw["service"].append({"name": "www6", "vip": "2001:DB8::80", "port": 443, "protocol": ["udp"]})
    return raw


def test_both_families_and_protocols() -> None:
    read = config.parse(tomli_w.dumps(both_families()), FILE)
    www, www6 = read.services
    assert www6.vip == "2001:db8::80", "in its usual spelling, so that it is compared as one"
    assert (www.family, www6.family) == (4, 6)
    assert [cdn.name for cdn in read.cdns_of(www)] == ["aurora", "borealis"]
    assert [cdn.name for cdn in read.cdns_of(www6)] == ["aurora"]
    aurora = read.cdns[0]
    assert [read.protocols_of(aurora, each) for each in aurora.endpoints] == [("tcp", "udp"), ("udp",)]
    assert read.endpoint_count() == 2 + 1 + 4
    assert (read.edge.snat_of(4), read.edge.snat_of(6)) == (read.edge.snat[:2], read.edge.snat[2:])
    assert config.slots(read) == 16 * 2 * 64512
    assert [note for note in config.notes(read) if "borealis has no IPv6 endpoint" in note]


def test_every_protocol_takes_an_endpoint() -> None:
    raw = both_families()
    raw["limits"] = {"endpoints": 6}
    problem = only_problem(raw)
    assert (problem.key, problem.value) == ("limits.endpoints", "6")
    assert "at least 7" in problem.expected


def test_translation_needs_an_address_of_the_family_and_a_tunnel_none() -> None:
    raw = both_families()
    raw["edge"]["snat"] = raw["edge"]["snat"][:2]
    problem = only_problem(raw)
    assert problem.key == "edge.snat"
    assert "an IPv6 address, since service www6 is served by aurora" in problem.expected
    raw["cdn"][0]["mode"] = "gue"
    read = config.parse(tomli_w.dumps(raw), FILE)
    assert [note for note in config.notes(read) if "tunnel" in note]
    raw["cdn"][1]["mode"] = "ipip"
    del raw["edge"]["snat"]
    assert config.slots(config.parse(tomli_w.dumps(raw), FILE)) == 1


def test_only_what_is_left_to_the_host_may_be_a_vip() -> None:
    raw = good()
    raw["cdn"].append({"name": "own", "endpoints": ["203.0.113.80:443"], "mode": "pass"})
    config.parse(tomli_w.dumps(raw), FILE)
    raw["cdn"][2]["mode"] = "ipip"
    assert only_problem(raw).key == "cdn[3].endpoints[1]"


def test_policies_by_class() -> None:
    raw = good()
    raw["service"][0] |= {"policy": {"bulk": "failover"}, "class": "dscp", "cdns": ["borealis", "aurora"]}
    read = config.parse(tomli_w.dumps(raw), FILE)
    (www,) = read.services
    assert [www.policy_of(each) for each in config.CLASSES] == ["latency", "latency", "failover"]
    assert www.traffic_class == "dscp"
    assert [cdn.name for cdn in read.cdns_of(www)] == ["borealis", "aurora"], "the service's own order"


def test_regions_choose_endpoints() -> None:
    raw = good()
    raw["region"].append({"name": "us", "prefixes": ["2001:db8:5::/48"]})
    raw["region"].append({"name": "ap", "prefixes": ["2001:db8:6::/48"]})
    raw["cdn"][1]["endpoints"][0] = {"address": "198.51.100.20:443", "regions": ["eu", "us"]}
    raw["service"].append({"name": "two", "vip": "203.0.113.81", "port": 1, "cdns": ["borealis"]})
    raw["cdn"][1]["endpoints"][1] = {"address": "198.51.100.21:443", "regions": ["us"]}
    read = config.parse(tomli_w.dumps(raw), FILE)

    def hosts(service: int, region: str) -> list[str]:
        found = picks.servers(read, read.services[service], region)
        return [server.endpoint.host.rpartition(".")[2] for server in found]

    assert [hosts(0, region) for region in ("", "eu", "us", "ap")] == [
        ["10"],
        ["10", "20"],
        ["10", "20", "21"],
        ["10"],
    ]
    assert hosts(1, "eu") == ["20"]
    assert hosts(1, "") == hosts(1, "ap") == ["20", "21"], "nobody is near: all serve"
    assert [note for note in config.notes(read) if "region ap" in note]


def test_too_many_pick_tables() -> None:
    raw = good()
    addresses = [f"198.51.100.{n}:443" for n in range(1, 61)]
    raw["cdn"] = [
        {"name": f"c{n}", "endpoints": addresses[4 * n : 4 * n + 4], "mode": "ipip"} for n in range(15)
    ]
    raw["limits"] = {"endpoints": 60}
    raw["service"] = [
        {"name": f"s{n}", "vip": "203.0.113.80", "port": n, "cdns": [f"c{n % 15}", f"c{(n + n // 15) % 15}"]}
        for n in range(1, 65)
        if n // 15
    ]
    read = config.parse(tomli_w.dumps(raw), FILE)
    assert config.pick_tables(read) == 2 * len({frozenset(service.cdns) for service in read.services})
    for service in raw["service"]:
        service["policy"] = {"bulk": "failover"}
    assert "128" in only_problem(raw).expected


def test_no_more_than_the_data_path_has_room_for() -> None:
    raw = good()
    raw["service"] = [{"name": f"s{n}", "vip": "203.0.113.80", "port": n} for n in range(1, 66)]
    problem = only_problem(raw)
    assert (problem.key, problem.value) == ("service", "65")
    raw["service"] = raw["service"][:33]
    for service in raw["service"]:
        service["protocol"] = ["tcp", "udp"]
    problem = only_problem(raw)
    assert (problem.key, problem.value) == ("service", "66")
    header = (paths.bpf_dir() / "abi.h").read_text()
    for name in MAXIMA:
        found = re.search(rf"#define {name} (\d+)\b", header)
        assert found, name
        assert int(found[1]) == getattr(schema, name), name


def test_some_cdn_needs_a_weight() -> None:
    raw = good()
    raw["cdn"][1]["weight"] = 0
    config.parse(tomli_w.dumps(raw), FILE)
    raw["service"][0]["cdns"] = ["borealis"]
    assert "weight 0" in only_problem(raw).expected
    del raw["service"][0]["cdns"]
    raw["cdn"][0]["weight"] = 0
    assert "weight 0" in only_problem(raw).expected


def with_first(table: str, **values: object) -> dict[str, Any]:
    """The good one, with these in the first of a kind of tables."""
    raw = good()
    raw[table][0] |= values
    return raw


ODD = [
    (with_first("customer", burst_ms=5.0), "customer acme has burst_ms, but limits nothing"),
    (with_first("customer", pps=5), "customer acme has burst_ms 100, which is too little for a few packets"),
    (with_first("customer", mbit=0.1), "a few packets at its limits: it gets 240"),
    (
        with_first("customer", flows_per_s=5),
        "customer acme has burst_ms 100, and one of its flows takes 200 ms",
    ),
    (
        with_first("cdn", capacity={"flows_per_s": 10}),
        "aurora's capacity has burst_ms 20, and one of its flows",
    ),
    (with_first("cdn", tunnel_port=7000), "aurora is of mode nat: its tunnel_port is of no use"),
    (with_first("cdn", mode="pass", mss=1400), "aurora is of mode pass: its mss is of no use"),
    (
        with_first("service", policy={"bulk": "weighted"}),
        "a policy for class bulk, but all its traffic is interactive",
    ),
    (with_first("service", policy="failover", cdns=["aurora"]), "policy failover, and nobody but aurora"),
    (
        {**good(), "quota": {"per_source": {"pps": 50}}},
        "quota.per_source.pps is 50, but only sources that send about 1000 packets/s",
    ),
]
FINE = [
    good(),
    with_first("customer", pps=50_000, mbit=400, flows_per_s=500),
    with_first("cdn", capacity={"flows_per_s": 5000, "mbit": 2000}, mode="gue", tunnel_port=7000, mss=1400),
    with_first("service", policy={"bulk": "weighted"}, **{"class": "dscp"}),
    with_first("service", policy={"bulk": "weighted"}, **{"class": "bulk"}),
    with_first("service", policy="failover"),
    {**good(), "quota": {"per_source": {"pps": 5000}}},
]


@pytest.mark.parametrize(("raw", "said"), ODD, ids=[said for _, said in ODD])
def test_what_is_odd_is_noted(raw: dict[str, Any], said: str) -> None:
    notes = config.notes(config.parse(tomli_w.dumps(raw), FILE))
    assert len([note for note in notes if said in note]) == 1


def test_what_is_not_odd_is_not() -> None:
    words = ("burst", "of no use", "policy", "metered")
    for raw in FINE:
        notes = config.notes(config.parse(tomli_w.dumps(raw), FILE))
        assert not [note for note in notes if any(word in note for word in words)]


@pytest.mark.parametrize("rate", [1e-4, 1e-12])
def test_a_rate_that_the_kernel_has_no_ticks_for_is_none(rate: float) -> None:
    for table, key in (("customer", "pps"), ("customer", "mbit"), ("customer", "flows_per_s")):
        assert "above 0" in only_problem(with_first(table, **{key: rate})).expected


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
    with pytest.raises(ConfigError, match="no such file; `cdnctl init -c .*` makes one"):
        config.load(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="directory"):
        config.load(tmp_path)


def test_costs() -> None:
    read = config.parse(tomli_w.dumps(good()), FILE)
    assert config.ports(read) == 64512
    assert config.slots(read) == 2 * 16 * 64512
    assert config.memory(read)["reverse slots"] == config.slots(read) * ctypes.sizeof(abi.Slot)
    flow = ctypes.sizeof(abi.FlowKey) + ctypes.sizeof(abi.Flow)
    assert flow < cost.FLOW_BYTES < flow + 100, "and the kernel's book-keeping"
    block = ctypes.sizeof(abi.Address) + ctypes.sizeof(abi.Block)
    assert block < cost.BLOCK_BYTES < block + 100
    quic_id = ctypes.sizeof(abi.QuicId) + 4
    assert quic_id < cost.QUIC_ID_BYTES < quic_id + 100
    assert cost.PICK_TABLE_BYTES == 2 * abi.PICK_ROOM
    (note,) = [note for note in config.notes(read) if "limits.flows" in note]
    assert str(2 * 3 * 64512) in note


@pytest.mark.parametrize("change", ["none", "both families", "an endpoint that serves nothing"])
def test_the_sum_of_flows_is_that_of_its_factors(change: str) -> None:
    raw = both_families() if change == "both families" else good()
    if change.startswith("an endpoint"):
        raw["service"][0]["cdns"] = ["aurora"]
    raw["edge"]["snat_ports"] = [40000, 49999]
    raw["limits"] = {"half_open": 2048}
    read = config.parse(tomli_w.dumps(raw), FILE)
    (note,) = [note for note in config.notes(read) if "limits.flows" in note]
    found = re.findall(r"(\d+) IPv\d addresses of edge.snat x (\d+) endpoints? x (\d+) ports = (\d+)", note)
    sums = [tuple(map(int, each)) for each in found]
    assert all(a * b * c == product for a, b, c, product in sums)
    assert f"no more than {sum(product for *_, product in sums)} flows" in note
    assert len(sums) == (2 if change == "both families" else 1)


ANYTHING = st.recursive(
    st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


TABLE = st.dictionaries(
    st.sampled_from(
        [
            *("name", "snat", "snat_ports", "endpoints", "vip", "port", "cdns", "out_s", "per_source"),
            *("prefixes", "regions", "policy", "protocol", "capacity", "address", "pps"),
        ]
    ),
    ANYTHING,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["edge", "limits", "reflex", "quota", "region", "customer", "cdn", "service", "other"]
        ),
        TABLE | st.lists(TABLE),
    )
)
def test_nonsense_is_reported_never_crashes(raw: dict[str, Any]) -> None:
    found = problems(raw)
    assert all(problem.expected for problem in found)
