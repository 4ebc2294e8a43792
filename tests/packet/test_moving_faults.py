"""What goes wrong while tables change, and what operators switch past the agent meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from harness import PORTS
from moved import (
    GOES,
    LARGER,
    MORE_PORTS,
    Busy,
    Meanwhile,
    by_what_is_attached,
    goes_on,
    homes,
    is_whole,
    opened_past_the_agent,
    totals,
)
from reloaded import EDGE, OPERATOR, Edge
from segments import Flag
from session import Session

from cdnctl import paths
from cdnctl.datapath import abi, hold, kernel, moving, panic
from cdnctl.datapath.abi import Verdict
from cdnctl.errors import CdnctlError
from cdnctl.model import SetWeights


@pytest.fixture
def edge(served: Edge) -> Edge:
    """One that serves."""
    return served


# --- what goes wrong -----------------------------------------------------------------------------------


def failing(error: Exception) -> Callable[..., None]:
    def fails(*_: object, **__: object) -> None:
        raise error

    return fails


@pytest.mark.soak
def test_what_fails_after_the_swap_is_a_warning(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Busy(edge)
    edge.file.replace(*LARGER)
    with monkeypatch.context() as broken:
        broken.setattr(moving, "follow_mode", failing(OSError(12, "Cannot allocate memory")))
        outcome = edge.reloaded()
    assert "something was not copied" in outcome.warnings[0]
    assert homes() == sorted([edge.program.pins.name, paths.CURRENT])
    is_whole(edge)
    busy.go_on()
    edge.file.replace(*reversed(LARGER))
    with monkeypatch.context() as broken:
        broken.setattr(type(edge.engine.attachment), "leave_others", failing(CdnctlError("no such device")))
        outcome = edge.reloaded()
    assert "not all of what was before is gone" in outcome.warnings[0]
    for session in busy.sessions:
        goes_on(session)
    assert Session(edge, "www").syn().verdict is Verdict.FORWARDED
    edge.reloaded(program=True)
    assert homes() == sorted([edge.program.pins.name, paths.CURRENT])


def test_what_fails_before_the_swap_leaves_all_as_it_was(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    busy, before, pins, counts = Busy(edge), edge.programs(), edge.program.pins, totals(edge)
    edge.file.replace(*MORE_PORTS)
    with monkeypatch.context() as broken:
        broken.setattr(moving, "note_moved", failing(OSError(12, "Cannot allocate memory")))
        assert not edge.reload().ok
    assert (edge.programs(), edge.program.pins) == (before, pins)
    assert homes() == sorted([pins.name, paths.CURRENT])
    assert totals(edge) == counts
    busy.go_on()
    is_whole(edge)


def test_a_driver_that_refuses_leaves_the_old_tables_in_force(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, before, real, pins = Busy(edge), edge.programs(), kernel.xdp_attach, edge.program.pins

    def refusing(ifindex: int, *arguments: object, **named: object) -> None:
        if ifindex == edge.indexes["cdn3"]:
            raise OSError(12, "Cannot allocate memory")
        real(ifindex, *arguments, **named)  # type: ignore[arg-type]

    edge.file.replace(*MORE_PORTS)
    with monkeypatch.context() as broken:
        broken.setattr(kernel, "xdp_attach", refusing)
        assert not edge.reload().ok
    assert edge.programs() == before
    assert (edge.program.pins, homes()) == (pins, sorted([pins.name, paths.CURRENT]))
    assert edge.tables.mode == abi.Mode(0)
    assert edge.engine.config.edge.snat_ports == PORTS
    busy.go_on()
    assert edge.engine.execute(SetWeights(weights={"aurora": 1}), OPERATOR).ok
    assert edge.engine.frame().collector.rounds_total >= 0
    edge.reloaded()
    is_whole(edge)
    for session in busy.sessions:
        goes_on(session)


def test_a_driver_that_takes_neither_keeps_what_it_has(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new program stays where the old one would not go back, and so do its pins."""
    busy, real, taken = Busy(edge), kernel.xdp_attach, list[int]()

    def refusing(ifindex: int, *arguments: object, **named: object) -> None:
        if len(taken) == 2:
            raise OSError(12, "Cannot allocate memory")
        taken.append(ifindex)
        real(ifindex, *arguments, **named)  # type: ignore[arg-type]

    edge.file.replace(*MORE_PORTS)
    with monkeypatch.context() as broken:
        broken.setattr(kernel, "xdp_attach", refusing)
        assert not edge.reload().ok
    assert len(edge.programs()) == 2
    assert len(homes()) == 3
    for session in busy.sessions:
        for send, device in ((session.up, "clients"), (session.down, "")):
            seen = by_what_is_attached(edge, session, lambda s=send: s(Flag.ACK, payload=b"x"), device)
            assert seen.verdict in GOES


@pytest.mark.soak
def test_a_driver_that_takes_its_time(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """So much that flows begin again before all interfaces are swapped: none is lost but for its port."""
    busy, real = Busy(edge), kernel.xdp_attach
    late: list[Session] = []

    def slow(ifindex: int, *arguments: object, **named: object) -> None:
        time.sleep(0.3)
        if ifindex == edge.indexes["clients"]:
            late.extend(opened_past_the_agent(edge, Session(edge, "www")) for _ in range(10))
        real(ifindex, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(hold, "HELD_S", 0.2)
    edge.file.replace(*MORE_PORTS)
    with monkeypatch.context() as patch:
        patch.setattr(kernel, "xdp_attach", slow)
        outcome = edge.reloaded()
    assert outcome.warnings == []
    is_whole(edge)
    assert all(session.cdn for session in late)
    for session in late:
        goes_on(session)
    busy.go_on()


@pytest.mark.soak
def test_a_port_that_was_given_away_on_both_sides(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Since drivers took their time: one flow has it, and the other one is told of as cut."""
    real, port = kernel.xdp_attach, PORTS[0] + 7
    sides: dict[str, list[Session]] = {"old": [], "new": []}

    def slow(ifindex: int, *arguments: object, **named: object) -> None:
        time.sleep(0.3)
        if ifindex in (edge.indexes["clients"], edge.indexes["cdn2"]):
            side = "new" if sides["old"] else "old"
            for n in range(8):
                session = Session(edge, "solo", client=f"10.{len(sides['old'])}.{n}.9", port=port)
                sides[side].append(opened_past_the_agent(edge, session))
        real(ifindex, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(hold, "HELD_S", 0.2)
    edge.file.replace(*LARGER)
    with monkeypatch.context() as patch:
        patch.setattr(kernel, "xdp_attach", slow)
        outcome = edge.reloaded()
    is_whole(edge)
    clashes = {session.snat for session in sides["old"]} & {session.snat for session in sides["new"]}
    assert clashes
    assert outcome.warnings == [f"{len(clashes)} {moving.CUT}"]
    for session in sides["new"]:
        goes_on(session)
    for session in sides["old"]:
        if session.snat not in clashes:
            goes_on(session)


# --- switched past the agent ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment",
    ["fill", *(pytest.param(each, marks=pytest.mark.soak) for each in ("refresh", "_copy_last")), "_finish"],
)
def test_the_panic_button_works_at_any_moment(edge: Edge, meanwhile: Meanwhile, moment: str) -> None:
    meanwhile(moving.Move, moment, lambda: print(panic.disarm(EDGE)))
    edge.file.replace(*LARGER)
    edge.reloaded()
    assert edge.tables.mode == abi.Mode.DISARMED
    assert edge.engine.frame().armed is False
    panic.arm(EDGE)
    assert edge.tables.mode == abi.Mode(0)


def test_the_old_tables_word_is_followed(edge: Edge, meanwhile: Meanwhile) -> None:
    """Whoever has only these open, such as the `cdnctl` of before."""
    old = edge.tables
    meanwhile(moving.Move, "_copy_last", lambda: setattr(old, "mode", abi.Mode.BYPASS))
    edge.file.replace(*LARGER)
    edge.reloaded()
    assert edge.tables.mode == abi.Mode.BYPASS
