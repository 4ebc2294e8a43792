"""A configuration file from a few answers: commented, so that it teaches what else there is."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from msgspec import Struct, field

from cdnctl import __version__
from cdnctl.errors import UsageError

_NAMED = re.compile(r"([a-z0-9-]{1,32})=(.+)")
_ENDPOINT = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[^:\[\]]+)):(?P<port>\d{1,5})")


class Service(Struct, kw_only=True):
    """A VIP and port that clients connect to."""

    name: str
    vip: str
    port: int
    protocols: list[str] = field(default_factory=lambda: ["tcp"])


class Cdn(Struct, kw_only=True):
    """A CDN and its endpoints, as the file has them."""

    name: str
    endpoints: list[str] = field(default_factory=list)
    weight: int = 100
    remarks: list[str] = field(default_factory=list)
    """What probing told, a line each."""


class Draft(Struct, kw_only=True):
    """All answers."""

    edge: str = ""
    interfaces: list[str] = field(default_factory=list)
    snat: list[str] = field(default_factory=list)
    snat_ports: tuple[int, int] | None = None
    """When the host itself uses some of these addresses: what its own connections leave free."""
    management: list[str] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    cdns: list[Cdn] = field(default_factory=list)


def end(text: str) -> tuple[str, int]:
    """`203.0.113.80:443` or `[2001:db8::80]:443` as host and port. Raises UsageError."""
    match = _ENDPOINT.fullmatch(text.strip())
    if match is None or not 0 < int(match["port"]) < 65536:
        raise UsageError(f"'{text}' is no address and port", "write 203.0.113.80:443 or [2001:db8::80]:443")
    return match["six"] or match["host"], int(match["port"])


def service(text: str) -> Service:
    """`www=203.0.113.80:443`, `www=203.0.113.80:443/tcp+udp`. Raises UsageError."""
    match = _NAMED.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"'{text}' is no service", "write NAME=VIP:PORT, as www=203.0.113.80:443/tcp+udp")
    place, _, protocols = match[2].partition("/")
    vip, port = end(place)
    wanted = protocols.split("+") if protocols else ["tcp"]
    if not set(wanted) <= {"tcp", "udp"}:
        raise UsageError(f"'{protocols}': no such protocol", "tcp, udp or tcp+udp")
    return Service(name=match[1], vip=vip, port=port, protocols=wanted)


def cdn(text: str) -> tuple[str, list[tuple[str, int]], int]:
    """`aurora=198.51.100.10:443,198.51.100.11:443@60`: name, ends, weight. Raises UsageError."""
    match = _NAMED.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"'{text}' is no CDN", "write NAME=HOST:PORT, as aurora=cdn.example.net:443@60")
    places, _, weight = match[2].partition("@")
    if weight and not (weight.isascii() and weight.isdecimal() and int(weight[:5]) <= 1000):
        raise UsageError(f"'{weight}': no weight", "a whole number from 0 to 1000")
    return match[1], [end(place) for place in places.split(",")], int(weight or 100)


def text_of(draft: Draft) -> str:
    """The file."""
    day = time.strftime("%Y-%m-%d", time.gmtime())
    lines = [
        f"# The edge {draft.edge}: made by `cdnctl init` {__version__} on {day}, and yours from now on:",
        "# cdnctl never writes to it again. After an edit: `cdnctl check`, then `cdnctl reload`.",
        "# Keys that are commented out show their defaults; cdnctl.toml.example explains all there are.",
        "",
        "[edge]",
        f'name = "{draft.edge}"',
        f"interfaces = {_list(draft.interfaces)}  # where clients come in, and those towards the CDNs",
        f"snat = {_list(draft.snat)}  # addresses of this box that the CDNs see: tell them",
        _ports(draft.snat_ports),
        '# snat_from = "anyone"  # or "providers": nobody else may talk to them; needs a [[feed]] of ranges',
        "# announced = []  # prefixes routed here: what is for addresses in them that nobody has is dropped",
        f"management = {_list(draft.management)}  # the host is always reached from here",
        "",
        "[limits]",
        "# flows = 1_000_000           # what the tables cost in memory: `cdnctl check`",
        "# block_entries = 1_000_000",
        "",
    ]
    for each in draft.cdns:
        lines += ["[[cdn]]", f'name = "{each.name}"']
        lines += [f"# {remark}" for remark in each.remarks]
        lines += [
            f"endpoints = {_list(each.endpoints)}",
            f"weight = {each.weight}  # 0 to 1000, relative to the others'",
            "# capacity = { flows_per_s = 5000, mbit = 2000 }  # what is beyond goes elsewhere",
            "",
        ]
    for place in draft.services:
        lines += [
            "[[service]]",
            f'name = "{place.name}"',
            f'vip = "{place.vip}"',
            f"port = {place.port}",
            f"protocol = {_list(place.protocols)}",
            '# policy = "latency"          # or "weighted", "failover"',
            "",
        ]
    lines += [
        "# [[customer]]                # clients that are counted, and may be limited, together",
        '# name = "acme"',
        '# prefixes = ["192.0.2.0/24"]',
        "# mbit = 400",
    ]
    return "\n".join(lines) + "\n"


def _ports(narrowed: tuple[int, int] | None) -> str:
    if narrowed is None:
        return "# snat_ports = [1024, 65535]  # narrow it if the host itself uses these addresses"
    return f"snat_ports = [{narrowed[0]}, {narrowed[1]}]  # the host itself connects from the others"


def _list(words: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"
