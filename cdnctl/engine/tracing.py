"""What would become of a traced packet, and why: all that it met, and the end of it."""

from __future__ import annotations

from msgspec import Struct, field

from cdnctl.datapath import abi, packets
from cdnctl.datapath.packets import Flag, Packet
from cdnctl.datapath.tracer import Traced
from cdnctl.engine.entries import Entries
from cdnctl.engine.explain import EXPLANATION, UNANSWERED
from cdnctl.engine.notes import Notes, Step

_ACTIONS = ("aborted", "drop", "pass", "tx", "redirect")
_TUNNELS = {abi.Transport.IPIP: "IP in IP", abi.Transport.GUE: "GUE"}
_SENT = (abi.Verdict.FORWARDED, abi.Verdict.REPLIED)
_LEFT_TO_HOST = (abi.Verdict.PASSED, abi.Verdict.BYPASSED, abi.Verdict.HANDED)


class Trace(Struct, frozen=True, kw_only=True):
    """What would become of a packet, and why."""

    edge: str
    packet: str
    interface: str
    """That it comes in by."""
    steps: list[Step] = field(default_factory=list)
    verdict: str
    explanation: str
    action: str
    """What the driver would be told: drop, pass, tx or redirect."""
    observing: bool = False
    """The edge decides so, but passes all."""
    cdn: str = ""
    endpoint: str = ""
    """Where it would go."""
    source: str = ""
    """From where, as the receiver sees it."""
    out: str = ""
    """The interface it would leave by."""
    next_hop: str = ""
    """The link address it would be sent to."""
    summary: str
    """All that in a line."""
    warnings: list[str] = field(default_factory=list)


def describe(packet: Packet) -> str:
    """`TCP SYN 10.1.0.7:40000 > 203.0.113.80:443`."""
    if packet.protocol == "icmp":
        return f"ICMP echo request {packet.source} > {packet.target}"
    ends = f"{abi.ends(packet.source, packet.source_port)} > {abi.ends(packet.target, packet.target_port)}"
    names = "".join(f" {flag.name}" for flag in packet.flags)
    return f"{packet.protocol.upper()}{names} {ends}"


def explain(traced: Traced, packet: Packet, edge: str, came_by: str, entries: Entries) -> Trace:
    """Put it into words; the entries are read now, so ask at once."""
    notes = Notes(packet, entries)
    for note in traced.notes:
        notes.take(note)
    seen = packets.read(traced.frame)
    observing = abi.Mode.OBSERVE in notes.mode and notes.verdict is not abi.Verdict.BYPASSED
    endpoint = source = hop = ""
    if seen and notes.verdict in _SENT and not observing:
        is_wrapped = notes.verdict is abi.Verdict.FORWARDED and notes.transport in _TUNNELS
        endpoint, source = _end(seen.target, seen.target_port), _end(seen.source, seen.source_port)
        hop = seen.target_mac
        tags = f", VLAN {'.'.join(map(str, seen.vlans))}" if seen.vlans else ""
        notes.add(
            "wrapped" if is_wrapped else "rewritten", f"{source} > {endpoint}, TTL {seen.ttl}, to {hop}{tags}"
        )
    if notes.verdict is abi.Verdict.FORWARDED and notes.endpoint >= 0:
        endpoint = entries.ends(notes.endpoint)  # of a tunnel, too, whose outer packet has no port
    explanation = _explanation(notes.verdict, packet)
    notes.add("verdict", f"{notes.verdict.name}: {explanation}")
    cdn = entries.cdn(notes.cdn) if notes.cdn != abi.NO_CDN_ID else ""
    would = _would(notes, entries, cdn, endpoint)
    if observing:
        would = f"PASSED to this host's own stack, for the edge only observes; else {would}"
    else:
        would += (f" from {source}" if source else "") + (f" out of {notes.out}" if notes.out else "")
    return Trace(
        edge=edge,
        packet=describe(packet),
        interface=came_by,
        steps=notes.steps,
        verdict=notes.verdict.name.lower(),
        explanation=explanation,
        action=_ACTIONS[traced.action] if traced.action < len(_ACTIONS) else str(traced.action),
        observing=observing,
        cdn=cdn,
        endpoint=endpoint,
        source=source,
        out=notes.out,
        next_hop=hop,
        summary=f"would be {would}",
    )


def _end(address: str, port: int) -> str:
    """Of a packet whose protocol may have no ports, as that of a tunnel."""
    return abi.ends(address, port) if port else address


def _explanation(verdict: abi.Verdict, packet: Packet) -> str:
    both = Flag.SYN | Flag.ACK
    is_final = packet.flags & Flag.RST or packet.flags & both == both
    if verdict is abi.Verdict.UNKNOWN_FLOW and packet.protocol == "tcp" and is_final:
        return UNANSWERED
    return EXPLANATION[verdict]


def _would(notes: Notes, entries: Entries, cdn: str, endpoint: str) -> str:
    verdict = notes.verdict
    if verdict is abi.Verdict.FORWARDED:
        tunnel = _TUNNELS.get(notes.transport)
        return f"{verdict.name} to {cdn} {endpoint}{f' in {tunnel}' if tunnel else ''}"
    if verdict is abi.Verdict.REPLIED:
        return f"{verdict.name} to the client {endpoint}, for {cdn}"
    if verdict >= abi.FIRST_DROP:
        by = f" by {notes.blocked}" if verdict is abi.Verdict.BLOCKED else ""
        return f"dropped: {verdict.name}{by}"
    if verdict in _LEFT_TO_HOST:
        return f"{verdict.name} to this host's own stack"
    return f"answered: {verdict.name}"
