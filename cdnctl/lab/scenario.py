"""*The incident*: what an edge goes through in some 90 s, and what was seen meanwhile.

Calm; one CDN slows by 150 ms, heals and comes back into rotation; another goes dark and heals; a SYN
flood from one /16, which the shield challenges; the operator blocks it; calm. Honest clients ask all the
while. `Incident.run` plays it and keeps the evidence; `report` draws the conclusions.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cdnctl.agent.client import Client
from cdnctl.lab import gauges, topology
from cdnctl.lab.lab import Lab
from cdnctl.lab.loads import Offered
from cdnctl.lab.played import Played, Step
from cdnctl.lab.tap import Tap
from cdnctl.model import FRAME_INTERVAL_S, Block, BlockPrefix, Cdn, Frame

RATE, SHARE6 = 450.0, 0.4
"""Requests a second, of which half make a new connection, and the part of the clients that has IPv6: each
of a CDN's two endpoints is judged by its own connects, so both have to have enough of them.
"""
CALM_S = 12.0
SLOW_S, SLOW_EXTRA_MS = 12.0, 150.0
DARK_S = 18.0
BACK_SHARE, BACK_WINDOW = 0.1, 60
"""It is back when it serves this share of the last so many new connections."""
BACK_LIMIT_S = 45.0
"""How long a healed CDN may take to be in rotation again."""
SETTLED_S = 2.0
"""How long the picture stays once it is."""
FLOOD_PPS = 60_000
FLOOD_S = 8.0
"""Until the operator of a headless run acts."""
INVITATION_S = 20.0
"""Until the scenario acts for a viewer who does not."""
BLOCKED_S = 10.0
END_S = 10.0
WARM_UP_S = 1.5
_POLL_S = 0.2


@dataclass
class Fault:
    """What became of a CDN with a fault."""

    cdn: str
    at_ns: int
    before: Cdn
    """As it was just before."""
    healed_ns: int = 0
    last: Cdn | None = None
    """As it was just before it healed."""
    syns: int = 0
    """Opening segments that left towards it between the fault and its healing, by the tap."""
    back_ns: int = 0
    """When it was seen to serve its part of the new connections again; 0 when it never was."""


@dataclass
class Flood:
    """The flood, unblocked and blocked."""

    begun_ns: int = 0
    blocked_ns: int = 0
    """Kernel clock right after the block was written; 0 when it never was."""
    by: str = ""
    """`viewer` or `scenario`."""
    before: Frame | None = None
    after: Frame | None = None
    taps_before: dict[str, Tap] = field(default_factory=dict)
    taps_at_block: dict[str, Tap] = field(default_factory=dict)
    taps_after: dict[str, Tap] = field(default_factory=dict)
    offered: Offered | None = None
    offered_before_block: int = 0
    """Packets, as far as the generator had told just after the block."""
    received: int = 0
    """Packets that came to the edge from the clients' side meanwhile, honest ones among them."""
    lost: int = 0
    """Packets its cable's end had no room for."""


@dataclass
class Gauge:
    """Cost, over the calm part and over the blocked flood."""

    calm_ns: float | None = None
    blocked_ns: float | None = None
    agent_cpu: float = 0.0
    """Share of one processor."""
    machine_busy: float = 0.0
    """Share of all."""


class Incident(Played):
    """Plays the incident in a lab whose agent runs. `invite`: somebody watches who could place the block."""

    def __init__(
        self,
        lab: Lab,
        client: Client,
        *,
        invite: bool,
        pause: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        super().__init__(lab, client, pause, say)
        self.invite = invite
        self.faults: dict[str, Fault] = {}
        self.flood = Flood()
        self.gauge = Gauge()
        self.last_frame: Frame | None = None

    def run(self) -> None:
        """All of it. LabError or an agent's error when a part fails; what was seen stays."""
        names = list(self.lab.sites)
        slow, dark = names[1 % len(names)], names[0]
        self.lab.start_clients(rate=RATE, share6=SHARE6)
        self.pause(WARM_UP_S)
        started, agent_cpu, machine = time.monotonic(), self._agent_cpu(), gauges.Machine.read()
        self._calm()
        self._slow(slow)
        self._dark(dark)
        self._flood()
        self._step("calm again", "calm again: the flood is over")
        self.pause(END_S)
        self._end_step()
        elapsed = time.monotonic() - started
        self.gauge.agent_cpu = (self._agent_cpu() - agent_cpu) / elapsed
        self.gauge.machine_busy = gauges.Machine.read().busy_since(machine)
        self.last_frame = self._frame()
        self.finished = True

    def rest(self) -> None:
        """Say that it is over, for those who go on watching."""
        self._note("the incident is over: this is the lab in calm, q leaves", step="calm, until you press q")

    # --- the steps -----------------------------------------------------------------------------

    def _calm(self) -> None:
        self._step("calm", f"calm: {len(self.lab.sites)} CDNs share the clients")
        with gauges.timing():
            before = self._runs()
            self.pause(CALM_S)
            after = self._runs()
        if before and after:
            self.gauge.calm_ns = before.mean_ns(after)
        self._end_step()

    def _slow(self, cdn: str) -> None:
        step = self._step("slow", f"{cdn} slows by {SLOW_EXTRA_MS:.0f} ms")
        self._fault(step, cdn, lambda: self.lab.slow(cdn, SLOW_EXTRA_MS), SLOW_S)
        self._back(f"{cdn} has healed: the edge probes it", "slow, healed", cdn)

    def _dark(self, cdn: str) -> None:
        step = self._step("dark", f"{cdn} goes dark", "warning")
        self._fault(step, cdn, lambda: self.lab.darken(cdn), DARK_S)
        self._back(f"{cdn} is up again: the edge probes it", "dark, healed", cdn)

    def _fault(self, step: Step, cdn: str, cause: Callable[[], int], seconds: float) -> None:
        before, syns = self._cdn(cdn), self.lab.tap(cdn).syns
        step.fault_ns = cause()
        fault = self.faults[step.name] = Fault(cdn, step.fault_ns, before)
        self.pause(seconds)
        fault.last = self._cdn(cdn)
        fault.syns = self.lab.tap(cdn).syns - syns
        fault.healed_ns = self.lab.heal(cdn)
        self._end_step()

    def _back(self, text: str, name: str, cdn: str) -> None:
        """Wait until a healed CDN takes ordinary new flows again, for `BACK_LIMIT_S` at most."""
        self._step(name, text)
        fault = self.faults[name.partition(",")[0]]
        deadline = time.monotonic() + BACK_LIMIT_S
        while time.monotonic() < deadline and not fault.back_ns:
            self.pause(_POLL_S)
            if self._cdn(cdn).state == "in" and self._serves(cdn, fault.healed_ns):
                fault.back_ns = time.monotonic_ns()
        if fault.back_ns:
            self._note(f"{cdn} is back in rotation", severity="notice")
            self.pause(SETTLED_S)
        self._end_step()

    def _serves(self, cdn: str, since_ns: int) -> bool:
        """Does it have a part of the connections begun lately?"""
        assert self.lab.traffic
        new = [r for r in self.lab.traffic.begun(since_ns) if r.kind == "new" and r.ok][-BACK_WINDOW:]
        return len(new) == BACK_WINDOW and sum(r.cdn == cdn for r in new) >= BACK_SHARE * BACK_WINDOW

    def _flood(self) -> None:
        flood, prefix = self.flood, topology.FLOOD_PREFIX
        self._step("flood", f"a SYN flood from {prefix}", "alarm")
        flood.before, flood.taps_before, arrived = self._frame(), self._taps(), self.lab.arrivals()
        load = self.lab.flood(FLOOD_PPS, INVITATION_S + BLOCKED_S + 30)
        flood.begun_ns = load.offered.begun_ns
        if self.invite:
            self._note(f"press b to block {prefix}; in {INVITATION_S:.0f} s it is done for you", step=(
                f"SYN flood from {prefix}: press b to block it"))  # fmt: skip
            self._await_viewer(prefix)
        else:
            self.pause(FLOOD_S)
        if not flood.blocked_ns:
            self._block(prefix)
        flood.offered_before_block = load.progress().sent
        flood.taps_at_block = self._taps()
        self._end_step()
        step = self._step("blocked", f"{prefix} is blocked; the flood goes on")
        step.start_ns = flood.blocked_ns
        with gauges.timing():
            before = self._runs()
            self.pause(BLOCKED_S)
            after = self._runs()
        if before and after:
            self.gauge.blocked_ns = before.mean_ns(after)
        flood.offered = load.stop()
        now = self.lab.arrivals()
        flood.received, flood.lost = now[0] - arrived[0], now[1] - arrived[1]
        self.pause(2 * FRAME_INTERVAL_S)  # a frame is a picture of the past
        flood.after, flood.taps_after = self._frame(), self._taps()
        self._end_step()

    def _await_viewer(self, prefix: str) -> None:
        network = ipaddress.ip_network(prefix)
        deadline = time.monotonic() + INVITATION_S
        while time.monotonic() < deadline:
            self.pause(_POLL_S)
            frame = self._frame()
            for block in frame.blocks:
                covering = ipaddress.ip_network(block.prefix)
                if covering.version == network.version and network.subnet_of(covering):  # type: ignore[arg-type]
                    self.flood.blocked_ns, self.flood.by = _done_ns(frame, block), "viewer"
                    return

    def _block(self, prefix: str) -> None:
        outcome = self._request(BlockPrefix(prefix=prefix, lifetime_s=3600.0, reason="SYN flood"))
        self.flood.blocked_ns, self.flood.by = outcome.applied_monotonic_ns, "scenario"

    # --- what is looked at ------------------------------------------------------------------------

    def _cdn(self, name: str) -> Cdn:
        return next(cdn for cdn in self._frame().cdns if cdn.name == name)

    def _taps(self) -> dict[str, Tap]:
        return {name: self.lab.tap(name) for name in self.lab.sites}

    def _runs(self) -> gauges.Runs | None:
        return gauges.runs(self.lab.topology.edge, topology.CLIENTS_LINK)


def _done_ns(frame: Frame, block: Block) -> int:
    """When a block of somebody else's was in force, as near as a bystander can know (kernel clock).

    That is when the agent told of it; the frame that shows a block first tells of it, too.
    """
    for event in frame.events:
        if event.kind == "command" and block.prefix in event.text:
            return event.monotonic_ns
    return block.created_ns - (frame.at_ns - frame.monotonic_ns)
