"""Small XDP programs of the lab's own: compiled by a child, so that the lab does not carry a compiler around,
and handed over as pins.

python -m cdnctl.lab.pinning SOURCE FUNCTION MAP[,MAP...] DIRECTORY [CFLAG...]
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from cdnctl.lab.processes import LabError, end, start
from cdnctl.python import python_module

COMPILE_S = 60.0


class Pinning:
    """The child. It compiles while others go on; program and maps are pinned by their names."""

    def __init__(
        self,
        source: Path,
        function: str,
        tables: Sequence[str],
        directory: Path,
        cflags: Sequence[str] = (),
        log: IO[bytes] | None = None,
    ) -> None:
        words = [str(source), function, ",".join(tables), str(directory), *cflags]
        command = python_module("cdnctl.lab.pinning", *words)
        self._name = source.stem
        self._child = start(command, stdout=log or subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.pid = self._child.pid

    def wait(self) -> None:
        """Until all are pinned; LabError with the compiler's words when it fails."""
        try:
            _, said = self._child.communicate(timeout=COMPILE_S)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"compiling the lab's {self._name} took over {COMPILE_S:g} s") from error
        if self._child.returncode:
            raise LabError(f"the lab's {self._name}: {said.decode(errors='replace').strip()}")

    def close(self) -> None:
        """End it; what is pinned stays."""
        end(self._child)


def libbpf() -> ctypes.CDLL:
    """The library, for whoever has no need of the data path's."""
    return ctypes.CDLL("libbpf.so.1", use_errno=True)


def pin(source: Path, function: str, tables: Sequence[str], directory: Path, cflags: Sequence[str]) -> None:
    """Compile, and pin in a new directory of bpffs."""
    from cdnctl.datapath import toolchain

    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    module, program = toolchain.compile_xdp(source.read_text(), function, cflags)
    library = libbpf()
    for fd, name in ((program, function), *((module[table].map_fd, table) for table in tables)):
        if library.bpf_obj_pin(fd, os.fsencode(directory / name)):
            raise LabError(f"cannot pin {directory / name}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    try:
        pin(Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(","), Path(sys.argv[4]), sys.argv[5:])
    except Exception as error:  # shown by the parent, in one piece
        sys.exit(f"{error}")
