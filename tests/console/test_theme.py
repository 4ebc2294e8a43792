"""Theme files: those that are shipped, and broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from driver import PALETTES, console

from cdnctl import paths
from cdnctl.console import theme

SHIPPED = theme.load(paths.theme_dirs()[:1])[0]
TEXT = (paths.theme_dirs()[0] / "midnight.toml").read_text()


def luminance(color: str) -> float:
    """Relative luminance, WCAG 2.1."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_shipped_themes_are_valid_and_the_default_is_first() -> None:
    themes, problems = theme.load(paths.theme_dirs()[:1])
    assert problems == []
    assert next(iter(themes)) == "midnight"
    assert set(themes) == {
        "midnight", "daylight", "high-contrast", "colour-blind", "amber", "ansi", "plain",
    }  # fmt: skip


def test_the_terminals_own_colours_are_all_or_none_and_grounds_are_turned_round() -> None:
    text = TEXT.replace('good = "#67d391"', 'good = "green"')
    with pytest.raises(theme.ThemeError, match="all as #rrggbb"):
        theme.parse(text, "mine.toml")
    plain = SHIPPED["plain"]
    assert plain.style("on cursor").reverse
    assert plain.style("background on bad bold").reverse
    assert not plain.style("accent on surface").reverse
    assert plain.heat == ()


@pytest.mark.parametrize("name", SHIPPED)
def test_all_text_can_be_read(name: str) -> None:
    colors, least = SHIPPED[name].colors, 7.0 if name == "high-contrast" else 4.5
    if not SHIPPED[name].mixes:
        assert set(colors.values()) <= theme.ANSI  # the terminal's own: its user has chosen them
        return
    for ground in ("background", "surface", "cursor"):
        for role in ("text", "muted", "accent", "good", "warn", "bad"):
            assert contrast(colors[role], colors[ground]) >= least, f"{role} on {ground}"
    for role in ("accent", "warn", "bad"):  # chips and banners
        assert contrast(colors["background"], colors[role]) >= least, f"background on {role}"
    for color in SHIPPED[name].series:
        assert contrast(color, colors["background"]) >= least, color


@pytest.mark.parametrize("name", [name for name, palette in SHIPPED.items() if palette.mixes])
def test_more_of_a_heat_map_is_always_farther_from_the_ground(name: str) -> None:
    palette = SHIPPED[name]
    steps = [contrast(color, palette.colors["background"]) for color in palette.heat]
    assert steps == sorted(steps)
    assert len(set(palette.heat)) == len(palette.heat)


def test_roles() -> None:
    palette = SHIPPED["midnight"]
    style = palette.style("bad bold on cursor")
    assert style.bold
    assert style.color is not None
    assert style.color.name == palette.colors["bad"]
    assert style.bgcolor is not None
    assert style.bgcolor.name == palette.colors["cursor"]
    assert palette.style("s9") == palette.style("s1")  # the ninth CDN starts over
    with pytest.raises(KeyError):
        palette.style("mauve")


def test_every_problem_is_told_with_file_and_key() -> None:
    text = (
        TEXT.replace('bad = "#', 'bad = "')
        .replace("dark = true", 'dark = "yes"\nshade = 3')
        .replace("line =", "lines =")
    )
    with pytest.raises(theme.ThemeError) as caught:
        theme.parse(text, "mine.toml")
    problems = str(caught.value).splitlines()
    assert all(problem.startswith("mine.toml: ") for problem in problems)
    for key in ("colors.bad", "dark", "shade", "colors.lines", "colors.line:"):
        assert any(key in problem for problem in problems), key


@pytest.mark.parametrize("text", ["", "name = 3", "[", "[colors]\nseries = 3", 'colors = "red"'])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(theme.ThemeError):
        theme.parse(text, "mine.toml")


def test_a_users_theme_is_added_and_a_broken_one_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(TEXT.replace('"midnight"', '"mine"'))
    (tmp_path / "broken.toml").write_text("[colors]")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    themes, problems = theme.load([paths.theme_dirs()[0], tmp_path, tmp_path / "missing"])
    assert {*SHIPPED, "mine"} == set(themes)
    assert next(iter(themes)) == "midnight"
    assert len(problems) >= 2


@pytest.mark.parametrize("name", PALETTES)
async def test_a_dialog_hides_no_more_of_the_screen_than_its_box(name: str) -> None:
    async with console(size=(120, 40)) as desk:
        desk.app.theme = name
        await desk.settle()
        before = desk.text.splitlines()
        await desk.press("b")
        assert "Block a prefix" in desk.text
        assert desk.text.splitlines()[:3] == before[:3]
