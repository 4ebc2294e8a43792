"""What an attack has shown, as claims with bounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cdnctl.lab.attacks.assault import Assault, Evidence
from cdnctl.lab.report import Claim, at_least, reported, wanted
from cdnctl.lab.traffic import Request, summary
from cdnctl.model import Frame

SERVED, KEPT = 99.0, 100.0
"""Per cent: of the honest requests on new connections, and of the connections that were open before."""
OPEN_NS = 4_000_000_000
"""A connection is open that served somebody so lately: they take turns, in less."""
OFFERED_SHARE = 0.8
"""Of what was ordered: less is no attack of that rate."""


class Honest(NamedTuple):
    """What became of honest clients' requests in some time."""

    new: int
    """Requests on connections of their own."""
    served: int
    open_before: int
    """Connections that had served somebody before."""
    kept: int
    """Of these: those on which no request failed, and that served somebody afterwards."""
    connect_p95_ms: float | None
    total_p95_ms: float | None

    @property
    def served_percent(self) -> float | None:
        return 100 * self.served / self.new if self.new else None

    @property
    def kept_percent(self) -> float | None:
        return 100 * self.kept / self.open_before if self.open_before else None


def honest(requests: Iterable[Request], from_ns: int, to_ns: int) -> Honest:
    """Of the requests begun in [from, to), or under way at its begin."""
    everything = list(requests)
    within = [r for r in everything if r.start_ns < to_ns and r.start_ns + r.total_ms * 1e6 >= from_ns]
    new = [r for r in within if r.kind == "new" and r.start_ns >= from_ns]
    kept = [r for r in everything if r.kind == "keepalive"]
    over = [r for r in kept if from_ns - OPEN_NS <= r.start_ns and r.start_ns + r.total_ms * 1e6 < from_ns]
    before = {r.connection for r in over} - {r.connection for r in over if not r.ok}
    # One that was ended while nobody asked fails no request: it must serve somebody afterwards.
    alive = {r.connection for r in kept if r.ok and r.start_ns >= to_ns}
    alive -= {r.connection for r in within if not r.ok}
    figures = summary(new)
    return Honest(
        new=len(new),
        served=sum(r.ok for r in new),
        open_before=len(before),
        kept=len(before & alive),
        connect_p95_ms=figures.connect_p95_ms,
        total_p95_ms=figures.total_p95_ms,
    )


def claims(assault: Assault) -> list[Claim]:
    """All but the clean-up, which is not yet done; call it when every request is over."""
    requests = assault.lab.traffic.requests[:] if assault.lab.traffic else []
    steps = {step.name: step for step in assault.steps}
    lines: list[Claim] = []
    calm, attack = steps.get("calm"), steps.get(assault.attack.name)
    if calm is not None and calm.end_ns:
        lines += _calm(honest(requests, calm.start_ns, calm.end_ns))
    if attack is not None and attack.end_ns:
        lines += _load(assault)
        lines += _served(honest(requests, attack.start_ns, attack.end_ns))
        lines += _edge(assault.evidence)
    return lines


def _calm(seen: Honest) -> list[Claim]:
    return [
        at_least("calm: honest new requests served", seen.served_percent, 100.0, "%"),
        reported("calm: connect p95", seen.connect_p95_ms, "ms"),
        reported("calm: request p95", seen.total_p95_ms, "ms"),
    ]


def _load(assault: Assault) -> list[Claim]:
    seen, unit = assault.evidence, assault.attack.unit
    if seen.offered is None:
        return []
    lines = [
        wanted("attack: offered", seen.offered.pps, int(OFFERED_SHARE * assault.rate), f"{unit}/s"),
        reported("attack: offered", seen.offered.sent, unit),
        reported("attack: received by the edge, honest packets included", seen.received, "packets"),
        reported("attack: lost in the cable's ring", seen.ring_lost, "packets"),
    ]
    if not assault.attack.is_live:
        lines.append(reported("attack: connections that came about", seen.offered.opened, "connections"))
        lines.append(reported("attack: refused or ended by somebody", seen.offered.failed, "connections"))
        lines.append(reported("attack: held at its end", seen.offered.held, "connections"))
    return lines


def _served(seen: Honest) -> list[Claim]:
    return [
        at_least("attack: honest new requests served", seen.served_percent, SERVED, "%"),
        at_least("attack: established connections kept", seen.kept_percent, KEPT, "%"),
        reported("attack: connect p95", seen.connect_p95_ms, "ms"),
        reported("attack: request p95", seen.total_p95_ms, "ms"),
    ]


def _edge(seen: Evidence) -> list[Claim]:
    lines = [
        reported(f"attack: {'dropped' if drop else 'answered'}, {name.replace('_', ' ')}", packets, "packets")
        for name, drop, packets in became(seen.before, seen.after)
    ]
    return [
        *lines,
        reported("attack: flood packets sent on to CDNs", seen.leaked, "packets"),
        reported("agent's processor time during the attack", 100 * seen.agent_cpu, "% of one"),
        reported("machine busy during the attack", 100 * seen.machine_busy, "%"),
    ]


_ANSWERED = ("challenged", "proved", "reset_client")


def became(before: Frame | None, after: Frame | None) -> Sequence[tuple[str, bool, int]]:
    """What became of packets between two frames: why, were they dropped, how many; the most first."""
    if before is None or after is None:
        return []
    was = {verdict.name: verdict.packets_total for verdict in before.verdicts}
    grown = [
        (verdict.name, verdict.drop, verdict.packets_total - was.get(verdict.name, 0))
        for verdict in after.verdicts
        if verdict.drop or verdict.name in _ANSWERED
    ]
    return sorted((each for each in grown if each[2]), key=lambda each: -each[2])
