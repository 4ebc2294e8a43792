"""What is measured: which program on which packets, beside what, and what the ratio should be."""

from __future__ import annotations

import ipaddress
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Mode, Pool, Verdict
from tests.bench.decisions import flows, packets
from tests.bench.decisions.flows import Kind
from tests.bench.decisions.packets import PSH_ACK, SYN, TCP4, TCP6, UDP4, Carrier, Ends
from tests.bench.decisions.rig import (
    BY_GUE,
    BY_IPIP,
    CDNS,
    CUSTOMER,
    GUE_VIP,
    IPIP_VIP,
    PORT,
    SERVICE,
    SNAT,
    SPENT,
    VIP,
    Rig,
)
from tests.bench.decisions.shim import EDGE, Stream
from tests.bench.decisions.subjects import InMode, NewFlows, Packets, Storm, Subject

XDP_DROP, XDP_PASS, XDP_REDIRECT = 1, 2, 4
ESP = 50
SPREAD = 64_000
"""Flows or sources of a spread row: more than any inner cache holds."""
BLOCKED_EXACT, BLOCKED_PREFIXES = 1_000_000, 100_000
"""Entries of the block list, of either kind."""
SHORTER_LISTS = (10, 10_000)
"""Of addresses; of prefixes a tenth, and one at least."""
MILLION = 1_000_000
"""Flows."""
BUMPS_PER_S = 20
_HOT_RUNS, _SPREAD_RUNS, _SYN_RUNS = 100_000, 2 * SPREAD, 30_000
_STORM_RUNS = 16 * SPREAD
"""Some half a second: a storm's bumps come often enough in it."""
_HALF_OPEN = 65_536
_SYN_STREAM = 4 * _HALF_OPEN
"""A flow comes again only when the table of half-open ones has been filled several times since."""
_NEW_FLOWS = 16_000
_BURST = 1_000


class Row(NamedTuple):
    """A line of the table. `holds` is: ratio at most `bound`."""

    name: str
    ours: Subject
    peer: Subject
    bound: float | None = None
    """Of the ratio; None when nothing is asked of it."""
    floor: Subject | None = None
    """When given, `bound` is asked of what lies above it: ours <= floor + bound x (peer - floor)."""
    gate: bool = False
    aim_ns: float | None = None
    """What ours should take at most; said in a row of its own."""


@dataclass(frozen=True)
class Flows:
    """Established flows of one kind."""

    carrier: Carrier
    clients: list[Ends]
    replies: list[Ends]


@dataclass(frozen=True)
class Pair:
    """Both directions of the same flows, and the bare look-up that the forward one needs."""

    forward: Packets
    reply: Packets
    look_up: Packets


class Bench:
    """Makes flows, blocks and streams on a rig; `rows` are ready to be measured then."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._cpus = frozenset(os.sched_getaffinity(0))
        self._tcp4 = self._establish(Kind(TCP4, VIP), "10.0.0.0/9", 1)
        self._tcp6 = self._establish(Kind(TCP6, packets.six(VIP)), "10.0.0.0/9", 2)
        self._udp4 = self._establish(Kind(UDP4, VIP), "10.0.0.0/9", 3)
        tcp4 = [place.id for place in rig.engine.layout.endpoints if place.pool is Pool.TCP4]
        self._slots = flows.Slots(rig, tcp4)

    def _establish(
        self, kind: Kind, network: str, seed: int, target: Ends = SERVICE, count: int = SPREAD
    ) -> Flows:
        clients = packets.clients(count, network, target, seed=seed)
        return Flows(kind.carrier, clients, flows.establish(self._rig, kind, clients))

    def rows(self) -> Iterator[Row]:
        """What every run measures."""
        one = self._pair(self._tcp4, 1)
        many = self._pair(self._tcp4, SPREAD)
        yield from self._established(one, many)
        yield from self._others(one, many)
        yield self._storm(many)
        yield from self.blocked(BLOCKED_EXACT, gate=True)
        yield from self._new_flows()
        yield from self._not_ours()

    def rest(self) -> Iterator[Row]:
        """What only a whole run does: modes of the edge, and what else is dropped."""
        one = self._pair(self._tcp4, 1).forward
        for mode, action, verdict in (
            (Mode.DISARMED, XDP_REDIRECT, Verdict.FORWARDED),
            (Mode.OBSERVE, XDP_PASS, Verdict.FORWARDED),
            (Mode.BYPASS, XDP_PASS, Verdict.BYPASSED),
        ):
            changed = replace(one, action=action, verdict=verdict)
            yield Row(f"established, 1 flow, {mode.name.lower()} / armed", InMode(changed, mode), one)
        yield from self._dropped()

    def _established(self, one: Pair, many: Pair) -> Iterator[Row]:
        yield Row("established, 1 flow / look-up", one.forward, one.look_up, aim_ns=100)
        yield Row("reply, 1 flow / established", one.reply, one.forward)
        spread = f"{_k(SPREAD)} flows"
        yield Row(f"established, {spread} / look-up", many.forward, many.look_up, bound=1.5, gate=True)
        yield Row(f"reply, {spread} / established", many.reply, many.forward, bound=1.0, gate=True)

    def _others(self, one: Pair, many: Pair) -> Iterator[Row]:
        """Established flows that differ in one thing."""
        spread = f"{_k(SPREAD)} flows"
        for name, made, bound in (("IPv6", self._tcp6, 1.15), ("UDP", self._udp4, None)):
            hot, wide = self._pair(made, 1), self._pair(made, SPREAD)
            plain = "IPv4" if name == "IPv6" else "TCP"
            yield Row(f"established, {name}, 1 flow / {plain}", hot.forward, one.forward, bound)
            yield Row(f"reply, {name}, 1 flow / {plain}", hot.reply, one.reply, bound)
            yield Row(f"established, {name}, {spread} / {plain}", wide.forward, many.forward, bound)
            yield Row(f"established, {name}, {spread} / look-up", wide.forward, wide.look_up, 1.5)
            yield Row(f"reply, {name}, {spread} / {plain}", wide.reply, many.reply, bound)
        customers = self._pair(self._establish(Kind(TCP4, VIP), CUSTOMER, 4, count=1), 1)
        yield Row("established, 1 flow of a customer / of nobody's", customers.forward, one.forward)
        for name, vip, target in (("ipip", IPIP_VIP, BY_IPIP), ("gue", GUE_VIP, BY_GUE)):
            made = self._establish(Kind(TCP4, vip, replies=False), "10.0.0.0/9", 5, target, count=1)
            stream = self._rig.shim.stream(made.clients)
            ours = self.edge(stream, _data(TCP4), XDP_REDIRECT, Verdict.FORWARDED)
            yield Row(f"established, 1 flow by {name} / by nat", replace(ours, grows=True), one.forward)

    def _pair(self, made: Flows, count: int) -> Pair:
        stream = self._rig.shim.stream(packets.shuffled(made.clients, 4)[:count])
        replies = self._rig.shim.stream(packets.shuffled(made.replies, 5)[:count])
        forward = self.edge(stream, _data(made.carrier), XDP_REDIRECT, Verdict.FORWARDED)
        reply = self.edge(replies, _reply(made.carrier), XDP_REDIRECT, Verdict.REPLIED, self._rig.cdns_link)
        look_up = "look_up_flow" if made.carrier.family == 4 else "look_up_flow6"
        return Pair(forward, reply, self.reference(look_up, forward))

    def _storm(self, many: Pair) -> Row:
        """Each bump has every flow asked once more whether its client is blocked, and whose it is."""
        bumping = self._cpus - {max(self._cpus)} or self._cpus
        storm = Storm(replace(many.forward, repeat=_STORM_RUNS), BUMPS_PER_S, bumping)
        name = f"generation storm, {BUMPS_PER_S}/s, {_k(SPREAD)} flows / steady"
        return Row(name, storm, many.forward, bound=1.5, gate=True)

    def blocked(self, count: int, *, gate: bool = False) -> Iterator[Row]:
        """Sources of a list of `count` addresses and a tenth of that in prefixes."""
        exact = packets.clients(count, "64.0.0.0/2", SERVICE, seed=2)
        candidates = list(ipaddress.IPv4Network("128.0.0.0/4").subnets(new_prefix=24))
        prefixes = random.Random(3).sample(candidates, max(1, count // 10))
        networks = [ipaddress.IPv4Network(each.source) for each in exact]
        self._rig.block([*networks, *prefixes])
        entry = bytes(abi.Block(length=128))
        self._rig.shim.list({abi.packed(network.network_address): entry for network in networks})
        inside = [
            SERVICE._replace(source=int(net.network_address) + 7, source_port=50_000) for net in prefixes
        ]
        for what, sources, program, bound in (
            (f"{_k(count)} addresses", exact, "look_up_exact", 1.4),
            (f"{_k(len(prefixes))} prefixes", inside, "look_up_prefix", None),
        ):
            for spread in (1, SPREAD):
                if spread == 1 or len(sources) >= SPREAD:
                    stream = self._rig.shim.stream(sources[:spread])
                    ours = self.edge(stream, packets.frame(TCP4, SYN), XDP_DROP, Verdict.BLOCKED)
                    wide = spread > 1 and bound is not None
                    name = f"blocked, {what}, {_k(spread)} source{'s' * (spread > 1)} / look-up"
                    yield Row(
                        name,
                        ours,
                        self.reference(program, ours),
                        bound if wide else None,
                        gate=wide and gate,
                    )

    def _dropped(self) -> Iterator[Row]:
        """Each for its own reason, beside what it takes to see that it is a packet at all."""
        client = Ends(packets.number("10.0.0.9"), SERVICE.target, 50_000, PORT)
        spent = client._replace(source=packets.number(SPENT.partition("/")[0]) + 9)
        nobody = Ends(packets.number(CDNS["aurora"]), packets.number(SNAT), PORT + 1, 31_000)
        syn = packets.frame(TCP4, SYN)
        for verdict, ends, frame, link in (
            (Verdict.MALFORMED, client._replace(source_port=0), syn, None),
            (Verdict.UNSUPPORTED, client, packets.frame(Carrier(4, ESP), 0), None),
            (Verdict.NO_SERVICE, client._replace(target_port=81), syn, None),
            (Verdict.UNKNOWN_FLOW, client, packets.frame(TCP4, packets.SYN_ACK), None),
            (Verdict.OVER_QUOTA, spent, syn, None),
            (Verdict.NO_OWNER, nobody, _reply(TCP4), self._rig.cdns_link),
        ):
            ours = self.edge(self._rig.shim.stream([ends]), frame, XDP_DROP, verdict, link)
            peer = replace(self.reference("parse_only", ours), frame=syn)
            ours.run(self._rig.shim, _BURST)  # what a limit lets through at once
            yield Row(f"dropped, {verdict.name.lower().replace('_', ' ')} / parse", ours, peer)

    def _new_flows(self) -> Iterator[Row]:
        stream = self._rig.shim.stream(packets.clients(_SYN_STREAM, "10.128.0.0/9", SERVICE, seed=6))
        subject = self.edge(stream, packets.frame(TCP4, SYN), XDP_REDIRECT, Verdict.FORWARDED)
        syn = replace(subject, repeat=_SYN_RUNS, warm_up=_SYN_RUNS // 10, before=self._quiet_box)
        insert = self.reference("insert_flow", syn)
        # until the table is full, an insert evicts nobody
        insert.run(self._rig.shim, 2 * _HALF_OPEN)
        yield Row("new flow (SYN), evicting / insert", syn, insert, aim_ns=1_000)
        clients = packets.clients(_NEW_FLOWS, "12.0.0.0/8", SERVICE, seed=8)
        whole = NewFlows(Kind(TCP4, VIP), clients, self._quiet_box)
        yield Row("new flow (SYN, SYN-ACK, ACK) / insert", whole, insert, aim_ns=3_000)

    def _quiet_box(self) -> None:
        """No ports but those of the established flows are taken, no CDN is suspected."""
        self._slots.put_back()
        self._rig.calm()

    def _not_ours(self) -> Iterator[Row]:
        stranger = Ends(0, packets.number("192.0.2.200"), 0, 443)
        sources = packets.clients(SPREAD, "0.0.0.0/2", stranger, seed=7)
        for name, count in (("1 source", 1), (f"{_k(SPREAD)} sources", SPREAD)):
            stream = self._rig.shim.stream(sources[:count])
            ours = self.edge(stream, _data(TCP4), XDP_PASS, Verdict.PASSED)
            peer, floor = (self.reference(program, ours) for program in ("look_up_stranger", "parse_only"))
            bound = 1.5 if count > 1 else None
            yield Row(
                f"not ours, {name} / parse + look-ups", ours, peer, bound, floor, gate=count > 1, aim_ns=100
            )
            six = replace(ours, frame=_data(TCP6))
            yield Row(f"not ours, IPv6, {name} / IPv4", six, ours)

    def edge(
        self, stream: Stream, frame: bytes, action: int, verdict: Verdict, ifindex: int | None = None
    ) -> Packets:
        """The edge on a stream of such packets."""
        hot = stream.count == 1
        return Packets(
            program=EDGE,
            stream=stream,
            frame=frame,
            ifindex=self._rig.clients_link if ifindex is None else ifindex,
            action=action,
            verdict=verdict,
            repeat=_HOT_RUNS if hot else _SPREAD_RUNS,
            warm_up=1_000 if hot else stream.count,
        )

    def reference(self, program: str, ours: Packets) -> Packets:
        """A reference program on the very packets of one of our own."""
        return replace(ours, program=program, action=XDP_DROP, verdict=None)


def of_a_million(rig: Rig) -> Iterator[Row]:
    """The same flows, some of a million and all of them. Takes half a minute to make them."""
    clients = packets.clients(MILLION, "10.0.0.0/9", SERVICE, seed=9)
    replies = flows.establish(rig, Kind(TCP4, VIP), clients)
    for way, ends, frame, link, verdict in (
        ("established", clients, _data(TCP4), rig.clients_link, Verdict.FORWARDED),
        ("reply", replies, _reply(TCP4), rig.cdns_link, Verdict.REPLIED),
    ):
        mixed = packets.shuffled(ends, 4)[: rig.shim.room // 2]
        stream = rig.shim.stream(mixed)
        many = Packets(EDGE, stream, frame, link, XDP_REDIRECT, verdict, len(mixed), len(mixed))
        few = replace(many, stream=Stream(stream.first, SPREAD), repeat=_SPREAD_RUNS, warm_up=SPREAD)
        yield Row(f"{way}, 1M flows / {_k(SPREAD)}", many, few, bound=1.3, gate=True)
        look_up = replace(many, program="look_up_flow", action=XDP_DROP, verdict=None)
        if way == "established":
            yield Row("established, 1M flows / look-up", many, look_up, bound=1.5)


def _data(carrier: Carrier) -> bytes:
    """In the middle of a flow, from the client; a segment without data, as most of a download's are."""
    return packets.frame(carrier, PSH_ACK, sequence=packets.ISN + 1, acknowledged=packets.CDN_ISN + 1)


def _reply(carrier: Carrier) -> bytes:
    return packets.frame(carrier, PSH_ACK, sequence=packets.CDN_ISN + 1, acknowledged=packets.ISN + 1)


def _k(count: int) -> str:
    """As one says it."""
    if count < 1000:
        return str(count)
    return f"{count // 1000}k" if count < MILLION else f"{count // MILLION}M"
