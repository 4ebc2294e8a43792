"""One attack, played in a lab whose agent runs: calm, the attack, calm; and what was seen of it.

`Assault.run` keeps the evidence, `claims` draws the conclusions. Honest clients ask all the while at one
rate, in calm as under attack, whether or not they are answered.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cdnctl.agent.client import Client
from cdnctl.lab import gauges, topology
from cdnctl.lab.attacks import live
from cdnctl.lab.attacks.kinds import Attack, Crowd
from cdnctl.lab.lab import Lab
from cdnctl.lab.loads import Load, Offered
from cdnctl.lab.pinning import Pinning
from cdnctl.lab.played import Played
from cdnctl.lab.processes import LabError
from cdnctl.model import (
    FRAME_INTERVAL_S,
    Frame,
    Mark,
    attack_mark,
    over_mark,
)

RATE, SHARE6, POOL = 160.0, 0.25, 40
"""Requests a second, of which half make a new connection; the part of IPv6; the connections that are kept."""
KNOWN_S = 20.0
"""How long the CDNs may take to be known."""
KNOWN_SAMPLES = 30
CALM_S, ATTACK_S, AFTER_S = 6.0, 10.0, 3.0
FULL_POOL_S = 2 * POOL / RATE
_POLL_S = 0.1


@dataclass(frozen=True)
class Label:
    """Whose packets are an attack's, and when: for whoever learns from what is recorded meanwhile."""

    attack: str
    sources: tuple[str, ...]
    """Prefixes; nobody honest is there."""
    from_ns: int
    """CLOCK_MONOTONIC, as frames have it."""
    to_ns: int = 0
    """0 while it goes on."""


@dataclass
class Evidence:
    """What was seen."""

    before: Frame | None = None
    after: Frame | None = None
    offered: Offered | None = None
    received: int = 0
    """Packets that came to the edge from the clients' side during the attack, honest ones among them."""
    ring_lost: int = 0
    """Those that its cable's end had no room for."""
    leaked: int = 0
    """Packets of a flood that left the edge towards a CDN."""
    levels: list[tuple[float, str]] = field(default_factory=list)
    """Of the shield: seconds after the attack's begin, and what it was from then on."""
    agent_cpu: float = 0.0
    """Share of one processor, during the attack."""
    machine_busy: float = 0.0
    """Share of all."""


def attacker_cpu() -> int:
    """The processor that generators are pinned to."""
    return max(os.sched_getaffinity(0))


def generator(pins: Path) -> Path:
    """The directory, with the generator of live frames pinned in it. LabError with the compiler's words."""
    if not pins.exists():
        with closing(Pinning(live.SOURCE, live.FUNCTION, live.MAPS, pins)) as child:
            child.wait()
    return pins


def launch(lab: Lab, attack: Attack, rate: float, seconds: float, cpu: int) -> Load:
    """Begin it; under way on return. LabError."""
    if isinstance(attack.load, Crowd):
        order: dict[str, object] = {
            "target": [topology.VIP, topology.PORT],
            "prefix": attack.prefix,
            "rate": rate,
            **asdict(attack.load),
        }
        return lab.generate("attacks.crowd", seconds=seconds, cpu=cpu, **order)
    return lab.generate(
        "attacks.live",
        device=topology.UPLINK,
        mac=lab.uplink_addresses(),
        frames=attack.load.order(),
        pins=str(generator(lab.pins / "attacks")),
        pps=rate,
        seconds=seconds,
        cpu=cpu,
    )


class Assault(Played):
    """Plays it."""

    def __init__(
        self,
        lab: Lab,
        client: Client,
        attack: Attack,
        *,
        rate: float = 0.0,
        seconds: float = ATTACK_S,
        pause: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        super().__init__(lab, client, pause, say)
        self.attack, self.rate, self.seconds = attack, rate or attack.rate, seconds
        self.evidence = Evidence()
        self.label: Label | None = None
        """From the attack's begin on."""

    def run(self) -> None:
        """All of it. LabError or an agent's error when a part fails; what was seen stays."""
        if self.attack.is_live:
            generator(self.lab.pins / "attacks")  # not while the attack is awaited
        if self.lab.traffic is None:
            self.lab.start_clients(rate=RATE, share6=SHARE6, pool=POOL)
        self._get_known()
        self._step("calm", f"calm, before {self.attack.name}")
        self.pause(max(FULL_POOL_S, min(CALM_S, self.seconds)))
        self._end_step()
        self._attack()
        self._step("after", "the attack is over")
        self.pause(AFTER_S)
        self._end_step()
        self.finished = True

    def rest(self) -> None:
        """Say that it is over, for those who go on watching."""
        self._note(
            f"{self.attack.name} is over: this is the lab in calm, q leaves", step="calm, until you press q"
        )

    def _attack(self) -> None:
        seen, attack = self.evidence, self.attack
        step = self._step(
            attack.name, f"{attack.name}: {attack.summary}; {self.rate:,.0f} {attack.unit}/s", "alarm"
        )
        seen.before, arrived, taps = self._frame(), self.lab.arrivals(), self._flood_packets()
        cpu, machine, began = self._agent_cpu(), gauges.Machine.read(), time.monotonic()
        load = launch(self.lab, attack, self.rate, self.seconds, attacker_cpu())
        step.start_ns = load.offered.begun_ns
        self.label = Label(attack.name, (attack.prefix,), step.start_ns)
        self._request(Mark(text=attack_mark(attack.name, self.label.sources)))
        self._watch(load)
        seen.offered = load.wait()
        step.end_ns = seen.offered.at_ns
        self.label = Label(attack.name, (attack.prefix,), step.start_ns, step.end_ns)
        seen.agent_cpu = (self._agent_cpu() - cpu) / (time.monotonic() - began)
        seen.machine_busy = gauges.Machine.read().busy_since(machine)
        self.pause(2 * FRAME_INTERVAL_S)  # a frame is a picture of the past
        now = self.lab.arrivals()
        seen.received, seen.ring_lost = now[0] - arrived[0], now[1] - arrived[1]
        seen.leaked = self._flood_packets() - taps
        seen.after = self._frame()
        self._request(Mark(text=over_mark(attack.name)))

    def _watch(self, load: Load) -> None:
        """Until it is over: which level the shield was at."""
        levels, until = self.evidence.levels, time.monotonic() + self.seconds + KNOWN_S
        seq = -1
        while not load.progress().done:
            self.pause(_POLL_S)
            frame = self._frame()
            if frame.seq != seq and (not levels or levels[-1][1] != frame.shield.level):
                after_s = max(0.0, (frame.monotonic_ns - load.offered.begun_ns) / 1e9)
                levels.append((round(after_s, 2), frame.shield.level))
            seq = frame.seq
            if time.monotonic() > until:
                raise LabError(f"the generator of {self.attack.name} does not end")

    def _get_known(self) -> None:
        """Wait until every CDN has had so many handshakes that the edge knows its usual one."""
        deadline = time.monotonic() + KNOWN_S
        while any(cdn.new_flows_total < KNOWN_SAMPLES for cdn in self._frame().cdns):
            if time.monotonic() > deadline:
                raise LabError(f"not every CDN got {KNOWN_SAMPLES} flows in {KNOWN_S:g} s")
            self.pause(_POLL_S)

    def _flood_packets(self) -> int:
        return sum(self.lab.tap(name).flood_packets for name in self.lab.sites)

    def details(self) -> dict[str, Any]:
        """What a report in JSON has besides claims and steps."""
        label = [asdict(self.label)] if self.label else []
        return {"attack": self.attack.name, "labels": label, "levels": self.evidence.levels}
