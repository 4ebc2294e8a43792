"""The suite: the rate that the link stands, and every attack at it, in a lab of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cdnctl import paths
from cdnctl.agent.client import Client
from cdnctl.lab.attacks.assault import POOL, RATE, SHARE6, Assault, attacker_cpu, launch
from cdnctl.lab.attacks.claims import SERVED, Honest, honest
from cdnctl.lab.attacks.kinds import ATTACKS, Attack
from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import LabError
from cdnctl.model import SetShield
from tests.bench.attacks.dropping import only_drops
from tests.bench.results import Result, Unsound, beside

NAME = "bench-attacks"
AIMED_PPS = 1_000_000.0
LEAST_PPS = 100_000.0
"""A link that does not stand this with a program that only drops is none to measure on."""
STEPS = 3
"""Of the search, which halves what is left of the range each time."""
OFFERED_SHARE = 0.9
"""Of what a trial ordered: or it is not that rate that the link stands."""
SERVICE = {"protocol": ["tcp", "udp"]}


@dataclass(frozen=True)
class Plan:
    """How long each is looked at."""

    trial_s: float
    attack_s: float


FULL, QUICK = Plan(4.0, 10.0), Plan(3.0, 3.0)
_QUICKLY = ("syn-flood", "udp-flood", "connection-exhaustion")


def results(*, quick: bool, say: Callable[[str], None], only: Sequence[str] = ()) -> list[Result]:
    """All rows. Raises Unsound, LabError."""
    plan, names = (QUICK, only or _QUICKLY) if quick else (FULL, only or tuple(ATTACKS))
    found: list[Result] = []
    say("an edge, clients and CDNs")
    with Lab(NAME, agent=True, service=SERVICE) as lab:
        lab.start_clients(rate=RATE, share6=SHARE6, pool=POOL)
        with Client(paths.socket_path(NAME), client="bench") as client:
            for name in names:
                attack = ATTACKS[name]
                pps = standing_pps(lab, attack, plan, say) if attack.is_live else 0.0
                say(name)
                found += attacked(lab, client, attack, pps, plan)
    if lab.left:
        raise LabError(f"not to be removed: {', '.join(lab.left)}")
    return found


# --- the rate --------------------------------------------------------------------------------------


def standing_pps(lab: Lab, attack: Attack, plan: Plan, say: Callable[[str], None]) -> float:
    """The highest rate of its packets at which a program that only drops serves. Raises Unsound when there is
    none."""

    def serves(pps: float) -> bool:
        seen, offered_pps = trial(lab, attack, pps, plan.trial_s)
        say(f"only dropping {attack.name}, {offered_pps:,.0f}/s: {seen.served_percent or 0:.1f} % served")
        return offered_pps >= OFFERED_SHARE * pps and (seen.served_percent or 0) >= SERVED

    time.sleep(2.0)
    with only_drops(lab, attack.prefix):
        if serves(AIMED_PPS):
            return AIMED_PPS
        if not serves(LEAST_PPS):
            raise Unsound(f"a program that only drops does not serve at {LEAST_PPS:,.0f} packets/s")
        low, high = LEAST_PPS, AIMED_PPS
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if serves(middle) else (low, middle)
        return low


def trial(lab: Lab, attack: Attack, pps: float, seconds: float) -> tuple[Honest, float]:
    """What honest clients meet while that comes; and packets a second that really did."""
    assert lab.traffic is not None
    load = launch(lab, attack, pps, seconds, attacker_cpu())
    offered = load.wait()
    lab.traffic.wait(offered.at_ns)
    return honest(lab.traffic.requests[:], offered.begun_ns, offered.at_ns), offered.pps


# --- an attack -------------------------------------------------------------------------------------


def attacked(lab: Lab, client: Client, attack: Attack, pps: float, plan: Plan) -> list[Result]:
    """Its rows."""
    assert lab.traffic is not None
    for level in ("calm", "auto"):
        client.request(SetShield(level=level))
    assault = Assault(lab, client, attack, rate=pps if attack.is_live else 0.0, seconds=plan.attack_s)
    assault.run()
    lab.traffic.wait(assault.steps[-1].end_ns)
    calm, under = (honest(lab.traffic.requests[:], step.start_ns, step.end_ns) for step in assault.steps[:2])
    return rows(assault, calm, under, pps)


def rows(assault: Assault, calm: Honest, under: Honest, pps: float) -> list[Result]:
    """What the bench states of an attack."""
    name, seen = assault.attack.name, assault.evidence
    if seen.offered is None or under.served_percent is None or under.kept_percent is None:
        raise Unsound(f"{name}: nothing was asked or offered meanwhile")
    made = [
        _row(f"{name}: honest new requests served / {SERVED:g} %", under.served_percent, SERVED, "%", 1.0),
        _row(f"{name}: established connections kept / all", under.kept_percent, 100.0, "%", 1.0),
        _row(f"{name}: request p95 / in calm", under.total_p95_ms or 0, calm.total_p95_ms or 0, "ms"),
    ]
    if assault.attack.is_live:
        ordered = seen.offered.pps / 1e6
        made += [
            _row(f"{name}: offered / a program that only drops", ordered, pps / 1e6, "Mpps"),
            _row(f"{name}: received / offered", seen.received / 1e6, seen.offered.sent / 1e6, "M"),
            _row(f"{name}: lost in the ring / offered", seen.ring_lost / 1e6, seen.offered.sent / 1e6, "M"),
        ]
    return made


def _row(name: str, ours: float, peer: float, unit: str, least: float | None = None) -> Result:
    return beside(
        name, [ours], [max(peer, 1e-9)], unit=unit, bound=least, gate=least is not None, at_least=True
    )
