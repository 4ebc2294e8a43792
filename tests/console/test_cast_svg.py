"""Stills: every character in its cell, whatever the font, and nothing that a font may lack left to one."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from driver import PALETTES
from frames import incident
from hypothesis import given
from test_cast import pictures, timed

from cdnctl.console.cast import Size, still
from cdnctl.console.cast.picture import BEHIND, PLAIN, Cells, Look, Picture
from cdnctl.console.cast.shapes import HEIGHT, WIDTH, Shapes
from cdnctl.console.cast.svg import svg

SVG = "{http://www.w3.org/2000/svg}"
PALETTE = PALETTES["midnight"]
DRAWN = "─│╭╮╰╯┌┐└┘├┤┬┴┼━┃╸╺╹╻▁▂▃▄▅▆▇█▉▊▋▌▍▎▏▀▐▔▕▖▗▘▙▚▛▜▝▞▟●▲▸✖❙┈" + "".join(map(chr, range(0x2801, 0x2900)))


def written(text: str) -> tuple[dict[tuple[int, int], str], ElementTree.Element]:
    """The characters that a font writes, by row and column."""
    root = ElementTree.fromstring(text)
    found: dict[tuple[int, int], str] = {}
    for element in root.iter(f"{SVG}text"):
        if element.get("text-anchor"):
            continue  # the title
        content = element.text or ""
        x, y = float(element.get("x", "")) / WIDTH, int(float(element.get("y", "")) / HEIGHT)
        width = float(element.get("textLength", WIDTH))
        assert len(content) == 1 or width == pytest.approx(len(content) * WIDTH, abs=0.01)
        assert x == pytest.approx(round(x), abs=0.01)
        for number, char in enumerate(content):
            if char != " ":
                assert found.setdefault((y, round(x) + number), char) == char
    return found, root


def wanted(picture: Picture) -> dict[tuple[int, int], str]:
    return {
        (y, x): char
        for y, row in enumerate(picture.rows)
        for x, (char, _) in enumerate(row)
        if char not in (" ", BEHIND) and char not in DRAWN
    }


@given(pictures())
def test_every_character_is_in_its_cell(them: list[Picture]) -> None:
    for picture in them:
        assert written(svg(picture, PALETTE, "x"))[0] == wanted(picture)


def test_what_a_font_may_lack_is_drawn() -> None:
    row: Cells = tuple((char, PLAIN) for char in DRAWN)
    found, root = written(svg(Picture((row,)), PALETTE, "x"))
    assert not found
    paths = "".join(path.get("d", "") for path in root.iter(f"{SVG}path"))
    assert len(paths) > 3_000
    assert "nan" not in paths


def test_neighbouring_lines_are_one_stroke_and_meet_corners() -> None:
    shapes = Shapes()
    for column, (char, count) in enumerate([("╭", 1), ("─", 4), ("╮", 1)]):
        assert shapes.draw(char, count, (0, 1, 5)[column], 0, "#fff")
    paths = re.findall(r'd="([^"]+)"', "".join(shapes.svg()))
    assert len(paths) == 1
    assert f"M{WIDTH:g} {HEIGHT / 2:g}h{4 * WIDTH:g}" in paths[0]
    starts = [tuple(map(float, start)) for start in re.findall(r"M([\d.]+) ([\d.]+)Q", paths[0])]
    assert starts == [(WIDTH, HEIGHT / 2), (5 * WIDTH, HEIGHT / 2)]  # where the line begins and ends


def test_colours_backgrounds_and_reverse() -> None:
    row: Cells = (
        ("a", Look(fg="#111111", bg="#222222", reverse=True)),
        ("b", Look(fg="color(1)", bold=True)),
    )
    root = written(svg(Picture((row,)), PALETTE, "x"))[1]
    groups = {text.text: group for group in root.iter(f"{SVG}g") for text in group.findall(f"{SVG}text")}
    assert groups["a"].get("fill") == "#222222"
    assert groups["b"].get("fill") == PALETTE.colors["bad"]
    assert groups["b"].get("font-weight") == "bold"
    assert "#111111" in [rect.get("fill") for rect in root.iter(f"{SVG}rect")]


@pytest.mark.parametrize("theme", PALETTES)
def test_a_still_of_the_console(theme: str) -> None:
    made = still(timed(incident()[:90]), 44.0, Size(120, 40), theme_name=theme)
    found, root = written(made)
    rows = ["".join(found.get((y, x), " ") for x in range(120)) for y in range(40)]
    assert "borealis slows by 150 ms" in rows[0]
    assert any("22:13:45" in row and "borealis is out: slow" in row for row in rows)
    paper = PALETTES[theme].colors["background"] if PALETTES[theme].mixes else PALETTE.colors["background"]
    assert root.find(f"{SVG}rect").get("fill") == paper  # type: ignore[union-attr]
    assert "default" not in made
    assert len(made) < 60_000
