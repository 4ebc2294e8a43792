"""Characters for terminals that have not all of them.

Everything is composed with braille, block and box characters, each one cell wide. Where a terminal's
encoding or font lacks them, a translation puts others of the same width in their place, as the last
step before the screen: no widget knows of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

GLYPHS = ("auto", "braille", "block", "ascii")
"""What may be asked for; `auto` looks at the terminal."""

_ASCII = {
    "▌": "|", "━": "=", "╸": "-", "─": "-", "│": "|", "┤": "+", "┈": ".", "●": "*", "◑": "%", "◐": "?",
    "◔": "o", "◌": "o",
    "✖": "x", "▲": "!", "▸": ">", "·": ".", "–": "-", "−": "-", "±": "~", "…": "~", "→": ">",
    "←": "<", "↓": "v", "↑": "^", "❙": "|", "✔": "+", "▁": "_", "▂": "_", "▃": ".", "▄": "-", "▅": "=",
    "▆": "+", "▇": "*", "█": "#", "▀": "'", "░": ".", "▒": ":", "▓": "%", "■": "#", "□": "-", "◆": "*",
    "╭": "+", "╮": "+", "╰": "+", "╯": "+", "┏": "+", "┓": "+", "┗": "+", "┛": "+", "┃": "|", "▏": "|",
    "▕": "|", "▔": "-", "▊": "|", "▎": "|", "×": "x", "≤": "<", "≥": ">", "µ": "u",
    "▷": ">", "▶": ">", "◁": "<", "○": "o", "◉": "@", "▣": "#",
}  # fmt: skip
"""Those that the console and its frames are drawn with."""
_CONSOLE = {
    "━": "═", "╸": "─", "┈": "·", "●": "•", "◑": "½", "◐": "?", "◔": "○", "◌": "○", "✖": "x", "▸": ">",
    "–": "-", "−": "-",
    "…": "~", "❙": "│", "✔": "√", "▁": "_", "▂": "_", "▃": "▄", "▅": "▄", "▆": "█", "▇": "█",
    "□": "■", "◆": "♦", "╭": "┌", "╮": "┐", "╰": "└", "╯": "┘", "┏": "╔", "┓": "╗", "┗": "╚", "┛": "╝",
    "┃": "║", "▏": "│", "▕": "│", "▔": "▀", "▊": "▌", "▎": "▌", "×": "x", "▷": "►", "▶": "►", "◁": "◄",
    "◉": "◙", "▣": "■",
}  # fmt: skip
"""The same for the kernel's own console, whose font has little more than the characters of the first PCs."""
_TOP, _BOTTOM = 0x1 | 0x2 | 0x8 | 0x10, 0x4 | 0x20 | 0x40 | 0x80
"""Braille bits of the upper and the lower half of a cell."""
_ROWS = (0x1 | 0x8, 0x2 | 0x10, 0x4 | 0x20, 0x40 | 0x80)


class _Ascii(dict[int, str]):
    """Whatever is not ASCII and not in the table becomes question marks of its width."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        found = char if code < 128 else "?" * max(0, cell_len(char))
        self[code] = found
        return found


def _ascii_dots(bits: int) -> str:
    rows = [number for number, mask in enumerate(_ROWS) if bits & mask]
    if not rows:
        return " "
    if len(rows) >= 3:
        return "|"
    return "'-_."[rows[0]] if len(rows) == 1 else ("'", "-", "_")[min(rows[0], 2)]


def _block_dots(bits: int) -> str:
    return " ▄▀█"[2 * bool(bits & _TOP) + bool(bits & _BOTTOM)]


_BLOCK = {ord(char): other for char, other in _CONSOLE.items()}
_BLOCK.update({0x2800 + bits: _block_dots(bits) for bits in range(256)})
_PLAIN = _Ascii({ord(char): plain for char, plain in _ASCII.items()})
_PLAIN.update({0x2800 + bits: _ascii_dots(bits) for bits in range(256)})

Table = Mapping[int, str]


def table(name: str) -> Table | None:
    """What to translate with, for `str.translate`; None where everything can be shown."""
    name = guess() if name == "auto" else name
    return {"ascii": _PLAIN, "block": _BLOCK}.get(name)


class GlyphFilter(LineFilter):
    """Translates what a line says; its styles stay."""

    def __init__(self, translation: Table) -> None:
        super().__init__()
        self._translation = translation

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same line in other characters."""
        return [Segment(text.translate(self._translation), style, more) for text, style, more in segments]


def guess() -> str:
    """What this terminal can show: its encoding tells, and the kernel's console has no braille."""
    out = sys.__stderr__ or sys.__stdout__
    encoding = (getattr(out, "encoding", None) or "ascii").lower().replace("-", "")
    if encoding != "utf8":
        return "ascii"
    return "block" if os.environ.get("TERM") == "linux" else "braille"
