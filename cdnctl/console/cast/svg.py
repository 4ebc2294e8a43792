"""One picture for a page: an SVG that stands alone and looks the same wherever it is shown.

Nothing is fetched; any monospaced font will do, since every stretch of text is told its width, and what
a font may lack is drawn as paths (`shapes`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from html import escape
from itertools import groupby

from cdnctl.console.cast.asciicast import sixteen
from cdnctl.console.cast.picture import BEHIND, Cells, Look, Picture
from cdnctl.console.cast.shapes import HEIGHT, WIDTH, Shapes
from cdnctl.console.theme import Palette

FONT = "ui-monospace, 'DejaVu Sans Mono', 'SF Mono', Menlo, Consolas, 'Liberation Mono', monospace"
FONT_SIZE = 14
_BASELINE = 13.2
"""Pixels from the top of a row to the line that letters stand on."""
_MARGIN = 14
_BAR = 34
"""Height of the bar with the title, in pixels."""

Paint = tuple[str, bool, bool, bool, bool]
"""Colour, bold, italic, underlined, struck out."""


def svg(picture: Picture, palette: Palette, title: str) -> str:
    """The picture in a window of the theme's colours."""
    columns, rows = picture.size
    paper = palette.colors["background"]
    width, height = columns * WIDTH + 2 * _MARGIN, rows * HEIGHT + _BAR + _MARGIN
    under: list[str] = []
    shapes = Shapes()
    texts: defaultdict[Paint, list[str]] = defaultdict(list)
    for y, row in enumerate(picture.rows):
        under += _backgrounds(row, y, palette)
        _front(row, y, palette, shapes, texts)
    said, line, muted = escape(title), palette.colors["line"], palette.colors["muted"]
    frame = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
        f' height="{height:g}" role="img" aria-label="{said}">\n<title>{said}</title>\n'
        f'<rect x=".5" y=".5" width="{width - 1:g}" height="{height - 1:g}" rx="9" fill="{paper}"'
        f' stroke="{line}"/>\n<path d="M.5 {_BAR - 6}H{width - 0.5:g}" stroke="{line}"/>\n'
        f'<g font-family="{FONT}" font-size="{FONT_SIZE}">\n<text x="{width / 2:g}" y="{_BAR - 14}"'
        f' text-anchor="middle" font-size="12" fill="{muted}">{said}</text>\n'
        f'<g transform="translate({_MARGIN} {_BAR})">'
    )
    written = [f"<g {_attributes(paint)}>{''.join(texts[paint])}</g>" for paint in sorted(texts)]
    return "\n".join([frame, *under, *shapes.svg(), *written, "</g></g></svg>\n"])


def _backgrounds(row: Cells, y: int, palette: Palette) -> Iterator[str]:
    x = 0
    for color, cells in groupby(row, lambda cell: _colors(cell[1], palette)[1]):
        count = len(list(cells))
        if color != palette.colors["background"]:
            # A hair taller than a row, so that rows of one colour show no seam.
            yield (
                f'<rect x="{x * WIDTH:g}" y="{y * HEIGHT:g}" width="{count * WIDTH:g}"'
                f' height="{HEIGHT + 0.3:g}" fill="{color}"/>'
            )
        x += count


def _front(
    row: Cells, y: int, palette: Palette, shapes: Shapes, texts: defaultdict[Paint, list[str]]
) -> None:
    for x, text, look in _stretches(row):
        color = _colors(look, palette)[0]
        if shapes.draw(text[0], len(text), x, y, color):
            continue
        at = f'x="{x * WIDTH:g}" y="{y * HEIGHT + _BASELINE:g}"'
        if len(text) > 1:  # one letter has nothing to spread
            at += f' textLength="{len(text) * WIDTH:g}" lengthAdjust="spacingAndGlyphs"'
        paint = (color, look.bold, look.italic, look.underline, look.strike)
        texts[paint].append(f"<text {at}>{escape(text, quote=False)}</text>")


def _stretches(row: Cells) -> Iterator[tuple[int, str, Look]]:
    """Column, text and look of what is written in one go.

    That is words with single blanks between them, or the same drawn character several times; any other
    character stands alone, so that its font's width shifts nothing.
    """
    start, text, look = 0, "", row[0][1]
    for x, (char, its) in enumerate(row):
        if text and (its != look or not _joins(text[-1], char)):
            if text.strip():
                yield start, text.rstrip(), look
            text = ""
        if not text:
            start, look = x, its
        if char != BEHIND and (text or char != " "):
            text += char
    if text.strip():
        yield start, text.rstrip(), look


def _joins(before: str, char: str) -> bool:
    if char == BEHIND or not (before.isascii() and char.isascii()):
        return before == char
    return before != " " or char != " "


def _colors(look: Look, palette: Palette) -> tuple[str, str]:
    """Of the character, and of what is under it."""
    front = _color(look.fg, palette) or palette.colors["text"]
    back = _color(look.bg, palette) or palette.colors["background"]
    return (back, front) if look.reverse else (front, back)


def _color(color: str | None, palette: Palette) -> str | None:
    if color is None or color.startswith("#"):
        return color
    return sixteen(palette)[int(color[6:-1])]


def _attributes(paint: Paint) -> str:
    color, bold, italic, underline, strike = paint
    said = [f'fill="{color}"']
    said += ['font-weight="bold"'] if bold else []
    said += ['font-style="italic"'] if italic else []
    if underline or strike:
        said.append(f'text-decoration="{"underline" if underline else "line-through"}"')
    return " ".join(said)
