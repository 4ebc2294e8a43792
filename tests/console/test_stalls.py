"""A terminal whose reader stops: nobody else notices, and the console comes back with what is now."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from ptys import CONSOLE, ROOT, Pty, made_up_edge

from cdnctl.lab import processes
from tests.bench.agent.consoles import watching

SIZE = (200, 50)
RIGHT_WITHIN_S = 2.0
GROWN_AT_MOST_MB = 6.0
BACKLOG_AT_MOST = 200_000
"""Bytes: what the kernel holds, one picture under way, and one or two of what is to be seen now."""

DOTS_AT_MOST = 60
"""Cells, one or two a line: what a plot's or a course's oldest end may differ by."""


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A made-up edge with a hundred talkers; the environment that finds it."""
    with made_up_edge(tmp_path, talkers=100, cdns=8) as (environment, _):
        yield environment


@pytest.fixture
def window(edge: dict[str, str]) -> Iterator[Callable[..., Pty]]:
    """Opens consoles."""
    opened: list[Pty] = []

    def open_one(**options: object) -> Pty:
        opened.append(Pty(size=SIZE, environment=edge, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def frame_number(text: str) -> int:
    found = re.search(r"frame ([\d,]+)", text)
    return int(found[1].replace(",", "")) if found else 0


def cdnctl(edge: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        [*CONSOLE, *words],
        env=processes.environment(edge),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def a_stalled_reader(
    window: Callable[..., Pty], edge: dict[str, str], tmp_path: Path, seconds: float
) -> None:
    console = window()
    console.shows("● live", "handshake p95")
    console.keys("3")
    console.shows("last 2 min")
    recording = tmp_path / "meanwhile.rec"
    cdnctl(edge, "record", str(recording))
    time.sleep(3)
    before = console.memory_mb()["Rss"]
    socket = Path(edge["CDNCTL_RUN_DIR"]) / "ams1.sock"
    with watching(socket, 1, 0) as (other,):
        console.hold()
        began, cpu_s = other.newest, console.cpu_s()
        time.sleep(seconds)
        assert other.newest - began >= 2 * seconds - 3, "others have had every frame"
        assert console.cpu_s() - cpu_s < 0.2 * seconds, "it does not spin"
        assert console.memory_mb()["Rss"] - before < GROWN_AT_MOST_MB
        seen, newest = console.bytes_read, other.newest
        console.go_on()
        took_s = console.until(
            lambda: frame_number(console.text) >= newest, RIGHT_WITHIN_S, "the newest frame"
        )
        assert took_s < RIGHT_WITHIN_S
        assert console.bytes_read - seen < BACKLOG_AT_MOST
    assert_painted_right(console)
    cdnctl(edge, "record", "--stop")
    told = msgspec.json.decode(cdnctl(edge, "replay", str(recording), "--info", "--json"))
    assert told["frames"] >= 2 * seconds, "the recording went on"


def assert_painted_right(console: Pty) -> None:
    """What was painted piece by piece is what is painted at once."""
    console.keys(" ")
    console.shows("FROZEN")
    time.sleep(0.7)
    pieces = console.text
    console.process.send_signal(signal.SIGCONT)  # all is painted anew
    console.wipe()
    console.shows("FROZEN")
    time.sleep(0.7)
    now = unnumbered(console.text)
    now, pieces = unlegended(now), unlegended(unnumbered(pieces))
    assert dotless(now).splitlines() == dotless(pieces).splitlines()
    assert sum(one != other for one, other in zip(now, pieces, strict=True)) < DOTS_AT_MOST
    console.keys(" ")
    console.until(lambda: "FROZEN" not in console.text)


def dotless(text: str) -> str:
    """Without what plots draw: of a frozen one the oldest frames may leave the history meanwhile."""
    return re.sub("[\u2800-\u28ff┈]", " ", text)


def unlegended(text: str) -> str:
    """Without whom a plot shows: the busiest of the history, which goes on while the display is frozen."""
    return re.sub(r"● [\d./]+ +[\d.]+k? ", lambda found: " " * len(found[0]), text)


def unnumbered(text: str) -> str:
    """Without what goes on while the display is frozen: the headline's age, and the banner's count."""
    return re.sub(r"[\d,]+ newer frames", "", text.partition("\n")[2])


@pytest.mark.soak
def test_a_reader_that_stops_hurts_nobody(
    window: Callable[..., Pty], edge: dict[str, str], tmp_path: Path
) -> None:
    a_stalled_reader(window, edge, tmp_path, 6.0)


@pytest.mark.soak
def test_a_reader_that_stops_for_a_minute_hurts_nobody(
    window: Callable[..., Pty], edge: dict[str, str], tmp_path: Path
) -> None:
    a_stalled_reader(window, edge, tmp_path, 60.0)


@pytest.mark.soak
def test_what_it_takes_is_the_same_after_ten_minutes(window: Callable[..., Pty]) -> None:
    console = window(draws=False)
    time.sleep(30)
    marks = []
    for _ in range(20):
        time.sleep(28.5)
        marks.append(console.memory_mb()["Rss"])
    half = len(marks) // 2
    assert max(marks) < 80
    assert max(marks[half:]) - max(marks[:half]) < 1.0, marks


def test_a_stalled_console_ends_when_it_is_told_to(window: Callable[..., Pty]) -> None:
    console = window()
    console.shows("● live")
    console.hold()
    time.sleep(2)
    console.process.terminate()
    assert console.ends(4) == 143
    assert console.is_restored


@pytest.mark.soak
def test_keys_typed_into_a_stall_are_heeded(window: Callable[..., Pty]) -> None:
    console = window()
    console.shows("● live", "handshake p95")
    console.hold()
    time.sleep(1.5)
    console.keys("6")
    time.sleep(1.0)
    console.go_on()
    assert console.shows("customers ·", seconds=RIGHT_WITHIN_S) < RIGHT_WITHIN_S


@pytest.mark.soak
def test_a_slow_line_shows_what_is_now(window: Callable[..., Pty], edge: dict[str, str]) -> None:
    """30 kB/s, where all 2 frames/s of this screen would be more: fewer are shown, and none late."""
    console = window()
    console.shows("● live", "handshake p95")
    console.keys("3")
    console.shows("last 2 min")
    with watching(Path(edge["CDNCTL_RUN_DIR"]) / "ams1.sock", 1, 0) as (other,):
        console.pace(30_000)
        time.sleep(3)
        behind = []
        for _ in range(10):
            time.sleep(0.3)
            behind.append(other.newest - frame_number(console.text))
    assert max(behind) <= 6, f"frames behind: {behind}"
    seen = console.bytes_read
    console.keys("1")
    console.shows("handshake p95", seconds=10)
    assert console.bytes_read - seen < BACKLOG_AT_MOST
