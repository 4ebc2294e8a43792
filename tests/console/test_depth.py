"""No colours, 16, 256 and all: what is really written to a terminal of each kind, and how it looks."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from driver import PALETTES
from rich.color import Color, ColorSystem
from test_theme import contrast

from cdnctl.console import depth, theme
from cdnctl.python import python_module

COLORS = re.compile(r"\x1b\[([\d;]*)m")
ROOT = Path(__file__).parents[2]
LIMIT_S = 30.0


def written(environment: dict[str, str], *arguments: str) -> str:
    """What the console writes to a terminal of 80x24 to show a paused recording, and to quit."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    base = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLORTERM", "TERM")
    }
    process = subprocess.Popen(
        python_module("cdnctl", "replay", "incident", "--pause", "--at", "36s", *arguments),
        stdin=follower, stdout=follower, stderr=follower, cwd=ROOT, env=base | environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    seen, deadline, asked = b"", time.monotonic() + LIMIT_S, False
    try:
        while process.poll() is None or select.select([leader], [], [], 0)[0]:
            assert time.monotonic() < deadline, seen[-2000:]
            if select.select([leader], [], [], 0.2)[0]:
                try:
                    seen += os.read(leader, 65536)
                except OSError:
                    break  # the other end is closed
            if not asked and b"goes dark" in seen and b"quit" in seen:
                os.write(leader, b"q")
                asked = True
        assert process.wait(5) == 0, seen[-2000:]
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    return seen.decode(errors="replace")


def kinds(text: str) -> set[str]:
    """What sorts of colours are asked for; the terminal's own is none."""
    found: set[str] = set()
    for codes in COLORS.findall(text):
        parts = [int(part or 0) for part in codes.split(";")]
        while parts:
            code = parts.pop(0)
            if code in (38, 48):
                found.add("all" if parts[0] == 2 else "256")
                del parts[: 4 if parts[0] == 2 else 2]
            elif 30 <= code <= 37 or 40 <= code <= 47 or 90 <= code <= 107:
                found.add("16")
    return found


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, {"all"}),
        ({"TERM": "xterm-256color"}, {"256"}),
        ({"TERM": "linux"}, {"16"}),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, set()),
    ],
    ids=["all", "256", "16", "none"],
)
def test_a_terminal_gets_the_colours_that_it_has(
    tmp_path: Path, environment: dict[str, str], wanted: set[str]
) -> None:
    shown = written({"XDG_STATE_HOME": str(tmp_path), "LANG": "C.UTF-8", **environment})
    assert kinds(shown) == wanted


@pytest.mark.parametrize(
    ("environment", "colors", "chosen"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, depth.ALL, "midnight"),
        ({"TERM": "xterm-kitty"}, depth.ALL, "midnight"),
        ({"TERM": "alacritty"}, depth.ALL, "midnight"),
        ({"TERM": "tmux-256color", "COLORTERM": ""}, depth.MIXED, "midnight"),
        ({"TERM": "xterm-256color", "COLORTERM": "yes"}, depth.MIXED, "midnight"),
        ({"TERM": "linux"}, depth.SIXTEEN, "ansi"),
        ({"TERM": "screen"}, depth.SIXTEEN, "ansi"),
        ({"TERM": "nobody-knows-me"}, depth.SIXTEEN, "ansi"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, depth.NONE, "plain"),
    ],
    ids=lambda value: " ".join(value.values()) if isinstance(value, dict) else str(value),
)
def test_what_is_known_of_a_terminal_chooses_the_theme(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], colors: int, chosen: str
) -> None:
    for name in ("TERM", "COLORTERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert depth.colors() == colors
    assert theme.suited(PALETTES) == chosen
    assert theme.can_be_shown(PALETTES["daylight"]) == (colors >= depth.MIXED)
    assert theme.can_be_shown(PALETTES["plain"])


def test_terminfo_tells_of_terminals_without_colours() -> None:
    """In a process of its own: what was looked up once is kept by curses."""
    code = "from cdnctl.console import depth; print(depth.colors())"
    environment = {**os.environ, "TERM": "vt100", "COLORTERM": "", "PYTHONPATH": str(ROOT)}
    environment.pop("NO_COLOR", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"


@pytest.mark.parametrize("name", [name for name, palette in PALETTES.items() if palette.mixes])
def test_a_theme_in_256_colours_is_still_itself(name: str) -> None:
    """What terminals show that have no exact colours: the nearest of 256, which are a little off."""

    def nearest(color: str) -> str:
        return Color.parse(color).downgrade(ColorSystem.EIGHT_BIT).get_truecolor().hex

    palette, least = PALETTES[name], 7.0 if name == "high-contrast" else 4.0
    colors = {role: nearest(color) for role, color in palette.colors.items()}
    for ground in ("background", "surface", "cursor"):
        for role in ("text", "muted", "accent", "good", "warn", "bad"):
            assert contrast(colors[role], colors[ground]) >= least, f"{role} on {ground}"
    assert colors["cursor"] != colors["background"]
    for color in palette.series:
        assert contrast(nearest(color), colors["background"]) >= least, color
    assert len({nearest(color) for color in palette.series[:4]}) == 4
