"""Whoever may only watch changes nothing: no key, whatever a keymap calls it, no entry of the palette, no
verb, and nothing inside of what opens."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import pictures
import pytest
from driver import Desk, console
from feeds import ScriptedFeed
from frames import incident

from cdnctl.cli.parser import grammar
from cdnctl.console import keys
from cdnctl.console.screens import speaking, trace
from cdnctl.console.screens.dialogs.base import ChangeDialog
from cdnctl.console.screens.dialogs.quit import QuitDialog
from cdnctl.model import Change

NAMES = [place.name for place in keys.SCREENS]
INSIDE = ("j", "space", "tab", "0", "ctrl+s", "enter", "escape", "escape")
"""What changes something in one dialog or another."""
ENDS = ("leave", "command", "filter")
"""Keys that end the console, or take what is pressed next as text: walked by themselves."""
ONLY_LOOKS = frozenset(
    (
        "status", "blocks", "customers", "check", "doctor", "trace", "metrics", "journal", "report", "feed",
        "simulate", "who", "state", "diff", "replay", "redact", "cast", "unit", "keys", "train",
    )
)  # fmt: skip
"""Verbs that run in a process of their own: each was judged to leave the edge alone. A new one is judged
here first."""
ELSEWHERE = frozenset(("agent", "init", "demo"))
HARMLESS = frozenset(
    (
        "help", "command", "screens", "filter", "freeze", "sort", "reverse", "columns", "alone", "export",
        "5-s-back", "5-s-on", "1-min-back", "1-min-on", "chapter-before", "next-chapter", "frame-before",
        "next-frame", "slower", "faster", "back", "drill", "next-panel", "previous-panel", "down", "up",
        "page-down", "page-up", "first", "last", "follow", "gather", "mark", "no-marks", "copy", "older",
        "trace", "doctor",
    )
)  # fmt: skip
"""Bindings that only look, by name: a new one that changes nothing is judged here first."""
WORDS = {
    "block": "192.0.2.1", "unblock": "10.66.0.0/16", "weight": "aurora=1", "drain": "aurora",
    "undrain": "corona", "limit": "acme --pps 1", "allow": "192.0.2.1", "disallow": "192.0.2.1",
    "mode": "observe --yes", "trace": "192.0.2.1 192.0.2.2:80", "feed": "check x", "simulate": "x",
    "mark": "x", "replay": "x --info", "redact": "x y", "cast": "x", "report": "-o x", "detach": "--yes",
    "bypass": "--yes", "shield": "siege", "autoban": "on", "model": "load /nonexistent",
    "planner": "on", "train": "x -o y",
}  # fmt: skip
MINE = {("", "block"): "B", ("", "disarm"): "D", ("", "weights"): "W", ("", "undo"): "Z",
        ("lists", "edit"): "E", ("steering", "limit"): "L", ("dialog", "confirm"): "ctrl+o",
        ("journal", "undo"): "U"}  # fmt: skip


@pytest.fixture(autouse=True)
def ran_lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, ...]]]:
    """Nothing is run; what would be is noted."""
    ran: list[tuple[str, ...]] = []

    async def run_line(words: tuple[str, ...]) -> tuple[bool, str]:
        ran.append(words)
        return True, "{}"

    monkeypatch.setattr(speaking, "run_line", run_line)
    monkeypatch.setattr(trace, "run_line", run_line)
    yield ran
    keys.use({})


def sent(feed: ScriptedFeed) -> list[Any]:
    """Changes that the agent was asked for, in earnest or to try."""
    return [command for command in feed.commands + feed.tried if isinstance(command, Change)]


def at(name: str, **options: Any) -> Any:
    return console(
        pictures.rich(incident()[:2]), (80, 24), answer=pictures.answer, **({"read_only": True} | options)
    )


async def walk(desk: Desk, name: str, *, whole: bool) -> None:
    """Every key of a screen, and inside of what each opens; or those alone that it has of its own, or that
    change something."""
    await desk.go(name)
    await pictures.dress(desk)
    confirm = keys.face("confirm", "dialog")
    for key in (*keys.of(name), *keys.app()[:1]):
        if key.action in ENDS or not key.keys:
            continue
        if not (whole or key.changes or key in keys.section(name)):
            continue
        for pressed in key.keys.split(","):
            await desk.pilot.press(pressed)
            assert not isinstance(desk.app.screen, ChangeDialog), f"{pressed} opens {desk.app.screen}"
            if desk.app.screen is not desk.house:
                await desk.pilot.press(*INSIDE, confirm)
            while desk.app.screen is not desk.house:
                await desk.pilot.press("escape")
            if name != desk.house.NAME:
                desk.app.action_go(name)
                await desk.pilot.pause()
    await desk.pilot.press(confirm)  # in no dialog it means nothing


@pytest.mark.parametrize("name", NAMES)
async def test_keys_of_every_screen(name: str) -> None:
    async with at(name) as desk:
        await walk(desk, name, whole=name == NAMES[0])
        assert sent(desk.feed) == []
        assert desk.app.is_running


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES[1:])
async def test_every_key_of_every_screen(name: str) -> None:
    async with at(name) as desk:
        await walk(desk, name, whole=True)
        assert sent(desk.feed) == []
        assert desk.app.is_running


@pytest.mark.parametrize("name", ["lists", "steering", "journal"])
async def test_so_do_keys_that_a_keymap_has_moved(name: str) -> None:
    keys.use(MINE)
    async with at(name) as desk:
        await desk.press("B")
        assert "read only: this console was started with --read-only" in desk.text
        await walk(desk, name, whole=False)
        assert sent(desk.feed) == []


@pytest.mark.parametrize(
    ("names", "options"),
    [
        pytest.param(NAMES[4:5], {}, id="read-only"),
        pytest.param(NAMES[:1], {"read_only": False, "role": "view"}, id="view"),
        pytest.param(NAMES[:1], {"read_only": False, "role": "replay"}, id="replay"),
        pytest.param(NAMES, {}, id="all", marks=pytest.mark.soak),
    ],
)
async def test_every_entry_of_the_palette(names: list[str], options: dict[str, Any]) -> None:
    async with at("overview", **options) as desk:
        for name in names:
            await desk.go(name)
            for command in list(desk.app.get_system_commands(desk.house)):
                if command.title not in ("quit", "command", "filter"):
                    command.callback()
                    await desk.pilot.pause()
                    assert not isinstance(desk.app.screen, ChangeDialog), command.title
                    while desk.app.screen is not desk.house:
                        await desk.pilot.press("ctrl+s", "escape")
                    if name != desk.house.NAME:
                        await desk.go(name)
        assert sent(desk.feed) == []


async def test_every_verb(ran_lines: list[tuple[str, ...]]) -> None:
    verbs = next(
        action.choices for action in grammar()._actions if isinstance(action, argparse._SubParsersAction)
    )
    async with at("overview") as desk:
        for verb in verbs:
            del ran_lines[:]
            desk.house.speak(f"{verb} {WORDS.get(verb, '')}")
            await desk.settle()
            assert not isinstance(desk.app.screen, ChangeDialog), verb
            assert not (verb == "model" and "cannot read" in desk.text)  # refused before its file is opened
            ran = {words[0] for words in ran_lines}
            assert ran <= ONLY_LOOKS, f"{verb} ran {ran}"
            if not ran and verb not in ELSEWHERE | ONLY_LOOKS:
                assert "read only: this console was started with --read-only" in desk.text, verb
            desk.house.speak(f"{verb} {WORDS.get(verb, '')} --dry-run")  # nor is one tried
            await desk.pilot.pause()
            while desk.app.screen is not desk.house:
                await desk.pilot.press("ctrl+s", "escape")
            if desk.house.NAME != "overview":
                await desk.go("overview")
        assert sent(desk.feed) == []


async def test_to_quit_is_all_that_the_way_out_does() -> None:
    async with at("overview") as desk:
        for inside in (("j", "ctrl+s"), ("G", "ctrl+s"), ("j", "j", "space", "ctrl+s", "tab", "ctrl+s")):
            await desk.press("q")
            dialog = desk.app.screen
            assert isinstance(dialog, QuitDialog)
            dialog.app.exit = lambda *_: None  # type: ignore[assignment, method-assign, misc]
            await desk.press(*inside)
            while desk.app.screen is not desk.house:
                await desk.press("escape")
        assert sent(desk.feed) == []


def test_what_changes_something_is_marked_so_in_the_table() -> None:
    """The gate opens dialogs by `open_NAME`: none may be reached by a key that is not marked."""
    from cdnctl.console.screens import made

    for name, screen in made.items():
        for key in keys.of(name):
            if key.changes:
                assert hasattr(screen, f"open_{key.action}"), key
                assert key.bound_action == f"change({key.action!r})"
            else:
                assert "change" not in key.bound_action, key
                assert key.name in ("quit", *HARMLESS) or key.action.startswith("app."), (
                    f"{key} is new: judge it"
                )
