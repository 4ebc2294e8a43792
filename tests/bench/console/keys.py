"""Keys, and the effect that each has to show before the next one is pressed."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.bench.results import Unsound
from tests.console.ptys import Pty

Seen = Callable[[str], bool]
"""Whether a screen's text shows it."""
NEVER_MS = 1000.0
CDNS = ("aurora", "borealis", "corona", "dawn", "eclipse", "fjord", "glacier", "halo")


@dataclass(frozen=True)
class Press:
    """One key."""

    key: str
    effect: Seen
    what: str


def walk(rounds: int) -> Iterator[Press]:
    """Through screens, tables, a filter and dialogs, so often; ends where it began, on the overview."""
    for _ in range(rounds):
        for name in CDNS[1:4]:
            yield Press("j", _detail(name), "cursor")
        for name in CDNS[2::-1]:
            yield Press("k", _detail(name), "cursor")
        for key, words in (("2", "endpoints ·"), ("4", "sampled packets"), ("6", "customers ·"),
                           ("8", "journal ·"), ("3", "last 2 min")):  # fmt: skip
            yield Press(key, _shows(words), "screen")
        yield Press("/", _shows("/  "), "filter")
        typed = ""
        for letter in "10.10":
            typed += letter
            yield Press(letter, _shows(f"/ {typed}  only rows"), "filter")
        yield Press("\x1b", _lacks("only rows that match"), "filter")
        yield Press("1", _shows("handshake p95"), "screen")
        yield Press("w", _shows("Weights and drains"), "dialog")
        yield Press("\x1b", _lacks("Weights and drains"), "dialog")
        yield Press("b", _shows("Block a prefix"), "dialog")
        yield Press("\x1b", _lacks("Block a prefix"), "dialog")


def _shows(words: str) -> Seen:
    return lambda text: words in text


def _lacks(words: str) -> Seen:
    return lambda text: words not in text


def _detail(name: str) -> Seen:
    """The line above the footer tells of this row."""
    return lambda text: text.splitlines()[-2].strip().startswith(name)


def press_all(window: Pty, presses: list[Press], every_s: float) -> list[float]:
    """Press them at this pace; when each was."""
    pressed = []
    for press in presses:
        pressed.append(time.monotonic())
        window.keys(press.key)
        time.sleep(every_s)
    return pressed


def took_ms(window: Pty, presses: list[Press], pressed: list[float], every_s: float) -> list[float]:
    """From each key to the bytes that showed its effect. Raises Unsound when one showed before, or many
    never: a few count as `NEVER_MS`, as does the key after a late one, which undoes nothing."""
    looks: list[tuple[float, str]] = []
    window.replayed(lambda text, at_s: looks.append((at_s, text)))
    times = [at_s for at_s, _ in looks]
    found, missed, is_late = [], list[str](), False
    for number, (press, at_s) in enumerate(zip(presses, pressed, strict=True)):
        until_s = pressed[number + 1] if number + 1 < len(pressed) else at_s + every_s
        first = bisect_right(times, at_s)
        was_there = first > 0 and press.effect(looks[first - 1][1])
        if was_there and not is_late:
            raise Unsound(f"{press.what} {press.key!r}: what it is to show was there before")
        shown = (at for at, text in looks[first : bisect_right(times, until_s)] if press.effect(text))
        seen_s = None if was_there else next(shown, None)
        is_late = seen_s is None
        missed += [f"{press.what} {press.key!r}"] if seen_s is None else []
        found.append(NEVER_MS if seen_s is None else 1000 * (seen_s - at_s))
    if 4 * len(missed) > len(presses):
        raise Unsound(f"no effect before the next key: {', '.join(missed)}")
    return found
