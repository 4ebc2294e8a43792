"""The generator of live frames, compiled by a child and handed over as pins, as the lab's taps are.

python -m cdnctl.lab.attacks.compiling DIRECTORY
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

from cdnctl.lab.processes import LabError, end, start
from cdnctl.python import python_module

SOURCE = Path(__file__).with_name("generator.c")
FUNCTION, MAP = "generate", "plans"
COMPILE_S = 60.0


def compiled(directory: Path) -> Path:
    """The directory, with program and map pinned in it. LabError with the compiler's words."""
    child = start(python_module("cdnctl.lab.attacks.compiling", str(directory)), stderr=subprocess.PIPE)
    try:
        _, said = child.communicate(timeout=COMPILE_S)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"compiling the generator took over {COMPILE_S:g} s") from error
    finally:
        end(child)
    if child.returncode:
        raise LabError(f"the generator: {said.decode(errors='replace').strip()}")
    return directory


def pin(directory: Path) -> None:
    """Compile, and pin in a new directory of bpffs."""
    from cdnctl.datapath import toolchain

    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    module, program = toolchain.compile_xdp(SOURCE.read_text(), FUNCTION)
    libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    for fd, name in ((program, FUNCTION), (module[MAP].map_fd, MAP)):
        if libbpf.bpf_obj_pin(fd, os.fsencode(directory / name)):
            raise LabError(f"cannot pin {directory / name}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    try:
        pin(Path(sys.argv[1]))
    except Exception as error:  # shown by the parent, in one piece
        sys.exit(f"{error}")
