"""What ctrl+s sends has been tried as it is sent: fast fingers, several changes at once, whole files."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from driver import Desk, console
from frames import Edge
from msgspec.structs import replace

from cdnctl.console.screens.dialogs import base, shares
from cdnctl.engine import consequences
from cdnctl.model import (
    AnyChange,
    AnyCommand,
    BlockPrefix,
    Bypass,
    Disarm,
    Drain,
    Outcome,
    SetWeights,
    Unblock,
)

RISK = "it cuts 60 % of the live flows"


def flooded() -> Edge:
    return Edge(flood_pps=52_300.0)


async def plan(desk: Desk, *changes: AnyChange) -> None:
    desk.house.plan(*changes)
    await desk.settle()


# --- fast fingers ---------------------------------------------------------------------------------


async def test_ctrl_s_before_the_agent_has_said_the_risk_waits_all_the_same() -> None:
    risky = Outcome(ok=True, text="would bypass", risk="it cuts 12 translated flows")
    async with console([flooded().frame()], answer=lambda command: risky) as desk:
        scripted, said = desk.feed.request, asyncio.Event()

        async def slow(command: AnyCommand, timeout_s: float) -> Outcome:
            await said.wait()
            return await scripted(command)

        desk.feed.request = slow  # type: ignore[method-assign]
        await plan(desk, Bypass())
        await desk.press("ctrl+s")
        assert desk.feed.commands == []
        said.set()
        await desk.until(lambda: bool(desk.feed.commands))
        assert desk.feed.commands == [Bypass(confirm_s=base.CONFIRM_S)]


async def test_the_risk_is_that_of_what_is_sent_not_of_what_was_typed_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(command: AnyCommand) -> Outcome:
        wide = isinstance(command, BlockPrefix) and command.prefix == "10.0.0.0/8"
        return Outcome(ok=True, text="would block it", risk=RISK if wide else "")

    async with console([flooded().frame()], answer=answer) as desk:
        await desk.press("b")
        monkeypatch.setattr(base, "SETTLE_S", 60.0)
        await desk.press("tab", "ctrl+u", "ctrl+k", *"10.0.0.0/8", "ctrl+s")
        assert desk.feed.commands == [BlockPrefix(prefix="10.0.0.0/8", confirm_s=base.CONFIRM_S)]


# --- several --------------------------------------------------------------------------------------


async def test_several_of_which_one_is_risky_are_not_sent_and_no_revert_is_promised() -> None:
    def answer(command: AnyCommand) -> Outcome:
        risk = RISK if isinstance(command, BlockPrefix) and command.prefix == "10.2.0.0/16" else ""
        return Outcome(ok=True, text="would block it", risk=risk)

    wanted = [BlockPrefix(prefix=f"10.{number}.0.0/16") for number in range(4)]
    async with console([flooded().frame()], answer=answer) as desk:
        await plan(desk, *wanted)
        assert "reverts in 120 s" not in desk.text
        assert f"{RISK}: that should" in desk.text
        await desk.press("ctrl+s")
        assert desk.feed.commands == []
        assert "nothing was sent" in desk.text
        await desk.press("escape")
        await plan(desk, wanted[2])
        await desk.press("ctrl+s")
        assert desk.feed.commands == [BlockPrefix(prefix="10.2.0.0/16", confirm_s=base.CONFIRM_S)]


async def test_a_refusal_among_several_is_found_before_any_is_sent() -> None:
    def answer(command: AnyCommand) -> Outcome:
        gone = isinstance(command, Unblock) and command.prefix == "10.2.0.0/16"
        return Outcome(ok=not gone, text="10.2.0.0/16 is not blocked" if gone else "would unblock it")

    async with console([flooded().frame()], answer=answer) as desk:
        await plan(desk, *(Unblock(prefix=f"10.{number}.0.0/16") for number in range(4)))
        await desk.press("ctrl+s")
        assert desk.feed.commands == []
        assert "refused: 10.2.0.0/16 is not blocked" in desk.text


async def test_weights_and_drains_that_are_risky_together_are_not_sent() -> None:
    def answer(command: AnyCommand) -> Outcome:
        together = isinstance(command, SetWeights) and len(command.weights) > 1
        shares = {"aurora": 0.0, "borealis": 1.0, "corona": 0.0}
        return Outcome(ok=True, text="ok", shares=shares, risk="it moves 70 % of new flows" * together)

    async with console([Edge().frame()], answer=answer) as desk:
        await desk.press("w", "space", "j", "right")
        assert "it moves 70 % of new flows: that should wait" in desk.text
        assert "reverts in 120 s" not in desk.text
        await desk.press("ctrl+s")
        assert desk.feed.commands == []
        await desk.press("left", "ctrl+s")
        assert desk.feed.commands == [Drain(cdn="aurora")]


async def test_a_heavy_cdn_that_comes_back_beside_another_change_is_risky() -> None:
    """The agent, asked for the weights alone, does not know that it comes back."""
    edge = Edge(drained={"corona"}, weights={"aurora": 100, "borealis": 100, "corona": 900})
    async with console([replace(edge.frame(), planner=None)]) as desk:
        await desk.press("w", "right", "j", "j", "space", "ctrl+s")
        assert desk.feed.commands == []
        assert "it moves 81% of new flows: that should wait" in desk.text
    assert shares.MOST_MOVED == consequences.MOST


# --- leaving --------------------------------------------------------------------------------------


async def test_esc_stops_after_what_is_on_its_way_and_says_what_was_done(tmp_path: Path) -> None:
    async with console([flooded().frame()]) as desk:
        scripted = desk.feed.request

        async def slow(command: AnyCommand, timeout_s: float) -> Outcome:
            await asyncio.sleep(0 if getattr(command, "dry_run", False) else 0.02)
            return await scripted(command)

        desk.feed.request = slow  # type: ignore[method-assign]
        await plan(desk, *(Unblock(prefix=f"10.0.{number}.0/24") for number in range(200)))
        await desk.press("ctrl+s")
        await desk.until(lambda: "done 10 of 200; esc stops it" in desk.text)
        await desk.press("escape")
        await desk.until(lambda: "refused: stopped" in desk.text)
        assert f"done before that, {len(desk.feed.commands)} of 200" in desk.text
        assert 10 <= len(desk.feed.commands) < 200
        await desk.press("escape")
        assert desk.app.screen is desk.overview


async def test_a_single_change_that_nobody_answers_can_be_left() -> None:
    async with console([flooded().frame()]) as desk:
        never = asyncio.Event()

        async def silent(command: AnyCommand, timeout_s: float) -> Outcome:
            await never.wait()
            raise AssertionError

        desk.feed.request = silent  # type: ignore[method-assign]
        await plan(desk, Disarm())
        await desk.press("ctrl+s", "escape")
        assert "esc again leaves" in desk.text
        await desk.press("escape")
        assert desk.app.screen is desk.overview
