"""The suite: starts, idle watching, keys."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.console.keys import press_all, took_ms, walk
from tests.bench.results import Result, Unsound, within
from tests.console.ptys import Pty, made_up_edge

SIZE = (200, 50)
TALKERS, CDNS = 500, 8
CPU_LIMIT, CPU_AIM = 10.0, 5.0
"""Percent of a core."""
LINE_LIMIT_KB_S = 40.0
KEY_LIMIT_MS = 60.0
START_LIMIT_MS = 800.0
START_WAIT_S = 3.0
MEMORY_LIMIT_MB = 80.0
GROWTH_LIMIT_MB = 3.0
"""In a minute in which nothing is done; in an hour it would be as little."""
KEY_EVERY_S = 0.15
SETTLE_S = 2.5
"""By then all is read from disk that a key may need."""
_FIRST_FIGURES = ("● live", "aurora", "10.66.0.0/16")


@dataclass
class Found:
    """What was measured so far."""

    start_ms: list[float] = field(default_factory=list)
    cpu: dict[str, list[float]] = field(default_factory=lambda: {"overview": [], "talkers": []})
    """Percent of a core, by screen."""
    line_kb_s: dict[str, list[float]] = field(default_factory=lambda: {"overview": [], "talkers": []})
    keys_ms: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    growth_mb: list[float] = field(default_factory=list)


def results(*, quick: bool, say: Callable[[str], None]) -> list[Result]:
    """All rows. Raises Unsound, CdnctlError."""
    found = Found()
    say("an edge of 500 talkers")
    with _edge() as environment:
        for number in range(2 if quick else 5):
            say(f"start {number + 1}")
            _start(environment, found)
        for number in range(1 if quick else 3):
            say(f"watching, keys, round {number + 1}")
            _session(environment, found, seconds=3.0 if quick else 10.0, walks=2 if quick else 5)
        if not quick:
            say("a minute of watching")
            _growth(environment, found)
    return _rows(found)


def _rows(found: Found) -> list[Result]:
    p95 = statistics.quantiles(found.keys_ms, n=20)[-1]
    rows = [
        within("first figures after the console's start / limit", found.start_ms, START_LIMIT_MS, unit="ms",
               gate=True),
        within(f"key to paint, p95 of {len(found.keys_ms)} keys / limit", [p95], KEY_LIMIT_MS, unit="ms",
               gate=True),
    ]  # fmt: skip
    for screen, percents in found.cpu.items():
        what = f"console, {screen}, {TALKERS} talkers"
        rows.append(within(f"{what}, of a core / limit", percents, CPU_LIMIT, unit="%", gate=True))
        rows.append(
            within(f"{what}, to the terminal / limit", found.line_kb_s[screen], LINE_LIMIT_KB_S, unit="kB/s",
                   gate=True)
        )  # fmt: skip
    rows.append(within("console, memory / limit", found.memory_mb, MEMORY_LIMIT_MB, unit="MB", gate=True))
    if found.growth_mb:
        grown = [max(0.0, mb) for mb in found.growth_mb]
        rows.append(
            within("console, memory grown in a minute / limit", grown, GROWTH_LIMIT_MB, unit="MB", gate=True)
        )
    return rows


@contextlib.contextmanager
def _edge() -> Iterator[dict[str, str]]:
    """A made-up edge behind a socket; the environment that finds it, and remembers nothing."""
    with tempfile.TemporaryDirectory(prefix="cdnctl-bench-") as place:
        with made_up_edge(Path(place), talkers=TALKERS, cdns=CDNS) as (environment, _):
            yield {**environment, "TZ": "UTC"}


@contextlib.contextmanager
def window(environment: dict[str, str]) -> Iterator[Pty]:
    """A console in a terminal, until it is closed."""
    opened = Pty(size=SIZE, environment=environment, draws=False)
    try:
        yield opened
        if opened.process.poll() is not None:
            raise Unsound(f"the console has ended with {opened.process.returncode}")
    finally:
        opened.close()


def _start(environment: dict[str, str], found: Found) -> None:
    with window(environment) as opened:
        time.sleep(START_WAIT_S)
    shown: list[float] = []

    def look(text: str, at_s: float) -> None:
        if not shown and all(word in text for word in _FIRST_FIGURES):
            shown.append(at_s)

    opened.replayed(look)
    if not shown:
        raise Unsound(f"no figures within {START_WAIT_S:.0f} s")
    found.start_ms.append(1000 * (shown[0] - opened.began_s))


def _session(environment: dict[str, str], found: Found, *, seconds: float, walks: int) -> None:
    presses = list(walk(walks))
    with window(environment) as opened:
        time.sleep(SETTLE_S)
        _watch(opened, "overview", seconds, found)
        opened.keys("3")
        time.sleep(SETTLE_S)
        _watch(opened, "talkers", seconds, found)
        opened.keys("1")
        time.sleep(0.5)
        pressed = press_all(opened, presses, KEY_EVERY_S)
        found.memory_mb.append(opened.memory_mb()["Rss"])
    found.keys_ms += took_ms(opened, presses, pressed, KEY_EVERY_S)


def _watch(opened: Pty, screen: str, seconds: float, found: Found) -> None:
    began_s, cpu_s, seen = time.monotonic(), opened.cpu_s(), opened.bytes_read
    time.sleep(seconds)
    span_s = time.monotonic() - began_s
    found.cpu[screen].append(100 * (opened.cpu_s() - cpu_s) / span_s)
    found.line_kb_s[screen].append((opened.bytes_read - seen) / span_s / 1000)


def _growth(environment: dict[str, str], found: Found) -> None:
    """What a minute of watching adds, once the history is full and every cache has been used."""
    with window(environment) as opened:
        time.sleep(5)
        before = opened.memory_mb()["Rss"]
        time.sleep(60)
        found.growth_mb.append(opened.memory_mb()["Rss"] - before)
