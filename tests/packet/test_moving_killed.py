"""Agents that are killed while tables change: whatever moment it was, the next one starts with all flows."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest
from harness import PORTS, VIP, Action
from moved import (
    MORE_PORTS,
    Busy,
    by_what_is_attached,
    counted,
    finish,
    goes_on,
    homes,
    is_whole,
    opened_past_the_agent,
)
from reloaded import EDGE, OPERATOR, Edge
from segments import Flag, segment
from session import Session

from cdnctl import config, paths
from cdnctl.datapath import abi, hold, kernel, moving, panic
from cdnctl.datapath.abi import Verdict
from cdnctl.datapath.program import Program
from cdnctl.engine.engine import Engine
from cdnctl.model import BlockPrefix

MOMENTS = ("loaded", "filled", "swapping", "swapped", "renamed")
MIXED = ("swapping", "swapped", "renamed")
"""Something is on the new tables."""


@pytest.fixture(autouse=True)
def short_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test need wait for long."""
    monkeypatch.setattr(hold, "HELD_S", 0.2)


def die(edge: Edge, moment: str) -> None:
    """The agent gets a successor, which reloads the changed file and is killed at that moment."""
    edge.engine.close()
    edge.close()
    successor = os.fork()
    if successor == 0:
        try:
            engine = Engine(config.load(edge.file.path))
            engine.start()
            edge.file.replace(*MORE_PORTS)
            kill_at(moment)
            Edge(engine, edge.file, edge.indexes).reload()
        finally:
            os._exit(0)
    _, status = os.waitpid(successor, 0)
    assert os.WIFSIGNALED(status), moment
    edge.file.replace(*MORE_PORTS)
    time.sleep(hold.HELD_S)


def kill_at(moment: str) -> None:
    """This very process."""
    owner, name, calls = {
        "loaded": (moving.Move, "fill", 1),
        "filled": (Engine, "put_config", 1),
        "held": (moving, "note_moved", 1),
        "swapping": (kernel, "xdp_attach", 3),
        "swapped": (moving.Move, "_finish", 1),
        "renamed": (Program, "keep_only", 1),
    }[moment]
    real, left = getattr(owner, name), [None] * calls

    def killing(*arguments: object, **named: object) -> object:
        left.pop()
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)

    setattr(owner, name, killing)


def open_in_both(edge: Edge) -> list[Session]:
    """Some, while there is no agent."""
    return [opened_past_the_agent(edge, Session(edge, "www")) for _ in range(12)]


SWAPPING = "swapping"
"""Where most can go wrong; the other moments in soak, as each takes seconds."""
SOME = [pytest.param(moment, marks=() if moment == SWAPPING else pytest.mark.soak) for moment in MOMENTS]
AFTERWARDS = [
    pytest.param(
        moment,
        then,
        marks=() if (moment, then) in ((SWAPPING, "goes back"), ("held", "goes on")) else pytest.mark.soak,
    )
    for moment in ("held", *MOMENTS)
    for then in ("goes on", "goes back", "changes again")
]


@pytest.mark.parametrize(("moment", "then"), AFTERWARDS)
def test_killed_at_any_moment(begin: Callable[[], Edge], moment: str, then: str) -> None:
    edge = begin()
    busy, seed = Busy(edge), edge.tables.settings.seed
    ended = [Session(edge, "www").open() for _ in range(4)]
    die(edge, moment)
    later_flows = open_in_both(edge)
    for session in ended:
        by_what_is_attached(edge, session, lambda s=session: s.up(Flag.FIN | Flag.ACK), "clients")
        by_what_is_attached(edge, session, lambda s=session: s.down(Flag.FIN | Flag.ACK))
    if then == "goes back":
        edge.file.replace(*reversed(MORE_PORTS))
    elif then == "changes again":
        edge.file.replace("flows = 4096", "flows = 9000")
    later = begin()
    assert len(later.programs()) == 1
    assert homes() == sorted([later.program.pins.name, paths.CURRENT])
    assert later.tables.settings.seed == seed
    assert later.tables.mode == abi.Mode(0)
    assert later.tables.settings.ports == (1000 if then == "goes back" else 2500)
    is_whole(later)
    busy.follow(later)
    for session in later_flows:
        session.path = later
        if then == "goes back" and session.snat[1] not in range(PORTS[0], PORTS[1] + 1):
            continue  # it has no place there
        if moment != "swapping":  # else a reply may have come in where its flow was not known
            goes_on(session)
        finish(session)
    busy.go_on()
    is_whole(later)
    later.reloaded(program=True)
    busy.sessions[0].close()
    assert not counted(later).keys() & {Verdict.RESET_CLIENT, Verdict.RESET_CDN}


@pytest.mark.soak
@pytest.mark.parametrize("moment", SOME)
def test_killed_and_taken_down(begin: Callable[[], Edge], moment: str) -> None:
    edge = begin()
    Busy(edge)
    die(edge, moment)
    panic.detach(EDGE)
    assert {kernel.xdp_program_id(edge.indexes[each]) for each in edge.config.edge.interfaces} == {0}
    assert not paths.pin_dir(EDGE).exists()


@pytest.mark.parametrize("moment", SOME)
def test_what_was_counted_stays(begin: Callable[[], Edge], moment: str) -> None:
    edge = begin()
    frame = segment(("10.1.0.7", 1), ("192.0.2.200", 9), Flag.ACK)
    passed = 0

    def some(edge: Edge) -> None:
        nonlocal passed
        for device in edge.config.edge.interfaces:
            fd = kernel.program_fd(kernel.xdp_program_id(edge.indexes[device]))
            kernel.test_run(fd, frame, repeat=10, ifindex=edge.indexes[device])
            os.close(fd)
            passed += 10

    some(edge)
    die(edge, moment)
    some(edge)
    later = begin()
    assert counted(later)[Verdict.PASSED] == passed
    some(later)
    later.file.replace(*reversed(MORE_PORTS))
    later.reloaded()
    some(later)
    assert counted(later)[Verdict.PASSED] == passed


@pytest.mark.soak
@pytest.mark.parametrize("moment", [each for each in SOME if each.values[0] in MIXED])
def test_the_panic_button_works_after_a_kill(begin: Callable[[], Edge], moment: str) -> None:
    edge = begin()
    assert edge.engine.execute(BlockPrefix(prefix="10.66.0.0/16"), OPERATOR).ok
    blocked = segment(("10.66.0.1", 1), (VIP, 80), Flag.SYN)
    die(edge, moment)
    ifindex = edge.indexes["clients"]
    fd = kernel.program_fd(kernel.xdp_program_id(ifindex))
    try:
        assert kernel.test_run(fd, blocked, ifindex=ifindex).action == Action.DROP
        panic.disarm(EDGE)
        assert kernel.test_run(fd, blocked, ifindex=ifindex).action != Action.DROP
    finally:
        os.close(fd)
    later = begin()
    assert later.tables.mode == abi.Mode.DISARMED
    assert not later.engine.state.armed


def test_the_hold_of_a_killed_agent_ends_by_itself(begin: Callable[[], Edge]) -> None:
    edge = begin()
    old = edge.tables
    die(edge, "swapped")
    session = Session(edge, "www")
    assert by_what_is_attached(edge, session, session.syn, "clients").verdict is Verdict.FORWARDED
    assert old.mode == abi.Mode(0)
