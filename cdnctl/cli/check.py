"""`cdnctl check`: is a configuration right, and what will it cost? Needs neither root nor an agent."""

from __future__ import annotations

import argparse
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct, field

from cdnctl.agent.edge import config_of, edge_of_config, named_edge
from cdnctl.cli import show
from cdnctl.cli.held_back import held_back
from cdnctl.config import Config, ConfigError, Problem, cost, load, memory, notes, ports, slots
from cdnctl.datapath import holders, host
from cdnctl.datapath.standing import Standing, standing
from cdnctl.errors import CdnctlError
from cdnctl.model import HeldBack

_TCP_HEADERS = {4: 40, 6: 60}
"""Bytes of a packet that are not of its segment."""


class Report(Struct, kw_only=True):
    """What `check` found; what `--json` prints."""

    file: str
    ok: bool = True
    edge: str = ""
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What is right as it stands, and cuts the operator off."""
    held_back: HeldBack | None = None
    """Another text than the file's is in force, or would be after a start."""
    memory_bytes: dict[str, int] = field(default_factory=dict)
    snat_sum: str = ""
    """How many flows each endpoint, and all together, can have at once, as arithmetic."""
    standing: Standing | None = None
    """How it stands to what is pinned, where there is anything and this user can see it."""


def run(options: argparse.Namespace) -> int:
    """Check the file and print the report; 1 when something is wrong."""
    file = options.config or config_of(named_edge(options.edge))
    report = examine(file, _unseen(file, options.netns))
    if options.json:
        show.print_json(report)
    else:
        show.check(report)
    return 0 if report.ok else 1


def _unseen(file: Path, netns: str | None) -> str:
    """Go where the file's edge lives; why not, when that cannot be."""
    from cdnctl.cli import place

    edge = edge_of_config(file)
    return place.go_to(edge, netns).unseen if edge else ""


def examine(file: Path, unseen: str = "") -> Report:
    """Everything there is to say about `file`, against this namespace, if it is not the wrong one."""
    try:
        config = load(file)
    except ConfigError as error:
        return Report(file=str(file), ok=False, problems=error.problems)
    here = not unseen
    problems = [*_wrong_interfaces(config), *_port_clashes(config)] if here else []
    own = list(_own_vips(config)) if here else []
    return Report(
        file=str(file),
        ok=not problems,
        warnings=[text for text, is_loud in own if is_loud],
        edge=config.edge.name,
        problems=problems,
        notes=[
            *notes(config),
            *(text for text, is_loud in own if not is_loud),
            *(_mss_notes(config) if here else [f"{unseen}: its interfaces are unknown"]),
            *(_astray(config) if here and not problems else ()),
        ],
        memory_bytes=memory(config),
        snat_sum=_snat_sum(config),
        standing=standing(config),
        held_back=held_back(config.edge.name, file),
    )


def _wrong_interfaces(config: Config) -> Iterator[Problem]:
    # Asked of the kernel, not of /sys/class/net: under `nsenter --net` that shows another namespace's.
    there = [name for _index, name in socket.if_nameindex()]
    for number, name in enumerate(config.edge.interfaces, 1):
        key = f"edge.interfaces[{number}]"
        if name not in there:
            expected = f"no such interface here; there are {', '.join(there)} (elsewhere: --netns NAME)"
            yield Problem(str(config.path), key, name, expected)
        elif not host.is_ethernet(name):
            expected = "expected an Ethernet device: this one's frames have no link addresses"
            yield Problem(str(config.path), key, name, expected)
        elif (other := _holder(name)) and other != config.edge.name:
            expected = f"is held by edge {other}: {holders.make_way(other)}"
            yield Problem(str(config.path), key, name, expected)


def _holder(name: str) -> str:
    """The edge whose program is on an interface; empty without root, which alone can tell."""
    with contextlib.suppress(OSError, CdnctlError):
        return holders.holder(socket.if_nametoindex(name))
    return ""


def _astray(config: Config) -> list[str]:
    from cdnctl.engine import ways  # its netlink library would keep a file with mistakes waiting

    return ways.astray(config)


def _mss_notes(config: Config) -> Iterator[str]:
    """Of a limit that is none: every interface carries less."""
    mtu = max(host.mtu(name) for name in config.edge.interfaces)
    for cdn in config.cdns:
        headers = min(_TCP_HEADERS[endpoint.family] for endpoint in cdn.endpoints)
        if cdn.mss and mtu and cdn.mss > mtu - headers:
            yield (
                f"{cdn.name} has mss {cdn.mss}, and no interface carries more than {mtu - headers}"
                f" (MTU {mtu}): it limits nothing"
            )


def _own_vips(config: Config) -> Iterator[tuple[str, bool]]:
    """VIPs that are addresses of this box, in words, and whether somebody may be cut off by it."""
    vips = dict.fromkeys(service.vip for service in config.services)
    if not any(host.is_own(vip, unsure=True) for vip in vips):
        return  # which is quickly said, and to ask the kernel for all takes longer
    from pyroute2 import IPRoute

    from cdnctl.datapath.inspect import own_addresses
    from cdnctl.engine import doctor

    with IPRoute() as netlink:
        own = own_addresses(netlink)
    for vip in vips:
        if vip in own:
            is_loud = bool(own[vip]) and not doctor.left_to_host(config, vip)
            yield doctor.own_vip(vip) + (f"; {doctor.CUT}, for {own[vip]} has it" if is_loud else ""), is_loud


def _port_clashes(config: Config) -> Iterator[Problem]:
    ports = str(list(config.edge.snat_ports))
    for clash in host.port_clashes(config):
        expected = f"expected {clash.remedy} ({clash.address} is {clash.why})"
        yield Problem(str(config.path), "edge.snat_ports", ports, expected)


def _snat_sum(config: Config) -> str:
    """By family; nothing when no CDN needs translation."""
    each, parts = ports(config), []
    for family in (4, 6):
        addresses, count = len(config.edge.snat_of(family)), cost.translated(config, family)
        if addresses and count:
            parts.append(
                f"IPv{family}: {addresses} addresses x {each:,} ports = {addresses * each:,} flows to one"
                f" endpoint; x {count} endpoint{'s' if count > 1 else ''} ="
                f" {addresses * each * count:,} in all"
            )
    if parts:
        parts.append(f"room for {config.limits.endpoints} endpoints: {slots(config):,} slots")
    return "; ".join(parts)
