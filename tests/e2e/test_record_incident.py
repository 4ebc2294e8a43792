"""Ten minutes of the real incident: how large they are, and how soon any moment of them is shown.

The demo is recorded once, by its agent. Its frames, again and again and on one clock, make the ten minutes:
groups of frames are packed by themselves and shorter than the incident, so nothing is gained by repeating.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from cdnctl.model import FRAMES_KEPT, Frame
from cdnctl.recording import codec
from cdnctl.recording.chapters import chapters
from cdnctl.recording.reader import Reader
from cdnctl.recording.writer import Writer

MOST_BYTES = 2_000_000
MOST_SEEK_S = 0.1
DEMO_S = 240


@pytest.fixture(scope="module")
def incident(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's own recording."""
    path = tmp_path_factory.mktemp("incident") / "incident.rec"
    line = [
        sys.executable,
        "-P",
        "-m",
        "cdnctl",
        "demo",
        "--headless",
        "--name",
        "rec-e2e",
        "--record",
        str(path),
    ]
    done = subprocess.run(line, capture_output=True, text=True, timeout=DEMO_S, check=False)
    assert path.exists(), done.stdout + done.stderr
    return path


def ten_minutes(frames: list[Frame]) -> Iterator[Frame]:
    """As said above; a frame is what it was, but for when."""
    first, last = frames[0], frames[-1]
    round_ns = last.monotonic_ns - first.monotonic_ns + 500_000_000
    number = 0
    while True:
        for frame in frames:
            shift_ns = number // len(frames) * round_ns
            if frame.monotonic_ns + shift_ns - first.monotonic_ns > 600 * 10**9:
                return
            number += 1
            yield msgspec.structs.replace(
                frame,
                seq=number,
                at_ns=frame.at_ns + shift_ns,
                monotonic_ns=frame.monotonic_ns + shift_ns,
            )


@pytest.mark.soak
def test_ten_minutes_of_the_incident(incident: Path, tmp_path: Path) -> None:
    with Reader(incident) as reader:
        assert not reader.damage
        frames = list(reader.frames())
        titles = " | ".join(each.title for each in chapters(reader.stamps))
        events = " | ".join(each.event.text for each in reader.stamps)
    for words in ("slows", "goes dark", "flood", "blocked"):
        assert words in titles
    for words in ("is out", "is back"):  # what comes soon after a step belongs to the step's chapter
        assert words in events
    assert frames[-1].monotonic_ns - frames[0].monotonic_ns > 60 * 10**9
    assert len(frames) < codec.GROUP * 60
    path = tmp_path / "ten.rec"
    run = list(ten_minutes(frames))
    with Writer(path) as writer:
        for frame in run:
            writer.add(frame)
    size = path.stat().st_size
    seeks = [min(seek(path, seconds) for _ in range(3)) for seconds in moments(600.0)]
    took, clock = [each.took_s for each in seeks], [each.clock_s for each in seeks]
    print(f"{len(run)} frames, {size:,} bytes; seeks: median {statistics.median(took) * 1000:.0f} ms,"
          f" at most {max(took) * 1000:.0f} ms; by the clock {max(clock) * 1000:.0f} ms")  # fmt: skip
    assert size < MOST_BYTES
    assert max(took) < MOST_SEEK_S
    with Reader(path) as reader:
        assert reader.duration_s > 595
        assert all(mine == theirs for mine, theirs in zip(reader.frames(), run, strict=True))


def moments(duration_s: float) -> list[float]:
    rng = random.Random(6)
    return [0.0, duration_s, *(rng.uniform(0, duration_s) for _ in range(30))]


class Seek(NamedTuple):
    """What one took. Nothing in it waits, as the file is in memory: by the clock neighbours count, too."""

    took_s: float
    """Of a processor."""
    clock_s: float


def seek(path: Path, seconds: float) -> Seek:
    """From a file that was just opened to the frame, and to all that a console draws besides."""
    with Reader(path) as reader:
        began_s, clock_s = time.thread_time(), time.perf_counter()
        number = reader.number_at(round(seconds * 1e9))
        reader.window(number, FRAMES_KEPT)
        return Seek(time.thread_time() - began_s, time.perf_counter() - clock_s)
