"""Flows in each of their states, all at once: how to get there, again and again, and what may come next."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import NamedTuple

from errors import ERRORS, FROM_CLIENTS, ROUTER, answers, asks, begins, error
from harness import CDNS, MS, PROTOCOL, SERVICES, DataPath, Seen
from netbox import CLIENTS
from quic import Connection, Kind, long_header, short_header
from scapy.compat import raw
from segments import Flag, datagram, is_ipv6, segment
from session import Datagrams, Flow, Session, link_of, macs_from, reply_frame
from states import NOTHING, UDP_NOTHING
from table import Given, Row
from tags import QINQ, SINGLE, tagged
from test_fragments import pieces
from test_table_fragments import TABLE as FRAGMENTS
from test_table_headers import EXTENSIONS, GENERAL, OPTIONS
from test_table_host import OTHERS, THE_HOSTS
from test_table_icmp import TABLE as ICMP_TABLE
from test_table_tcp import TABLE as TCP_TABLE
from test_table_udp import TABLE as UDP_TABLE

from cdnctl.datapath import abi
from cdnctl.datapath.abi import Transport

NOW = 10**15
BLOCKED = ip_network("10.2.0.0/24"), ip_network("2001:db8:c2::/48")
_TABLES: tuple[Mapping[Given, list[Row]], ...] = (
    *(TCP_TABLE, UDP_TABLE, ICMP_TABLE),
    *(GENERAL, OPTIONS, EXTENSIONS, FRAGMENTS, THE_HOSTS, OTHERS),
)


@functools.cache
def single(path: DataPath) -> list[bytes]:
    """All packets of the table that need no flow."""
    return [
        raw(row.packet(given.make(path, family)))
        for table in _TABLES
        for given in (NOTHING, UDP_NOTHING)
        for row in table.get(given, ())
        for family in row.families
    ]


class Step(NamedTuple):
    """A packet by which a state is reached."""

    at_ns: int
    frame: bytes
    device: str


class Flows:
    """Opened on a fresh data path. Each keeps its port, and there is one SNAT address of each family: so all
    is the same each time. `transport` is how CDNs are reached by flows that began after the others.
    """

    def __init__(self, path: DataPath, transport: Transport = Transport.NAT) -> None:
        self.path, self.transport = path, transport
        self.frames = list[bytes]()
        self._ports, self._now = itertools.count(20000), NOW
        self._settle()
        self._steps = self._noted(self._open)
        self._turn()
        self._later_steps = self._noted(self._open_directly)
        self._decide()
        self.frames += single(path)

    def again(self, send: Callable[[bytes, str], object]) -> None:
        """Back to where it began, by `send`, which takes a frame and the interface it comes in by."""
        self.path.fresh()
        self._settle()
        self._replay(self._steps, send)
        self._turn()
        self._replay(self._later_steps, send)
        self._decide()

    # -- the data path around them --

    def _settle(self) -> None:
        path = self.path
        path.change(snat_count=1, sample_one_in=3)
        for cdn, pool in itertools.product(CDNS, abi.Pool):
            path.change_health(cdn, pool, samples=20, baseline_us=10_000, ewma_us=10_000)
        path.clock(NOW)

    def _turn(self) -> None:
        for cdn, pool in itertools.product(CDNS, abi.Pool):
            self.path.change_endpoint(cdn, pool, transport=self.transport, tunnel_port=6080, mss=1300)

    def _decide(self) -> None:
        for network in BLOCKED:
            self.path.blocks.put(network, 0)
        self.path.tables.bump_generation()

    def _at(self, ms: float) -> None:
        self._now = NOW + round(ms * MS)
        self.path.clock(self._now)

    def _noted(self, do: Callable[[], None]) -> list[Step]:
        run, steps = self.path.run, list[Step]()

        def noting(frame: bytes, device: str = CLIENTS) -> Seen:
            steps.append(Step(self._now, frame, device))
            return run(frame, device)

        with contextlib.ExitStack() as stack:
            self.path.run = noting  # type: ignore[method-assign]
            stack.callback(self.path.__dict__.pop, "run")
            do()
        return steps

    def _replay(self, steps: Iterable[Step], send: Callable[[bytes, str], object]) -> None:
        now = 0
        for step in steps:
            if step.at_ns != now:
                now = step.at_ns
                self.path.clock(now)
            send(step.frame, step.device)

    # -- the flows --

    def _ends(self, service: str, number: int, network: int = 1) -> tuple[str, int]:
        six = is_ipv6(SERVICES[service][0])
        address = f"2001:db8:c{network}:{number}::7" if six else f"10.{network}.{number}.7"
        return address, next(self._ports)

    def _open(self) -> None:
        rescued = [Session(self.path, service, *self._ends(service, 9)) for service in ("www", "www6")]
        for session in rescued:
            session.syn()
            self._may_say(session)  # what the first CDN says when it is too late
        self._at(300)
        for session in rescued:
            session.syn()
            self._may_say(session)
        for service in ("www", "www6"):
            for session in self._sessions(service):
                self._may_say(session)
            self._may_happen_to(Session(self.path, service, *self._ends(service, 8)).open())
        for service in ("dns", "dns6", "quic", "quic6"):
            self._may_happen_to(Datagrams(self.path, service, *self._ends(service, 1)).open())
        for service in ("quic", "quic6"):
            self._may_say_by_quic(Connection(self.path, service, *self._ends(service, 2)).open())

    def _sessions(self, service: str) -> Iterator[Session]:
        half, answered, live, ended, reset, refused, new = (
            Session(self.path, service, *self._ends(service, number)) for number in range(7)
        )
        half.syn()
        answered.syn()
        answered.syn_ack()
        live.open()
        ended.open().close()
        reset.open().up(Flag.RST)
        refused.syn()
        refused.refuse()
        new.cdn, new.snat = live.cdn, live.snat
        blocked = Session(self.path, service, *self._ends(service, 0, network=2)).open()
        yield from (half, answered, live, ended, reset, refused, new, blocked)

    def _open_directly(self) -> None:
        if self.transport is Transport.NAT:
            return
        for service in ("www", "www6", "dns", "dns6"):
            for said in range(3):
                flow = (Datagrams if service in PROTOCOL else Session)(
                    self.path, service, *self._ends(service, 20 + said)
                )
                first, then = raw(begins(flow)), raw(asks(flow))
                for frame in (first, then, then)[:said]:
                    self.path.run(frame)
                self.frames += [first, then, *pieces(asks(flow, bytes(300)))]

    # -- what may come next --

    def _may_say(self, session: Session) -> None:
        for flags in ("S", "A", "PA", "FA", "R", "RA", "SA"):
            value = sum(Flag[{"S": "SYN", "A": "ACK", "P": "PSH", "F": "FIN", "R": "RST"}[f]] for f in flags)
            up, down, payload = session.isn + 1, session.cdn_isn + 1, b"x" * 40 * ("P" in flags)
            seq, ack = (up - 1, down - 1) if "S" in flags else (up, down)
            self.frames += [
                segment(session.client, session.service, value, seq=seq, ack=down, payload=payload),
                reply_frame(session, Flag(value), ack, up, payload),
            ]

    def _may_happen_to(self, flow: Flow) -> None:
        """In pieces, in VLANs, and errors about it."""
        family, macs = 6 if is_ipv6(flow.client[0]) else 4, macs_from(flow.cdn)
        up, down = asks(flow), answers(flow)
        down.src, down.dst = macs
        self.frames += [tagged(raw(packet), tags) for packet in (up, down) for tags in (SINGLE, QINQ)]
        self.frames += pieces(asks(flow, bytes(300)))
        whole = answers(flow, bytes(300))
        whole.src, whole.dst = macs
        self.frames += pieces(whole)
        there = self.path.run(raw(up)).frame[14:]
        back = self.path.run(raw(down), link_of(flow.cdn)).frame[14:]
        for kind in ERRORS:
            if kind.family == family:
                self.frames.append(error(kind.header, ROUTER[family], flow.service[0], back, FROM_CLIENTS))
                self.frames.append(error(kind.header, ROUTER[family], flow.snat[0], there, macs))

    def _may_say_by_quic(self, flow: Connection) -> None:
        ups = [long_header(kind, flow.its, flow.mine) for kind in Kind] + [short_header(flow.its)]
        downs = [long_header(kind, flow.mine, flow.its) for kind in Kind] + [short_header(flow.mine)]
        moved = flow.client[0], next(self._ports)
        for up, down in zip(ups, downs, strict=True):
            self.frames += [datagram(end, flow.service, up) for end in (flow.client, moved)]
            self.frames.append(datagram(flow.endpoint, flow.snat, down, macs=macs_from(flow.cdn)))
