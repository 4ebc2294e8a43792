"""A list of a million prefixes as the agent takes it, in a process of its own: its time and its memory.

    python -m tests.bench.control.a_million FILE CHANGED PINS    prints an object of JSON

FILE is read, checked, screened, joined, compared and put into the tables pinned at PINS; then CHANGED,
the same list with a thousand other lines, in its place. Timed is what the agent does for it; memory is all
that the process had at its peak, BCC and the rest of an agent included.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.control import blocks
from tests.bench.results import Result, Unsound, within

WHOLE_S, CHANGE_S, MOST_MB = 10.0, 0.5, 400.0
COUNT, CHANGED = 1_000_000, 1_000
PREFIXES = 100_000
"""Of the million; the others are single addresses."""


def write(first: Path, changed: Path) -> None:
    """Both lists, always the same ones: addresses and prefixes apart, so that few join."""
    chance = random.Random(8)
    numbers = chance.sample(range(0x2000_0000 >> 1, 0xA000_0000 >> 1), COUNT - PREFIXES + CHANGED)
    lines = [f"{_dotted(number << 1)}\n" for number in numbers]
    cells = chance.sample(range(0xB000_00 >> 1, 0xBF00_00 >> 1), PREFIXES)
    prefixes = [f"{_dotted(cell << 9)}/24\n" for cell in cells]
    kept, new = lines[:-CHANGED], lines[-CHANGED:]
    whole = prefixes + kept
    first.write_text("# a list\n" + "".join(whole))
    for place, line in zip(chance.sample(range(PREFIXES, len(whole)), CHANGED), new, strict=True):
        whole[place] = line
    changed.write_text("# a list\n" + "".join(whole))


def _dotted(number: int) -> str:
    return ".".join(str(byte) for byte in number.to_bytes(4, "big"))


def measure(first: Path, changed: Path, pins: Path) -> dict[str, Any]:
    """What is printed."""
    from cdnctl.config import FeedConfig
    from cdnctl.datapath import toolchain
    from cdnctl.datapath.blocks import KernelBlocks
    from cdnctl.datapath.tables import Tables
    from cdnctl.defence import protected
    from cdnctl.defence.feeds import screen
    from cdnctl.engine import engine as _whole_agent  # noqa: F401  (for its memory)
    from cdnctl.engine.blocks import Blocks
    from cdnctl.engine.feeding import _get
    from cdnctl.paths import tables_dir
    from tests.bench.decisions.rig import NAME

    toolchain.import_bcc()
    wanted = Blocks(KernelBlocks(pins), Tables(tables_dir(NAME)))
    config = FeedConfig(name="drop", source=str(first))
    base_mb = _peak_mb()
    began = time.perf_counter()
    guarded = [protected.Protected(each.network, each.why) for each in screen.private()]
    good = _get(config, str(first), None, guarded)
    assert good is not None
    read_s = time.perf_counter() - began
    wanted.enlist("drop", good.groups)
    whole_s = time.perf_counter() - began
    loaded = wanted.prefix_count, wanted.enforced
    stored = good.stored.__class__(source=str(changed), data=good.stored.data, at_ns=good.stored.at_ns)
    began = time.perf_counter()
    after = _get(config, str(changed), good._replace(stored=stored), guarded)
    assert after is not None
    wanted.enlist("drop", after.groups)
    change_s = time.perf_counter() - began
    peak_mb = _peak_mb()
    found = wanted.differences()
    return {
        "entries": good.entries,
        "read_s": read_s,
        "whole_s": whole_s,
        "change_s": change_s,
        "changed": after.added + after.removed,
        "base_mb": base_mb,
        "peak_mb": peak_mb,
        "desired": wanted.prefix_count,
        "enforced": wanted.enforced,
        "loaded": loaded,
        "different": sum(map(len, found)),
    }


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()  # getrusage's would be that of who started us, too
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def run(directory: Path) -> dict[str, Any]:
    """In a process of its own, into empty tables of the shapes of the bench's edge, which is up."""
    first, changed = directory / "first.txt", directory / "changed.txt"
    write(first, changed)
    with blocks.empty():
        command = [sys.executable, "-m", __name__, str(first), str(changed), str(blocks.PINS)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise Unsound(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout)
    if found["different"] or found["desired"] != found["enforced"]:
        raise Unsound(f"{found['desired']} prefixes are desired, {found['enforced']} enforced")
    return found


def rows() -> list[Result]:
    """With bounds. Raises Unsound."""
    with tempfile.TemporaryDirectory(prefix="cdnctl-bench-") as directory:
        found = run(Path(directory))
    return [
        within("1M prefixes from a file, in force / limit", [found["whole_s"]], WHOLE_S, unit="s", gate=True),
        within("a change of 1,000 of them / limit", [found["change_s"]], CHANGE_S, unit="s", gate=True),
        within(
            "memory of the process that took them / limit", [found["peak_mb"]], MOST_MB, unit="MB", gate=True
        ),
    ]


if __name__ == "__main__":
    print(json.dumps(measure(*map(Path, sys.argv[1:4]))))
