"""Clashes between values that are each right by themselves.

They are looked for in whatever could be read, so that one mistake in the file does not hide another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cdnctl.config.values import parse_endpoint

Fields = dict[str, Any]
"""The fields of a table that were right. A wrong one is not in it, a wrong member of a list is None."""
Clash = tuple[str, object, str]
"""Key, value and what would be right."""


def clashes(
    edge: Fields, limits: Fields, reflex: Fields, cdns: list[Fields], services: list[Fields]
) -> Iterator[Clash]:
    """Every clash among the fields of the file's tables; `cdns` and `services` in the file's order."""
    yield from _twice(_members("edge.interfaces", edge.get("interfaces", ())))
    yield from _twice(_members("edge.snat", edge.get("snat", ())))
    yield from _twice(_each("cdn", cdns, "name"))
    yield from _twice(_each("service", services, "name"))
    yield from _address_clashes(edge, cdns, services)
    yield from _pool_clashes(edge, limits)
    if reflex.keys() >= {"out_s", "max_out_s"} and reflex["out_s"] > reflex["max_out_s"]:
        yield "reflex.out_s", reflex["out_s"], f"expected at most max_out_s, which is {reflex['max_out_s']:g}"
    yield from _cdn_clashes(limits, cdns, services)


def _each(table: str, tables: list[Fields], key: str) -> Iterator[tuple[str, Any]]:
    for number, fields in enumerate(tables, 1):
        if key in fields:
            yield f"{table}[{number}].{key}", fields[key]


def _members(key: str, values: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    return ((f"{key}[{number}]", each) for number, each in enumerate(values, 1) if each is not None)


def _twice(places: Iterable[tuple[str, Any]]) -> Iterator[Clash]:
    first: dict[Any, str] = {}
    for key, value in places:
        if value in first:
            yield key, value, f"is given twice, first at {first[value]}; each may stand once"
        first.setdefault(value, key)


def _address_clashes(edge: Fields, cdns: list[Fields], services: list[Fields]) -> Iterator[Clash]:
    snat = set(edge.get("snat", ()))
    vips = {vip for _, vip in _each("service", services, "vip")}
    for key, vip in _each("service", services, "vip"):
        if vip in snat:
            yield (
                key,
                vip,
                "is also in edge.snat; replies could not be told from requests: use another address",
            )
    yield from (
        (key, value, f"{expected}: a VIP and port belong to one service")
        for key, value, expected in _twice(
            (f"service[{number}]", f"{service['vip']}:{service['port']}")
            for number, service in enumerate(services, 1)
            if service.keys() >= {"vip", "port"}
        )
    )
    places = [
        place for key, endpoints in _each("cdn", cdns, "endpoints") for place in _members(key, endpoints)
    ]
    yield from _twice(places)
    for key, each in places:
        address = parse_endpoint(each)[0]
        if address in snat | vips:
            what = "a VIP" if address in vips else "an address of edge.snat"
            yield key, each, f"is {what} of this edge; an endpoint is an address of the CDN"


def fit_half_open(edge: Fields, limits: Fields) -> None:
    """A default that nobody chose must not be a mistake: no more than the addresses have ports."""
    if "snat_ports" in edge and "snat" in edge and "half_open" in limits:
        first, last = edge["snat_ports"]
        ports = len(edge["snat"]) * max(0, last - first + 1)
        limits["half_open"] = max(1024, min(limits["half_open"], ports))


def _pool_clashes(edge: Fields, limits: Fields) -> Iterator[Clash]:
    if "snat_ports" not in edge or "snat" not in edge:
        return
    first, last = edge["snat_ports"]
    if first > last:
        yield "edge.snat_ports", [first, last], "expected the first port before the last"
        return
    addresses, ports, wanted = len(edge["snat"]), last - first + 1, limits.get("half_open", 0)
    if (bindings := addresses * ports) < wanted:
        expected = (
            f"expected at most {bindings}: {_addresses(addresses)} of edge.snat x {ports} ports = {bindings}"
            f" bindings to each endpoint, {wanted - bindings} short; add an address to edge.snat, widen"
            " edge.snat_ports, or lower this"
        )
        yield "limits.half_open", wanted, expected


def _cdn_clashes(limits: Fields, cdns: list[Fields], services: list[Fields]) -> Iterator[Clash]:
    count = sum(len(endpoints) for _, endpoints in _each("cdn", cdns, "endpoints"))
    if count > limits.get("endpoints", count):
        yield (
            "limits.endpoints",
            limits["endpoints"],
            f"the CDNs list {count} endpoints: expected at least {count}",
        )
    weights = {cdn["name"]: cdn.get("weight") for cdn in cdns if "name" in cdn}
    all_named = len(weights) == len(cdns)
    for key, names in _each("service", services, "cdns"):
        for place, name in _members(key, names):
            if name not in weights and all_named:
                yield place, name, f"no such CDN; there are {', '.join(weights)}"
        yield from _twice(_members(key, names))
        serving = [weights.get(name) for name in names or weights]
        if serving and all_named and all(weight == 0 for weight in serving):
            yield key, list(names), "every CDN that serves it has weight 0; expected at least one above 0"


def _addresses(count: int) -> str:
    return "1 address" if count == 1 else f"{count} addresses"
