"""What it takes to refuse a packet for what it is, or under attack: a row for each rule.

Beside each stands what it takes to see that it is a packet at all.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Budget, Level, Verdict
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.manners import model_of
from cdnctl.datapath.shield import set_budgets
from tests.bench.decisions import packets
from tests.bench.decisions.packets import SYN, TCP4, UDP4, Ends
from tests.bench.decisions.rig import CLIENTS_LINK, PORT, SERVICE, VIP, Rig
from tests.bench.decisions.rows import SPREAD, XDP_DROP, Bench, Row
from tests.bench.decisions.subjects import Packets, Subject

XDP_TX = 3
RST = 0x04
NTP = 123
HOUR_NS = 3600 * 10**9
_CLIENT = Ends(packets.number("10.0.0.9"), SERVICE.target, 50_000, PORT)
_PORTS = 1000
"""Of a source that is over its share: each opens a flow of its own, or would."""


@dataclass(frozen=True, eq=False)
class Shielded(Subject):
    """The same at a level of the shield."""

    packets: Packets
    level: Level = Level.CALM
    budgets: Mapping[Budget, float] = field(default_factory=dict)
    settings: Mapping[str, int] = field(default_factory=dict)
    model: abi.Model | None = None
    """In force, by which manners are weighed."""
    spender: Packets | None = None
    """Another packet of the same source, which uses its share up; its stream has a flow for each time."""

    def prove(self, rig: Rig) -> None:
        """At that level."""
        for _ in self._at_it(rig):
            self.packets.prove(rig)

    def sample(self, rig: Rig) -> float:
        """At that level, and only while it lasts."""
        return next(self.packets.sample(rig) for _ in self._at_it(rig))

    def _at_it(self, rig: Rig) -> Iterator[None]:
        table = rig.tables.shield
        before, shield = table.now, table.now
        shield.level = self.level
        # a stream comes round again within seconds, and is no second try
        shield.patience_ns, shield.trust_ns = HOUR_NS, HOUR_NS
        set_budgets(shield, self.budgets, 0.001)
        for name, value in self.settings.items():
            setattr(shield, name, value)
        if self.model is not None:  # which counts from the last flow that was let in: one at calm
            _weigh(rig, rig.tables.manners.put(0, abi.ModelMode.ON, self.model))
        else:
            table.now = shield
        try:
            if self.spender is not None:
                self.spender.run(rig.shim, 1)
            table.now = shield
            yield
        finally:
            table.now = before
            _weigh(rig, 0)


def _weigh(rig: Rig, word: int) -> None:
    settings = rig.tables.settings
    settings.model = word
    rig.tables.settings = settings


def rows(rig: Rig, bench: Bench) -> Iterator[Row]:
    """Each rule."""
    yield from _whatever_the_level(rig, bench)
    yield from _over_its_share(rig, bench)
    yield from _suspicious(rig, bench)
    yield from _in_siege(rig, bench)


def _row(bench: Bench, name: str, ours: Packets, **how: object) -> Row:
    peer = replace(bench.reference("parse_only", ours), frame=packets.frame(TCP4, SYN))
    return Row(f"{name} / parse", Shielded(ours, **how), peer)  # type: ignore[arg-type]


def _name(verdict: Verdict) -> str:
    return f"dropped, {verdict.name.lower().replace('_', ' ')}"


def _whatever_the_level(rig: Rig, bench: Bench) -> Iterator[Row]:
    syn, outside = packets.frame(TCP4, SYN), 1 << rig.engine.attachment.links.ids[CLIENTS_LINK]
    rig.tables.shield.set_amplifiers([NTP])
    vip = packets.number(VIP)
    for verdict, ends, frame, settings in (
        (Verdict.IMPOSSIBLE, _CLIENT, packets.frame(TCP4, 0), {}),
        (Verdict.LAND, Ends(vip, vip, PORT, PORT), syn, {}),
        (Verdict.SPOOFED, _CLIENT._replace(source=packets.number("127.0.0.1")), syn, {}),
        (Verdict.BOGON, _CLIENT, syn, {"outside": outside}),
        (Verdict.SYN_WITH_DATA, _CLIENT, _longer(syn, 8), {"syn_data": 1}),
        (Verdict.SHORT_INITIAL, _CLIENT, _initial(), {}),
        (Verdict.REFLECTED, _CLIENT._replace(source_port=NTP), packets.frame(UDP4, 0), {}),
    ):
        stream = rig.shim.stream([ends])
        yield _row(bench, _name(verdict), bench.edge(stream, frame, XDP_DROP, verdict), settings=settings)


def _over_its_share(rig: Rig, bench: Bench) -> Iterator[Row]:
    known = Map.pinned(rig.engine.program.pins / "verified")
    hosts = itertools.count(packets.number("10.200.1.1"), 1 << 16)
    for budget, verdict in (
        (Budget.VERIFIED, Verdict.SHED_VERIFIED),
        (Budget.SOURCE, Verdict.SHED_SOURCE),
        (Budget.NETWORK, Verdict.SHED_NETWORK),
        (Budget.REGION, Verdict.SHED_REGION),
        (Budget.SERVICE, Verdict.SHED_SERVICE),
    ):
        host = _CLIENT._replace(source=next(hosts))
        if budget is Budget.VERIFIED:
            raw = host.source.to_bytes(4, "big")
            known.put(bytes(10) + b"\xff\xff" + raw, bytes(abi.Verified(until_ns=2**62)))
        flows = rig.shim.stream([host._replace(source_port=2000 + n) for n in range(_PORTS)])
        spent = rig.shim.stream([host._replace(source_port=4000 + n) for n in range(_PORTS)])
        syn = packets.frame(TCP4, SYN)
        ours = bench.edge(flows, syn, XDP_DROP, verdict)
        spender = bench.edge(spent, syn, XDP_DROP, verdict)
        yield _row(
            bench, _name(verdict), ours, level=Level.SHEDDING, budgets={budget: 0.001}, spender=spender
        )


def _suspicious(rig: Rig, bench: Bench) -> Iterator[Row]:
    """By a model that counts all features, and suspects everybody."""
    host = _CLIENT._replace(source=packets.number("10.199.1.1"))
    flows = rig.shim.stream([host._replace(source_port=2000 + n) for n in range(_PORTS)])
    spent = rig.shim.stream([host._replace(source_port=4000 + n) for n in range(_PORTS)])
    syn, verdict = packets.frame(TCP4, SYN), Verdict.SHED_SUSPECT
    ours = bench.edge(flows, syn, XDP_DROP, verdict)
    spender = bench.edge(spent, syn, XDP_DROP, verdict)
    model = model_of([1] * abi.FEATURES, 1, 1000)
    budgets = {Budget.SOURCE: 0.001}
    yield _row(
        bench, _name(verdict), ours, level=Level.SHEDDING, budgets=budgets, spender=spender, model=model
    )


def _in_siege(rig: Rig, bench: Bench) -> Iterator[Row]:
    syn = packets.frame(TCP4, SYN)
    many = rig.shim.stream(packets.clients(SPREAD, "16.0.0.0/4", SERVICE, seed=11))
    one = rig.shim.stream([_CLIENT._replace(source=packets.number("16.0.0.9"))])
    for name, stream, frame, action, verdict in (
        ("dropped, unverified", one, _fragment(syn), XDP_DROP, Verdict.UNVERIFIED),
        ("siege, a reset that proves nothing", one, packets.frame(TCP4, RST), XDP_DROP, Verdict.UNKNOWN_FLOW),
        ("siege, challenged, 1 source", one, syn, XDP_TX, Verdict.CHALLENGED),
        ("siege, challenged, 64k sources", many, syn, XDP_TX, Verdict.CHALLENGED),
    ):
        ours = bench.edge(stream, frame, action, verdict)
        yield _row(bench, name, ours, level=Level.SIEGE)


def _longer(frame: bytes, more: int) -> bytes:
    """With so much data, which the padding is."""
    changed = bytearray(frame)
    struct.pack_into("!H", changed, 16, struct.unpack_from("!H", frame, 16)[0] + more)
    return bytes(changed)


def _fragment(frame: bytes) -> bytes:
    """The first one."""
    changed = bytearray(_longer(frame, 8))
    changed[20] = 0x20
    return bytes(changed)


def _initial() -> bytes:
    """QUIC's first datagram, and much too short."""
    header = bytes([0xC3]) + (1).to_bytes(4, "big") + b"\x08" + bytes(8)
    changed = bytearray(_longer(packets.frame(UDP4, 0), 30))
    struct.pack_into("!H", changed, 38, 8 + 30)
    changed[42 : 42 + len(header)] = header
    return bytes(changed)
