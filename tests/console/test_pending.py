"""What waits to be confirmed: seen at once, kept or taken back from the keyboard; risky changes wait."""

from __future__ import annotations

import time

from driver import console
from frames import Edge
from msgspec.structs import replace

from cdnctl.model import AnyCommand, BlockPrefix, Confirm, Frame, HeldBack, Outcome, Pending, Revert, Undo


def waiting() -> Frame:
    pending = Pending(
        revision=7,
        what="would drain aurora",
        by="bob [/b]",
        cli="cdnctl drain aurora --confirm 120",
        ends_at_ns=time.time_ns() + 87 * 10**9,
        left_s=87.0,
    )
    return replace(Edge(flood_pps=52_300.0).frame(), pending=pending, state_version=7)


async def test_what_waits_is_seen_and_kept_by_its_key() -> None:
    async with console([waiting()]) as desk:
        assert "▲ CONFIRM  reverts in " in desk.text
        assert "by bob [/b] · c keeps it · z takes it back" in desk.text
        await desk.press("c")
        assert desk.feed.commands == []
        await desk.press("ctrl+s")
        assert desk.feed.commands == [Confirm(expect=7)]


async def test_or_taken_back_and_the_last_change_undone_when_none_waits() -> None:
    async with console([waiting()]) as desk:
        await desk.press("z", "ctrl+s")
        assert desk.feed.commands == [Revert(expect=7)]
        desk.feed.send(replace(waiting(), seq=9, pending=None))
        await desk.send(replace(waiting(), seq=10, pending=None))
        assert "CONFIRM" not in desk.text
        await desk.press("z", "ctrl+s")
        assert desk.feed.commands[1:] == [Undo(expect=7)]


async def test_a_risky_change_waits_and_says_so() -> None:
    def answer(command: AnyCommand) -> Outcome:
        return Outcome(ok=True, text="would block it", risk="it cuts 60 % of the live flows")

    async with console([replace(waiting(), pending=None)]) as desk:
        desk.feed.answer = answer
        await desk.press("b")
        assert "it cuts 60 % of the live flows: reverts in 120 s unless" in desk.text
        await desk.press("ctrl+s")
        assert desk.feed.commands == [BlockPrefix(prefix="10.66.0.0/16", confirm_s=120.0, expect=7)]


async def test_a_configuration_that_is_held_back_is_said_with_its_remedy() -> None:
    said = HeldBack(file="/etc/cdnctl/[b]x.toml", why="unconfirmed", text="", remedy="")
    async with console([replace(Edge().frame(), held_back=said)]) as desk:
        assert "▲ HELD BACK  [b]x.toml was not confirmed: :reload puts it into force" in desk.text
    async with console([replace(Edge().frame(), held_back=replace(said, why="edited"))]) as desk:
        assert "was edited while a reload waits: c or z, then :reload" in desk.text
