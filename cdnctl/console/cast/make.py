"""Casts and stills of a recording: what the command line asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, TextIO

from cdnctl.console.app import themes_for
from cdnctl.console.cast.ansi import Colors, Pen
from cdnctl.console.cast.asciicast import Asciicast, Version
from cdnctl.console.cast.picture import Picture
from cdnctl.console.cast.stage import Press, Script, Sight, Size, hold, moments, play, stage
from cdnctl.console.cast.svg import svg
from cdnctl.console.theme import DEFAULT, Palette
from cdnctl.errors import CdnctlError
from cdnctl.model import Frame

Timed = tuple[float, Frame]
"""A frame and its second of the recording, from 0."""
Chapter = tuple[float, str]
"""Second of the recording, and what begins there."""


SUITED: dict[Colors, str] = {"16": "ansi", "none": "plain"}
"""Themes made for terminals that can show no more."""


class Made(NamedTuple):
    """What became of it."""

    duration_s: float
    pictures: int
    markers: int


def cast(
    frames: Iterable[Timed],
    chapters: Iterable[Chapter],
    script: Script,
    out: TextIO,
    *,
    theme_name: str | None = None,
    version: Version = 3,
    colors: Colors = "truecolor",
    title: str = "",
    utc: bool = False,
) -> Made:
    """Write the recording as an asciicast; raises CdnctlError."""
    palettes, name, _ = themes_for(theme_name, SUITED.get(colors, DEFAULT))
    edge, frames = _edge(frames)
    writer = _Writer(
        Asciicast(out, version), Pen(colors), palettes[name], title or f"cdnctl --edge {edge}", chapters
    )

    async def run() -> None:
        async with stage(edge, script.size, palettes, name, utc=utc) as on:
            await play(on, moments(frames, script), script, writer.see)

    asyncio.run(run())
    return writer.end()


def still(
    frames: Iterable[Timed],
    at_s: float,
    size: Size,
    *,
    keys: Sequence[Press] = (),
    theme_name: str | None = None,
    title: str = "",
    utc: bool = False,
) -> str:
    """What the console shows at that second, as an SVG; raises CdnctlError."""
    palettes, name, _ = themes_for(theme_name, DEFAULT)
    edge, frames = _edge(frames)

    async def run() -> Picture:
        async with stage(edge, size, palettes, name, utc=utc) as on:
            return await hold(on, frames, at_s, keys)

    return svg(asyncio.run(run()), _exact(palettes, name), title or f"cdnctl --edge {edge}")


def _exact(palettes: Mapping[str, Palette], name: str) -> Palette:
    """That theme, or where it leaves colours to the terminal one that could be the terminal's."""
    dark = palettes[name].dark
    exact = [palette for palette in palettes.values() if palette.mixes]
    return next(
        (palette for palette in (palettes[name], *exact) if palette.mixes and palette.dark == dark), exact[0]
    )


class _Writer:
    """Turns what is seen into events of an asciicast."""

    def __init__(
        self, to: Asciicast, pen: Pen, palette: Palette, title: str, chapters: Iterable[Chapter]
    ) -> None:
        self._to, self._pen, self._palette, self._title = to, pen, palette, title
        self._chapters = sorted(chapters)
        self._pictures = 0
        self._last_s = 0.0

    def see(self, sight: Sight) -> None:
        """The next picture; the first one begins the file."""
        if not self._pictures:
            self._to.header(sight.picture.size, self._palette, title=self._title, began_ns=sight.at_ns)
            self._chapters = [chapter for chapter in self._chapters if chapter[0] > sight.recorded_s - 1]
        while self._chapters and self._chapters[0][0] <= sight.recorded_s:
            self._to.marker(sight.cast_s, self._chapters.pop(0)[1])
        if text := self._pen.draw(sight.picture):
            self._to.output(sight.cast_s, text)
        self._pictures += 1
        self._last_s = sight.cast_s

    def end(self) -> Made:
        """Leave the terminal in order."""
        self._to.output(self._last_s, self._pen.leave())
        self._to.end(self._last_s)
        return Made(self._last_s, self._pictures, self._to.markers)


def _edge(frames: Iterable[Timed]) -> tuple[str, Iterable[Timed]]:
    """The edge's name, from the first frame, and all frames."""
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise CdnctlError("the recording has no frame", "record for longer than a second")
    return first[1].edge, chain((first,), rest)
