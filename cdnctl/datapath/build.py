"""Compile, load and pin the data path, in a process of its own.

The compiler takes some 120 MB and, on an internal error, ends the process it runs in: neither is for
the agent. Run as `python -m cdnctl.datapath.build DIRECTORY CFLAG...`; what the compiler and the
verifier have to say goes to standard error, and the exit status tells.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cdnctl.datapath import kernel, toolchain
from cdnctl.errors import CdnctlError
from cdnctl.paths import bpf_dir
from cdnctl.python import environment, python_module

PROGRAM = "edge"
NEXT = "next"
"""Directory among the pins for what belongs to one program alone, until it is attached everywhere."""
PERF_ARRAYS = ("samples", "events")
_LINES_SHOWN = 25
_TIMEOUT_S = 120


def source() -> str:
    """The text of the data path."""
    return toolchain.join(bpf_dir() / "edge.c")


def build(pins: Path, cflags: Sequence[str]) -> None:
    """Load on the maps of `pins`, and pin the program in `pins`/NEXT; done by a child.

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


def main() -> int:
    """The child."""
    pins, cflags = Path(sys.argv[1]), sys.argv[2:]
    try:
        module, program = toolchain.compile_xdp(source(), PROGRAM, [f'-DPINS="{pins}/"', *cflags])
        (pins / NEXT).mkdir(exist_ok=True)
        for name in PERF_ARRAYS:
            kernel.obj_pin(module[name].get_fd(), pins / NEXT / name)
        kernel.obj_pin(program, pins / NEXT / PROGRAM)
    except CdnctlError as error:
        print(error.message, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
