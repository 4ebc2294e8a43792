"""Only what differs, and the same picture."""

from __future__ import annotations

import pyte
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from cdnctl.console.terminal import styles
from cdnctl.console.terminal.shadow import Shadow

WIDTH, HEIGHT = 24, 5
STYLES = (
    "", "1", "2", "7", "1;4", "38;2;1;2;3", "38;2;9;8;7", "1;38;2;1;2;3;48;2;4;5;6", "38;2;7;7;7;48;2;4;5;6",
    "31", "97;44", "38;5;9;48;5;200", "3;48;2;4;5;6", "39;49", "9;38;2;1;2;3",
)  # fmt: skip
WIDE = ("\u6f22\u5b57", "a\u6f22", "e\u0301")
WORDS = ("abc", "  ", "x y", " 7", "\u2809\u2812", "\u2502", "-" * WIDTH, *WIDE)
words = st.lists(st.tuples(st.sampled_from(STYLES), st.sampled_from(WORDS)))
pieces = st.tuples(st.integers(1, HEIGHT), st.integers(1, WIDTH), words)
writes = st.lists(st.lists(pieces, max_size=8), max_size=6)


class Seen:
    """A terminal, and what can be seen of it."""

    def __init__(self) -> None:
        self.screen = pyte.Screen(WIDTH, HEIGHT)
        self._stream = pyte.Stream(self.screen)
        self.feed("\x1b[?7l")

    def feed(self, text: str) -> None:
        self._stream.feed(text)

    @property
    def picture(self) -> list[list[object]]:
        return [[_seen(self.screen.buffer[row][at]) for at in range(WIDTH)] for row in range(HEIGHT)]


def _seen(cell: pyte.screens.Char) -> object:
    if cell.data == " " and not (cell.reverse or cell.underscore or cell.strikethrough):
        return cell.bg
    return cell


def painted(part: list[tuple[int, int, list[tuple[str, str]]]]) -> str:
    """As Textual writes: to a place, then pieces that set a style and take it back."""
    lines = []
    for row, column, words in part:
        while wcswidth("".join(word for _, word in words)) > WIDTH - column + 1:
            words.pop()
        text = "".join(f"\x1b[{style}m{word}\x1b[0m" if style else word for style, word in words)
        lines.append(f"\x1b[{row};{column}H{text}")
    return "".join(lines)


@given(writes)
def test_the_picture_is_the_same(parts: list[list[tuple[int, int, list[tuple[str, str]]]]]) -> None:
    raw, spared, shadow = Seen(), Seen(), Shadow()
    shadow.resize(WIDTH, HEIGHT)
    for part in parts:
        text = painted(part)
        raw.feed(text)
        spared.feed(shadow.spare(text))
        assert spared.picture == raw.picture


def new() -> Shadow:
    shadow = Shadow()
    shadow.resize(WIDTH, HEIGHT)
    return shadow


def test_what_is_there_is_not_sent_again() -> None:
    shadow = new()
    text = "\x1b[1;1H\x1b[1;38;2;1;2;3mabc\x1b[0m def\n\x1b[2;1H\x1b[44mx\u2809   y\x1b[0m"
    assert "def" in shadow.spare(text)
    assert shadow.spare(text) == ""


def test_of_a_line_what_differs_is_sent() -> None:
    shadow = new()
    shadow.spare("\x1b[3;1Hone line, 1 of 2 here")
    assert shadow.spare("\x1b[3;1Hone line, 7 of 2 there") == "\x1b[3;11H7\x1b[6Cthere"
    assert shadow.spare("\x1b[3;1Hone \x1b[1mline\x1b[0m, 7 of 2 there") == "\x1b[3;5H\x1b[0;1mline"


def test_a_foreground_is_not_set_for_blanks() -> None:
    shadow = new()
    one, other = "\x1b[38;2;1;2;3;48;2;4;5;6m", "\x1b[38;2;9;9;9;48;2;4;5;6m"
    assert shadow.spare(f"\x1b[1;1H{one}a\x1b[0m{other}   \x1b[0m{one}b\x1b[0m").count("m") == 1
    assert shadow.spare(f"\x1b[1;2H{one}   \x1b[0m") == ""


def test_what_is_not_known_is_sent() -> None:
    shadow = new()
    text = "\x1b[1;1Habc"
    for unknown in (shadow.forget, lambda: shadow.resize(WIDTH, HEIGHT), lambda: shadow.spare("\x1b[2J")):
        shadow.spare(text)
        unknown()
        assert shadow.spare(text).endswith("abc")


def test_what_is_no_picture_goes_through() -> None:
    shadow = new()
    shadow.spare("\x1b[1;1Habc")
    said = "\x07\x1b[?2026h\x1b]2;a title\x07\x1b]52;c;YWJj\x1b\\\x1b[?2026l"
    assert shadow.spare(said) == said
    assert shadow.spare("\x1b[1;1Habc") == "", "and leaves it as it was"


def test_a_style_that_is_added_to_is_whole() -> None:
    assert styles.after("", "\x1b[1m\x1b[38;2;1;2;3m") == "1;38;2;1;2;3"
    assert styles.after("31", "\x1b[0m\x1b[1m") == "1"
    assert styles.after("31", "\x1b[1m") == "31;1"
    assert styles.change("1;31", "1;32") == "\x1b[32m"
    assert styles.change("1;31", "31") == "\x1b[0;31m"
    assert styles.change(None, "") == "\x1b[0m"
