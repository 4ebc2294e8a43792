"""Compile, load and pin the data path, in a process of its own.

The compiler takes some 120 MB and, on an internal error, ends the process it runs in: neither is for
the agent. Run as `python -m cdnctl.datapath.build DIRECTORY CFLAG...`; what the compiler and the
verifier have to say goes to standard error, a line of JSON about the work to standard output, and the
exit status tells.

The data path is several programs, the stages, that go on in each other by way of a program array. It is
filled before anybody can attach anything, and never changed: a new generation of programs has its own.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from cdnctl.datapath import abi, kernel, loading, toolchain
from cdnctl.errors import CdnctlError
from cdnctl.paths import bpf_dir
from cdnctl.python import environment, python_module

PROGRAM = "edge"
"""Where packets come in."""
SWEEP = "sweep"
"""The collector of dead slots, which the agent runs."""
STAGES = "stages"
"""The program array; one that is not pinned empties when its maker exits."""
PERF_ARRAYS = ("samples", "events")
PINNED = (*PERF_ARRAYS, STAGES, SWEEP, PROGRAM)
"""What belongs to one generation of programs. The entry is last: with it all are there."""
NEXT = "next"
"""Directory among the pins for a generation of programs, until it is attached everywhere."""
_FUNCTION = re.compile(r"^int (\w+)\(struct xdp_md \*ctx\)$", re.MULTILINE)
_LINES_SHOWN = 25
_TIMEOUT_S = 120


class Built(msgspec.Struct, frozen=True):
    """What building took of a CPU, and what was loaded."""

    compile_s: float
    """The compiler's, and that of making the maps."""
    load_s: float
    """The verifier's, of all programs together."""
    multi_buffer: bool
    """Whether frames in several buffers are taken; an old kernel refuses."""
    instructions: dict[str, int]
    """What the verifier walked, by program."""

    @property
    def note(self) -> str:
        """What an operator should know of it, or nothing."""
        if self.multi_buffer:
            return ""
        return (
            "this kernel takes no XDP program for frames in several buffers: interfaces whose MTU needs"
            " more than one cannot be attached in native mode"
        )


def source() -> str:
    """The text of the data path."""
    return toolchain.join(bpf_dir() / "edge.c")


def functions(text: str) -> list[str]:
    """The programs in a text: the entry, the stages by the names they have in enum stage, the sweep."""
    return _FUNCTION.findall(text)


def build(pins: Path, cflags: Sequence[str]) -> Built:
    """Load on the maps of `pins`, and pin the programs in `pins`/NEXT; done by a child.

    Raises CdnctlError with the compiler's or the verifier's own words.
    """
    command = python_module("cdnctl.datapath.build", str(pins), *cflags)
    try:
        done = subprocess.run(
            command,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise CdnctlError(
            f"the data path was not compiled within {_TIMEOUT_S} s",
            "see what keeps this box busy and try again",
        ) from error
    if done.returncode:
        lines = (done.stderr or done.stdout).splitlines()
        faults = [line for line in lines if "error:" in line] or lines[-_LINES_SHOWN:]
        raise CdnctlError(
            "the data path cannot be loaded:\n  " + "\n  ".join(faults[:_LINES_SHOWN]),
            "run as root on a kernel with BPF (5.18 or later); the lines above are its own words",
        )
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Built)


def _load(pins: Path, cflags: Sequence[str]) -> Built:
    began = time.process_time()
    text = source()
    module = toolchain.compile_module(text, [f'-DPINS="{pins}/"', *cflags])
    compiled = time.process_time()
    multi_buffer = loading.takes_multi_buffer()
    suffix = "" if multi_buffer else loading.SINGLE
    programs = {
        name: toolchain.load_xdp(module, name, multi_buffer=multi_buffer, name=name + suffix)
        for name in functions(text)
    }
    stages = kernel.Map(module[STAGES].get_fd())
    for stage in abi.Stage:
        if stage.name.lower() in programs:
            stages.put(abi.key(stage), struct.pack("I", programs[stage.name.lower()]))
    loaded = time.process_time()
    (pins / NEXT).mkdir(exist_ok=True)
    for name in (*PERF_ARRAYS, STAGES):
        kernel.obj_pin(module[name].get_fd(), pins / NEXT / name)
    for name in (SWEEP, PROGRAM):
        kernel.obj_pin(programs[name], pins / NEXT / name)
    return Built(
        compiled - began,
        loaded - compiled,
        multi_buffer,
        {name: kernel.verified_instructions(fd) for name, fd in programs.items()},
    )


def main() -> int:
    """The child."""
    try:
        print(msgspec.json.encode(_load(Path(sys.argv[1]), sys.argv[2:])).decode())
    except CdnctlError as error:
        print(error.message, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
