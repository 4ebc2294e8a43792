"""The pinned program of an edge: keep it when it is the one wanted, else build it.

With the pins of an earlier agent in place no compiler runs, and flows, counters and blocks go on.
The `identity` map says which sources and sizes the pins are of.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from cdnctl.config import Config
from cdnctl.config.cost import slots
from cdnctl.datapath import abi, build, kernel
from cdnctl.errors import CdnctlError
from cdnctl.paths import BPFFS, bpf_dir, pin_dir

BPF_FS_MAGIC = 0xCAFE4A11


def _is_bpffs(path: Path) -> bool:
    buffer = ctypes.create_string_buffer(256)
    libc = ctypes.CDLL(None, use_errno=True)
    return (
        libc.statfs(os.fsencode(path), buffer) == 0
        and int.from_bytes(buffer.raw[:4], "little") == BPF_FS_MAGIC
    )


def mount_bpffs() -> None:
    """Pins need a BPF file system; mount it where every tool looks for it."""
    if _is_bpffs(BPFFS):
        return
    if os.geteuid() != 0:
        raise CdnctlError(f"no BPF file system is mounted on {BPFFS}", f"sudo mount -t bpf bpf {BPFFS}")
    done = subprocess.run(["mount", "-t", "bpf", "bpf", str(BPFFS)], capture_output=True, text=True)
    if done.returncode or not _is_bpffs(BPFFS):
        raise CdnctlError(
            f"cannot mount a BPF file system on {BPFFS}: {done.stderr.strip()}",
            "this needs root with CAP_SYS_ADMIN in the host's mount namespace",
        )


def sizes(config: Config) -> dict[str, int]:
    """The compile-time sizes of the tables."""
    return {
        "FLOWS": config.limits.flows,
        "HALF_OPEN": config.limits.half_open,
        "SLOTS": slots(config),
        "BLOCK_ENTRIES": config.limits.block_entries,
    }


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _layout_text(config: Config) -> str:
    """What the pinned maps depend on: their definitions and sizes."""
    return "".join((bpf_dir() / name).read_text() for name in ("abi.h", "maps.h")) + repr(sizes(config))


class Program:
    """The loaded, pinned program of one edge."""

    def __init__(self, edge: str) -> None:
        self.pins = pin_dir(edge)
        self.path = self.pins / build.PROGRAM

    def exists(self) -> bool:
        """Whether an earlier agent left its pins."""
        return self.path.exists()

    def ensure(self, config: Config) -> bool:
        """Have the wanted program pinned; True when it had to be compiled.

        Pins of other sizes or of another layout hold live flows that would be lost: they are
        refused, with what to do. A changed program on the same maps is replaced and keeps them all.
        """
        mount_bpffs()
        layout = _digest(_layout_text(config))
        wanted = bytes(a ^ b for a, b in zip(layout, _digest(build.source()), strict=True))
        found = self._identity()
        if found is not None and self.exists():
            if found[0] == wanted:
                return False
            if found[1] != layout:
                raise CdnctlError(
                    f"{self.pins} holds the tables of a data path with other [limits] or of another version",
                    "undo the change of the configuration, or cut its flows and start afresh:"
                    f" cdnctl detach --edge {self.pins.name} --yes",
                )
        elif self.pins.exists():
            self.remove()  # left half-made; nothing is attached that could use it
        self.pins.mkdir(parents=True, exist_ok=True)
        try:
            build.build(self.pins, [f"-D{name}={value}" for name, value in sizes(config).items()])
            self._store(wanted, layout)
        except BaseException:
            if found is None:
                self.remove()
            raise
        return True

    def _identity(self) -> tuple[bytes, bytes] | None:
        """Digests of the program and of the layout, or None when there is nothing whole."""
        try:
            return tuple(kernel.Map.pinned(self.pins / "identity").get(abi.key(row)) or b"" for row in (0, 1))  # type: ignore[return-value]
        except OSError:
            return None

    def _store(self, wanted: bytes, layout: bytes) -> None:
        identity = kernel.Map.pinned(self.pins / "identity")
        identity.put(abi.key(0), wanted)
        identity.put(abi.key(1), layout)

    def open(self) -> int:
        """A file descriptor of the program. Raises OSError when it is not there."""
        return kernel.obj_get(self.path)

    def remove(self) -> None:
        """Unpin everything; maps and program go with their last user."""
        shutil.rmtree(self.pins, ignore_errors=True)
