"""What `cdnctl demo` can play: the incident, and each attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from cdnctl.agent.client import Client
from cdnctl.lab import report
from cdnctl.lab.attacks import assault, claims
from cdnctl.lab.attacks.kinds import ATTACKS, Attack
from cdnctl.lab.lab import Lab
from cdnctl.lab.played import Step
from cdnctl.lab.report import Claim
from cdnctl.lab.scenario import Incident

DEFAULT = "incident"


class Manner(NamedTuple):
    """How to play it."""

    invite: bool
    """Does somebody watch who could act?"""
    pause: Callable[[float], None]
    """Waits, and may raise to end it early."""
    say: Callable[[str], None]
    rate: float = 0.0
    """Of an attack: packets or connections a second; 0: its own."""
    seconds: float = assault.ATTACK_S
    """Of an attack."""


class Play(Protocol):
    """A scenario in a lab whose agent runs."""

    steps: list[Step]
    finished: bool

    def run(self) -> None:
        """All of it."""

    def rest(self) -> None:
        """Say that it is over, for those who go on watching."""

    def claims(self) -> list[Claim]:
        """What it has shown; when every request is over."""

    def details(self) -> dict[str, Any]:
        """What a report in JSON has of it besides."""


@dataclass(frozen=True)
class Scenario:
    """One of them."""

    name: str
    title: str
    """Of its report."""
    make: Callable[[Lab, Client, Manner], Play]
    lab: Mapping[str, Any] = field(default_factory=dict)
    """How the lab is to be, as `Lab` takes it."""
    attack: Attack | None = None


class _Incident(Incident):
    def claims(self) -> list[Claim]:
        return report.claims(self)

    def details(self) -> dict[str, Any]:
        return {"blocked_by": self.flood.by}


class _Assault(assault.Assault):
    def claims(self) -> list[Claim]:
        return claims.claims(self)


def _incident(lab: Lab, client: Client, manner: Manner) -> Play:
    return _Incident(lab, client, invite=manner.invite, pause=manner.pause, say=manner.say)


def _attack(attack: Attack) -> Scenario:
    def make(lab: Lab, client: Client, manner: Manner) -> Play:
        how = {"pause": manner.pause, "say": manner.say, "rate": manner.rate, "seconds": manner.seconds}
        return _Assault(lab, client, attack, **how)  # type: ignore[arg-type]

    return Scenario(attack.name, attack.name, make, {"service": attack.service}, attack)


SCENARIOS: Mapping[str, Scenario] = {
    DEFAULT: Scenario(DEFAULT, "the incident", _incident),
    **{name: _attack(attack) for name, attack in ATTACKS.items()},
}
