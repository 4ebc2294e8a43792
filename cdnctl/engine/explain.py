"""The kernel's verdicts and reflexes in operators' words."""

from __future__ import annotations

from typing import NamedTuple

from cdnctl.datapath.abi import EventKind, OutReason, Verdict
from cdnctl.model import OutReason as ModelReason
from cdnctl.model import Severity

EXPLANATION: dict[Verdict, str] = {
    Verdict.FORWARDED: "Sent on to a CDN.",
    Verdict.REPLIED: "A CDN's reply, sent on to its client.",
    Verdict.PASSED: "Not for a VIP or SNAT address: left to the host.",
    Verdict.BYPASSED: "Left to the host because the edge is bypassed or only observes.",
    Verdict.HANDED: "For a CDN of mode pass: left to the host's own stack.",
    Verdict.RESET_CLIENT: "A segment of a flow we do not know, or that lost its CDN: answered with a reset.",
    Verdict.RESET_CDN: "A late or stale reply of a CDN, answered with a reset.",
    Verdict.ECHOED: "A ping of a VIP, answered.",
    Verdict.SAID_TOO_BIG: "Larger than the path to its CDN takes: its sender was told the size that fits.",
    Verdict.SAID_TOO_LATE: "Its time to live ran out here, and its sender was told.",
    Verdict.CHALLENGED: "A SYN in siege: answered with a number that its source has to send back.",
    Verdict.PROVED: "A reset with that number: its source is where it says, and is verified from now on.",
    Verdict.BLOCKED: "The source is on the block list.",
    Verdict.MALFORMED: "Headers that contradict themselves or end too early.",
    Verdict.IMPOSSIBLE: "TCP flags that no stack sends together, as SYN with FIN, or none at all.",
    Verdict.LAND: "From the very address that it is for.",
    Verdict.SPOOFED: "From an address that nobody out there has: of many, of none, or one of our own.",
    Verdict.BOGON: "From a private or reserved address, by an interface of [shield] outside.",
    Verdict.SYN_WITH_DATA: "A SYN that carries data, which [shield] syn_data refuses.",
    Verdict.SHORT_INITIAL: "QUIC's first datagram with less than 1200 bytes, which no server takes.",
    Verdict.REFLECTED: "From the port of a service that floods are reflected by: [shield] amplifiers.",
    Verdict.FRAGMENT: "A fragment whose first one was not seen, or that the configuration drops.",
    Verdict.UNSUPPORTED: "For a VIP, and neither TCP, UDP nor ICMP, or behind headers we do not read.",
    Verdict.NO_CHECKSUM: "UDP over IPv6 without a checksum, which it must have.",
    Verdict.EXPIRED_TTL: "Its time to live ran out here, and its sender has been told often enough.",
    Verdict.TOO_BIG: "Larger than its path takes, and its sender has been told often enough.",
    Verdict.NO_SERVICE: "A VIP, but no service on this port and protocol.",
    Verdict.UNKNOWN_FLOW: "Of no flow we know: a reset or SYN-ACK, or over the limit of resets.",
    Verdict.UNRELATED: "An ICMP error about no flow of ours, or a ping over the limit of answers.",
    Verdict.BAD_ACK: "Acknowledges a SYN-ACK that was never sent.",
    Verdict.NO_OWNER: "A CDN's packet to a port that no flow holds.",
    Verdict.UNUSED: "For an address of [edge] announced that neither the edge nor its host has.",
    Verdict.UNINVITED: "To a SNAT address, from nobody that [edge] snat_from leaves it to.",
    Verdict.STALE_REPLY: "A CDN's reply to a flow that is gone.",
    Verdict.ABSORBED: "A CDN's refusal of a probe, kept from the client: its next SYN goes elsewhere.",
    Verdict.OVER_QUOTA: "Its customer is over its limit of packets or bytes: `cdnctl customers`.",
    Verdict.OVER_FLOW_QUOTA: "Its customer is over its limit of new flows: `cdnctl customers`.",
    Verdict.OVER_SOURCE_QUOTA: "Its source alone is over the limit of [quota] per_source.",
    Verdict.SHED_VERIFIED: "Shed: a verified source opens more flows than its share at this level.",
    Verdict.SHED_SOURCE: "Shed: an unverified source opens more flows than its share at this level.",
    Verdict.SHED_SUSPECT: "Shed: a source whose manner is suspicious opens more than the model leaves it.",
    Verdict.SHED_NETWORK: "Shed: unverified sources of its /24 (/48) open more than their share.",
    Verdict.SHED_REGION: "Shed: unverified sources of its /16 (/32) open more than their share.",
    Verdict.SHED_SERVICE: "Shed: unverified sources open more flows of this service than CDNs take easily.",
    Verdict.UNVERIFIED: "A SYN in siege that cannot be challenged: a fragment, or no single host's.",
    Verdict.NO_CDN: "No endpoint is left for this service.",
    Verdict.NO_PORT: "No SNAT port is free towards the endpoint.",
    Verdict.NO_ROOM: "The flow table would not take it.",
    Verdict.NO_LINK: "Came in, or would leave, by an interface or VLAN that is not in [edge] interfaces.",
    Verdict.NO_ROUTE: "The host has no route to the endpoint, or forwarding is off.",
    Verdict.NO_NEIGHBOUR: "The next hop's link address is not resolved.",
    Verdict.HELD: "Begins or ends a flow, or would, in the moment in which flows move to other tables.",
    Verdict.NO_STAGE: "A part of the program is not loaded: end the agent and start it again.",
}
"""One sentence for each verdict."""

UNANSWERED = "Of no flow we know, and a reset or a SYN-ACK, which is never answered."
"""What `UNKNOWN_FLOW` is of such a segment: no limit has a part in it."""

REASON: dict[int, ModelReason] = {
    OutReason.NONE: "",
    OutReason.DARK: "dark",
    OutReason.REFUSING: "refusing",
    OutReason.SLOW: "slow",
}


class Told(NamedTuple):
    """An event in words."""

    kind: str
    text: str
    severity: Severity


_NO_WAY: dict[int, str] = {
    Verdict.NO_ROUTE: "no route, or forwarding is off",
    Verdict.NO_NEIGHBOUR: "its next hop's link address is not resolved",
    Verdict.NO_LINK: "the route leaves by an interface that is not in [edge] interfaces",
}


def reflex(kind: int, reason: int, cdn: str, value: int, ejections: int, endpoint: str = "") -> Told:
    """What the kernel did by itself. `value` is microseconds, a number of connects, or a verdict."""
    if kind == EventKind.NO_HOP:
        why = _NO_WAY.get(value, "it cannot be reached")
        return Told(
            "no-way", f"no way to {endpoint or cdn}: {why}; see `ip route get` and `ip neigh`", "alarm"
        )
    if kind == EventKind.PORTS_GONE:
        return Told("ports", f"no port is free towards {endpoint or cdn}: add to [edge] snat", "alarm")
    if kind == EventKind.SPILL:
        return Told("spill", f"{cdn} is at its capacity: new flows go elsewhere", "warning")
    if kind == EventKind.EJECT:
        why = {
            OutReason.DARK: f"dark: {value} connects unanswered",
            OutReason.REFUSING: "refusing connects",
            OutReason.SLOW: f"slow: handshakes take {value / 1000:.0f} ms",
        }.get(OutReason(reason), "")
        again = f", for the {ejections}. time lately" if ejections > 1 else ""
        return Told("eject", f"{cdn} is out, {why}{again}", "alarm")
    if kind == EventKind.REOPEN:
        return Told("reopen", f"{cdn} is back: probes answered in {value / 1000:.0f} ms", "notice")
    if kind == EventKind.PROBE:
        return Told("probe", f"a flow probes {cdn}", "info")
    if kind == EventKind.PROBE_FAILED:
        how = {
            OutReason.REFUSING: "refused",
            OutReason.SLOW: f"answered in {value / 1000:.0f} ms, too slow",
        }.get(OutReason(reason), "no answer")
        return Told("probe", f"the probe of {cdn} failed: {how}", "warning")
    if kind == EventKind.KEPT:
        return Told(
            "kept", f"{cdn} is {REASON.get(reason, 'bad')} but stays: too much weight is out already", "alarm"
        )
    return Told("kernel", f"event {kind} of {cdn}", "info")


def ports_run_out(endpoint: str, held: float, gone_in_s: float) -> Told:
    """What the census foretells."""
    minutes = max(1, round(gone_in_s / 60))
    text = (
        f"ports towards {endpoint} run out in about {minutes} min: {100 * held:.0f} % are held;"
        " add to [edge] snat"
    )
    return Told("ports", text, "alarm" if minutes <= 5 else "warning")
