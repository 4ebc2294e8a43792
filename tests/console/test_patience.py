"""A console that asks much waits for its turn, as the agent's own limits and words have it."""

from __future__ import annotations

from pathlib import Path

import pytest
from driver import Desk, console
from feeds import default_answer
from frames import Edge

from cdnctl.agent import limits, streaming
from cdnctl.agent.session import TOO_MANY
from cdnctl.cli import panic, taking_back
from cdnctl.console import patience
from cdnctl.console.screens.dialogs import edit
from cdnctl.model import (
    AnyCommand,
    BlockList,
    Detach,
    Diff,
    Disarm,
    ListPart,
    Outcome,
    Reload,
    Repair,
    Revert,
    Stop,
    Undo,
)

PREFIXES = 130


def limited(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    """The feed turns away what the agent's limits would, in its words; nobody really waits."""
    now_s = [0.0]

    async def pause(seconds: float) -> None:
        now_s[0] += seconds

    bucket = limits.Bucket(limits.CLIENT_RATE, limits.CLIENT_BURST, lambda: now_s[0])

    def answer(command: AnyCommand) -> Outcome:
        if wait_s := bucket.wait_s(1.0):
            (desk.feed.tried if getattr(command, "dry_run", False) else desk.feed.commands).pop()
            text, remedy = TOO_MANY.format(user="root"), f"try again in {max(wait_s, 0.1):.1f} s"
            return Outcome(ok=False, text=f"{text}\n{remedy}", remedy=remedy)
        return default_answer(command)

    desk.feed.answer = answer
    monkeypatch.setattr(patience, "pause", pause)


async def test_a_long_file_is_imported_to_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(edit, "PART", 1)
    file = tmp_path / "list.txt"
    file.write_text("".join(f"198.51.{number}.0/24\n" for number in range(PREFIXES)))
    async with console([Edge().frame()]) as desk:
        limited(monkeypatch, desk)
        await desk.go("lists")
        desk.house.action_change("import")
        await desk.settle()
        await desk.press("tab", *file.name)
        await desk.press("ctrl+s")
        await desk.until(lambda: desk.app.screen is desk.house)
        *parts, change = (each for each in desk.feed.commands if isinstance(each, ListPart | BlockList))
        assert isinstance(change, BlockList)
        assert change.count == PREFIXES
        assert [each.four for each in parts if isinstance(each, ListPart)] == [
            bytes((198, 51, number, 0, 24)) for number in range(PREFIXES)
        ], "each once, also those that were turned away at first"


async def test_what_is_refused_for_another_reason_is_not_asked_again() -> None:
    async with console([Edge().frame()]) as desk:
        desk.feed.answer = lambda command: Outcome(ok=False, text="no", remedy="try again in 0.1 s")
        assert not (await desk.app.session.request(Disarm())).ok
        assert desk.feed.commands == [Disarm()]


async def test_what_takes_long_is_waited_for_as_long_as_on_the_command_line() -> None:
    wanted: dict[AnyCommand, float] = dict.fromkeys(
        (Reload(), Revert(), Undo(), Repair(), Diff()), taking_back.SLOW_S
    )
    wanted |= {Detach(): panic.CHANGE_TIMEOUT_S, Stop(detach=True): panic.CHANGE_TIMEOUT_S}
    wanted[Disarm()] = streaming.TIMEOUT_S
    async with console([Edge().frame()]) as desk:
        for command in wanted:
            await desk.app.session.request(command)
        assert desk.feed.waited_s == {type(command): seconds for command, seconds in wanted.items()}
