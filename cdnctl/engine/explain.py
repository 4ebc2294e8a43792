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
    Verdict.BYPASSED: "Left to the host because the edge is bypassed.",
    Verdict.RESET_CLIENT: "A segment of a flow we do not know, answered with a reset.",
    Verdict.RESET_CDN: "A late or stale reply of a CDN, answered with a reset.",
    Verdict.BLOCKED: "The source is on the block list.",
    Verdict.MALFORMED: "Headers that contradict themselves, or impossible TCP flags.",
    Verdict.FRAGMENT: "A fragment for a VIP: without ports it belongs to no flow.",
    Verdict.UNSUPPORTED: "Not TCP, and for a VIP.",
    Verdict.EXPIRED_TTL: "Its time to live ran out here.",
    Verdict.NO_SERVICE: "A VIP, but no service on this port.",
    Verdict.UNKNOWN_FLOW: "Of no flow we know, and over the limit of resets.",
    Verdict.BAD_ACK: "Acknowledges a SYN-ACK that was never sent.",
    Verdict.NO_OWNER: "A CDN's packet to a port that no flow holds.",
    Verdict.STALE_REPLY: "A CDN's reply to a flow that is gone.",
    Verdict.ABSORBED: "A CDN's refusal of a probe, kept from the client: its next SYN goes elsewhere.",
    Verdict.NO_CDN: "No endpoint is left for this service.",
    Verdict.NO_PORT: "No SNAT port is free towards the endpoint.",
    Verdict.NO_ROOM: "The flow table would not take it.",
    Verdict.NO_ROUTE: "The host has no route to the endpoint, or forwarding is off.",
    Verdict.NO_NEIGHBOUR: "The next hop's link address is not resolved.",
}
"""One sentence for each verdict."""

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


def reflex(kind: int, reason: int, cdn: str, value: int, ejections: int) -> Told:
    """What the kernel did by itself. `value` is microseconds, or a number of connects."""
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
