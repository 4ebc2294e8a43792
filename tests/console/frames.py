"""Frames that look like a real edge's, for the console's tests and pictures.

`Edge` plays a small incident by itself, deterministically: three CDNs, one slows down, one goes dark,
a flood from one /16, a block. Every call of `frame()` is half a second later.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from cdnctl.model import (
    Block,
    Cdn,
    CdnPlan,
    Endpoint,
    Event,
    Frame,
    Interface,
    PlannerPicture,
    Sampling,
    Service,
    Severity,
    Talker,
    Totals,
    Verdict,
    Watcher,
)

NOON_NS = 1_700_000_000 * 10**9
BOOT_NS = 3_600 * 10**9
NAMES = ("aurora", "borealis", "corona", "dawn", "eclipse", "fjord", "glacier", "halo")
EXPLANATIONS = {
    "blocked": "The source is on the block list.",
    "malformed": "The headers contradict themselves or are cut off.",
    "not_a_start": "A segment of a flow that is not known, and not the start of one.",
    "unowned_reply": "A CDN's reply to a port that no flow owns.",
    "no_next_hop": "The next hop has no known link address yet.",
    "ports_exhausted": "No free port was found towards that endpoint.",
}


@dataclass
class Edge:
    """A made-up edge; `slow`, `dark` name CDNs in trouble, `flood_pps` and `blocked` an attack."""

    cdns: int = 3
    name: str = "ams1"
    slow: str = ""
    dark: str = ""
    flood_pps: float = 0.0
    blocked: bool = False
    armed: bool = True
    bypassed: bool = False
    step: str = ""
    seq: int = 0
    one_in: int = 16
    events: list[Event] = field(default_factory=list)
    extra_talkers: list[Talker] = field(default_factory=list)
    extra_blocks: list[Block] = field(default_factory=list)
    drained: set[str] = field(default_factory=set)
    weights: dict[str, int] = field(default_factory=dict)
    dropped_total: int = 0
    began_ns: int = NOON_NS
    """Wall time of frame 0."""
    _event_seq: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(7))

    @property
    def at_ns(self) -> int:
        """Wall time of the next frame."""
        return self.began_ns + self.seq * 500_000_000

    def say(self, kind: str, text: str, severity: Severity = "info") -> None:
        """An event in the next frame."""
        self._event_seq += 1
        self.events.append(
            Event(seq=self._event_seq, at_ns=self.at_ns, kind=kind, text=text, severity=severity)
        )

    def frame(self) -> Frame:
        """The next frame."""
        self.seq += 1
        cdns = self._cdns()
        flood = 0.0 if self.blocked else self.flood_pps
        dropped = self.flood_pps if self.blocked else 0.0
        self.dropped_total += int(dropped / 2)
        honest = 4_180.0 + 120 * math.sin(self.seq / 9) + self._random.uniform(-60, 60)
        events, self.events = self.events, []
        blocks = [*self.extra_blocks]
        if self.blocked:
            blocks.insert(0, self._block())
        return Frame(
            seq=self.seq,
            at_ns=self.at_ns,
            monotonic_ns=BOOT_NS + self.seq * 500_000_000,
            edge=self.name,
            armed=self.armed,
            bypassed=self.bypassed,
            generation=3,
            interfaces=[Interface(name="eth0", mode="native"), Interface(name="eth1", mode="native")],
            services=[Service(name="www", vip="203.0.113.80", port=80, protocol="tcp", policy="latency")],
            cdns=cdns,
            verdicts=self._verdicts(honest, dropped),
            talkers=self._talkers(),
            blocks=blocks,
            blocks_wanted=len(blocks),
            blocks_enforced=len(blocks),
            events=events,
            watchers=[Watcher(user="root", pid=4242, client="console", role="operate", since_ns=NOON_NS)],
            totals=Totals(
                received_pps=honest + self.flood_pps,
                received_bps=honest * 5_600 + self.flood_pps * 480,
                forwarded_pps=honest + flood,
                dropped_pps=dropped,
                passed_pps=3.0,
                new_flows_per_s=sum(cdn.new_flows_per_s for cdn in cdns),
                packets_total=self.seq * 2_100,
                half_open=14 + int(min(flood, 65_000)),
                half_open_limit=65_536,
                rescued_total=12 if self.dark else 0,
            ),
            sampling=Sampling(one_in=self.one_in, received_total=self.seq * 130, received_per_s=261.0),
            planner=self._planner(sum(cdn.plan.mbit for cdn in cdns)),
            step=self.step,
            agent_pid=4100,
            agent_started_ns=self.began_ns,
        )

    def _planner(self, mbit: float) -> PlannerPicture:
        expected = 41.0 + 2.0 * math.sin(self.seq / 40)
        return PlannerPicture(
            mode="on",
            acts=self.armed,
            mbit=mbit,
            expected_mbit=expected,
            band_mbit=(0.93 * expected, 1.07 * expected),
            error=0.034,
            naive_error=0.081,
        )

    def _plan(self, name: str, mbit: float) -> CdnPlan:
        if name != NAMES[1]:
            return CdnPlan(mbit=mbit, expected_mbit=15.0, error=0.031, naive_error=0.064, probes="well")
        why = "3.4 % of its segments are lost, its peers' 0.2 %"
        return CdnPlan(
            mbit=mbit, factor=0.6, code="loss", why=why, commit_mbit=40.0, p95_mbit=22.0, price=0.02
        )

    # --- parts ------------------------------------------------------------------------------------

    def _cdns(self) -> list[Cdn]:
        names = NAMES[: self.cdns]
        states = {name: self._state(name) for name in names}
        weights = {name: self.weights.get(name, 100) for name in names}
        live = sum(weights[name] for name in names if states[name] == "in") or 1
        return [self._cdn(name, index, states[name], weights[name], live) for index, name in enumerate(names)]

    def _state(self, name: str) -> str:
        if name in self.drained:
            return "drained"
        return "out" if name in (self.slow, self.dark) else "in"

    def _cdn(self, name: str, index: int, state: str, weight: int, live: int) -> Cdn:
        base = 10.4 + 3.1 * index + self._random.uniform(-0.3, 0.3) + 0.8 * math.sin(self.seq / 14 + index)
        base += 150.0 if name == self.slow else 0.0
        share = weight / live if state == "in" else 0.0
        measured = name != self.dark and (state != "drained")
        reason = {"out": "slow" if name == self.slow else "dark", "drained": "operator"}.get(state, "")
        flows = 104.0 * share * self.cdns / 1.2 + (0.4 if name == self.slow else 0.0)
        bps = 23.4e6 * share
        endpoint = Endpoint(
            address=f"198.51.100.{10 * (index + 1)}",
            port=80,
            state=state,  # type: ignore[arg-type]
            reason=reason,  # type: ignore[arg-type]
            back_in_s=8.0 if state == "out" else 0.0,
            ewma_ms=base,
            baseline_ms=10.4 + 3.1 * index,
            limit_ms=3 * (10.4 + 3.1 * index) + 20,
            unanswered=5 if name == self.dark else 0,
            ejections=1 if state == "out" else 0,
        )
        return Cdn(
            name=name,
            state=state,  # type: ignore[arg-type]
            reason=reason,  # type: ignore[arg-type]
            wanted_weight=weight,
            plan=self._plan(name, bps / 1e6),
            effective_share=share,
            share=share,
            handshake_p50_ms=base if measured else None,
            handshake_p95_ms=base * 1.31 + 1.1 if measured else None,
            handshake_p99_ms=base * 1.7 + 2.4 if measured else None,
            samples=round(flows * 5),
            new_flows_per_s=flows,
            to_cdn_pps=1_900 * share,
            from_cdn_pps=2_280 * share,
            to_cdn_bps=bps * 0.08,
            from_cdn_bps=bps,
            new_flows_total=self.seq * 45 + index * 211,
            rescued_from_total=12 if name == self.dark else 0,
            ejections_total=1 if state == "out" else 0,
            endpoints=[endpoint],
        )

    def _verdicts(self, honest: float, dropped: float) -> list[Verdict]:
        verdicts = [_verdict("forwarded", False, int(self.seq * honest / 2), honest, "Sent to a CDN.")]
        totals = {"blocked": self.dropped_total, "malformed": 3, "not_a_start": 41, "unowned_reply": 7,
                  "no_next_hop": 0, "ports_exhausted": 0}  # fmt: skip
        for name, total in totals.items():
            pps = dropped if name == "blocked" else 0.4 if name == "not_a_start" else 0.0
            verdicts.append(_verdict(name, True, total, pps, EXPLANATIONS[name]))
        return verdicts

    def _talkers(self) -> list[Talker]:
        names = [name for name in NAMES[: self.cdns] if self._state(name) == "in"] or [""]
        talkers = []
        if self.flood_pps:
            jitter = self._random.uniform(0.97, 1.03)
            talkers.append(
                Talker(
                    prefix="10.66.0.0/16", pps=self.flood_pps * jitter, bps=self.flood_pps * 480,
                    drop_share=1.0 if self.blocked else 0.0, cdn="" if self.blocked else names[0],
                    samples=7_412, error=0.012,
                )
            )  # fmt: skip
        for index in range(9):
            pps = 720.0 / (index + 1) * self._random.uniform(0.95, 1.05)
            net = f"10.{index % 3 + 1}.{17 * index % 250}"
            prefix = f"{net}.{29 * index % 250 + 1}" if index < 7 else f"{net}.0/24"
            talkers.append(
                Talker(
                    prefix=prefix, pps=pps, bps=pps * 5_600, drop_share=0.004 if index == 3 else 0.0,
                    cdn=names[index % len(names)], samples=int(pps * 5 / self.one_in),
                    error=0.03 + 0.02 * index,
                )
            )  # fmt: skip
        return [*self.extra_talkers, *talkers][:10]

    def _block(self) -> Block:
        return Block(
            prefix="10.66.0.0/16",
            reason="SYN flood, ticket 4711",
            created_ns=self.at_ns,
            expires_ns=self.at_ns + 4 * 3600 * 10**9,
            hits=self.dropped_total,
        )


def _verdict(name: str, drop: bool, total: int, pps: float, explanation: str) -> Verdict:
    return Verdict(
        name=name, drop=drop, explanation=explanation, packets_total=total, bytes_total=total * 60,
        pps=pps, bps=pps * 480,
    )  # fmt: skip


def incident(edge: Edge | None = None) -> list[Frame]:
    """Two minutes: calm, slow, healed, dark, a flood, and the flood blocked."""
    edge = edge or Edge()
    frames: list[Frame] = []

    def play(count: int, step: str, **changes: object) -> None:
        edge.step = step
        for name, value in changes.items():
            setattr(edge, name, value)
        frames.extend(edge.frame() for _ in range(count))

    edge.say("attach", "attached to eth0 and eth1, native", "notice")
    play(50, "1 of 6  calm")
    edge.say("eject", "borealis is out: slow, 161 ms over its limit of 60 ms 5 times in a row", "alarm")
    play(46, "2 of 6  borealis slows by 150 ms", slow="borealis")
    edge.say("probe", "borealis: 1 of 3 probes answered in time")
    edge.say("reopen", "borealis is back: 3 probes answered in time, slow start over 30 s", "notice")
    play(40, "3 of 6  healed", slow="")
    edge.say("eject", "corona is out: dark, 5 connects unanswered for 48 ms", "alarm")
    edge.say("rescue", "12 connects moved from corona to aurora and borealis", "warning")
    play(44, "4 of 6  corona goes dark", dark="corona")
    edge.say("step", "a SYN flood from 10.66.0.0/16 begins")
    play(24, "5 of 6  SYN flood from one /16", flood_pps=52_300.0)
    edge.say("command", "root blocked 10.66.0.0/16 for 4h: SYN flood, ticket 4711", "notice")
    play(26, "6 of 6  blocked", blocked=True)
    return frames
