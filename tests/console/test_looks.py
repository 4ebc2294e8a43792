"""Themes live, other characters, the clock, the title, settings that are remembered, exports, the prompt."""

from __future__ import annotations

import ast
import csv
from pathlib import Path

import msgspec
import pictures
import pytest
from driver import PALETTES, console
from frames import Edge, incident

from cdnctl import paths
from cdnctl.console import glyphs, keys, settings
from cdnctl.console.cast.picture import BEHIND, Camera, Picture
from cdnctl.console.filters import Filter
from cdnctl.console.outside import title_of
from cdnctl.console.screens import trace
from cdnctl.console.settings import Settings
from cdnctl.console.widgets.prompt import Prompt
from cdnctl.console.widgets.talkers import TalkerTable
from cdnctl.model import BlockPrefix, Drain, Frame, Outcome

SIZE = (80, 24)


@pytest.fixture(autouse=True)
def _no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor, who looks when his screen is opened, is none of this box."""
    monkeypatch.setattr(trace, "run_line", pictures.answer_line)


@pytest.mark.soak
async def test_every_theme_draws_every_screen_and_maps_and_lines_follow() -> None:
    async with console(pictures.rich(incident()[:200]), (120, 40), answer=pictures.answer) as desk:
        drawn: dict[str, dict[str, str]] = {}
        for place in keys.SCREENS:
            await desk.go(place.name)
            for _ in PALETTES:
                await desk.press("t")
                assert "● ARMED" in desk.text
                drawn.setdefault(place.name, {})[desk.app.theme] = desk.text
        assert "▓" in drawn["cdns"]["plain"]  # by shades
        assert "▓" not in drawn["cdns"]["midnight"]
        assert "⠒⠂ borealis" in drawn["overview"]["plain"]
        assert "● borealis" in drawn["overview"]["daylight"]


async def test_an_edited_theme_is_taken_up_and_a_broken_one_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.toml"
    monkeypatch.setattr(paths, "theme_dirs", lambda: (tmp_path,))
    async with console(incident()[:2], SIZE) as desk:
        text = (Path(__file__).parents[2] / "themes" / "midnight.toml").read_text()
        mine.write_text(text.replace('accent = "#7cc4ff"', 'accent = "#123456"'))
        desk.app._look_at_themes()
        await desk.settle()
        assert desk.app.palette.colors["accent"] == "#123456"
        mine.write_text(text.replace('accent = "#7cc4ff"', 'accent = "mauve"'))
        desk.app._look_at_themes()
        await desk.settle()
        assert "mine.toml: colors.accent" in desk.text
        assert desk.app.palette.colors["accent"] == "#123456"


@pytest.mark.parametrize("name", ["ascii", "block"])
async def test_other_characters_for_terminals_that_lack_some(name: str) -> None:
    async with console(incident(), (120, 40), settings=Settings(glyphs=name)) as desk:
        for screen in ("overview", "cdns", "drops"):
            await desk.go(screen)
            text = desk.text
            if name == "ascii":
                assert text.isascii()
                assert "* in" in text or screen == "drops"
            else:
                assert not any("\u2800" <= char <= "\u28ff" for char in text)
            assert "● ARMED".translate(desk.app.glyph_table or {}) in text


PC_CHARACTERS = {*bytes(range(32, 256)).decode("cp437"), *"•○◙►◄↑↓→←♦▲▼"}
"""Of the first PCs, which every console's font has: those with codes, and those in the place of controls."""


def test_whatever_the_console_is_drawn_with_has_others_in_its_place() -> None:
    drawn = set()
    for path in (Path(__file__).parents[2] / "cdnctl" / "console").rglob("*.py"):
        if "cast" in path.parts or path.name == "glyphs.py":
            continue  # these know all characters that there are
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                drawn |= {char for char in node.value if not char.isascii()}
    assert len(drawn) > 30
    for name in ("ascii", "block"):
        table = glyphs.table(name)
        assert table is not None
        for char in drawn:
            other = char.translate(table)
            assert other.isascii() if name == "ascii" else other in PC_CHARACTERS, (char, other)
            assert "?" not in other or char in "?◐", char


@pytest.mark.parametrize("char", ["a", "ü", "日", "é", "⣿", "─"])
def test_every_character_keeps_its_width(char: str) -> None:
    from rich.cells import cell_len

    for name in ("ascii", "block"):
        table = glyphs.table(name)
        assert table is not None
        assert cell_len(char.translate(table)) == cell_len(char)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
async def test_wide_characters_in_names_shift_nothing(size: tuple[int, int]) -> None:
    """The same screens with a name of eight letters, and with one of four that are two cells wide."""
    seen: dict[str, list[Picture]] = {}
    for name in (NARROW, WIDE):
        frames = pictures.rich([_renamed(frame, name) for frame in incident()[150:200]])
        async with console(frames, size, answer=pictures.answer) as desk:
            for place in keys.SCREENS:
                await desk.go(place.name)
                seen.setdefault(place.name, []).append(Camera().take(desk.app))
    for screen, (narrow, wide) in seen.items():
        assert (WIDE in wide.text) == (NARROW in narrow.text)
        for one, other in zip(narrow.rows, wide.rows, strict=True):
            for (char, look), (instead, its) in zip(one, other, strict=True):
                assert char == instead or (char in NARROW and instead in (BEHIND, *WIDE)), (
                    screen,
                    char,
                    instead,
                )
                assert look == its
    assert WIDE in seen["overview"][1].text


NARROW, WIDE = "qjxzkvwy", "東京大阪"


def _renamed(frame: Frame, name: str) -> Frame:
    """Its first CDN so called, wherever it is named."""
    first, *rest = frame.cdns
    talkers = [
        msgspec.structs.replace(each, cdn=name) if each.cdn == first.name else each for each in frame.talkers
    ]
    return msgspec.structs.replace(
        frame, cdns=[msgspec.structs.replace(first, name=name), *rest], talkers=talkers, events=[]
    )


async def test_the_clock_is_local_or_utc() -> None:
    async with console() as desk:
        assert "22:15:15 " in desk.text
        await desk.press("T")
        assert "22:15:15Z" in desk.text
        await desk.press("T")
        assert "22:15:15Z" not in desk.text


def test_the_title_says_what_one_wants_to_see_of_a_hidden_window() -> None:
    assert title_of(Edge().frame()) == "cdnctl ams1"
    frame = Edge(dark="corona", armed=False).frame()
    assert title_of(frame) == "cdnctl ams1: disarmed, corona out"
    hostile = msgspec.structs.replace(frame, edge="a\x1b]0;x\x07b")
    assert "\x1b" not in title_of(hostile)


async def test_the_bell_rings_at_alarms_that_are_new_if_it_may() -> None:
    edge = Edge()
    edge.say("eject", "borealis is out", "alarm")
    async with console([edge.frame()], settings=Settings(bell=True)) as desk:
        rung: list[bool] = []
        desk.app.bell = lambda: rung.append(True)  # type: ignore[method-assign]
        await desk.send(edge.frame())
        assert rung == []
        edge.say("eject", "corona is out", "alarm")
        await desk.send(edge.frame())
        assert rung == [True]


# --- settings ---------------------------------------------------------------------------------------


async def test_sort_and_theme_are_remembered(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "console.toml"
    async with console(settings=settings.load(path)[0]) as desk:
        await desk.press("s", "r", "t")
        theme = desk.app.theme
    remembered, problems = settings.load(path)
    assert problems == []
    assert remembered.theme == theme
    assert remembered.sorts == {"talkers": "-mbit"}
    async with console(settings=remembered) as desk:
        table = desk.house.query_one(TalkerTable)
        assert (table.sort, table.reverse) == ("mbit", True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("theme = 3", "theme: 3 means nothing here; a text"),
        ("glyphs = 'x'", "one of auto, braille"),
        ("colour = 1", "known are theme, glyphs"),
        ("[", "delete it to begin anew"),
    ],
)
def test_settings_that_mean_nothing_cost_themselves_only(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "console.toml"
    path.write_text(f"utc = true\n{text}\n")
    found, problems = settings.load(path)
    assert said in problems[0]
    assert found.utc is (text != "[")
    assert found.theme == ""


def test_settings_that_cannot_be_written_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "not remembered" in Settings(path=tmp_path / "file" / "console.toml").save()


# --- export -----------------------------------------------------------------------------------------


async def test_what_is_seen_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frames = incident()[:200]
    talkers = [msgspec.structs.replace(frames[-1].talkers[0], prefix="=cmd|' /C calc'!A0")]
    frames[-1] = msgspec.structs.replace(frames[-1], talkers=[*talkers, *frames[-1].talkers])
    async with console(frames) as desk:
        await desk.press("tab", "tab", "x")
        assert "written: " in desk.text
    [path] = tmp_path.glob("*.csv")
    rows = list(csv.reader(path.open()))
    assert rows[0][:3] == ["prefix", "pps", "Mbit/s"]
    assert rows[1][0] == "'=cmd|' /C calc'!A0"
    assert rows[3][0] == "10.1.0.1"
    [svg] = tmp_path.glob("*.svg")
    assert "http" not in svg.read_text().replace("http://www.w3.org/2000/svg", "")


async def test_where_nothing_can_be_written_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "cwd", lambda: tmp_path / "gone")
    async with console(incident()[:3]) as desk:
        await desk.press("x")
        assert "start cdnctl where you may write" in desk.text


# --- filter and command line ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "row", "kept"),
    [
        ("", "a", True),
        ("tcp", "a TCP b", True),
        ("tcp !10.", "tcp 10.1", False),
        ("!x", "y", True),
        ("!", "y", True),
    ],
)
def test_filter(text: str, row: str, kept: bool) -> None:
    assert Filter(text).keeps(row) == kept


async def test_a_filter_holds_while_it_is_typed_and_esc_shows_all() -> None:
    async with console() as desk:
        table = desk.overview.query_one(TalkerTable)
        await desk.press("slash", *"10.1.")
        assert [record.key for record in table.records] == ["10.1.0.1", "10.1.51.88", "10.1.102.175"]
        await desk.press("enter")
        assert "only rows that match" in desk.text
        await desk.press("slash", "home", "exclamation_mark", "enter")
        assert "10.1.0.1" not in [record.key for record in table.records]
        await desk.press("escape")
        assert len(table.records) == 10


async def test_the_command_line_takes_the_shells_verbs_as_a_plan() -> None:
    async with console() as desk:
        await desk.press("colon", *"block 192.0.2.0/24 --for 10m --reason x", "enter")
        assert "cdnctl block 192.0.2.0/24 --for 10m --reason x" in desk.text
        assert desk.feed.commands == []
        await desk.press("ctrl+s")
        assert desk.feed.commands == [BlockPrefix(prefix="192.0.2.0/24", lifetime_s=600.0, reason="x")]


async def test_the_command_line_completes_and_remembers() -> None:
    async with console() as desk:
        await desk.press("colon", *"dr", "tab", *"au", "tab")
        assert "drain aurora" in desk.text
        await desk.press("enter", "ctrl+s")
        assert desk.feed.commands == [Drain(cdn="aurora")]
        await desk.press("colon", "up")
        assert "drain aurora" in desk.text
        await desk.press("escape")
        assert not desk.house.query_one(Prompt).is_open


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("blok 1", "invalid choice"),
        ("block", "block what?"),
        ("weight aurora", "expected NAME=WEIGHT"),
        ("limit acme", "no limit given"),
        ("block 'x", "close the quotation mark"),
        ("demo", "a program of its own"),
        ("agent", "a program of its own"),
    ],
)
async def test_mistakes_are_said_as_in_a_shell(line: str, said: str) -> None:
    async with console(incident()[:2]) as desk:
        desk.house.speak(line)
        await desk.settle()
        assert said in desk.text
        assert desk.feed.commands == []


async def test_a_dry_run_is_only_tried() -> None:
    async with console(incident()[:2]) as desk:
        desk.feed.answer = lambda command: Outcome(ok=True, text="would drain")
        desk.house.speak("drain aurora --dry-run")
        await desk.until(lambda: "would drain" in desk.text)
        assert desk.feed.commands == []
