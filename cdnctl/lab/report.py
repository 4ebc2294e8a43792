"""What an incident has shown, as claims with bounds: each holds or does not.

What the edge did is judged by what it was offered. How much that was is the load generators' part, and the
machine's: it is reported, with what was wanted, and no claim about the edge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec import Struct

from cdnctl.lab.played import Step
from cdnctl.lab.scenario import Fault, Flood, Incident
from cdnctl.lab.tap import Tap
from cdnctl.lab.traffic import Request, quantile, summary
from cdnctl.model import Frame

MIN_RATE = 200.0
"""Honest requests a second that the incident is to be played at."""
DARK_LIMIT_MS = 500.0
SLOW_LIMIT_MS = 2000.0
SLOW_SHARE = 5.0
WINDOW = 100
"""New connections over which a share is judged: under a second's worth."""
FAILED_SHARE = 0.01
MIN_FLOOD_PPS = 50_000.0
DROPPED_SHARE = 0.8
"""Of what was offered from the block on; the rest may still be on its way, or counted a moment late."""
LATE_MS = 10.0
SERVED_SHARE = 99.0
BACK_S = 45.0

SHED = ("shed_verified", "shed_source", "shed_network", "shed_region", "shed_service", "unverified")
FLOOD_DROPS = ("blocked", "no_port", "no_room", "no_cdn", "no_route", "no_neighbour", *SHED)
"""Verdicts that drop what comes from clients; the other drops meet replies and strays."""


class Claim(Struct, frozen=True):
    """One line of the report."""

    name: str
    value: float | None
    """None when it was not measured: a gated claim then does not hold."""
    unit: str
    bound: str
    """`<= 500`, `>= 99`; empty for what is only reported."""
    holds: bool
    gate: bool
    load: bool = False
    """It is about what the load generators could offer."""


def at_most(name: str, value: float | None, bound: float, unit: str) -> Claim:
    """A claim that a value does not exceed a bound."""
    return Claim(name, _short(value), unit, f"<= {bound:.10g}", value is not None and value <= bound, True)


def at_least(name: str, value: float | None, bound: float, unit: str) -> Claim:
    """A claim that a value reaches a bound."""
    return Claim(name, _short(value), unit, f">= {bound:.10g}", value is not None and value >= bound, True)


def wanted(name: str, value: float, least: float, unit: str) -> Claim:
    """What a load generator was to offer at least: less of it is not the edge's failure."""
    return Claim(name, _short(value), unit, f">= {least:.10g}", value >= least, False, True)


def shortfalls(lines: Iterable[Claim]) -> list[str]:
    """Where the load was less than wanted, in words."""
    return [
        f"{line.name}: {line.value:,.10g} {line.unit}, wanted {line.bound}"
        for line in lines
        if line.load and not line.holds and line.value is not None
    ]


def reported(name: str, value: float | None, unit: str) -> Claim:
    """A figure without a bound."""
    return Claim(name, _short(value), unit, "", True, False)


def _short(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else round(value, 3)


def claims(incident: Incident) -> list[Claim]:
    """All but the clean-up, which is not yet done; call it when every request is over."""
    requests = incident.lab.traffic.requests[:] if incident.lab.traffic else []
    by_step = assign(incident.steps, requests)
    lines: list[Claim] = []
    for step in incident.steps:
        lines += _step(step, by_step[step.name])
        if fault := incident.faults.get(step.name):
            lines += _fault(step.name, fault, by_step[step.name])
    lines += _flood(incident.flood, requests, incident.steps)
    return lines + _costs(incident)


def clean_up(left: Iterable[str]) -> Claim:
    """That nothing is left."""
    return at_most("things left after clean-up", len(list(left)), 0, "things")


def missing() -> Claim:
    """Said of an incident that ended early: what it did not come to cannot be claimed."""
    return Claim("played to its end", 0, "", ">= 1", False, True)


def assign(steps: list[Step], requests: Iterable[Request]) -> dict[str, list[Request]]:
    """Requests by the step they were begun in; those under way at a fault count to the fault's step."""
    chosen: dict[str, list[Request]] = {step.name: [] for step in steps}
    over_ns = steps[-1].end_ns if steps else 0
    for request in requests:
        if over_ns and request.start_ns >= over_ns:
            continue  # somebody went on watching
        end_ns = request.start_ns + int(request.total_ms * 1e6)
        for step in reversed(steps):
            if request.start_ns >= step.start_ns or request.start_ns < step.fault_ns <= end_ns:
                chosen[step.name].append(request)
                break
    return chosen


def _step(step: Step, requests: list[Request]) -> list[Claim]:
    if not step.end_ns:
        return []  # cut short
    after = [request for request in requests if request.opened_ns >= step.fault_ns]
    failed = sum(not request.ok for request in after)
    figures = summary(after)
    seconds = (step.end_ns - step.start_ns) / 1e9
    lines = [wanted(f"{step.name}: requests sent", len(requests), int(MIN_RATE * seconds), "requests")]
    bound = 0 if step.name == "calm" else int(FAILED_SHARE * len(after))
    what = f"{step.name}, not blocked" if step.name == "flood" else step.name
    lines.append(at_most(f"{what}: requests failed", failed if after else None, bound, "requests"))
    if step.fault_ns:
        opened = [request for request in requests if request.opened_ns < step.fault_ns]
        failures = Counter(request.connection for request in opened if not request.ok)
        lines.append(
            reported(f"{step.name}: failed on connections open at the fault", failures.total(), "requests")
        )
        most = max(failures.values(), default=0)
        lines.append(
            at_most(f"{step.name}: failures of one connection open at the fault", most, 1, "requests")
        )
    lines.append(reported(f"{step.name}: connect p50", figures.connect_p50_ms, "ms"))
    lines.append(reported(f"{step.name}: connect p95", figures.connect_p95_ms, "ms"))
    return lines


def _fault(name: str, fault: Fault, requests: list[Request]) -> list[Claim]:
    limit = DARK_LIMIT_MS if name == "dark" else SLOW_LIMIT_MS
    last = None if fault.last is None else max(0.0, (fault.last.last_new_flow_ns - fault.at_ns) / 1e6)
    back = (fault.back_ns - fault.healed_ns) / 1e9 if fault.back_ns else None
    lines = [at_most(f"{name}: fault to last new flow but probes", last, limit, "ms")]
    if fault.last is not None:
        probes = fault.last.probe_flows_total - fault.before.probe_flows_total
        rescued = fault.last.rescued_from_total - fault.before.rescued_from_total
        lines.append(reported(f"{name}: probes sent meanwhile", probes, "flows"))
        if name == "dark":
            lines.append(at_least(f"{name}: flows rescued", rescued, 1, "flows"))
        lines.append(reported(f"{name}: opening segments that went there, repeats included", fault.syns, ""))
    if name == "slow":
        new = [
            r for r in requests if r.kind == "new" and r.ok and fault.at_ns <= r.start_ns < fault.healed_ns
        ]
        late = [r for r in new if r.start_ns >= fault.at_ns + int(SLOW_LIMIT_MS * 1e6)]
        share = 100 * sum(r.cdn == fault.cdn for r in late) / len(late) if late else None
        under = avoided_ms(new, fault.cdn, fault.at_ns)
        lines.append(
            at_most(f"{name}: fault to its share under {SLOW_SHARE:g} %", under, SLOW_LIMIT_MS, "ms")
        )
        lines.append(at_most(f"{name}: its share of new connections after 2 s", share, SLOW_SHARE, "%"))
    return [*lines, at_most(f"{name}: healed to back in rotation", back, BACK_S, "s")]


def avoided_ms(new: list[Request], cdn: str, since_ns: int) -> float | None:
    """When `cdn` first had at most `SLOW_SHARE` % of the next `WINDOW` connections; None if never."""
    ordered = sorted(new, key=lambda request: request.start_ns)
    for i in range(len(ordered) - WINDOW + 1):
        there = sum(request.cdn == cdn for request in ordered[i : i + WINDOW])
        if 100 * there <= SLOW_SHARE * WINDOW:
            return (ordered[i].start_ns - since_ns) / 1e6
    return None


def _flood(flood: Flood, requests: list[Request], steps: list[Step]) -> list[Claim]:
    if flood.offered is None or flood.before is None or flood.after is None or not flood.blocked_ns:
        return []
    offered = flood.offered.sent
    through = _count(flood.taps_after) - _count(flood.taps_before)
    dropped = {name: _total(flood.after, name) - _total(flood.before, name) for name in FLOOD_DROPS}
    last_ns = max(tap.last_flood_ns for tap in flood.taps_after.values())
    late_ms = (last_ns - flood.blocked_ns) / 1e6
    late = 0
    if late_ms > LATE_MS:
        late = max(1, _count(flood.taps_after) - _count(flood.taps_at_block))
    end_ns = steps[-1].end_ns or steps[-1].start_ns
    honest = [request for request in requests if flood.blocked_ns <= request.start_ns < end_ns]
    served = 100 * sum(request.ok for request in honest) / len(honest) if honest else None
    return [
        wanted("flood: offered", flood.offered.pps, MIN_FLOOD_PPS, "packets/s"),
        reported("flood: offered", offered, "packets"),
        at_least(
            "flood: received by the edge, honest packets included",
            flood.received,
            int(0.95 * offered),
            "packets",
        ),
        reported("flood: lost before the edge", flood.lost, "packets"),
        reported("flood: let through before the block", through, "packets"),
        reported(
            "flood: challenged by the shield",
            _total(flood.after, "challenged") - _total(flood.before, "challenged"),
            "packets",
        ),
        at_least(
            "flood: dropped by the block, answers to it included",
            dropped["blocked"],
            int(DROPPED_SHARE * (offered - flood.offered_before_block)),
            "packets",
        ),
        reported("flood: dropped otherwise", sum(dropped.values()) - dropped["blocked"], "packets"),
        at_most(f"flood: left the edge later than {LATE_MS:g} ms after the block", late, 0, "packets"),
        reported(
            f"flood: last packet to leave, {'after' if late_ms >= 0 else 'before'} the block",
            abs(late_ms) if last_ns else None,
            "ms",
        ),
        at_least("honest requests served from the block on", served, SERVED_SHARE, "%"),
    ]


def _costs(incident: Incident) -> list[Claim]:
    gauge, frame = incident.gauge, incident.last_frame
    times = sorted(
        r.total_ms for r in (incident.lab.traffic.requests if incident.lab.traffic else []) if r.ok
    )
    lines = [
        reported("a decision, calm mix, the kernel's own timing included", gauge.calm_ns, "ns"),
        reported("a decision, blocked flood, the kernel's own timing included", gauge.blocked_ns, "ns"),
        reported("agent's processor time", 100 * gauge.agent_cpu, "% of one"),
        reported("machine busy (clients, wire, origins and flood included)", 100 * gauge.machine_busy, "%"),
        reported("requests p50", quantile(times, 0.5), "ms"),
        reported("requests p95", quantile(times, 0.95), "ms"),
    ]
    if frame is not None:
        lines.append(reported("samples lost", frame.sampling.lost_total, "samples"))
        lines.append(reported("samples received", frame.sampling.received_total, "samples"))
    return lines


def _count(taps: dict[str, Tap]) -> int:
    return sum(tap.flood_packets for tap in taps.values())


def _total(frame: Frame, name: str) -> int:
    return next((verdict.packets_total for verdict in frame.verdicts if verdict.name == name), 0)
