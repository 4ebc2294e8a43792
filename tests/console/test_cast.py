"""Casts: what they make a terminal show is what the app showed, cell for cell and colour for colour."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyte
import pytest
from driver import PALETTES, console
from frames import Edge, incident
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from cdnctl.console.cast import Made, Script, Size, cast
from cdnctl.console.cast import make as making
from cdnctl.console.cast.ansi import COLORS, Colors, Pen
from cdnctl.console.cast.make import Timed
from cdnctl.console.cast.picture import BEHIND, PLAIN, Cells, Look, Picture
from cdnctl.console.cast.stage import Sight
from cdnctl.console.session import Session
from cdnctl.errors import UsageError
from cdnctl.model import Frame

SIZES = [Size(80, 24), Size(120, 40), Size(200, 50)]


def timed(frames: list[Frame]) -> list[Timed]:
    """Frames with their seconds."""
    return [((frame.monotonic_ns - frames[0].monotonic_ns) / 1e9, frame) for frame in frames]


class Player:
    """A terminal emulator that a cast is played to."""

    def __init__(self, text: str) -> None:
        header, *events = (json.loads(line) for line in text.splitlines())
        self.header: dict[str, Any] = header
        self.events: list[list[Any]] = events
        self.screen = pyte.Screen(*self.size)
        self._stream = pyte.Stream(self.screen)

    @property
    def size(self) -> tuple[int, int]:
        if self.header["version"] == 2:
            return self.header["width"], self.header["height"]
        return self.header["term"]["cols"], self.header["term"]["rows"]

    def play(self) -> Iterator[float]:
        """The second after each event that was written."""
        at_s = 0.0
        for when_s, code, data in self.events:
            at_s = when_s if self.header["version"] == 2 else at_s + when_s
            if code == "o":
                self._stream.feed(data)
                yield round(at_s, 3)

    def markers(self) -> list[tuple[float, str]]:
        found, at_s = [], 0.0
        for when_s, code, data in self.events:
            at_s = when_s if self.header["version"] == 2 else at_s + when_s
            if code == "m":
                found.append((round(at_s, 3), data))
        return found


def shown(screen: pyte.Screen) -> list[list[tuple[str, str | None, str | None, bool, bool, bool]]]:
    """The emulator's cells."""
    return [[_emulated(screen.buffer[y][x]) for x in range(screen.columns)] for y in range(screen.lines)]


def _emulated(char: pyte.screens.Char) -> tuple[str, str | None, str | None, bool, bool, bool]:
    colors = [None if color == "default" else f"#{color}" for color in (char.fg, char.bg)]
    return char.data, *colors, char.bold, char.underscore, char.reverse  # type: ignore[return-value]


def wanted(picture: Picture) -> list[list[tuple[str, str | None, str | None, bool, bool, bool]]]:
    """The same of a picture; what is behind a wide character has that one's look, or what it had before."""
    return [
        [(char, look.fg, look.bg, look.bold, look.underline, look.reverse) for char, look in row]
        for row in picture.rows
    ]


def same(screen: pyte.Screen, picture: Picture) -> bool:
    """Character, colours and attributes of every cell; of the second half of a wide one nothing is seen."""
    pairs = (
        pair
        for old, new in zip(shown(screen), wanted(picture), strict=True)
        for pair in zip(old, new, strict=True)
    )
    return all(there == here or (here[0] == BEHIND == there[0]) for there, here in pairs)


# --- differences ------------------------------------------------------------------------------------

COLORS_USED = st.sampled_from([None, "#102030", "#ff7a7a", "#67d391"])
LOOKS = st.builds(Look, fg=COLORS_USED, bg=COLORS_USED, bold=st.booleans(), underline=st.booleans(),
                  reverse=st.booleans())  # fmt: skip
CHARS = st.sampled_from([*"ab  ", "⣿", "─", "●", "é", "網", "路"])


@st.composite
def pictures(draw: st.DrawFn, width: int = 11, height: int = 3) -> list[Picture]:
    """Pictures of one size, each with some cells of the one before."""
    made: list[Picture] = []
    for _ in range(draw(st.integers(1, 4))):
        rows = []
        for y in range(height):
            keep = made and draw(st.booleans())
            rows.append(made[-1].rows[y] if keep else _row(draw, width))
        made.append(Picture(tuple(rows)))
    return made


def _row(draw: st.DrawFn, width: int) -> Cells:
    looks = draw(st.lists(LOOKS, min_size=1, max_size=3))
    cells: list[tuple[str, Look]] = []
    for index, char in enumerate(draw(st.lists(CHARS, min_size=width, max_size=width))):
        look = looks[index * len(looks) // width]
        cells += [(char, look), (BEHIND, look)][: cell_len(char)]
    while len(cells) > width:
        cells.pop()
    if cell_len(cells[-1][0]) == 2:
        cells[-1] = ("x", PLAIN)
    return tuple(cells)


@settings(max_examples=2 * settings.default.max_examples, deadline=None)
@given(pictures())
def test_any_picture_becomes_any_other(them: list[Picture]) -> None:
    screen = pyte.Screen(11, 3)
    stream, pen = pyte.Stream(screen), Pen()
    for picture in them:
        stream.feed(pen.draw(picture))
        assert same(screen, picture)
        assert pen.draw(picture) == ""


@pytest.mark.parametrize("colors", COLORS)
def test_colours_are_said_as_the_terminal_knows_them(colors: Colors) -> None:
    text = Pen(colors).draw(Picture(((("a", Look("#ff0000", "#0000ff", bold=True)),),)))
    expected = {"truecolor": "1;38;2;255;0;0;48;2;0;0;255", "256": "1;38;5;196;48;5;21",
                "16": "1;31;44", "none": "1"}[colors]  # fmt: skip
    assert f"\x1b[{expected}ma" in text


# --- the app ----------------------------------------------------------------------------------------


@pytest.fixture
def sights(monkeypatch: pytest.MonkeyPatch) -> list[Sight]:
    """Every picture that a cast is made of."""
    seen: list[Sight] = []
    see = making._Writer.see
    monkeypatch.setattr(making._Writer, "see", lambda self, sight: (seen.append(sight), see(self, sight)))
    return seen


def make(frames: list[Frame], script: Script, **options: Any) -> tuple[Made, str]:
    out = io.StringIO()
    made = cast(timed(frames), options.pop("chapters", ()), script, out, **options)
    return made, out.getvalue()


@pytest.mark.parametrize(
    ("version", "size"),
    [
        (2, SIZES[0]),
        (3, SIZES[1]),
        *(
            pytest.param(version, size, marks=pytest.mark.soak)
            for version, size in [(2, SIZES[1]), (2, SIZES[2]), (3, SIZES[0]), (3, SIZES[2])]
        ),
    ],
)
def test_a_terminal_shows_what_the_app_shows(size: Size, version: Any, sights: list[Sight]) -> None:
    frames = incident()[30:130:2]
    made, text = make(frames, Script(size), version=version, theme_name=list(PALETTES)[version % 2])
    player = Player(text)
    assert player.size == size
    pictures = {round(sight.cast_s, 3): sight.picture for sight in sights}
    assert made.pictures == len(pictures) == len(frames)
    compared = 0
    for number, at_s in enumerate(player.play()):
        if number % 9 in (0, 5):
            assert same(player.screen, pictures[at_s]), at_s
            compared += 1
    assert compared >= len(frames) // 10
    assert same(player.screen, sights[-1].picture)  # it stays at the end
    assert not player.screen.cursor.hidden
    assert len(text) < 1_500 * len(frames) + 8 * size.columns * size.rows


async def test_the_picture_is_the_screens_text(sights: list[Sight]) -> None:
    """Against the goldens' own way of reading a screen, which knows nothing of casts."""
    frames = incident()[:30]
    async with console(frames, (120, 40)) as desk:
        expected = desk.text
    await _in_a_thread(lambda: make(frames, Script(Size(120, 40))))
    assert sights[-1].picture.text == expected


async def _in_a_thread(run: Any) -> None:
    await asyncio.to_thread(run)


def test_the_same_recording_gives_the_same_cast_however_slow_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frames, script = incident()[:20], Script(Size(80, 24))
    quick = make(frames, script)
    a_minute_a_look = itertools.count(0, 60).__next__
    monkeypatch.setitem(Session.__init__.__kwdefaults__, "clock", a_minute_a_look)
    assert make(frames, script) == quick
    assert "STALE" not in quick[1]


@pytest.mark.soak
def test_ten_minutes_take_less_than_one() -> None:
    edge = Edge(slow="borealis", flood_pps=40_000.0)
    frames = [edge.frame() for _ in range(1_200)]
    began_s = time.process_time()
    made, text = make(frames, Script(Size(120, 40)))
    took_s = time.process_time() - began_s
    print(f"{made.duration_s:.0f} s of frames in {took_s:.1f} s, {len(text) / 1e6:.1f} MB")
    assert took_s < 60


def test_speed_part_and_pauses(sights: list[Sight]) -> None:
    edge = Edge()
    frames = [edge.frame() for _ in range(20)]
    edge.seq += 120  # a minute without a frame
    frames += [edge.frame() for _ in range(21)]
    made, _ = make(frames, Script(Size(80, 24), speed=2, from_s=5, to_s=75, idle_limit_s=2))
    # From the 10th second: 4.5 s to the 20th frame, 2 of the pause, 4.5 more up to the 75th.
    assert sights[0].recorded_s == 5.0
    assert sights[-1].recorded_s == 75.0
    assert made.duration_s == pytest.approx((4.5 + 2 + 5.0) / 2)


def test_what_came_before_the_part_is_in_its_plots(sights: list[Sight]) -> None:
    frames = incident()[:60]
    make(frames, Script(Size(80, 24)))
    whole = {sight.recorded_s: sight.picture for sight in sights}
    sights.clear()
    make(frames, Script(Size(80, 24), from_s=24, to_s=28))
    assert [sight.recorded_s for sight in sights] == [24 + number / 2 for number in range(9)]
    assert all(whole[sight.recorded_s] == sight.picture for sight in sights)


def test_a_fast_cast_leaves_pictures_out_but_not_the_last(sights: list[Sight]) -> None:
    frames = incident()[:100]
    made, _ = make(frames, Script(Size(80, 24), speed=50))
    assert made.pictures < 25
    assert sights[-1].recorded_s == timed(frames)[-1][0]
    assert all(later.cast_s - sooner.cast_s >= 0.0499 for sooner, later in itertools.pairwise(sights[:-1]))


@pytest.mark.parametrize("version", [2, 3])
def test_chapters_become_markers(version: Any) -> None:
    chapters = [(0.0, "begin"), (5.0, "borealis \x1b[31mslows"), (8.2, "healed"), (500.0, "never")]
    made, text = make(incident()[:20], Script(Size(80, 24)), chapters=chapters, version=version)
    assert made.markers == 3
    assert Player(text).markers() == [(0.0, "begin"), (5.0, "borealis [31mslows"), (8.5, "healed")]


def test_keys_are_pressed_in_the_recording(sights: list[Sight]) -> None:
    keys = [(10.0, ["question_mark"]), (12.0, ["escape", "b"])]
    make(incident()[:30], Script(Size(120, 40), keys=keys))
    texts = {sight.recorded_s: sight.picture.text for sight in sights}
    assert "into what is under the cursor" not in texts[9.5]
    assert "into what is under the cursor" in texts[10.0]
    assert "Block" in texts[12.0]
    assert "into what is under the cursor" not in texts[12.0]


def test_screens_that_ask_the_edge_ask_nobody(sights: list[Sight], monkeypatch: pytest.MonkeyPatch) -> None:
    """A cast shows a recording, and starts no program on the box where it is made."""
    monkeypatch.setattr(asyncio, "create_subprocess_exec", None)
    keys = [(1.0, ["7"]), (3.0, ["D"]), (5.0, ["8"])]
    make(incident()[:12], Script(Size(120, 40), keys=keys))
    texts = {sight.recorded_s: sight.picture.text for sight in sights}
    assert "the doctor has not looked yet" in texts[2.0]
    assert "the doctor looks at a live edge; this is none" in texts[3.0]


def test_nothing_in_a_recording_speaks_to_the_terminal() -> None:
    edge = Edge()
    edge.say("note", "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m [bold]hello", "alarm")
    _, text = make([edge.frame() for _ in range(4)], Script(Size(120, 40)))
    for _, code, data in Player(text).events:
        assert not set(data) & {"\x07", "\x9b", "\u202e", "\n"}
        assert all(part[:1] == "[" and part[1:2] != "]" for part in data.split("\x1b")[1:]), code
    assert "[bold]hello" in text


def test_a_part_that_has_no_frame_is_refused() -> None:
    with pytest.raises(UsageError, match="--from"):
        make(incident()[:20], Script(Size(80, 24), from_s=60))


@pytest.mark.skipif(shutil.which("asciinema") is None, reason="asciinema is not installed: make setup")
def test_debians_asciinema_reads_version_2(tmp_path: Path, sights: list[Sight]) -> None:
    _, text = make(incident()[:20], Script(Size(80, 24)), version=2)
    (tmp_path / "demo.cast").write_text(text)
    # It wants a terminal of its own, which `script` gives it.
    ran = subprocess.run(
        ["script", "-qec", "asciinema cat demo.cast", "/dev/null"],
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=20,
    )  # fmt: skip
    screen = pyte.Screen(80, 24)
    pyte.ByteStream(screen).feed(ran.stdout)
    assert same(screen, sights[-1].picture)
