"""Fewer bytes, the same picture."""

from __future__ import annotations

import random

import pyte

from cdnctl.console.terminal.thrift import thrifty

STYLES = (
    "", "1", "2", "7", "1;4", "38;2;1;2;3", "38;2;9;8;7", "1;38;2;1;2;3;48;2;4;5;6", "38;2;7;7;7;48;2;4;5;6",
    "31", "97;44", "38;5;9;48;5;200", "3;48;2;4;5;6", "39;49",
)  # fmt: skip


def drawn(text: str) -> list[list[object]]:
    screen = pyte.Screen(60, 20)
    pyte.Stream(screen).feed(text)
    return [[screen.buffer[row][column] for column in range(60)] for row in range(20)]


def test_the_picture_is_the_same() -> None:
    dice = random.Random(5)
    for _ in range(60):
        pieces = []
        for _ in range(40):
            place = f"\x1b[{dice.randint(1, 20)};{dice.randint(1, 50)}H" if dice.random() < 0.3 else ""
            style = dice.choice(STYLES)
            word = dice.choice(("abc", "  ", "x y", "\u2809\u2812"))
            pieces.append(place + (f"\x1b[{style}m{word}\x1b[0m" if style else word))
        text = "".join(pieces)
        assert drawn(thrifty(text)) == drawn(text), text


def test_what_is_the_same_is_not_said_again() -> None:
    one, other = "\x1b[38;2;1;2;3;48;2;4;5;6m", "\x1b[38;2;9;9;9;48;2;4;5;6m"
    assert thrifty(f"{one}a\x1b[0m{one}b\x1b[0m{other}c\x1b[0m") == f"{one}ab\x1b[38;2;9;9;9mc\x1b[0m"
