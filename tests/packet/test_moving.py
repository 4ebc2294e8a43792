"""Tables of another layout under traffic: every flow that has a place there goes on, and nobody is reset."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness import PORTS, SNAT, SNAT6, VIP, DataPath
from reloaded import EDGE, OPERATOR, Edge, File, reachable
from segments import Flag, segment
from session import Datagrams, Session, link_of

from cdnctl import config, paths
from cdnctl.datapath import abi, attach, build, kernel, moving, panic
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.choice import EndpointKey
from cdnctl.datapath.kernel import Map
from cdnctl.datapath.numbering import endpoint_numbers
from cdnctl.datapath.program import Program
from cdnctl.datapath.tables import Tables
from cdnctl.engine.engine import Engine
from cdnctl.model import Allow, BlockPrefix, SetWeights

CLIENTS = [f"10.1.0.{n}" for n in range(10, 40)]
LARGER = ("flows = 4096", "flows = 8192")
MORE_PORTS = (str(list(PORTS)), f"[{PORTS[0] - 500}, {PORTS[1] + 1000}]")
SHARED = ("www", "www6", "quic", "fast")


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
def edge(begin: Callable[[], Edge]) -> Edge:
    """One that serves."""
    return begin()


class Busy:
    """Flows of every kind, in every state."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.sessions = [
            Session(edge, service, client=client if service == "www" else "").open()
            for client in CLIENTS
            for service in ("www", "www6", "solo")
        ]
        self.datagrams = [Datagrams(edge, service).open() for service in ("quic", "dns6") for _ in range(5)]
        self.begun = [Session(edge, "www") for _ in range(5)]
        self.answered = [Session(edge, "www6") for _ in range(5)]
        for session in (*self.begun, *self.answered):
            assert session.syn().verdict is Verdict.FORWARDED
        for session in self.answered:
            session.syn_ack()

    def go_on(self, *, but: str = "") -> None:
        """All but those whose replies come to an address."""
        for session in self.sessions:
            if session.snat[0] != but:
                goes_on(session)
        for flow in self.datagrams:
            if flow.snat[0] != but:
                assert flow.up().verdict is Verdict.FORWARDED
                assert flow.down().verdict is Verdict.REPLIED
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


def totals(edge: DataPath) -> dict[str, object]:
    """All that was counted."""
    counters = edge.tables.counters
    found: dict[str, object] = {verdict.name: (n, octets) for verdict, n, octets in counters.verdicts() if n}
    found |= {cdn: counters.cdn(number) for cdn, number in edge.layout.cdns.items()}
    found |= {f"{cdn}'s times": counters.handshakes(number) for cdn, number in edge.layout.cdns.items()}
    found |= {place.name: counters.service_flows(place.id) for place in edge.layout.services}
    return found


def homes() -> list[str]:
    return sorted(path.name for path in paths.pin_dir(EDGE).iterdir())


# --- what moves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        LARGER,
        ("half_open = 1024", "half_open = 2000"),
        ("block_entries = 4096", "block_entries = 2048"),
        ("endpoints = 40", "endpoints = 64"),
        ("endpoints = 40", "endpoints = 12"),
        MORE_PORTS,
        (str([*SNAT, *SNAT6]), str([*reversed(SNAT), "2001:db8:203::12", *SNAT6])),
        (str([*SNAT, *SNAT6]), str([*SNAT, "203.0.113.12", *SNAT6])),
    ],
    ids=[
        "flows",
        "half-open",
        "blocks",
        "endpoints",
        "fewer endpoints",
        "ports",
        "order",
        "more addresses",
    ],
)
def test_every_flow_goes_on_in_other_tables(edge: Edge, old: str, new: str) -> None:
    for command in (
        BlockPrefix(prefix="10.66.0.0/16"),
        BlockPrefix(prefix="10.77.1.1"),
        Allow(prefix="10.66.6.0/24"),
        SetWeights(weights={"aurora": 70}),
    ):
        assert edge.engine.execute(command, OPERATOR).ok
    busy, before, pins = Busy(edge), edge.programs(), edge.program.pins
    learned = edge.health("aurora").baseline_us
    edge.engine.frame()
    counted, seed = totals(edge), edge.tables.settings.seed
    edge.file.replace(old, new)
    outcome = edge.reloaded()
    assert "other tables, and all flows into them" in outcome.text
    assert outcome.warnings == [
        "the weight of aurora is 70, as operators set it, and not the configuration's 100"
    ]
    assert totals(edge) == counted
    assert len(edge.programs()) == 1
    assert edge.programs() != before
    assert homes() == sorted([edge.program.pins.name, paths.CURRENT])
    assert edge.program.pins != pins
    assert paths.tables_dir(EDGE).resolve() == edge.program.pins
    assert edge.tables.settings.seed == seed
    assert edge.tables.mode == abi.Mode(0)
    assert edge.health("aurora").baseline_us == learned > 0
    busy.go_on()
    for service in SHARED:
        assert Session(edge, service).syn().verdict is Verdict.FORWARDED
    assert edge.run(segment(("10.66.0.1", 1), (VIP, 80), Flag.SYN)).verdict is Verdict.BLOCKED
    assert edge.run(segment(("10.77.1.1", 1), (VIP, 80), Flag.SYN)).verdict is Verdict.BLOCKED
    assert edge.run(segment(("10.66.6.1", 1), (VIP, 80), Flag.SYN)).verdict is Verdict.FORWARDED
    frame = edge.engine.frame()
    assert (frame.blocks_wanted, frame.blocks_enforced, frame.allowed) == (2, 2, 1)
    assert not edge.program.prepare(edge.config), "nothing is left to do"


def test_flows_without_a_place_are_cut_and_counted(edge: Edge) -> None:
    edge.file.replace(str([*SNAT, *SNAT6]), str([*SNAT, "203.0.113.12", *SNAT6]))
    edge.reloaded()
    busy = Busy(edge)
    flows = [*busy.sessions, *busy.datagrams, *busy.begun, *busy.answered]
    going = [flow for flow in flows if flow.snat[0] == SNAT[0]]
    open_before = {cdn: edge.totals(cdn).promoted - edge.totals(cdn).closed for cdn in edge.layout.cdns}
    ended = dict.fromkeys(open_before, 0)
    for flow in going:
        ended[flow.cdn] += flow in busy.sessions or flow in busy.datagrams
    edge.file.replace(str([*SNAT, "203.0.113.12", *SNAT6]), str([SNAT[1], "203.0.113.12", *SNAT6]))
    outcome = edge.reloaded()
    assert f"{len(going)} {moving.CUT}" in outcome.warnings
    for cdn, count in open_before.items():
        assert edge.totals(cdn).promoted - edge.totals(cdn).closed == count - ended[cdn]
    busy.go_on(but=SNAT[0])
    cut = next(flow for flow in going if flow in busy.sessions)
    assert cut.up(Flag.ACK | Flag.PSH, payload=b"GET").verdict is Verdict.RESET_CLIENT
    assert Session(edge, "www").open().snat[0] != SNAT[0]
    edge.reloaded(program=True)
    busy.go_on(but=SNAT[0])


def test_ports_that_are_gone_cut_only_their_flows(edge: Edge) -> None:
    low = [Session(edge, "www", port=PORTS[0] + n).open() for n in range(20)]
    high = [Session(edge, "www", port=PORTS[1] - n).open() for n in range(20)]
    assert all(flow.snat[1] == flow.client[1] for flow in (*low, *high)), "each has kept its port"
    edge.file.replace(str(list(PORTS)), f"[{PORTS[0] + 500}, {PORTS[1] + 500}]")
    assert f"20 {moving.CUT}" in edge.reloaded().warnings
    for session in high:
        goes_on(session)
    for session in low:
        assert session.up(Flag.ACK).verdict is Verdict.RESET_CLIENT


def test_a_restart_moves_as_a_reload_does(begin: Callable[[], Edge]) -> None:
    edge = begin()
    busy, counted = Busy(edge), totals(edge)
    edge.file.replace(*MORE_PORTS)
    later = begin()
    assert totals(later) == counted
    for flow in (*busy.sessions, *busy.datagrams, *busy.begun, *busy.answered):
        flow.path = later
    busy.go_on()
    assert homes() == sorted([later.program.pins.name, paths.CURRENT])


def test_every_table_is_moved_or_left_behind_on_purpose(edge: Edge) -> None:
    lists = [
        moving.WRITTEN, moving.BLOCKS, moving.BY_ENDPOINT, ("endpoint_ids",), moving.LEARNED, moving.COUNTED,
        moving.FLOWS, moving.QUIC, moving.NOT_MOVED,
    ]  # fmt: skip
    named = [name for each in lists for name in each]
    assert len(named) == len(set(named))
    assert {pin.name for pin in edge.program.pins.iterdir()} - set(build.PINNED) == set(named)


def test_it_is_told_and_moved_back(edge: Edge) -> None:
    busy = Busy(edge)
    edge.file.replace(*LARGER)
    edge.reloaded()
    edge.file.replace(*reversed(LARGER))
    edge.reloaded()
    busy.go_on()
    entries = list(edge.engine.journal.read())
    assert [entry.text for entry in entries] == [
        "reloaded: other tables, and all flows into them; limits.flows is 8192, was 4096",
        "reloaded: other tables, and all flows into them; limits.flows is 4096, was 8192",
    ]


# --- under traffic -------------------------------------------------------------------------------------


class Traffic:
    """What happens between any two steps of the move."""

    def __init__(self, edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
        self.edge = edge
        self.waiting = [Session(edge, "www").open() for _ in range(4)]
        self.opened: list[Session] = []
        self.promoted = [Session(edge, "www") for _ in range(12)]
        self.lost: list[Verdict] = []
        self.steps = 0
        for session in self.promoted:
            session.syn()
            session.syn_ack()
        attached, refresh = kernel.xdp_attach, moving.Move.refresh
        slots = moving.Move._copy_slots

        def attaching(*arguments: object, **named: object) -> None:
            self.step()
            attached(*arguments, **named)  # type: ignore[arg-type]
            self.step()

        def refreshing(move: moving.Move) -> None:
            self.step()
            refresh(move)
            self.step()

        def copying(move: moving.Move, *arguments: object, **named: object) -> None:
            self.step()
            slots(move, *arguments, **named)  # type: ignore[arg-type]
            self.step()

        monkeypatch.setattr(kernel, "xdp_attach", attaching)
        monkeypatch.setattr(moving.Move, "refresh", refreshing)
        monkeypatch.setattr(moving.Move, "_copy_slots", copying)

    def step(self) -> None:
        """Every packet by whatever is attached to its interface at that moment."""
        self.steps += 1
        for session in self.waiting:
            self.seen(self.by(session, "clients", lambda s: s.up(Flag.ACK | Flag.PSH, payload=b"GET")))
            self.seen(self.by(session, "cdn", lambda s: s.down(Flag.ACK | Flag.PSH, payload=b"200")))
        if self.promoted:
            session = self.promoted.pop()
            self.by(session, "clients", lambda s: s.ack())
            self.waiting.append(session)
        session = Session(self.edge, "www")
        self.by(session, "clients", lambda s: s.syn())
        self.by(session, "cdn", lambda s: s.syn_ack())
        self.by(session, "clients", lambda s: s.ack())
        self.opened.append(session)

    def seen(self, verdict: Verdict) -> None:
        if verdict not in (Verdict.FORWARDED, Verdict.REPLIED):
            self.lost.append(verdict)

    def by(self, session: Session, side: str, send: Callable[[Session], object]) -> Verdict:
        """Send by the program on that side's interface, and on the tables that it works on."""
        edge = self.edge
        device = side if side == "clients" else link_of(session.cdn)
        fd = kernel.program_fd(kernel.xdp_program_id(edge.indexes[device]))
        try:
            here = Beside(edge, fd)
            session.path = here
            seen = send(session)
            return seen.verdict  # type: ignore[attr-defined, no-any-return]
        finally:
            session.path = edge
            os.close(fd)


class Beside(DataPath):
    """The data path as one program has it."""

    def __init__(self, edge: Edge, fd: int) -> None:
        self.fd, self.indexes = fd, edge.indexes
        ids = kernel.program_map_ids(fd)
        home = next(
            path
            for path in paths.pin_dir(EDGE).iterdir()
            if path.is_dir() and not path.is_symlink() and Map.pinned(path / "mode").info.id in ids
        )
        self.tables = Tables(home)
        self._maps: dict[str, Map] = {}
        self.program = SimpleNamespace(pins=home)  # type: ignore[assignment]


def test_nobody_is_reset_while_programs_and_tables_change(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        traffic = Traffic(edge, patch)
        edge.file.replace(*MORE_PORTS)
        edge.reloaded()
    assert traffic.steps > 15
    counted = {verdict: n for verdict, n, _ in edge.tables.counters.verdicts() if n}
    allowed = {
        Verdict.FORWARDED,
        Verdict.REPLIED,
        Verdict.UNKNOWN_FLOW,  # dropped, and sent again
        Verdict.NO_OWNER,
        Verdict.STALE_REPLY,
        Verdict.BAD_ACK,
        Verdict.PASSED,  # to a port that the old program knows nothing of
    }
    assert counted.keys() <= allowed, counted
    for session in traffic.waiting:
        goes_on(session)
    for session in traffic.opened:
        finish(session)
    assert len(traffic.lost) < len(traffic.waiting) * 8, "only for a moment"


def finish(session: Session) -> None:
    """What was lost is sent again, as TCP does."""
    if session.up(Flag.ACK | Flag.PSH, payload=b"GET").verdict is Verdict.FORWARDED:
        assert session.down(Flag.ACK | Flag.PSH, payload=b"200").verdict is Verdict.REPLIED
        return
    assert session.syn().verdict is Verdict.FORWARDED
    assert session.syn_ack().verdict is Verdict.REPLIED
    assert session.ack().verdict is Verdict.FORWARDED
    goes_on(session)


def test_a_driver_that_refuses_leaves_the_old_tables_in_force(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, before, real, pins = Busy(edge), edge.programs(), kernel.xdp_attach, edge.program.pins

    def failing(ifindex: int, *arguments: object, **named: object) -> None:
        if ifindex == edge.indexes["cdn3"]:
            raise OSError(12, "Cannot allocate memory")
        real(ifindex, *arguments, **named)  # type: ignore[arg-type]

    edge.file.replace(*MORE_PORTS)
    with monkeypatch.context() as broken:
        broken.setattr(kernel, "xdp_attach", failing)
        assert not edge.reload().ok
    assert edge.programs() == before
    assert (edge.program.pins, homes()) == (pins, sorted([pins.name, paths.CURRENT]))
    assert edge.tables.mode == abi.Mode(0)
    assert edge.engine.config.edge.snat_ports == PORTS
    busy.go_on()
    assert edge.engine.execute(SetWeights(weights={"aurora": 1}), OPERATOR).ok
    assert edge.engine.frame().collector.rounds_total >= 0
    edge.reloaded()
    for session in busy.sessions:
        goes_on(session)


# --- killed --------------------------------------------------------------------------------------------


def die(edge: Edge, moment: str) -> None:
    """The agent goes about other tables for the file as it is, and is killed at that moment."""
    wanted = config.load(edge.file.path)
    edge.engine.close()
    dying = Program(EDGE)
    assert dying.prepare(wanted)
    move = moving.begin(dying, wanted)
    assert move is not None
    if moment == "loaded":
        return
    move.fill()
    move.refresh()
    if moment == "filled":
        return
    order = [*wanted.edge.interfaces]
    some = order[:2] if moment == "swapping" else order
    fd = dying.open()
    swapping = move.swapping()
    swapping.__enter__()
    attach.attach_all(some, fd, "auto", dying.maps())
    os.close(fd)
    if moment == "swapping":
        KEPT.append(swapping)  # it is not ended, ever
        return
    swapping.__exit__(None, None, None)
    if moment == "renamed":
        for name in build.PINNED:
            (dying.current / name).rename(dying.pins / name)


KEPT: list[object] = []


@pytest.mark.parametrize("moment", ["loaded", "filled", "swapping", "swapped", "renamed"])
@pytest.mark.parametrize("then", ["goes on", "goes back", "is taken down"])
def test_killed_at_any_moment(begin: Callable[[], Edge], moment: str, then: str) -> None:
    edge = begin()
    busy, seed = Busy(edge), edge.tables.settings.seed
    edge.file.replace(*MORE_PORTS)
    die(edge, moment)
    if then == "is taken down":
        panic.detach(EDGE)
        assert {kernel.xdp_program_id(edge.indexes[each]) for each in edge.config.edge.interfaces} == {0}
        assert not paths.pin_dir(EDGE).exists()
        return
    if then == "goes back":
        edge.file.replace(*reversed(MORE_PORTS))
    later = begin()
    assert len(later.programs()) == 1
    assert homes() == sorted([later.program.pins.name, paths.CURRENT])
    assert later.tables.settings.seed == seed
    assert later.tables.mode == abi.Mode(0)
    assert later.tables.settings.ports == (2500 if then == "goes on" else 1000)
    for flow in (*busy.sessions, *busy.datagrams, *busy.begun, *busy.answered):
        flow.path = later
    busy.go_on()
    later.reloaded(program=True)
    busy.sessions[0].close()


# --- numbers -------------------------------------------------------------------------------------------


def test_endpoints_keep_their_numbers_as_long_as_there_is_room() -> None:
    keys = [EndpointKey(f"198.51.100.{n}", 80, 6) for n in range(6)]
    held = {key: number for number, key in enumerate(keys)}
    assert endpoint_numbers(held, keys, 8) == {n: n for n in range(6)}
    assert endpoint_numbers(held, keys[:4], 4) == {n: n for n in range(4)}
    assert endpoint_numbers(held, [keys[0], keys[5]], 4) == {0: 0, 2: 2, 3: 3, 5: 1}, "it takes a leaver's"
    sparse = {keys[0]: 0, keys[4]: 4, keys[5]: 5}
    assert endpoint_numbers(sparse, keys, 3) == {0: 0, 4: 1, 5: 2}
    assert endpoint_numbers(sparse, [keys[5]], 1) == {5: 0}
