"""An operator's story, with the keys that the README tells and nothing else, on a live edge in a terminal.

Keys are counted as pressed: a letter of a reason is one. What they did is asked of the agent and of the
kernel, not of the screen that said so.
"""

from __future__ import annotations

import csv
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Figure, Kernel, ask, cdn_of, frame, wait_for
from terminals import Terminal

from cdnctl.datapath import abi
from cdnctl.lab.lab import Lab
from cdnctl.lab.processes import environment
from cdnctl.lab.traffic import Traffic
from cdnctl.model import Frame, SetWeights

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

NOISY = {"10.66.3.7": 900.0, "10.66.3.9": 700.0, "10.66.3.200": 500.0}
"""Packets a second: none of them would be worth a word, their /24 is."""
NETWORK = "10.66.3.0/24"
REASON = "noisy"
MOST_TO_BLOCK, MOST_TO_DRAIN = 20, 8
BACK_S = 120.0
SOAK_S = 125.0
"""Of the story, after which two minutes and a little are kept."""


class Hands:
    """Press keys and count them; a word is typed letter by letter."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.pressed = 0

    def press(self, *keys: str) -> None:
        """Each is one key."""
        self.pressed += len(keys)
        self.terminal.keys(*keys)

    def type(self, text: str) -> None:
        """A key a letter."""
        self.press(*("Space" if letter == " " else letter for letter in text))

    def counted(self) -> int:
        """Since the last time."""
        count, self.pressed = self.pressed, 0
        return count


@pytest.fixture
def shell(lab: Lab, traffic: Traffic, tmp_path: Path) -> Iterator[Terminal]:
    """A shell as an operator has it: `cdnctl` on its path, a directory to write to, nothing remembered."""
    binary = tmp_path / "bin" / "cdnctl"
    binary.parent.mkdir()
    binary.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m cdnctl "$@"\n')
    binary.chmod(0o755)
    settings = environment(
        {
            **lab.environment,
            "PATH": f"{binary.parent}:/usr/bin:/bin:/usr/sbin:/sbin",
            "CDNCTL_EDGE": lab.name,
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
        }
    )
    (tmp_path / "work").mkdir()
    terminal = Terminal(tmp_path, f"cd {tmp_path / 'work'}; sh -i", (160, 40), settings)
    yield terminal
    terminal.close()


def test_an_incident_by_keys_alone(
    lab: Lab, kernel: Kernel, shell: Terminal, tmp_path: Path, figure: Figure
) -> None:
    play(lab, kernel, shell, tmp_path / "work", figure, history_s=0.0)


@pytest.mark.soak
def test_the_same_with_two_minutes_to_look_back_on(
    lab: Lab, kernel: Kernel, shell: Terminal, tmp_path: Path, figure: Figure
) -> None:
    play(lab, kernel, shell, tmp_path / "work", figure, history_s=SOAK_S)


def play(lab: Lab, kernel: Kernel, shell: Terminal, work: Path, figure: Figure, *, history_s: float) -> None:
    """All of it. With a short history two minutes back is where that begins."""
    began_s = time.monotonic()
    ask(lab, SetWeights(weights={"aurora": 300}))  # so that to drain it is risky
    lab.senders(NOISY, 60.0 + history_s)
    hands = Hands(shell)
    wait_for("a prompt", 10, lambda: is_prompt(shell.text))
    hands.type("cdnctl")
    hands.press("Enter")
    shell.shows("● live", "● ARMED", lab.name)
    hands.counted()

    # who is it?
    hands.press("3", "v")
    shell.shows("talkers by /24", NETWORK)
    wait_for("the noisy ones are on top", 10, lambda: top_of(shell.text) == NETWORK)

    # block that for ten minutes
    hands.press("b")
    shell.shows("Block a prefix", NETWORK)
    hands.press("Tab", "Tab", "C-u")
    hands.type("10m")
    hands.press("Tab")
    hands.type(REASON)
    shell.shows(f"cdnctl block {NETWORK} --for 10m --reason {REASON}")
    hands.press("C-s")
    shell.shows(f"✔ blocked {NETWORK}")
    to_block = hands.counted()
    [block] = frame(lab).blocks
    assert (block.prefix, block.reason) == (NETWORK, REASON)
    assert 590e9 < block.expires_ns - block.created_ns <= 600e9
    before = kernel.packets(abi.Verdict.BLOCKED)
    wait_for("their packets are dropped", 5, lambda: kernel.packets(abi.Verdict.BLOCKED) > before + 500)
    figure("keys to block the /24", to_block)
    assert to_block <= MOST_TO_BLOCK

    # drain a CDN, and keep that
    hands.press("w")
    shell.shows("Weights and drains", "aurora")
    hands.press("Space")
    shell.shows("drained", "reverts in 120 s unless confirmed")
    hands.press("C-s")
    shell.shows("CONFIRM", "c keeps it")
    assert drained(lab)
    hands.press("c")
    shell.shows("Keep what waits to be confirmed", "would keep")
    hands.press("C-s")
    shell.shows("✔ confirmed")
    to_drain = hands.counted()
    figure("keys to drain with confirmation", to_drain)
    assert to_drain <= MOST_TO_DRAIN
    settled = frame(lab)
    assert settled.pending is None
    assert drained(lab)

    # take that back
    hands.press("z")
    shell.shows("Take back the last change", "cdnctl undo")
    hands.press("C-s")
    wait_for("aurora is back", 10, lambda: not drained(lab))
    if frame(lab).pending is not None:  # as risky as what it takes back
        shell.shows("CONFIRM", "c keeps it")
        hands.press("c")
        shell.shows("would keep")
        hands.press("C-s")
        wait_for("it is kept", 10, lambda: frame(lab).pending is None)

    # hold the picture; what was two minutes ago?
    if history_s:
        time.sleep(max(0.0, began_s + history_s - time.monotonic()))
    hands.press("Escape", "Space")
    shell.shows("FROZEN at")
    frozen = shown_number(shell.text)
    hands.press("S-Left")
    shell.shows("◁ past")
    hands.press("S-Left")
    first = wait_for("it goes back", 10, lambda: earlier(shell.text, frozen))
    figure("frames back", frozen - first)
    if history_s:
        wait_for("two minutes", 5, lambda: abs(frozen - shown_number(shell.text) - 2 * BACK_S) <= 4)
    else:
        shell.shows("0:00.0 of")
        shell.shows("blocks 0")
    hands.press("x")
    shell.shows("written: ")
    [table] = work.glob(f"cdnctl-{lab.name}-talkers-*.csv")
    assert next(csv.reader(table.open()))[:2] == ["source", "pps"]
    [picture] = work.glob(f"cdnctl-{lab.name}-talkers-*.svg")
    assert "<svg" in picture.read_text()[:200]
    hands.press("Escape", "Escape")
    shell.shows("● live", "blocks 1")

    # and a recording
    hands.press("q")
    shell.shows("leave the edge running")
    hands.press("Enter")
    wait_for("a prompt", 10, lambda: is_prompt(shell.text))
    assert frame(lab).loaded
    hands.type("cdnctl replay incident")
    hands.press("Enter")
    shell.shows("▷ replay")
    hands.press("q")
    figure("keys of the rest", hands.counted())


def is_prompt(text: str) -> bool:
    """Whether the shell waits for a line; these tests are root's."""
    lines = text.split()
    return bool(lines) and lines[-1] == "#"


def top_of(text: str) -> str:
    """The first row of the talkers."""
    lines = text.splitlines()
    at = next((number for number, line in enumerate(lines) if "source" in line and "pps" in line), None)
    words = lines[at + 1].replace("│", " ").split() if at is not None else []
    return words[0] if words else ""


def shown_number(text: str) -> int:
    """Of the frame on the screen."""
    words = text.splitlines()[0].split()
    return int(words[words.index("frame") + 1].replace(",", ""))


def earlier(text: str, frozen: int) -> int:
    """Its number, when it is one of long before; 0 until then."""
    number = shown_number(text)
    return number if number < frozen - 4 else 0


def drained(lab: Lab) -> bool:
    """Whether aurora gets no new flows, as the agent has it."""
    picture: Frame = frame(lab)
    return cdn_of(picture, "aurora").state == "drained"
