"""An edge whose agent can be killed, with flows of every kind, and what must be true of them after a move."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness import CDNS, PORTS, DataPath, Seen
from quic import Connection
from reloaded import EDGE, Edge, File, reachable
from segments import Flag
from session import Datagrams, Flow, Session, link_of

from cdnctl import config, paths
from cdnctl.datapath import abi, kernel
from cdnctl.datapath.abi import SlotState, Verdict
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.tables import Tables
from cdnctl.engine.engine import Engine

CLIENTS = [f"10.1.0.{n}" for n in range(10, 40)]
LARGER = ("flows = 4096", "flows = 8192")
MORE_PORTS = (str(list(PORTS)), f"[{PORTS[0] - 500}, {PORTS[1] + 1000}]")
TABLES = ("half_open", "established", "datagrams")
"""Of flows."""
GOES = (Verdict.FORWARDED, Verdict.REPLIED)


@pytest.fixture
def begin(
    inside: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Edge]]:
    """Starts an agent's engine on the file; each is the only one and the one before was killed."""
    monkeypatch.setenv("CDNCTL_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("CDNCTL_STATE_DIR", str(tmp_path / "state"))
    file, edges = File(tmp_path / "cdnctl.toml"), list[Edge]()

    def begun() -> Edge:
        for edge in edges:
            edge.close()
            edge.engine.close()
        engine = Engine(config.load(file.path))
        edges[:] = []
        engine.start()
        edges[:] = [Edge(engine, file, inside)]
        return edges[0]

    with reachable():
        yield begun
        for edge in edges:
            edge.close()
            with contextlib.suppress(RuntimeError):  # killed, and not started again
                edge.engine.close(detach=True)


@pytest.fixture
def served(begin: Callable[[], Edge]) -> Edge:
    """One that serves."""
    return begin()


Meanwhile = Callable[[object, str, Callable[[], object]], None]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Have something happen before a method of a class is called the next time."""

    def when(owner: object, method: str, happens: Callable[[], object]) -> None:
        real, left = getattr(owner, method), [happens]

        def wrapped(*arguments: object, **named: object) -> object:
            if left:
                left.pop()()
            return real(*arguments, **named)

        monkeypatch.setattr(owner, method, wrapped)

    return when


class Busy:
    """Flows of every kind, in every state."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.sessions = [
            Session(edge, service, client=client if service == "www" else "").open()
            for client in CLIENTS
            for service in ("www", "www6", "solo")
        ]
        self.datagrams = [Datagrams(edge, service).open() for service in ("dns", "dns6") for _ in range(5)]
        self.connections = [Connection(edge).open() for _ in range(6)]
        self.begun = [Session(edge, "www") for _ in range(5)]
        self.answered = [Session(edge, "www6") for _ in range(5)]
        for session in (*self.begun, *self.answered):
            assert session.syn().verdict is Verdict.FORWARDED
        for session in self.answered:
            session.syn_ack()

    @property
    def flows(self) -> list[Flow]:
        """All of them."""
        return [*self.sessions, *self.datagrams, *self.connections, *self.begun, *self.answered]

    @property
    def proven(self) -> list[Flow]:
        """Those that are established."""
        return [*self.sessions, *self.datagrams, *self.connections]

    def follow(self, edge: Edge) -> None:
        """From now on by this one."""
        for flow in self.flows:
            flow.path = edge

    def go_on(self, *, but: str = "") -> None:
        """All but those whose replies come to an address."""
        for session in self.sessions:
            if session.snat[0] != but:
                goes_on(session)
        for flow in self.datagrams:
            if flow.snat[0] != but:
                assert flow.up().verdict is Verdict.FORWARDED
                assert flow.down().verdict is Verdict.REPLIED
        for connection in self.connections:
            moved = connection.moved()
            assert moved.say().verdict is Verdict.FORWARDED
            assert moved.cdn == connection.cdn, "its id leads there"
        for session in self.begun:
            if session.snat[0] != but:
                assert session.syn_ack().verdict is Verdict.REPLIED
                assert session.ack().verdict is Verdict.FORWARDED
                goes_on(session)
        for session in self.answered:
            if session.snat[0] != but:
                assert session.ack().verdict is Verdict.FORWARDED
                goes_on(session)


def goes_on(session: Session) -> None:
    """Data both ways."""
    assert session.up(Flag.ACK | Flag.PSH, payload=b"GET").verdict is Verdict.FORWARDED
    assert session.down(Flag.ACK | Flag.PSH, payload=b"200").verdict is Verdict.REPLIED


def finish(session: Session) -> None:
    """What was lost is sent again, as TCP does."""
    if session.cdn and session.up(Flag.ACK | Flag.PSH, payload=b"GET").verdict is Verdict.FORWARDED:
        assert session.down(Flag.ACK | Flag.PSH, payload=b"200").verdict is Verdict.REPLIED
        return
    assert session.syn().verdict is Verdict.FORWARDED
    assert session.syn_ack().verdict is Verdict.REPLIED
    assert session.ack().verdict is Verdict.FORWARDED
    goes_on(session)


def totals(edge: DataPath) -> dict[str, object]:
    """All that was counted."""
    counters = edge.tables.counters
    found: dict[str, object] = {verdict.name: (n, octets) for verdict, n, octets in counters.verdicts() if n}
    found |= {cdn: counters.cdn(number) for cdn, number in edge.layout.cdns.items()}
    found |= {f"{cdn}'s times": counters.handshakes(number) for cdn, number in edge.layout.cdns.items()}
    found |= {
        f"{cdn}'s first bytes": counters.timed(number, abi.MAX_REGIONS)
        for cdn, number in edge.layout.cdns.items()
    }
    found |= {place.name: counters.service_flows(place.id) for place in edge.layout.services}
    return found


def counted(edge: DataPath) -> dict[Verdict, int]:
    """Packets by verdict."""
    return {verdict: packets for verdict, packets, _ in edge.tables.counters.verdicts() if packets}


def is_whole(edge: DataPath) -> None:
    """Each flow has a slot of its own, each open slot its flow, and as many are open as the counts say."""
    slots = {
        number: abi.Slot.from_buffer_copy(raw)
        for number, raw in enumerate(edge.tables.reverse.values())
        if any(raw[:8])
    }
    named = Counter[int]()
    for table in TABLES:
        for raw_key, raw in getattr(edge.tables, table).items():
            key, flow = abi.FlowKey.from_buffer_copy(raw_key), abi.Flow.from_buffer_copy(raw)
            slot = slots.get(flow.slot)
            assert slot is not None, f"{table}: a flow of {key.client_port} without a slot"
            assert bytes(slot.client) == bytes(key.client)
            assert slot.owner & 0xFFFF_FFFF == key.client_port << 16 | flow.service + 1
            named[flow.slot] += 1
    open_states = (SlotState.SYN_SENT, SlotState.SYN_RECV, SlotState.ESTABLISHED)
    assert set(named.values()) <= {1}
    assert {number for number, slot in slots.items() if slot.state in open_states} <= set(named)
    established = sum(slot.state == SlotState.ESTABLISHED for slot in slots.values())
    accounts = [edge.totals(cdn) for cdn in CDNS]
    assert sum(each.promoted - each.closed for each in accounts) == established


def homes() -> list[str]:
    """What is pinned."""
    return sorted(path.name for path in paths.pin_dir(EDGE).iterdir())


class Beside(DataPath):
    """The data path as one program has it."""

    def __init__(self, edge: Edge, fd: int) -> None:
        self.fd, self.indexes, self.layout = fd, edge.indexes, edge.layout
        self.config = edge.config
        ids = kernel.program_map_ids(fd)
        home = next(
            path
            for path in paths.pin_dir(EDGE).iterdir()
            if path.is_dir() and not path.is_symlink() and Map.pinned(path / "mode").info.id in ids
        )
        self.tables = Tables(home)
        self._maps: dict[str, Map] = {}
        self.program = SimpleNamespace(pins=home)  # type: ignore[assignment]


def by_what_is_attached(edge: Edge, flow: Flow, send: Callable[[], Seen], device: str = "") -> Seen:
    """One packet of a flow's by the program that is on that interface now, and on its tables."""
    fd = kernel.program_fd(kernel.xdp_program_id(edge.indexes[device or link_of(flow.cdn)]))
    try:
        flow.path = Beside(edge, fd)
        return send()
    finally:
        flow.path = edge
        os.close(fd)


def opened_past_the_agent(edge: Edge, session: Session) -> Session:
    """The whole handshake, each packet by what is attached where it comes in."""
    for send, device in ((session.syn, "clients"), (session.syn_ack, ""), (session.ack, "clients")):
        by_what_is_attached(edge, session, send, device)
    return session
