"""Clashes among the tables of the planner, and of what comes from outside."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cdnctl.config.clashes import Clash, Tables


def planning_clashes(file: Tables) -> Iterator[Clash]:
    """All of them."""
    yield from _sources(file)
    yield from _feeds(file)
    yield from _snat_from(file)
    yield from _announced(file)
    yield from _servers(file)
    for number, cdn in enumerate(file.cdns, 1):
        yield from _probe(f"cdn[{number}].probe", cdn.get("probe"))
        for at, endpoint in enumerate(cdn.get("endpoints", ()), 1):
            if endpoint is not None:
                yield from _probe(f"cdn[{number}].endpoints[{at}].probe", endpoint.get("probe"))


def _sources(file: Tables) -> Iterator[Clash]:
    """Where endpoints and prefixes come from."""
    for number, cdn in enumerate(file.cdns, 1):
        if cdn.keys() >= {"endpoints", "names"} and not cdn["endpoints"] and not cdn["names"]:
            expected = 'is needed: a list of addresses with ports, or names = ["edge.example.net:443"]'
            yield f"cdn[{number}].endpoints", None, expected
    for number, region in enumerate(file.regions, 1):
        if region.keys() >= {"prefixes", "file"} and not region["prefixes"] and region["file"] is None:
            expected = "is needed: a list of one or more prefixes, or a file that has them"
            yield f"region[{number}].prefixes", None, expected
    first: dict[Any, str] = {}
    for number, cdn in enumerate(file.cdns, 1):
        for at, name in enumerate(cdn.get("names", ()), 1):
            if name is None or "name" not in name:
                continue
            key = f"cdn[{number}].names[{at}]"
            if name["name"] in first:
                yield (
                    key,
                    name["name"],
                    f"is given twice, first at {first[name['name']]}; each may stand once",
                )
            first.setdefault(name["name"], key)


_WIDEST = {4: 8, 6: 16}
"""Nobody announces more than these by one prefix."""


def _announced(file: Tables) -> Iterator[Clash]:
    """Everything is routed through a router, not to it: what it only passes on would be dropped. And what is
    for many, or for this link alone, nobody announces."""
    for at, prefix in enumerate(file.edge.get("announced", ()), 1):
        if prefix is None:
            continue
        network = ipaddress.ip_network(prefix)
        widest = _WIDEST[network.version]
        if network.prefixlen < widest:
            expected = f"expected a prefix that is routed to this box, a /{widest} at the widest"
            yield f"edge.announced[{at}]", prefix, expected
        elif network.is_multicast or network.is_loopback or network.is_link_local or network.is_reserved:
            yield f"edge.announced[{at}]", prefix, "expected a prefix of addresses that hosts have"


def _feeds(file: Tables) -> Iterator[Clash]:
    names = [cdn["name"] for cdn in file.cdns if "name" in cdn]
    for number, feed in enumerate(file.feeds, 1):
        key = f"feed[{number}]"
        source = feed.get("source", "")
        if "://" in source and not source.startswith(("http://", "https://")):
            yield f"{key}.source", source, "expected a file, or an URL by https:// or http://"
        cdn = feed.get("cdn")
        if cdn is not None and len(names) == len(file.cdns) and cdn not in names:
            yield f"{key}.cdn", cdn, f"no such CDN; there are {', '.join(names)}"
        if cdn is not None and feed.get("kind") == "blocks":
            yield f"{key}.cdn", cdn, 'is only for kind = "ranges"'


def _snat_from(file: Tables) -> Iterator[Clash]:
    """Nobody says who the providers are: that would leave their endpoints alone."""
    kinds = [feed.get("kind", "ranges") for feed in file.feeds]  # of a wrong one nobody knows
    if file.edge.get("snat_from") == "providers" and "ranges" not in kinds:
        expected = 'needs a [[feed]] of kind = "ranges", which says what is theirs; or "anyone"'
        yield "edge.snat_from", "providers", expected


def _servers(file: Tables) -> Iterator[Clash]:
    for number, server in enumerate(file.dns.get("servers", ()), 1):
        try:
            ipaddress.ip_address(server)
        except (ValueError, TypeError):
            if server is not None:
                yield f"dns.servers[{number}]", server, 'expected an address, as in "192.0.2.53"'


def _probe(key: str, probe: dict[str, Any] | None) -> Iterator[Clash]:
    if probe is None:
        return
    if "status" in probe and probe["status"][0] > probe["status"][1]:
        yield f"{key}.status", list(probe["status"]), "expected the first before the last"
    if probe.keys() >= {"timeout_s", "every_s"} and probe["timeout_s"] > probe["every_s"]:
        expected = f"expected at most every_s, which is {probe['every_s']:g}: probes must not overtake"
        yield f"{key}.timeout_s", probe["timeout_s"], expected
