"""Clashes between values that are each right by themselves.

They are looked for in whatever could be read, so that one mistake in the file does not hide another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from cdnctl.config import schema
from cdnctl.config.outside import planning_clashes
from cdnctl.config.table import Table
from cdnctl.config.values import family, parse_endpoint, show_endpoint

LEAST_HALF_OPEN = 1024
"""The least that `limits.half_open` may be."""

Fields = dict[str, Any]
"""The fields of a table that were right. A wrong one is not in it, a wrong member of a list is None."""
Clash = tuple[str, object, str]
"""Key, value and what would be right."""
Place = tuple[str, Any]
"""Key and value."""


class Tables(NamedTuple):
    """All tables of the file; those that may be many, in the file's order."""

    edge: Fields
    limits: Fields
    reflex: Fields
    quota: Fields
    metrics: Fields
    log: Fields
    shield: Fields
    autoban: Fields
    model: Fields
    planner: Fields
    dns: Fields
    regions: list[Fields]
    customers: list[Fields]
    cdns: list[Fields]
    services: list[Fields]
    feeds: list[Fields]


def clashes(file: Tables) -> Iterator[Clash]:
    """Every clash among the fields of the file's tables."""
    yield from _twice(_members("edge.interfaces", file.edge.get("interfaces", ())))
    for table, many in (
        ("region", file.regions),
        ("customer", file.customers),
        ("cdn", file.cdns),
        ("service", file.services),
        ("feed", file.feeds),
    ):
        yield from _twice(_each(table, many, "name"))
    yield from _snat_clashes(file.edge, file.limits)
    yield from _address_clashes(file)
    yield from _client_clashes(file)
    yield from _limit_clashes(file)
    yield from _shield_clashes(file)
    yield from _service_clashes(file)
    yield from _room_clashes(file)
    yield from planning_clashes(file)


def _each(table: str, tables: list[Fields], key: str) -> Iterator[Place]:
    for number, fields in enumerate(tables, 1):
        if key in fields:
            yield f"{table}[{number}].{key}", fields[key]


def _members(key: str, values: Iterable[Any]) -> Iterator[Place]:
    return ((f"{key}[{number}]", each) for number, each in enumerate(values, 1) if each is not None)


def _all_members(table: str, tables: list[Fields], key: str) -> list[Place]:
    return [place for at, values in _each(table, tables, key) for place in _members(at, values)]


def _twice(places: Iterable[Place]) -> Iterator[Clash]:
    first: dict[Any, str] = {}
    for key, value in places:
        if value in first:
            yield key, value, f"is given twice, first at {first[value]}; each may stand once"
        first.setdefault(value, key)


# -- the edge's own addresses --


def _snat_clashes(edge: Fields, limits: Fields) -> Iterator[Clash]:
    snat = edge.get("snat", ())
    yield from _twice(_members("edge.snat", snat))
    for wanted in (4, 6):
        if (count := _count(snat, wanted)) > schema.MAX_SNAT:
            yield "edge.snat", list(snat), f"has {count} IPv{wanted} addresses: at most {schema.MAX_SNAT}"
    if "snat_ports" not in edge:
        return
    first, last = edge["snat_ports"]
    if first > last:
        yield "edge.snat_ports", [first, last], "expected the first port before the last"
        return
    (addresses, its), wanted, ports = _fewest(snat), limits.get("half_open", 0), last - first + 1
    if not addresses or (bindings := addresses * ports) >= wanted:
        return
    there = f"{addresses} IPv{its} address{'es' if addresses > 1 else ''} of edge.snat"
    total = f"{there} x {ports} ports = {bindings} bindings to each endpoint"
    if bindings < LEAST_HALF_OPEN:  # no limits.half_open is as low as that
        least = -(-LEAST_HALF_OPEN // addresses)
        expected = f"expected {least} ports or more: {total}, and {LEAST_HALF_OPEN} are the least"
        yield "edge.snat_ports", [first, last], expected
    else:
        expected = (
            f"expected at most {bindings}: {total}, {wanted - bindings} short; add an address to edge.snat,"
            " widen edge.snat_ports, or lower this"
        )
        yield "limits.half_open", wanted, expected


def fit_half_open(edge: Fields, limits: Fields) -> None:
    """A default that nobody chose must not be a mistake: no more than the addresses have ports."""
    if "snat_ports" in edge and "half_open" in limits and (addresses := _fewest(edge.get("snat", ()))[0]):
        first, last = edge["snat_ports"]
        ports = addresses * max(0, last - first + 1)
        limits["half_open"] = max(LEAST_HALF_OPEN, min(limits["half_open"], ports))


def _count(addresses: Iterable[str | None], wanted: int) -> int:
    return sum(address is not None and family(address) == wanted for address in addresses)


def _fewest(snat: Iterable[str | None]) -> tuple[int, int]:
    """Addresses of the family that has fewer, but not none; and which that is."""
    counts = [(_count(snat, each), each) for each in (4, 6)]
    return min((count for count in counts if count[0]), default=(0, 4))


def _address_clashes(file: Tables) -> Iterator[Clash]:
    snat = set(file.edge.get("snat", ()))
    vips = {vip for _, vip in _each("service", file.services, "vip")}
    for key, vip in _each("service", file.services, "vip"):
        if vip in snat:
            expected = "is also in edge.snat; replies could not be told from requests: use another address"
            yield key, vip, expected
    for key, value, expected in _twice(_service_places(file.services)):
        yield key, value, f"{expected}: a VIP, port and protocol belong to one service"
    places = _endpoint_places(file.cdns)
    yield from _twice((key, text) for key, text, _ in places)
    for key, text, cdn in places:
        address = parse_endpoint(text)[0]
        if address in snat or (address in vips and cdn.get("mode") != "pass"):
            what = "a VIP" if address in vips else "an address of edge.snat"
            yield key, text, f"is {what} of this edge; an endpoint is an address of the CDN"


def _service_places(services: list[Fields]) -> Iterator[Place]:
    for number, service in enumerate(services, 1):
        if service.keys() >= {"vip", "port", "protocol"}:
            yield from (
                (f"service[{number}]", f"{show_endpoint(service['vip'], service['port'])}/{protocol}")
                for protocol in dict.fromkeys(service["protocol"])
                if protocol is not None
            )


def _endpoint_places(cdns: list[Fields]) -> list[tuple[str, str, Fields]]:
    """Key and text of each endpoint, and its CDN."""
    return [
        (key, endpoint["address"], cdn)
        for number, cdn in enumerate(cdns, 1)
        for key, endpoint in _members(f"cdn[{number}].endpoints", cdn.get("endpoints", ()))
        if "address" in endpoint
    ]


# -- clients --


def _client_clashes(file: Tables) -> Iterator[Clash]:
    for table, many in (("region", file.regions), ("customer", file.customers)):
        yield from _twice(_all_members(table, many, "prefixes"))
    prefixes = {
        prefix
        for table, many in (("region", file.regions), ("customer", file.customers))
        for _, prefix in _all_members(table, many, "prefixes")
    }
    if len(prefixes) > (room := schema.MAX_CLIENT_PREFIXES - schema.MAX_ALLOWED):
        expected = f"there is room for {room} prefixes of regions and customers"
        yield "customer", len(prefixes), expected
    names = [region["name"] for region in file.regions if "name" in region]
    for number, cdn in enumerate(file.cdns, 1):
        for key, endpoint in (
            *_members(f"cdn[{number}].endpoints", cdn.get("endpoints", ())),
            *_members(f"cdn[{number}].names", cdn.get("names", ())),
        ):
            chosen = endpoint.get("regions", ())
            yield from _twice(_members(f"{key}.regions", chosen))
            for place, name in _members(f"{key}.regions", chosen):
                if name not in names and len(names) == len(file.regions):
                    yield place, name, f"no such region; there are {', '.join(names) or 'none'}"


# -- services and who serves them --


def _service_clashes(file: Tables) -> Iterator[Clash]:
    names = [cdn["name"] for cdn in file.cdns if "name" in cdn]
    all_named = len(names) == len(file.cdns) > 0
    lacking: dict[int, str] = {}
    for number, service in enumerate(file.services, 1):
        chosen = service.get("cdns", ())
        key = f"service[{number}].cdns"
        yield from _twice(_members(key, chosen))
        yield from _twice(_members(f"service[{number}].protocol", service.get("protocol", ())))
        unknown = [(at, name) for at, name in _members(key, chosen) if name not in names]
        if all_named:
            yield from ((at, name, f"no such CDN; there are {', '.join(names)}") for at, name in unknown)
        if not all_named or unknown or None in chosen or "vip" not in service:
            continue  # who serves it is not known
        serving = [cdn for cdn in file.cdns if not chosen or cdn["name"] in chosen]
        if any(key not in cdn or None in cdn[key] for cdn in serving for key in ("endpoints", "names")):
            continue
        wanted = family(service["vip"])
        fitting = [cdn for cdn in serving if wanted in _families(cdn)]
        if not fitting:
            expected = (
                f"none of the CDNs that serve it has an IPv{wanted} endpoint; expected one in the endpoints"
                f" of {' or '.join(cdn['name'] for cdn in serving)}"
            )
            yield f"service[{number}].vip", service["vip"], expected
        elif all(cdn.get("weight") == 0 for cdn in fitting):
            expected = "every CDN that serves it has weight 0; expected at least one above 0"
            yield key, list(chosen), expected
        if translated := [cdn["name"] for cdn in fitting if cdn.get("mode") == "nat"]:
            who = f"service {service.get('name', number)} is served by {translated[0]}, of mode nat"
            lacking.setdefault(wanted, who)
    yield from _snat_missing(file.edge, lacking)


def _families(cdn: Fields) -> set[int]:
    if cdn["names"]:  # what they lead to is not known yet
        return {4, 6}
    return {family(endpoint["address"]) for endpoint in cdn["endpoints"] if "address" in endpoint}


def _snat_missing(edge: Fields, lacking: dict[int, str]) -> Iterator[Clash]:
    snat = edge.get("snat")
    if snat is None or None in snat:
        return
    for wanted, who in sorted(lacking.items()):
        if not _count(snat, wanted):
            yield "edge.snat", list(snat) or None, f"is needed: an IPv{wanted} address, since {who}"


# -- numbers --


def _limit_clashes(file: Tables) -> Iterator[Clash]:
    reflex = file.reflex
    if reflex.keys() >= {"out_s", "max_out_s"} and reflex["out_s"] > reflex["max_out_s"]:
        yield "reflex.out_s", reflex["out_s"], f"expected at most max_out_s, which is {reflex['max_out_s']:g}"
    capacities = _each("cdn", file.cdns, "capacity")
    yield from _limits_nothing([("quota.per_source", file.quota.get("per_source"))], schema.PerSource)
    yield from _limits_nothing(capacities, schema.Capacity)


def _shield_clashes(file: Tables) -> Iterator[Clash]:
    shield, interfaces = file.shield, file.edge.get("interfaces")
    places = _members("shield.outside", shield.get("outside", ()))
    yield from (
        (key, name, "is not in edge.interfaces") for key, name in places if name not in (interfaces or ())
    )
    yield from _twice(_members("shield.amplifiers", shield.get("amplifiers", ())))


def _limits_nothing(places: Iterable[Place], kind: type[Table]) -> Iterator[Clash]:
    """Tables of limits that were read without a mistake, but have none."""
    names = [name for name in kind.__struct_fields__ if name != "burst_ms"]
    for key, limits in places:
        if limits is not None and all(limits.get(name, 0) is None for name in names):
            given = {name: value for name, value in limits.items() if value is not None}
            yield key, given, f"limits nothing; expected {' or '.join(names)}"


def _room_clashes(file: Tables) -> Iterator[Clash]:
    kernel_services = sum(
        len({each for each in service.get("protocol", ()) if each}) for service in file.services
    )
    if kernel_services > schema.MAX_SERVICES >= len(file.services):
        expected = f"there is room for {schema.MAX_SERVICES} services, and one of two protocols counts twice"
        yield "service", kernel_services, expected
    count = sum(
        max(1, len(_protocols(file.services, cdn, family(text))))
        for _, text, cdn in _endpoint_places(file.cdns)
    )
    if count > file.limits.get("endpoints", count):
        what = f"the CDNs list {count} endpoints, each counted once for each protocol that services have"
        yield "limits.endpoints", file.limits["endpoints"], f"{what}: expected at least {count}"


def _protocols(services: list[Fields], cdn: Fields, wanted: int) -> set[str]:
    """What services want of a CDN's endpoints of a family."""
    return {
        protocol
        for service in services
        if "vip" in service and family(service["vip"]) == wanted
        if not service.get("cdns") or cdn.get("name") in service["cdns"]
        for protocol in service.get("protocol", ())
        if protocol
    }
