"""`cdnctl trace --live`: sampled packets of an edge with their verdicts, a line each, as they come.

cdnctl trace --live src 198.51.100.0/24 and verdict dropped
cdnctl trace --live proto udp and not cdn aurora or port 53
"""

from __future__ import annotations

import argparse
import ipaddress
import sys
import time
from collections.abc import Iterator, Sequence
from typing import get_args

import msgspec

from cdnctl.agent.blocking import Client
from cdnctl.agent.edge import find_edge
from cdnctl.cli import show
from cdnctl.errors import UsageError
from cdnctl.model import FilterField, Frame, GetFrame, PacketFilter, Sampled, SampledPacket, Term

FIELDS: tuple[FilterField, ...] = get_args(FilterField)
_PROTOCOLS = ("tcp", "udp", "icmp", "icmp6")
_HELP = "as in `src 198.51.100.0/24 and verdict dropped`, `port 443 and not cdn aurora or proto udp`"
_OBSERVES = "it only observes: every packet passes, and what is said is what it would do else"
_PASSED_ANYWAY = ("passed", "bypassed", "handed")
_RED, _PLAIN = "\x1b[31m", "\x1b[m"


class _Line(msgspec.Struct, kw_only=True):
    """What `--json` prints of a packet."""

    at_ns: int
    one_in: int
    source: str
    target: str
    source_port: int
    target_port: int
    protocol: str
    flags: str
    length: int
    verdict: str
    drop: bool
    cdn: str
    observing: bool
    """The edge only observes: the verdict is what it would do, and the packet passed."""


def run(options: argparse.Namespace) -> int:
    """Show packets until Ctrl-C, or so many."""
    if options.iface or options.flags is not None or options.proto != "tcp":
        raise UsageError("--live takes a filter in words, and no --iface, --proto or --flags", _HELP)
    wanted = parse(options.words)
    shown = missed = lost = 0
    with Client(find_edge(options.edge), frames=True) as client:
        frame = client.request(GetFrame()).frame
        if frame is not None:
            check_names(wanted, frame)
        if not options.json:
            what = f"edge {client.edge}: sampled packets, until Ctrl-C"
            print(what + (f"; {_OBSERVES}" if frame and frame.observing else ""), file=sys.stderr)
        one_in, lost_before = 0, frame.sampling.lost_total if frame else 0
        try:
            for sampled in client.packets(wanted):
                left = options.count - shown if options.count else len(sampled.packets)
                if sampled.one_in != one_in and not options.json:
                    _say(_rate(sampled.one_in))
                frame, before = client.newest or frame, frame
                observing = bool(frame and frame.observing)
                if before and before.observing is not observing and not options.json:
                    _say(_OBSERVES if observing else "it acts again: verdicts are what became of packets")
                one_in, lost = sampled.one_in, max(0, sampled.lost_total - lost_before)
                shown += _print(sampled, sampled.packets[:left], observing, as_json=options.json)
                if options.count and shown >= options.count:
                    break
                missed += _tell_missed(sampled, as_json=options.json)
        finally:
            if not options.json:
                more = _also(missed, "more matched and were not") + _also(lost, "samples were lost")
                _say(f"{shown} shown{more}")
    return 0


def _rate(one_in: int) -> str:
    return "every packet is sampled" if one_in == 1 else f"1 packet in {one_in} is sampled"


def _also(number: int, what: str) -> str:
    return f"; {number} {what}" if number else ""


def _say(text: str) -> None:
    """About the packets, apart from them."""
    sys.stdout.flush()
    print(f"-- {text}", file=sys.stderr, flush=True)


def _print(sampled: Sampled, packets: Sequence[SampledPacket], observing: bool, *, as_json: bool) -> int:
    for packet in packets:
        if as_json:
            fields = {name: getattr(packet, name) for name in SampledPacket.__struct_fields__}
            show.print_json(_Line(at_ns=sampled.at_ns, one_in=sampled.one_in, observing=observing, **fields))
        else:
            print(line(packet, sampled.at_ns, observing=observing, coloured=sys.stdout.isatty()))
    sys.stdout.flush()
    return len(packets)


def _tell_missed(sampled: Sampled, *, as_json: bool) -> int:
    if sampled.missed and as_json:
        show.print_json({"at_ns": sampled.at_ns, "missed": sampled.missed})
    elif sampled.missed:
        _say(f"{sampled.missed} more matched and are not shown: a narrower filter helps")
    return sampled.missed


def line(packet: SampledPacket, at_ns: int, *, observing: bool = False, coloured: bool = False) -> str:
    """`14:03:07 tcp S 10.1.0.7:40000 > 203.0.113.80:443 74 B: forwarded, aurora`."""
    clock = time.strftime("%H:%M:%S", time.localtime(at_ns / 1e9))
    if not packet.source:
        return f"{clock} no IP packet, {packet.length} B: {packet.verdict}"
    ends = f"{_end(packet.source, packet.source_port)} > {_end(packet.target, packet.target_port)}"
    what = " ".join(filter(None, (packet.protocol, packet.flags)))
    verdict = packet.verdict.replace("_", " ") + (f", {packet.cdn}" if packet.cdn else "")
    if observing and packet.verdict not in _PASSED_ANYWAY:
        verdict = f"passed, else {verdict}"
    if coloured and packet.drop:
        verdict = f"{_RED}{verdict}{_PLAIN}"
    return f"{clock} {what:<6} {ends} {packet.length} B: {verdict}"


def _end(address: str, port: int) -> str:
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


# --- filters -------------------------------------------------------------------------------------------


def parse(words: Sequence[str]) -> PacketFilter:
    """`src 10.0.0.0/8 and not verdict blocked or port 53`. Raises UsageError."""
    tokens = " ".join(words).split()
    if not tokens:
        return []
    return [list(_terms(group)) for group in _split(tokens, "or")]


def _split(tokens: Sequence[str], at: str) -> Iterator[list[str]]:
    part: list[str] = []
    for token in [*tokens, at]:
        if token == at:
            if not part:
                raise UsageError(f"there is nothing on one side of `{at}`", _HELP)
            yield part
            part = []
        else:
            part.append(token)


def _terms(tokens: Sequence[str]) -> Iterator[Term]:
    for part in _split(tokens, "and"):
        while part:
            negated = part[0] == "not"
            words = part[1:] if negated else part
            if len(words) < 2 or words[0] not in FIELDS:
                raise UsageError(
                    f"'{' '.join(part)}': a filter is a field and a value; fields are {', '.join(FIELDS)}",
                    _HELP,
                )
            yield Term(field := _field(words[0]), _value(field, words[1]), negated)
            part = words[2:]  # `src 10.0.0.0/8 port 80` needs no `and`


def _field(word: str) -> FilterField:
    return next(field for field in FIELDS if field == word)


def _value(field: FilterField, text: str) -> str:
    if field in ("src", "dst", "host"):
        try:
            if "%" not in text:
                return str(ipaddress.ip_network(text, strict=False))
            raise ValueError(text)
        except ValueError:
            raise UsageError(f"'{text}' is no address or prefix", _HELP) from None
    if field in ("port", "sport", "dport") and not _is_number(text, 65535):
        raise UsageError(f"'{text}' is no port", "they go from 0 to 65535")
    if field == "proto" and text.lower() not in _PROTOCOLS and not _is_number(text, 255):
        raise UsageError(f"'{text}' is no protocol", f"{', '.join(_PROTOCOLS)}, or a number")
    if field == "proto":
        return text.lower()
    return text.lower().replace("-", "_") if field == "verdict" else text


def _is_number(text: str, most: int) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and int(text) <= most


def check_names(wanted: PacketFilter, frame: Frame) -> None:
    """Raise UsageError for a verdict or CDN that this edge does not have, naming those that it has."""
    verdicts = ["dropped", *(verdict.name for verdict in frame.verdicts)]
    cdns = [cdn.name for cdn in frame.cdns]
    for term in (term for terms in wanted for term in terms):
        for field, names in (("verdict", verdicts), ("cdn", cdns)):
            if term.field == field and term.value not in names:
                raise UsageError(f"no {field} is called '{term.value}'", f"there are {', '.join(names)}")
