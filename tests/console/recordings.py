"""Makes the recordings that come with cdnctl anew, out of the demo: `make recordings`, as root, 4 minutes.

    python tests/console/recordings.py [incident] [flood]

`incident` is the whole of what `cdnctl demo --headless` plays. For `flood` the demo runs in a terminal, and
an operator, played by this program, blocks the flood at the console's keyboard; it is cut to that part.
Both show the lab's own addresses, so there is nothing to redact.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cdnctl import paths
from cdnctl.agent.client import AsyncClient
from cdnctl.errors import CdnctlError
from cdnctl.model import Frame
from cdnctl.python import environment, python_module
from cdnctl.recording.reader import Reader
from cdnctl.recording.writer import Writer

EDGE = "ams1"
START_S = 60.0
LONGEST_S = 240.0
BEFORE_S, AFTER_S = 12.0, 12.0
"""What is kept of the time around the flood."""


def main(names: list[str]) -> int:
    """Make those named, or all."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the demo is ended, and cleans up
    for name in names or ["incident", "flood"]:
        file = paths.shipped_recordings_dir() / f"{name}.rec"
        with tempfile.TemporaryDirectory() as directory:
            whole = Path(directory) / "whole"
            asyncio.run({"incident": _incident, "flood": _flood}[name](whole))
            file.unlink(missing_ok=True)
            with Reader(whole) as reader, Writer(file) as writer:
                for frame in _part(reader) if name == "flood" else reader.frames():
                    writer.add(frame)
        file.chmod(0o644)
        print(f"{file}: {writer.duration_s:.1f} s, {writer.frames} frames, {file.stat().st_size:,} bytes")
    return 0


async def _incident(file: Path) -> None:
    with subprocess.Popen(
        python_module("cdnctl", "demo", "--headless", "--name", EDGE), env=environment()
    ) as demo:
        await _record(file, lambda frame: None)
    assert demo.returncode == 0, "the demo failed"


async def _flood(file: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        at = ["tmux", "-S", f"{directory}/tmux", "-f", "/dev/null"]

        def tmux(*words: str) -> bool:
            return not subprocess.run([*at, *words], capture_output=True).returncode

        demo = shlex.join(python_module("cdnctl", "demo", "--name", EDGE))
        start = [*at, "new-session", "-d", "-x", "120", "-y", "40", demo]
        subprocess.run(start, check=True, env=environment())
        due = [
            ("press b", 8.0, lambda: tmux("send-keys", "b")),
            ("press b", 11.0, lambda: tmux("send-keys", "BTab", "BTab", "SYN flood, ticket 4711")),
            ("press b", 13.0, lambda: tmux("send-keys", "C-s")),
            ("until you press q", 4.0, lambda: tmux("send-keys", "C-c")),
        ]
        since: dict[str, float] = {}

        def act(frame: Frame) -> None:
            for step, after_s, do in list(due):
                if (
                    step in frame.step
                    and time.monotonic() - since.setdefault(step, time.monotonic()) >= after_s
                ):
                    due.remove((step, after_s, do))
                    do()

        try:
            await _record(file, act)
            while tmux("has-session"):
                await asyncio.sleep(0.2)  # the demo cleans up
        finally:
            tmux("send-keys", "C-c")
            tmux("kill-server")


async def _record(file: Path, act: Callable[[Frame], None]) -> None:
    """Every frame of the edge, from when there is an agent until there is none."""
    deadline = time.monotonic() + START_S
    while True:
        client = AsyncClient(paths.socket_path(EDGE), client="record")
        try:
            await client.connect()
            break
        except CdnctlError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
    with Writer(file) as writer:
        try:
            async with asyncio.timeout(LONGEST_S):
                async for frame in client.frames():
                    writer.add(frame)
                    act(frame)
        except CdnctlError:
            pass  # the agent has ended
        finally:
            await client.close()


def _part(reader: Reader) -> list[Frame]:
    """What is about the flood."""
    steps = [
        (stamp.position_ns / 1e9, stamp.event.text) for stamp in reader.stamps if stamp.event.kind == "step"
    ]
    begin_s = next(at_s for at_s, text in steps if "flood" in text) - BEFORE_S
    end_s = next(at_s for at_s, text in steps if text.startswith("calm again")) + AFTER_S
    numbered = range(reader.number_at(round(begin_s * 1e9)), reader.number_at(round(end_s * 1e9)) + 1)
    return [reader.frame(number) for number in numbered]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
