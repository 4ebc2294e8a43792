"""What is measured: which program on which packets, beside what, and what the ratio should be."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.kernel import Ran
from tests.bench import flows, packets
from tests.bench.packets import SYN, Ends
from tests.bench.rig import SERVICE, Rig
from tests.bench.shim import EDGE, Shim, Stream

XDP_DROP, XDP_PASS, XDP_REDIRECT = 1, 2, 4
SPREAD = 64_000
"""Flows or sources of a spread row: more than any inner cache holds."""
BLOCKED_EXACT, BLOCKED_PREFIXES = 10_000, 1_000
"""Entries of the block list, of either kind."""
_HOT_RUNS, _SPREAD_RUNS, _SYN_RUNS = 200_000, 2 * SPREAD, 30_000
_HALF_OPEN = 65_536
_SYN_STREAM = 8 * _HALF_OPEN
"""A flow comes again only when the table of half-open ones has been filled several times since."""


@dataclass(frozen=True)
class Subject:
    """One program on one stream of packets."""

    program: str
    stream: Stream
    frame: bytes
    ifindex: int
    action: int
    """What XDP is to do with each packet."""
    verdict: Verdict | None
    """What the data path is to count for each; a reference program counts nothing."""
    repeat: int
    warm_up: int
    before: Callable[[], None] | None = None
    """Sets the scene for each sample."""

    def run(self, shim: Shim, repeat: int) -> Ran:
        """The next `repeat` packets."""
        return shim.run(self.program, self.stream, self.frame, repeat, self.ifindex)

    def rerun(self, shim: Shim, back: int, repeat: int, program: str = "") -> Ran:
        """So many packets from `back` ones ago, by this or another program; the stream stays where it is."""
        stream = replace(self.stream, next=(self.stream.next - back) % self.stream.count)
        return shim.run(program or self.program, stream, self.frame, repeat, self.ifindex)


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


class Bench:
    """Makes flows, blocks and streams on a rig; `rows` are ready to be measured then."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._block_some()
        self._flows = packets.clients(SPREAD, "10.0.0.0/9", SERVICE, seed=1)
        self._replies = flows.establish(rig, self._flows)
        self._slots = flows.Slots(rig.tables.reverse)
        self.rows = list(self._rows())

    def _block_some(self) -> None:
        sources = packets.clients(BLOCKED_EXACT, "172.16.0.0/12", SERVICE, seed=2)
        exact = [ipaddress.IPv4Network(client.source) for client in sources]
        candidates = list(ipaddress.IPv4Network("100.64.0.0/10").subnets(new_prefix=24))
        prefixes = random.Random(3).sample(candidates, BLOCKED_PREFIXES)
        self._rig.engine.kernel_blocks.load(dict.fromkeys([*exact, *prefixes], 0))
        self._rig.tables.bump_generation()
        self._blocked_exact, self._blocked_prefix = exact[0], prefixes[0]

    def _rows(self) -> Iterator[Row]:
        yield from self._established()
        yield from self._blocked()
        yield self._new_flow()
        yield from self._not_ours()

    def _established(self) -> Iterator[Row]:
        data = packets.frame(packets.PSH_ACK, sequence=packets.ISN + 1, acknowledged=packets.CDN_ISN + 1)
        back = packets.frame(packets.PSH_ACK, sequence=packets.CDN_ISN + 1, acknowledged=packets.ISN + 1)
        for name, count in (("1 flow", 1), (f"{_k(SPREAD)} flows", SPREAD)):
            stream = self._rig.shim.stream(packets.shuffled(self._flows, 4)[:count])
            replies = self._rig.shim.stream(packets.shuffled(self._replies, 5)[:count])
            ours = self._edge(stream, data, XDP_REDIRECT, Verdict.FORWARDED)
            reply = self._edge(replies, back, XDP_REDIRECT, Verdict.REPLIED, self._rig.cdns_link)
            look_up = self._reference("look_up_flow", ours)
            spread = count > 1
            yield Row(f"established, {name} / look-up", ours, look_up, bound=1.5 if spread else None)
            yield Row(f"reply, {name} / established", reply, ours, bound=1.0 if spread else None)

    def _blocked(self) -> Iterator[Row]:
        for what, network, reference in (
            (f"1 of {_k(BLOCKED_EXACT)} addresses", self._blocked_exact, "look_up_exact"),
            (f"1 of {_k(BLOCKED_PREFIXES)} prefixes", self._blocked_prefix, "look_up_prefix"),
        ):
            source = int(network.network_address)
            stream = self._rig.shim.stream([SERVICE._replace(source=source, source_port=50_000)])
            ours = self._edge(stream, packets.frame(SYN), XDP_DROP, Verdict.BLOCKED)
            yield Row(f"blocked, {what} / look-up", ours, self._reference(reference, ours))

    def _new_flow(self) -> Row:
        stream = self._rig.shim.stream(packets.clients(_SYN_STREAM, "10.128.0.0/9", SERVICE, seed=6))
        subject = self._edge(stream, packets.frame(SYN), XDP_REDIRECT, Verdict.FORWARDED)
        ours = replace(subject, repeat=_SYN_RUNS, warm_up=_SYN_RUNS // 10, before=self._quiet_box)
        peer = self._reference("insert_flow", ours)
        # until the table is full, an insert evicts nobody
        peer.run(self._rig.shim, 2 * _HALF_OPEN)
        return Row("new flow (SYN), evicting / insert", ours, peer)

    def _quiet_box(self) -> None:
        """No ports but those of the established flows are taken, no CDN is suspected."""
        self._slots.put_back()
        self._rig.calm()

    def _not_ours(self) -> Iterator[Row]:
        stranger = Ends(0, packets.number("192.0.2.200"), 0, 443)
        sources = packets.clients(SPREAD, "0.0.0.0/2", stranger, seed=7)
        for name, count in (("1 source", 1), (f"{_k(SPREAD)} sources", SPREAD)):
            ours = self._edge(
                self._rig.shim.stream(sources[:count]),
                packets.frame(packets.PSH_ACK),
                XDP_PASS,
                Verdict.PASSED,
            )
            peer, floor = (self._reference(program, ours) for program in ("look_up_stranger", "parse_only"))
            yield Row(f"not ours, {name} / parse + look-ups", ours, peer, 1.5 if count > 1 else None, floor)

    def _edge(
        self, stream: Stream, frame: bytes, action: int, verdict: Verdict, ifindex: int | None = None
    ) -> Subject:
        hot = stream.count == 1
        return Subject(
            program=EDGE,
            stream=stream,
            frame=frame,
            ifindex=self._rig.clients_link if ifindex is None else ifindex,
            action=action,
            verdict=verdict,
            repeat=_HOT_RUNS if hot else _SPREAD_RUNS,
            warm_up=1_000 if hot else stream.count,
        )

    def _reference(self, program: str, ours: Subject) -> Subject:
        """A reference program on the very packets of one of our own."""
        return replace(ours, program=program, action=XDP_DROP, verdict=None)


def _k(count: int) -> str:
    return f"{count // 1000}k"
