"""`cdnctl trace`: what would become of a packet, and why. Runs without an agent, as root.

cdnctl trace 198.51.100.7 203.0.113.80:443
cdnctl trace [2001:db8::7]:40000 [2001:db8:1::80]:443 --proto udp
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import itertools
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from cdnctl import paths
from cdnctl.agent.edge import config_of, edge_of_config, guess_edge
from cdnctl.cli import show
from cdnctl.cli.grid import print_rows
from cdnctl.errors import AgentUnreachable, CdnctlError, NotPermitted, UsageError, sudo_line
from cdnctl.model import GetFrame, ListCustomers

if TYPE_CHECKING:
    from cdnctl.datapath.packets import Flag, Header, Packet
    from cdnctl.datapath.program import Program
    from cdnctl.datapath.tables import Tables
    from cdnctl.engine.entries import Names
    from cdnctl.engine.probes import Ends
    from cdnctl.engine.tracing import Trace

_AGENT_TIMEOUT_S = 1.0
"""An agent is only asked for names: one that hangs is no reason to wait."""
_END = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<host>[^:]*))(?::(?P<port>\d{1,5}))?")
_HOW = "write 198.51.100.7:40000, or [2001:db8::7]:40000"
_SENDER = bytes.fromhex("020000000001")
"""Link address that the packet comes from; nobody's."""
_SPINNER = "-\\|/"
_ERASE = "\r\x1b[K"


class _Way(NamedTuple):
    """Where the packet comes in."""

    name: str
    ifindex: int
    header: Header


def run(options: argparse.Namespace) -> int:
    """Trace one packet, or show real ones."""
    if options.live:
        from cdnctl.cli.watch import run as watch

        return watch(options)
    if options.count is not None:
        raise UsageError("--count is for --live", "a trace without it is of one packet")
    ends = _ends(options)
    _require_root()
    traced = trace(_edge(options), ends, options)
    if options.json:
        show.print_json(traced)
    else:
        _show(traced)
    return 0


def trace(edge: str, ends: Ends, options: argparse.Namespace) -> Trace:
    """What would become of the packet that `ends` asks about, on this edge."""
    from msgspec.structs import replace

    from cdnctl.cli import place
    from cdnctl.datapath import packets
    from cdnctl.datapath.program import Program
    from cdnctl.datapath.tracer import Tracer
    from cdnctl.engine import entries, probes, tracing

    program = Program(edge)
    tables = _tables(program)
    if not program.is_current():
        raise CdnctlError(
            f"the data path of edge {edge} is of another version of cdnctl, or is being replaced just now",
            "a trace by this one would explain another program: restart its agent, which cuts no flow",
        )
    attached = place.go_to(edge, options.netns).attached
    packet = probes.packet(ends, tables)
    way = _way(packet, tables, options.iface)
    warnings = list(_not_attached(program, way, attached))
    names = _names(options, edge, tables)
    frame = packets.frame(packet, way.header)
    with _progress("compiling the data path for a trace") as waiting:
        with Tracer(program.pins, waiting=waiting) as tracer:
            traced = tracer.run(frame, way.ifindex)
    seen = entries.Entries(tables, names, time.monotonic_ns())
    return replace(tracing.explain(traced, packet, edge, way.name, seen), warnings=warnings)


# --- what is asked -------------------------------------------------------------------------------------


def _ends(options: argparse.Namespace) -> Ends:
    from cdnctl.engine import probes

    if len(options.words) != 2:
        raise UsageError(
            "a trace takes two addresses: from where, and to where",
            "as in `cdnctl trace 198.51.100.7 203.0.113.80:443`; real packets: `cdnctl trace --live`",
        )
    (source, source_port), (target, target_port) = map(parse_end, options.words)
    if (":" in source) != (":" in target):
        raise UsageError(f"{source} and {target} are of two families", "both IPv4, or both IPv6")
    if options.proto == "icmp":
        if source_port is not None or target_port is not None:
            raise UsageError("ICMP has no ports", "name addresses only")
    elif not target_port:
        raise UsageError(f"{target}: to which port?", f"{_HOW}; --proto icmp needs none")
    if options.flags is not None and options.proto != "tcp":
        raise UsageError(f"{options.proto} has no flags", "--flags is for TCP")
    return probes.Ends(
        source=source,
        target=target,
        protocol=options.proto,
        source_port=probes.SOURCE_PORT if source_port is None else source_port,
        target_port=target_port or 0,
        flags=options.flags,
    )


def parse_end(text: str) -> tuple[str, int | None]:
    """`198.51.100.7:40000`, `[2001:db8::7]:40000`, or an address alone. Raises UsageError."""
    bare = text.count(":") > 1 and not text.startswith("[")
    match = _END.fullmatch(text)
    host, port = (text, None) if bare or not match else (match["six"] or match["host"], match["port"])
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise UsageError(f"'{text}' is no address", _HOW) from None
    if "%" in host or (address.version == 6) != (bare or text.startswith("[")):
        raise UsageError(f"'{text}' is no address", _HOW)
    if port is not None and not 0 < int(port) < 65536:
        raise UsageError(f"'{text}': no such port", "they go from 1 to 65535")
    return str(address), None if port is None else int(port)


def flags(text: str) -> Flag:
    """`syn`, `syn,ack`, `fin+ack` as TCP flags."""
    from cdnctl.datapath.packets import Flag

    found = Flag(0)
    for word in re.split(r"[,+]", text.upper()):
        if word not in Flag.__members__:
            names = ", ".join(name.lower() for name in Flag.__members__)
            raise argparse.ArgumentTypeError(f"{word.lower()!r}: expected one or more of {names}")
        found |= Flag[word]
    return found


def _require_root() -> None:
    from cdnctl.agent.process import missing_privileges

    if missing_privileges():
        raise NotPermitted(
            "a trace runs a program on the edge's tables, which needs root; `cdnctl trace --live` does not",
            sudo_line(),
        )


def _edge(options: argparse.Namespace) -> str:
    if options.edge or options.config is None:
        return guess_edge(options.edge)
    if edge := edge_of_config(options.config):
        return edge
    raise CdnctlError(f"{options.config}: names no edge", f"`cdnctl check -c {options.config}` says why")


def _tables(program: Program) -> Tables:
    from cdnctl.datapath.tables import Tables

    try:
        return Tables(program.pins)
    except OSError as error:
        raise CdnctlError(
            f"no data path of edge {program.edge} is loaded ({error.strerror or error})",
            "see `ls /sys/fs/bpf/cdnctl`, or start an agent: `cdnctl attach`",
        ) from None


# --- where it comes in ---------------------------------------------------------------------------------


def _not_attached(program: Program, way: _Way, attached: bool) -> Iterator[str]:
    from cdnctl.datapath import attach
    from cdnctl.engine.entries import interface

    if not attached:
        yield f"edge {program.edge} is attached to nothing: no packet reaches it"
    elif interface(way.ifindex) not in [name for name, _ in attach.attached_to(program.maps())]:
        yield f"the program is not attached to {way.name}: what comes in there does not reach it"


def _way(packet: Packet, tables: Tables, wanted: str | None) -> _Way:
    """By the interface named, else by that which the way back leads to."""
    from cdnctl.datapath import abi, packets
    from cdnctl.engine.entries import interface_name

    links = {key[0]: number for key, number in tables.link_keys().items() if not any(key[1:])}
    by_name = {name: n for ifindex, n in sorted(links.items()) if (name := interface_name(ifindex))}
    if wanted and wanted not in by_name:
        here = wanted in [name for _, name in socket.if_nameindex()]
        what = "is no interface of the edge" if here else "does not exist in the edge's network namespace"
        raise UsageError(f"{wanted} {what}", f"the edge has {', '.join(by_name) or 'none'}")
    if not by_name:
        what = "the edge's interfaces are all gone" if links else "the edge has no interfaces yet"
        raise CdnctlError(what, "see `ip link`; `cdnctl attach` starts its agent")
    name = wanted or _towards(packet.source, by_name) or next(iter(by_name))
    link = tables.link(by_name[name])
    tags = [(abi.show_port(link.tpid), int(link.outer))] if link.outer else []
    tags += [(packets.ETHER_VLAN, int(link.inner))] if link.inner else []
    header = packets.Header(source=_SENDER, target=bytes(link.mac), tags=tuple(tags))
    return _Way(name, link.ifindex, header)


def _towards(address: str, names: dict[str, int]) -> str:
    from pyroute2 import IPRoute

    from cdnctl.datapath.routes import route_to
    from cdnctl.engine.entries import interface

    with IPRoute() as netlink:
        route = route_to(netlink, address)
    name = interface(route.ifindex) if route else ""
    return name if name in names else ""


# --- names ---------------------------------------------------------------------------------------------


def _names(options: argparse.Namespace, edge: str, tables: Tables) -> Names:
    """By the configuration, and better by the agent that serves the edge; regions, which it does not tell,
    by its own file."""
    from cdnctl.agent.blocking import Client
    from cdnctl.config import ConfigError, load
    from cdnctl.engine import entries

    names = entries.Names()
    file = options.config or config_of(edge)
    if edge_of_config(file) == edge:
        with contextlib.suppress(ConfigError):
            names |= entries.names_by_config(load(file), tables)
    with contextlib.suppress(AgentUnreachable, NotPermitted):
        with Client(paths.socket_path(edge), timeout_s=_AGENT_TIMEOUT_S) as client:
            if frame := client.request(GetFrame()).frame:
                customers = client.request(ListCustomers()).customers or []
                names |= entries.names_by_agent(frame, customers, tables)
    return names


# --- the answer ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[], None]]:
    """Call what it gives some times a second: it shows at a terminal that something goes on."""
    marks = itertools.cycle(_SPINNER)
    shown = sys.stderr.isatty()

    def turn() -> None:
        if shown:
            sys.stderr.write(f"\r{next(marks)} {what}")
            sys.stderr.flush()

    try:
        yield turn
    finally:
        if shown:
            sys.stderr.write(_ERASE)
            sys.stderr.flush()


def _show(traced: Trace) -> None:
    for warning in traced.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{traced.packet}, in by {traced.interface} of edge {traced.edge}")
    print_rows([(("", ""), (step.what, "cyan"), (step.found, "")) for step in traced.steps])
    print(traced.summary)
