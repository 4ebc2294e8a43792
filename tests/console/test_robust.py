"""Hostile text, silence, lost agents."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from driver import PALETTES, console
from feeds import ScriptedFeed
from frames import Edge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdnctl.console import session as session_module
from cdnctl.console.app import ConsoleApp
from cdnctl.console.session import Session
from cdnctl.errors import NoAgent, NotPermitted
from cdnctl.model import Autoban, Ban, Block, Frame, Interface, Offender, Outcome, Shield, Talker

HOSTILE = (
    "[/b] [red]x[/] \x1b[2J\x1b]0;t\x07 \u202egnp.exe \u200b\ud83d\ude00 日本語 {} %s \r\n\t" + "A" * 10_000
)


def poisoned(text: str) -> Frame:
    """A frame that has `text` in every place where text from outside can be."""
    edge = Edge(slow="borealis", flood_pps=900.0)
    edge.extra_talkers = [Talker(prefix=text, pps=1e6, bps=1.0, drop_share=0.5, cdn=text)]
    edge.extra_blocks = [Block(prefix=text, reason=text, source=text)]
    edge.say(text, text, "alarm")
    frame = edge.frame()
    endpoints = [msgspec.structs.replace(frame.cdns[0].endpoints[0], address=text)]
    return msgspec.structs.replace(
        frame,
        edge=text,
        step=text,
        cdns=[
            msgspec.structs.replace(cdn, name=f"{text}{cdn.name}", endpoints=endpoints) for cdn in frame.cdns
        ],
        verdicts=[
            msgspec.structs.replace(verdict, name=text, explanation=text, packets_total=5)
            for verdict in frame.verdicts[:2]
        ],
        interfaces=[Interface(name=text, mode="generic")],
        shield=Shield(level="siege", why=text, cost=text),
        autoban=Autoban(
            bans=[Ban(prefix=text, why=text, since_ns=0, ends_ns=1)],
            offenders=[Offender(prefix=f"{text} ", why=text, spared=text)],
        ),
    )


def harmless(text: str) -> bool:
    return not any((ord(char) < 32 and char != "\n") or char in "\x7f\x9b\u202e\u200b\u2066" for char in text)


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_hostile_text_is_only_text(size: tuple[int, int]) -> None:
    async with console([poisoned(HOSTILE)], size) as desk:
        desk.feed.answer = lambda command: Outcome(ok=False, text=HOSTILE, warnings=[HOSTILE] * 9)
        walk = "tab tab tab b ctrl+s escape u j ctrl+s escape w right ctrl+s escape d escape q j escape"
        for key in walk.split():
            await desk.press(key)
            assert harmless(desk.text)
            assert all(len(line) <= size[0] for line in desk.text.splitlines())
        assert "[/b] [red]x[/]" in desk.text
        assert desk.app.is_running


@pytest.mark.soak
@settings(
    max_examples=settings.default.max_examples // 10,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=st.text(st.characters(codec=None), max_size=60))
async def test_any_text_is_only_text(text: str) -> None:
    async with console([poisoned(text)], (80, 24)) as desk:
        await desk.press("tab", "b", "escape", "u")
        assert harmless(desk.text)


async def test_numbers_out_of_all_bounds() -> None:
    frame = Edge(cdns=2).frame()
    wild = [
        msgspec.structs.replace(
            cdn, share=7.0, effective_share=-1.0, handshake_p95_ms=p95, new_flows_per_s=1e30
        )
        for cdn, p95 in zip(frame.cdns, (1e12, 0.0), strict=True)
    ]
    async with console([msgspec.structs.replace(frame, cdns=wild)]) as desk:
        assert desk.app.is_running
        assert "● ARMED" in desk.text


async def test_silence_is_said_with_its_age() -> None:
    edge = Edge()
    async with console([edge.frame()], (80, 24)) as desk:
        assert "STALE" not in desk.text
        desk.clock.now_s += 12
        await desk.until(lambda: "STALE  no frame for 12s, since 22:13:20" in desk.text)
        assert "▲ 12s old" in desk.text
        assert "10.1.0.1" in desk.text
        await desk.send(edge.frame())
        await desk.until(lambda: "STALE" not in desk.text)
        assert "● live" in desk.text


async def test_a_lost_agent_is_said_the_display_stays_and_it_is_found_again() -> None:
    edge = Edge()
    async with console([edge.frame()], (80, 24)) as desk:
        desk.feed.break_off(NoAgent("the agent hung up"))
        await desk.until(lambda: "AGENT LOST  the agent hung up; trying again" in desk.text)
        assert "10.1.0.1" in desk.text
        await desk.press("b", "ctrl+s")
        assert "refused: no connection to the agent" in desk.text
        await desk.press("escape")
        desk.feed.down = None
        desk.feed.send(edge.frame())
        await desk.until(lambda: "AGENT LOST" not in desk.text)
        assert "frame 2 " in desk.text
        assert desk.feed.connects >= 2


async def test_retries_come_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    feed = ScriptedFeed([Edge().frame()])
    session = Session(lambda: feed)

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 8:
            raise asyncio.CancelledError

    monkeypatch.setattr(session_module.asyncio, "sleep", wait)
    feed.send()
    feed._frames.put_nowait(None)
    feed.down = None

    def news() -> None:
        feed.down = NoAgent("gone")

    with pytest.raises(asyncio.CancelledError):
        await session.run(news)
    assert waits == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    assert session.failure is None


@pytest.mark.parametrize("error", [NotPermitted("no", "sudo cdnctl"), NoAgent("nobody there")])
async def test_an_agent_that_never_was_ends_the_console(
    error: NoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "PATIENCE_S", 0.3)
    feed = ScriptedFeed([])
    feed.down = error
    app = ConsoleApp(lambda: feed, PALETTES)
    async with app.run_test() as pilot:
        for _ in range(100):
            if not app.is_running:
                break
            await pilot.pause(0.02)
    assert app.return_value == 1
    assert app.session.failure is error


async def test_a_broken_theme_of_the_users_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = ScriptedFeed([Edge().frame()])
    app = ConsoleApp(lambda: feed, PALETTES, problems=["mine.toml: colors.bad: 'red'; write #rrggbb"])
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause(0.1)
        assert "mine.toml: colors.bad" in app.screen.query_one("#answer").text  # type: ignore[attr-defined]
