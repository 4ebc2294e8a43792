"""Opening a loaded program by its number: by the kernel's list, or without CAP_SYS_ADMIN by its pin.

The kernel lets only CAP_SYS_ADMIN open programs that it numbers, which is far more than an agent needs else.
What is asked for here is nearly always a program of an edge, and those are pinned while they are attached.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from cdnctl.datapath import kernel
from cdnctl.paths import BPFFS

_known: dict[int, Path] = {}
"""Where programs were found: asked at each frame, for each interface."""


def program_fd(identity: int) -> int:
    """A file descriptor of the program with this number.

    Raises FileNotFoundError when it is gone, PermissionError when this process may not open others than
    pinned ones and it is none.
    """
    try:
        return kernel.program_fd(identity)
    except PermissionError:
        for pin in _pins(identity):
            with contextlib.suppress(OSError):  # it went just now
                fd = kernel.obj_get(pin)
                if kernel.program_id(fd) == identity:
                    _known[identity] = pin
                    return fd
                os.close(fd)
        raise


def _pins(identity: int) -> Iterator[Path]:
    """Where it was, then where any edge's program may be: beside its tables, and generations below."""
    from cdnctl.datapath.build import PROGRAM  # here: few come so far, and it takes a moment

    if identity in _known:
        yield _known.pop(identity)
    for pattern in ("*/*/", "*/*/*/", "*/"):
        yield from (BPFFS / "cdnctl").glob(pattern + PROGRAM)
