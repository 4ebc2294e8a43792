"""Themes: one TOML file each, read from `paths.theme_dirs()`.

A theme names eleven colours by what they mean and a list of series colours, one a CDN. Widgets never
name a colour: they give a *role*, a few words such as `bad bold` or `s2` (the third series), and
the `Palette` turns it into a style. Textual's own widgets take theirs from the same colours.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from colorsys import rgb_to_hls
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.style import Style
from textual.app import App
from textual.theme import Theme

from cdnctl.console import depth

COLORS = (
    "background", "surface", "cursor", "line", "faint", "muted", "text", "accent", "good", "warn", "bad",
)  # fmt: skip
SERIES_AT_LEAST = 8
DEFAULT = "midnight"
_NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
ANSI = frozenset(("default", *_NAMES, *(f"bright_{name}" for name in _NAMES)))
"""The terminal's own colours, as a theme may name them."""
HEAT = 8
"""Steps of a heat map's colours above none; roles `h0` to `h8`."""
_GLOW_FROM = 0.7
"""The part of them at which the accent is reached."""
_ONE_HUE = 1 / 12
"""Of the circle of hues."""
_HEX = re.compile(r"#[0-9a-fA-F]{6}")


class ThemeError(Exception):
    """A theme file that cannot be used: every problem, each with file, key and what would be right."""


@dataclass(frozen=True)
class Palette:
    """The colours of one theme, and the styles they make."""

    name: str
    dark: bool
    colors: dict[str, str]
    series: tuple[str, ...]
    heat: tuple[str, ...] = ()
    """From the background (nothing) to what glows; empty where colours cannot be mixed."""
    _styles: dict[str, Style] = field(default_factory=dict, compare=False, repr=False)

    def style(self, role: str) -> Style:
        """The style of a role: colour names, `s0`, `s1`, ... and `bold`, `reverse`, `underline`, by spaces.

        A colour name after `on` is the background's. Raises KeyError for an unknown word.
        """
        found = self._styles.get(role)
        if found is None:
            found = self._styles[role] = self._make(role)
        return found

    @property
    def mixes(self) -> bool:
        """Whether all colours are exact; else they are the terminal's own, of which nothing is known."""
        return bool(self.heat)

    @property
    def one_hue(self) -> bool:
        """Whether the series are one colour or shades of one: lines of a plot need more to be told apart."""
        if not self.mixes:
            return len(set(self.series)) == 1
        hues = [rgb_to_hls(*(part / 255 for part in _rgb(color)))[0] for color in self.series]
        return max(hues) - min(hues) < _ONE_HUE

    def _make(self, role: str) -> Style:
        if not self.mixes and " on " in f" {role}":
            return self._reversed(role)
        color = background = None
        attributes: dict[str, bool] = {}
        words = iter(role.split())
        for word in words:
            if word in ("bold", "reverse", "underline"):
                attributes[word] = True
            elif word == "on":
                background = self._color(next(words))
            else:
                color = self._color(word)
        return Style(color=color, bgcolor=background, **attributes)  # type: ignore[arg-type]

    def _reversed(self, role: str) -> Style:
        """What stands on a ground, where the terminal's own ground is not known: turned round."""
        before, _, after = f" {role} ".partition(" on ")
        ground, *attributes = after.split()
        if ground in ("surface", "background"):
            return self.style(" ".join((before.strip(), *attributes)))
        color = None if ground == "cursor" else self._color(ground)
        return Style(color=color, reverse=True, bold="bold" in attributes or None)

    def _color(self, word: str) -> str:
        if word[0] == "s" and word[1:].isdecimal():
            return self.series[int(word[1:]) % len(self.series)]
        if word[0] == "h" and word[1:].isdecimal():
            step = int(word[1:])
            # without exact colours a map is drawn by shades; one of another theme may still be on the screen
            return self.heat[step] if self.heat else self.colors["accent" if step else "background"]
        return self.colors[word]

    def textual_theme(self) -> Theme:
        """This theme for Textual's own style sheet; ours are its variables `$line`, `$muted`, ..."""
        colors = {key: _for_textual(color) for key, color in self.colors.items()}
        return Theme(
            name=self.name,
            dark=self.dark,
            primary=colors["accent"],
            secondary=colors["muted"],
            accent=colors["accent"],
            success=colors["good"],
            warning=colors["warn"],
            error=colors["bad"],
            foreground=colors["text"],
            background=colors["background"],
            surface=colors["surface"],
            panel=colors["surface"],
            variables=self.variables(),
            ansi=not self.mixes,
        )

    def variables(self) -> dict[str, str]:
        """Style sheet variables that Textual does not derive."""
        colors = {key: _for_textual(color) for key, color in self.colors.items()}
        return {
            "ansi-background": "ansi_default",
            "ansi-foreground": "ansi_default",
            "line": colors["line"],
            "faint": colors["faint"],
            "muted": colors["muted"],
            "cursor": colors["cursor"],
            "text": colors["text"],
            "text-muted": colors["muted"],
            "border": colors["accent"],
            "input-cursor-background": colors["accent"],
            "input-cursor-foreground": colors["background"],
            "input-selection-background": colors["cursor"],
            "block-cursor-background": colors["cursor"],
            "block-cursor-foreground": colors["text"],
            "scrollbar": colors["faint"],
            "scrollbar-hover": colors["muted"],
            "scrollbar-active": colors["accent"],
            "scrollbar-background": colors["background"],
        }


def parse(text: str, where: str) -> Palette:
    """Read one theme; raises ThemeError with all that is wrong in it. `where` names the file."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ThemeError(f"{where}: {error}") from None
    problems = []
    colors: Any = data.get("colors")
    if not isinstance(colors, dict):
        raise ThemeError(f"{where}: [colors] is missing")
    for key in data.keys() - {"name", "dark", "colors"}:
        problems.append(f"{where}: {key}: unknown key; a theme has name, dark and [colors]")
    for key in colors.keys() - {*COLORS, "series"}:
        problems.append(f"{where}: colors.{key}: unknown key; known are {', '.join(COLORS)}, series")
    name, dark = data.get("name"), data.get("dark")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9-]{1,32}", name):
        problems.append(f"{where}: name: {name!r}; 1 to 32 of a-z, 0-9 and '-'")
    if not isinstance(dark, bool):
        problems.append(f"{where}: dark: {dark!r}; true or false")
    for key in COLORS:
        problems += _color_problems(where, f"colors.{key}", colors.get(key))
    series = colors.get("series")
    if not isinstance(series, list) or len(series) < SERIES_AT_LEAST:
        problems.append(f"{where}: colors.series: a list of at least {SERIES_AT_LEAST} colours")
        series = []
    for index, color in enumerate(series):
        problems += _color_problems(where, f"colors.series[{index}]", color)
    if not problems and _mixed([*(colors[key] for key in COLORS), *series]):
        problems.append(f"{where}: colors: either all as #rrggbb, or all the terminal's own")
    if problems:
        raise ThemeError("\n".join(problems))
    assert isinstance(name, str)
    assert isinstance(dark, bool)
    chosen = {key: colors[key] for key in COLORS}
    return Palette(name=name, dark=dark, colors=chosen, series=tuple(series), heat=_heat(chosen))


def _heat(colors: Mapping[str, str]) -> tuple[str, ...]:
    """From the background over accent and text, whichever is nearer to it first; nothing where the colours
    are the terminal's own."""
    if not colors["background"].startswith("#"):
        return ()
    ground, accent, text = (_rgb(colors[key]) for key in ("background", "accent", "text"))
    if abs(_light(accent) - _light(ground)) > abs(_light(text) - _light(ground)):
        accent, text = text, accent
    found = [colors["background"]]
    for step in range(1, HEAT + 1):
        part = step / HEAT
        if part <= _GLOW_FROM:
            start, end, way = ground, accent, 0.18 + 0.82 * part / _GLOW_FROM
        else:
            start, end, way = accent, text, (part - _GLOW_FROM) / (1 - _GLOW_FROM)
        mixed = (round(a + (b - a) * way) for a, b in zip(start, end, strict=True))
        found.append("#" + "".join(f"{value:02x}" for value in mixed))
    return tuple(found)


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _light(color: tuple[int, int, int]) -> float:
    """How light it looks, roughly: green does most, blue least (ITU-R BT.601)."""
    red, green, blue = color
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _color_problems(where: str, key: str, value: object) -> list[str]:
    if isinstance(value, str) and (_HEX.fullmatch(value) or value in ANSI):
        return []
    return [
        f'{where}: {key}: {value!r}; a colour is written as "#rrggbb", or one of the terminal\'s own as "red"'
    ]


def _for_textual(color: str) -> str:
    return color if color.startswith("#") else f"ansi_{color}"


def _mixed(palette: Iterable[str]) -> bool:
    kinds = {color.startswith("#") for color in palette}
    return len(kinds) > 1


def load(directories: Iterable[Path]) -> tuple[dict[str, Palette], list[str]]:
    """All themes by name, later directories replacing earlier ones, and the problems of broken files.

    The default comes first. A broken file costs its own theme only.
    """
    themes: dict[str, Palette] = {}
    problems: list[str] = []
    for directory in directories:
        for path in sorted(directory.glob("*.toml")):
            try:
                palette = parse(path.read_text(encoding="utf-8"), path.name)
            except (ThemeError, OSError, UnicodeDecodeError) as error:
                problems.append(str(error))
            else:
                themes[palette.name] = palette
    return dict(sorted(themes.items(), key=lambda item: (item[0] != DEFAULT, item[0]))), problems


def signature(directories: Iterable[Path]) -> tuple[tuple[str, int, int], ...]:
    """Changes when a theme file does."""
    found = []
    for directory in directories:
        for path in sorted(directory.glob("*.toml")):
            with contextlib.suppress(OSError):
                stat = path.stat()
                found.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def suited(themes: Mapping[str, Palette]) -> str:
    """The theme to begin with: the default, but where there are no colours, or 16, one made for that."""
    shown = depth.colors()
    wanted = "plain" if not shown else "ansi" if shown < depth.MIXED else DEFAULT
    return wanted if wanted in themes else next(iter(themes))


def can_be_shown(palette: Palette) -> bool:
    """Whether this terminal has the colours that the theme asks for, or some so near that they will do."""
    return not palette.mixes or depth.colors() >= depth.MIXED


def palette_of(app: App[Any]) -> Palette:
    """The palette in use; `app` is the console's app (or a test's), which has it as `palette`."""
    palette = getattr(app, "palette", None)
    if not isinstance(palette, Palette):
        raise TypeError("the app has no palette")
    return palette
