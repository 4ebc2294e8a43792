"""Compile and attach with no kernel headers anywhere. A process of its own, in a mount namespace of its own.

    python bare_loader.py EDGE NAMESPACE INTERFACE

Hides /lib/modules and, where there is one, the kernel's own archive of headers; then does what the agent
does, says how the interface ended up, and exits: the program stays.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

from harness import CONFIG, parse_config

from cdnctl.datapath import attach, cache
from cdnctl.datapath.program import Program
from cdnctl.lab import netns

CLONE_NEWNS = 0x0002_0000


def hide(directory: Path) -> None:
    """Put an empty directory over it, in this mount namespace alone."""
    if directory.is_dir():
        subprocess.run(["mount", "-t", "tmpfs", "none", str(directory)], check=True)
        assert not list(directory.iterdir())


def main() -> None:
    """Hide, load, attach, tell."""
    edge, namespace, interface = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for directory in ("/lib/modules", "/usr/lib/modules", "/usr/src"):
        hide(Path(directory))
    if Path("/sys/kernel/kheaders.tar.xz").exists():
        hide(Path("/sys/kernel"))
    os.environ.pop("BCC_KERNEL_SOURCE", None)
    os.environ[cache.BYPASS] = "1"
    program = Program(edge)
    compiled = program.ensure(parse_config(CONFIG.format(name=edge)))
    fd = program.open()
    with netns.entered(namespace):
        attached = attach.attach(interface, fd, "native")
    json.dump({"compiled": compiled, **attached._asdict()}, sys.stdout)


if __name__ == "__main__":
    main()
