"""Characters that are drawn rather than written: lines, blocks, braille and a few marks, as SVG paths.

A font may lack them, or have them in another width, and then a border has gaps and a plot falls apart. As
paths they meet exactly, wherever the picture is looked at. Paths of one colour and kind are joined to
one, and a line over many cells is a single stroke.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Literal

WIDTH = 8.4
"""Of a cell, in pixels: six tenths of the font's size, as in most monospaced fonts."""
HEIGHT = 18.0
Kind = Literal["fill", "light", "heavy", "dashed", "dots"]
STROKES = {
    "light": 'stroke-width="1"',
    "heavy": 'stroke-width="3"',
    "dashed": 'stroke-width="1" stroke-dasharray="1 3.2" stroke-dashoffset="-1.6"',
    "dots": 'stroke-width="2.3" stroke-linecap="round"',
}

# Arms of a line character: left, right, up, down; 1 light, 2 heavy.
_ARMS = {
    "─": "1100", "│": "0011", "┌": "0101", "┐": "1001", "└": "0110", "┘": "1010", "├": "0111",
    "┤": "1011", "┬": "1101", "┴": "1110", "┼": "1111", "╴": "1000", "╶": "0100", "╵": "0010",
    "╷": "0001", "━": "2200", "┃": "0022", "┏": "0202", "┓": "2002", "┗": "0220", "┛": "2020",
    "╸": "2000", "╺": "0200", "╹": "0020", "╻": "0002", "╾": "2100", "╼": "1200",
}  # fmt: skip
_ARCS = {"╭": (1, 1), "╮": (-1, 1), "╰": (1, -1), "╯": (-1, -1)}
"""Which way the ends point: right or left, down or up."""
_RUNS: dict[str, Kind] = {"─": "light", "━": "heavy", "┈": "dashed"}
"""Neighbours of the same kind are one stroke."""
_BRAILLE = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
"""Column and row of each bit's dot."""
_QUADRANTS = {"▖": 4, "▗": 8, "▘": 1, "▙": 13, "▚": 9, "▛": 7, "▜": 11, "▝": 2, "▞": 6, "▟": 14}
"""Bits: upper left, upper right, lower left, lower right."""
_MARKS = {
    "●": "m-3.8 0a3.8 3.8 0 1 0 7.6 0a3.8 3.8 0 1 0-7.6 0z",
    "▲": "m0-4.6l4.4 8.4h-8.8z",
    "▸": "m-3-4l6.8 4l-6.8 4z",
    "✖": "m0-1.6l2.5-2.5l1.6 1.6l-2.5 2.5l2.5 2.5l-1.6 1.6"
    "l-2.5-2.5l-2.5 2.5l-1.6-1.6l2.5-2.5l-2.5-2.5l1.6-1.6z",
    "❙": "m-1.2-5h2.4v10h-2.4z",
}
"""The marks of states, from the middle of their cell."""


class Shapes:
    """Collects the shapes of one picture."""

    def __init__(self) -> None:
        self._paths: defaultdict[tuple[str, Kind], list[str]] = defaultdict(list)

    def draw(self, char: str, count: int, column: int, row: int, color: str) -> bool:
        """Draw `count` times `char` from a cell on; False for one that a font has to write."""
        if char in _RUNS:
            line = f"M{_n(column * WIDTH)} {_n((row + 0.5) * HEIGHT)}h{_n(count * WIDTH)}"
            self._paths[color, _RUNS[char]].append(line)
            return True
        drawn = [self._one(char, (column + number) * WIDTH, row * HEIGHT, color) for number in range(count)]
        return all(drawn)

    def _one(self, char: str, x: float, y: float, color: str) -> bool:
        code = ord(char)
        if 0x2800 <= code < 0x2900:
            self._braille(code - 0x2800, x, y, color)
        elif char in _ARMS:
            self._arms(_ARMS[char], x + WIDTH / 2, y + HEIGHT / 2, color)
        elif char in _ARCS:
            self._arc(*_ARCS[char], x + WIDTH / 2, y + HEIGHT / 2, color)
        elif 0x2580 <= code < 0x25A0 and char not in "░▒▓":
            self._block(code, char, x, y, color)
        elif char in _MARKS:
            middle = f"M{_n(x + WIDTH / 2)} {_n(y + HEIGHT / 2 + 0.5)}"
            self._paths[color, "fill"].append(middle + _MARKS[char])
        else:
            return False
        return True

    def _braille(self, bits: int, x: float, y: float, color: str) -> None:
        dots = self._paths[color, "dots"]
        for bit, (column, row) in enumerate(_BRAILLE):
            if bits >> bit & 1:
                dots.append(f"M{_n(x + WIDTH * (0.25 + column / 2))} {_n(y + HEIGHT * (0.125 + row / 4))}h0")

    def _arms(self, arms: str, x: float, y: float, color: str) -> None:
        across, along = WIDTH / 2, HEIGHT / 2
        ends = (f"H{_n(x - across)}", f"H{_n(x + across)}", f"V{_n(y - along)}", f"V{_n(y + along)}")
        for arm, end in zip(arms, ends, strict=True):
            if arm != "0":
                self._paths[color, "light" if arm == "1" else "heavy"].append(f"M{_n(x)} {_n(y)}{end}")

    def _arc(self, right: int, down: int, x: float, y: float, color: str) -> None:
        bend = WIDTH / 2
        self._paths[color, "light"].append(
            f"M{_n(x + right * bend)} {_n(y)}Q{_n(x)} {_n(y)} {_n(x)} {_n(y + down * bend)}"
            f"V{_n(y + down * HEIGHT / 2)}"
        )

    def _block(self, code: int, char: str, x: float, y: float, color: str) -> None:
        if char in _QUADRANTS:
            for bit in range(4):
                if _QUADRANTS[char] >> bit & 1:
                    left, top = x + WIDTH / 2 * (bit % 2), y + HEIGHT / 2 * (bit // 2)
                    self._rectangle(left, top, WIDTH / 2, HEIGHT / 2, color)
        elif char == "▀":
            self._rectangle(x, y, WIDTH, HEIGHT / 2, color)
        elif char == "▔":
            self._rectangle(x, y, WIDTH, HEIGHT / 8, color)
        elif char in "▐▕":
            part = WIDTH / (2 if char == "▐" else 8)
            self._rectangle(x + WIDTH - part, y, part, HEIGHT, color)
        elif code <= 0x2588:  # from the bottom, in eighths
            part = HEIGHT * (code - 0x2580) / 8
            self._rectangle(x, y + HEIGHT - part, WIDTH, part, color)
        else:  # from the left, ever fewer eighths
            self._rectangle(x, y, WIDTH * (0x2590 - code) / 8, HEIGHT, color)

    def _rectangle(self, x: float, y: float, width: float, height: float, color: str) -> None:
        self._paths[color, "fill"].append(f"M{_n(x)} {_n(y)}h{_n(width)}v{_n(height)}h-{_n(width)}z")

    def svg(self) -> list[str]:
        """All of them, a line a colour and kind."""
        lines = []
        for (color, kind), paths in sorted(self._paths.items()):
            paint = f'fill="{color}"' if kind == "fill" else f'fill="none" stroke="{color}" {STROKES[kind]}'
            lines.append(f'<path {paint} d="{"".join(paths)}"/>')
        return lines


def _n(value: float) -> str:
    """A number as short as a tenth of a pixel allows."""
    return f"{value:.1f}".removesuffix(".0")
