"""What the console keeps of the past."""

from __future__ import annotations

import msgspec
from frames import Edge

from cdnctl.console.history import EVENTS_KEPT, History
from cdnctl.model import FRAMES_KEPT


def test_frames_and_events_that_come_twice_count_once() -> None:
    edge, history = Edge(), History()
    edge.say("note", "one")
    frames = [edge.frame() for _ in range(4)]
    assert [history.add(frame) for frame in [*frames, *frames[1:]]] == [True] * 4 + [False] * 3
    assert [event.text for _, event in history.events] == ["one"]


def test_a_new_agent_counts_from_its_own_start() -> None:
    old, history = Edge(seq=400), History()
    old.say("note", "of the old agent")
    history.add(old.frame())
    new = Edge(seq=0)
    new.say("note", "of the new agent")
    frame = msgspec.structs.replace(
        new.frame(), agent_started_ns=9, monotonic_ns=history.frames[-1].monotonic_ns + 1
    )
    assert history.add(frame)
    assert [event.text for _, event in history.events] == ["of the old agent", "of the new agent"]
    assert len(history.frames) == 2


def test_after_a_boot_the_clock_starts_over_and_so_do_the_plots() -> None:
    history = History()
    history.add(Edge(seq=400).frame())
    assert history.add(msgspec.structs.replace(Edge().frame(), agent_started_ns=9))
    assert len(history.frames) == 1


def test_memory_is_bounded() -> None:
    edge, history = Edge(), History()
    for _ in range(FRAMES_KEPT + 50):
        edge.say("note", "x")
        edge.say("note", "y")
        history.add(edge.frame())
    assert len(history.frames) == FRAMES_KEPT
    assert len(history.events) == EVENTS_KEPT
