"""Resizes by the hundred, and pastes by the hundred kilobytes."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ptys import Pty, made_up_edge

HOSTILE_PASTE = (
    "drain aurora\r\nb\rd\x13q\x1b[A\x1b"
    + "A" * 40
    + "qqq\x13\x1b[200~:stop\r\x03\x1a\x00\x1b]52;c;eA==\x07\tb\r"
)
"""Key letters, enters, ctrl+s, ctrl+c, ctrl+z, escapes that begin and do not end, and the mark itself."""


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], Path]]:
    """A made-up edge: the environment that finds it, and the file of the commands it got."""
    with made_up_edge(tmp_path_factory.mktemp("edge")) as found:
        yield found


@pytest.fixture
def console(edge: tuple[dict[str, str], Path]) -> Iterator[Pty]:
    """A console that shows the overview; the edge is told nothing, whatever is done to it."""
    environment, told = edge
    before = told.read_text()
    opened = Pty(environment=environment)
    try:
        opened.shows("● live", "handshake p95")
        yield opened
        assert opened.process.poll() is None, "it has gone on"
        assert told.read_text() == before, "nothing was commanded"
    finally:
        opened.close()


def prompt(console: Pty, sign: str) -> None:
    """Open the line that begins with this sign."""
    console.keys(sign)
    console.until(lambda: console.text.splitlines()[-2].startswith(f" {sign}"), 5, f"a line with {sign}")


def is_quiet(console: Pty) -> None:
    """It does no more than it did before."""
    time.sleep(0.5)
    cpu_s = console.cpu_s()
    time.sleep(1.5)
    assert console.cpu_s() - cpu_s < 0.3, "no spin"


@pytest.mark.parametrize(
    "screen",
    [
        pytest.param("1", marks=pytest.mark.soak, id="overview"),
        pytest.param("3", id="talkers"),
        pytest.param("w", marks=pytest.mark.soak, id="dialog"),
        pytest.param(":", marks=pytest.mark.soak, id="prompt"),
    ],
)
def test_a_storm_of_resizes(console: Pty, screen: str) -> None:
    console.keys(screen)
    time.sleep(0.3)
    dice = random.Random(3)
    sizes = [(dice.randint(1, 500), dice.randint(1, 200)) for _ in range(194)]
    for size in (*sizes, (10, 3), (1, 1), (500, 200), (1, 200), (500, 1), (80, 24)):
        console.resize(*size)
        time.sleep(0.01)
    console.resize(120, 40)
    console.keys("\x1b")
    time.sleep(0.3)  # together the two keys would be alt+1
    console.keys("1")
    console.shows("handshake p95", "talkers", "● live", seconds=10)
    is_quiet(console)
    painted = len(console.text.splitlines()[-1].strip())
    assert painted > 40, "the footer has the width again"


def test_a_terminal_may_grow_and_shrink_under_a_dialog(console: Pty) -> None:
    console.keys("b")
    console.shows("Block a prefix")
    for size in ((200, 50), (300, 90), (80, 24), (120, 40)):
        console.resize(*size)
        time.sleep(0.15)
    console.shows("Block a prefix")
    console.keys("\x1b")
    console.shows("handshake p95", "● live", seconds=5)


@pytest.mark.soak
def test_what_is_pasted_is_no_key(console: Pty) -> None:
    console.keys("\x1b[200~" + HOSTILE_PASTE * 1_000 + "\x1b[201~")
    time.sleep(0.5)
    console.keys("j")
    console.shows("borealis  198.51.100.20", seconds=5)
    assert "Block a prefix" not in console.text
    assert "leave the edge running" not in console.text
    is_quiet(console)


def test_a_paste_into_the_command_line_is_its_first_line_and_not_said(console: Pty) -> None:
    prompt(console, ":")
    console.keys("\x1b[200~" + HOSTILE_PASTE * 1_000 + "\x1b[201~")
    console.shows("drain aurora", seconds=5)
    assert "stop" not in console.text.replace("stopped", "")
    console.keys("\x1b")
    console.until(lambda: "drain aurora" not in console.text, 5)


def test_a_paste_that_is_not_marked_is_none_either(console: Pty) -> None:
    prompt(console, "/")
    console.keys("10.1 b\rq\rd\r\x13:stop\r\x03" * 5_000)
    console.shows("10.1 b", seconds=5)
    assert "leave the edge running" not in console.text
    is_quiet(console)
    console.keys("\x1b")
    console.until(lambda: "10.1 b" not in console.text, 5)
    console.keys("j")
    console.shows("borealis  198.51.100.20", seconds=5)


@pytest.mark.parametrize("first", [3, 9, 40])
def test_a_paste_that_comes_in_pieces_is_one(console: Pty, first: int) -> None:
    pasted = "10.1 b\rq\rd\r\x13:stop\r\x03" * 50
    prompt(console, "/")
    console.keys(pasted[:first])
    console.keys(pasted[first:])
    console.shows("10.1 b"[:first], seconds=5)
    assert "leave the edge running" not in console.text
    console.keys("\x1b")
    console.until(lambda: "only rows that match" not in console.text, 5)


def test_a_line_begins_with_the_sign_that_opened_it(console: Pty) -> None:
    for sign in "/:/":
        prompt(console, sign)
        console.keys("\x1b")
        console.until(lambda: console.text.splitlines()[-2].startswith(" aurora"), 5)


def test_what_a_script_types_is_typed(console: Pty) -> None:
    line = "block 10.66.0.0/16 --for 10m --reason " + "'" + "noisy " * 12 + "talker'"
    prompt(console, ":")
    console.keys(line)
    console.shows("block 10.66.0.0/16 --for 10m", seconds=5)
    console.keys("\r")
    console.shows("cdnctl block 10.66.0.0/16 --for 10m", seconds=5)
    console.keys("\x1b")


def test_a_paste_without_end_does_not_hold_the_keys_for_long(console: Pty) -> None:
    console.keys("\x1b[200~no end comes")
    time.sleep(2.5)
    console.keys("j")
    console.shows("borealis  198.51.100.20", seconds=5)


def test_bytes_that_are_no_text(console: Pty) -> None:
    console.keys(b"\xff\xfe\xc3\x28\xa0\x1b[999999999999u\x1b[<0;1;1X\x1b[48;1;1;1;1t\x1bP\xf0\x9f")
    time.sleep(0.5)
    console.keys("\x1b")
    time.sleep(0.3)
    console.keys("2")
    console.shows("endpoints ·", seconds=5)
