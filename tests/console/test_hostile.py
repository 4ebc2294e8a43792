"""Hostile text wherever outside data is shown: screens, dialogs, titles, files and copied lines."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import poison
import pytest
from driver import Desk, console
from poison import ALL, STRAINS, SURROGATE, harmless

from cdnctl.cli.spoken import CommandLine
from cdnctl.console.keys import SCREENS
from cdnctl.console.outside import title_of
from cdnctl.console.screens import speaking, trace
from cdnctl.console.screens.speaking import run_line
from cdnctl.model import AnyChange, BlockPrefix, Drain, Mark, SetLimit, SetWeights, Undrain
from cdnctl.model.lines import command_line


@pytest.fixture(autouse=True)
def _no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace and doctor are programs of their own; here their answers are hostile, too."""

    async def said(words: tuple[str, ...]) -> tuple[bool, str]:
        step = {"what": ALL, "found": ALL}
        finding = {"what": ALL, "text": ALL, "remedy": ALL, "level": "fail"}
        told = {"steps": [step], "warnings": [ALL], "summary": ALL, "findings": [finding]}
        return True, json.dumps(told)

    for module in (speaking, trace):
        monkeypatch.setattr(module, "run_line", said)


@pytest.mark.parametrize("word", ["\x00", "\ud83d", "x" * 3_000_000], ids=["NUL", "surrogate", "long"])
async def test_words_that_no_program_can_be_given_are_refused(word: str) -> None:
    ok, text = await run_line(("status", word))
    assert not ok
    assert "cannot be run" in text


DIALOGS = ("b", "u", "w", "d", "c", "z", "M", "R", "question_mark", "q", "ctrl+p")
MORE = {"lists": ("m", "e", "a", "i"), "steering": ("l",), "trace": ("e",), "journal": ("enter",)}
"""Dialogs that every screen opens, and those of its own."""
SHOWN_IN_SVG = {
    "svg",
    "g",
    "rect",
    "text",
    "tspan",
    "path",
    "line",
    "style",
    "defs",
    "clipPath",
    "title",
    "circle",
}


async def look(desk: Desk, width: int, *keys: str) -> None:
    """Press, and find nothing but text."""
    for key in keys:
        await desk.press(key)
        bad = [line for line in desk.text.splitlines() if not harmless(line, width)]
        assert not bad, (key, [ascii(line) for line in bad[:3]])
        assert desk.app.is_running, key


async def walk(desk: Desk, width: int) -> None:
    """Every screen, its tables, its dialogs; each dialog tried, and left."""
    for place in SCREENS:
        await desk.go(place.name)
        await look(desk, width, "tab", "j", "tab", "enter")
        await desk.go(place.name)
        for key in (*DIALOGS[:4], *MORE.get(place.name, ())):
            await look(desk, width, key, "ctrl+s", "escape", "escape", "escape")
            if desk.app.screen is not desk.house:
                await look(desk, width, "escape")
            await desk.go(place.name)


@pytest.mark.soak
@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_every_screen_and_dialog_shows_it_as_text(size: tuple[int, int]) -> None:
    async with console(poison.frames(ALL), size, answer=poison.answer(ALL)) as desk:
        desk.feed.sampled = [poison.packets(ALL)]
        await desk.send(poison.frames(ALL, 4)[3])
        await walk(desk, size[0])
        assert desk.app.return_code is None


@pytest.mark.soak
@pytest.mark.parametrize("strain", [*STRAINS, "surrogate"])
async def test_each_kind_on_every_screen(strain: str) -> None:
    text = STRAINS.get(strain, SURROGATE)
    async with console(poison.frames(text), (120, 40), answer=poison.answer(text)) as desk:
        for place in SCREENS:
            await desk.go(place.name)
            await look(desk, 120, "tab", "j")
        await look(desk, 120, "b", "ctrl+s", "escape")


@pytest.mark.parametrize("strain", STRAINS)
def test_the_title_of_the_terminal(strain: str) -> None:
    title = title_of(poison.frames(STRAINS[strain], 1)[0])
    assert harmless(title)
    assert "\n" not in title
    assert len(title) < 300


@pytest.mark.soak
async def test_exported_files_hold_no_formula_and_no_document(tmp_path: Path) -> None:
    text = STRAINS["formula"]
    for hostile in (text, STRAINS["formulas"], STRAINS["document"]):
        async with console(poison.frames(hostile), (200, 50), answer=poison.answer(hostile)) as desk:
            for place in SCREENS:
                await desk.go(place.name)
                await desk.press("x")
    tables = list(tmp_path.glob("*.csv"))
    pictures = list(tmp_path.glob("*.svg"))
    assert len(tables) >= 6
    assert len(pictures) >= len(SCREENS)
    for path in tables:
        with path.open(newline="", encoding="utf-8") as file:
            for cell in (cell for row in csv.reader(file) for cell in row):
                assert not cell.startswith(("=", "@", "\t", "\r")), (path.name, cell)
                assert not cell.startswith(("+", "-")) or re.fullmatch(r"[+-]?[\d,.]+[kMGT%]?", cell), cell
                assert harmless(cell)
    for path in pictures:
        drawn = ElementTree.fromstring(path.read_text(encoding="utf-8"))
        for element in drawn.iter():
            assert element.tag.rpartition("}")[2] in SHOWN_IN_SVG
            assert not any(
                name.lower().startswith(("on", "{http://www.w3.org/1999/xlink")) for name in element.attrib
            )


HOSTILE_WORDS = [text for text in STRAINS.values() if "\x00" not in text and len(text) < 400]


@pytest.mark.parametrize(
    "text", [*HOSTILE_WORDS, "-x", "--yes", "", " ", "'", '"', "\\", "$(reboot)", "a\nb"]
)
def test_the_command_line_of_a_change_is_that_change_whatever_it_says(text: str) -> None:
    changes: list[AnyChange] = [
        BlockPrefix(prefix="192.0.2.0/24", lifetime_s=600.0, reason=text),
        Drain(cdn="aurora", reason=text),
        Undrain(cdn="aurora", reason=text),
        SetWeights(weights={"aurora": 7}, reason=text),
        SetLimit(customer="acme", pps=5.0, reason=text),
        *([Mark(text=text)] if text.strip() else []),
    ]
    for change in changes:
        line = command_line(change)
        assert shlex.split(line)[0] == "cdnctl"
        spoken = CommandLine().parse(line.removeprefix("cdnctl "))
        assert spoken.command == change, line
