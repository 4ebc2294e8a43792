"""The pinned programs of an edge: keep them when they are the ones wanted, else build them.

With the pins of an earlier agent in place no compiler runs, and flows, counters and blocks go on.
The `identity` map says which sources and sizes the pins are of.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cdnctl.config import Config
from cdnctl.config.cost import slots
from cdnctl.datapath import abi, build, kernel
from cdnctl.errors import CdnctlError
from cdnctl.paths import BPFFS, bpf_dir, pin_dir

BPF_FS_MAGIC = 0xCAFE4A11
_NOTHING = bytes(32)


class _Identity(NamedTuple):
    """Digests of what the pins are of."""

    program: bytes
    """Zeros while one program makes way for another."""
    layout: bytes


def is_bpffs(path: Path) -> bool:
    """Whether a BPF file system is mounted there."""
    buffer = ctypes.create_string_buffer(256)
    libc = ctypes.CDLL(None, use_errno=True)
    return (
        libc.statfs(os.fsencode(path), buffer) == 0
        and int.from_bytes(buffer.raw[:4], "little") == BPF_FS_MAGIC
    )


def mount_bpffs() -> None:
    """Pins need a BPF file system; mount it where every tool looks for it."""
    if is_bpffs(BPFFS):
        return
    if os.geteuid() != 0:
        raise CdnctlError(f"no BPF file system is mounted on {BPFFS}", f"sudo mount -t bpf bpf {BPFFS}")
    done = subprocess.run(["mount", "-t", "bpf", "bpf", str(BPFFS)], capture_output=True, text=True)
    if done.returncode or not is_bpffs(BPFFS):
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
    """What the pinned maps depend on: their definitions and sizes, and which flow a slot's number means."""
    definitions = "".join((bpf_dir() / name).read_text() for name in ("abi.h", "maps.h"))
    edge = config.edge
    return definitions + repr((sizes(config), config.limits.endpoints, edge.snat, edge.snat_ports))


class Program:
    """The loaded, pinned programs of one edge: its entry, which is attached, and what belongs to it.

    New programs stay in a directory of their own beside the maps, and the pins count as nobody's, from
    `prepare` until `commit`: whoever is killed in between leaves maps that the next start builds upon.

    Tests have programs built otherwise (`cflags`), or pinned elsewhere.
    """

    def __init__(self, edge: str, *, pins: Path | None = None, cflags: Sequence[str] = ()) -> None:
        self.pins = pins or pin_dir(edge)
        self.built: build.Built | None = None
        """What building took and gave, when it was done here."""
        self._cflags = tuple(cflags)
        self._next = self.pins / build.NEXT
        self._wanted: bytes | None = None  # the digest of a program that is prepared, not committed
        self._before = _NOTHING

    def exists(self) -> bool:
        """Whether an earlier agent left a data path."""
        return self._identity() is not None

    def ensure(self, config: Config) -> bool:
        """`prepare` and `commit` in one, for those who attach afterwards."""
        compiled = self.prepare(config)
        self.commit()
        return compiled

    def is_for(self, config: Config) -> bool:
        """Whether the pins are what `prepare` would make."""
        layout, found = _digest(_layout_text(config)), self._identity()
        return found == (self._digest_on(layout), layout) and (self.pins / build.PROGRAM).exists()

    def prepare(self, config: Config, *, anew: bool = False) -> bool:
        """Have the wanted program loaded; True when it was not, or was wanted `anew`: then `commit` it.

        Pins of other sizes or of another layout hold live flows that would be lost: they are
        refused, with what to do. A changed program on the same maps keeps them all.
        """
        mount_bpffs()
        layout = _digest(_layout_text(config))
        wanted = self._digest_on(layout)
        found = self._identity()
        if found is None:
            self.remove()  # left half-made, if at all: the layout is noted before anything is attached
        elif found.layout != layout:
            raise CdnctlError(
                f"{self.pins} holds the tables of a data path with other [limits] or SNAT addresses or ports,"
                " or of another version",
                "undo the change of the configuration, or cut its flows and start afresh:"
                f" cdnctl detach --edge {self.pins.name} --yes",
            )
        elif not anew and found.program == wanted and (self.pins / build.PROGRAM).exists():
            return False
        self.pins.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._next, ignore_errors=True)
        try:
            flags = [f"-D{name}={value}" for name, value in sizes(config).items()]
            self.built = build.build(self.pins, [*flags, *self._cflags])
            self._store(_NOTHING, layout)
        except BaseException:
            if found is None:
                self.remove()
            raise
        self._wanted, self._before = wanted, found.program if found else _NOTHING
        return True

    def commit(self) -> None:
        """What was prepared is attached: from now on it is the edge's program.

        The pins of the one before go, its program array's among them, which then empties: it must not
        be attached any more.
        """
        if self._wanted is None:
            return
        for name in build.PINNED:
            (self._next / name).rename(self.pins / name)
        self._next.rmdir()
        self._store(self._wanted)
        self._wanted = None

    def abandon(self) -> None:
        """What was prepared is not attached, and what was there before still is."""
        if self._wanted is not None:
            shutil.rmtree(self._next, ignore_errors=True)
            self._store(self._before)
            self._wanted = None

    @property
    def current(self) -> Path:
        """Where the wanted program and its perf buffers are pinned."""
        return self.pins if self._wanted is None else self._next

    def open(self, name: str = build.PROGRAM) -> int:
        """A file descriptor of the wanted program, or of its `build.SWEEP`. Raises OSError."""
        return kernel.obj_get(self.current / name)

    def maps(self) -> frozenset[int]:
        """Ids of maps that only this edge's programs use. Raises OSError when there are none."""
        return frozenset(kernel.Map.pinned(self.pins / name).info.id for name in ("mode", "settings"))

    def remove(self) -> None:
        """Unpin everything; maps and program go with their last user."""
        shutil.rmtree(self.pins, ignore_errors=True)
        self._wanted = None

    def is_current(self) -> bool:
        """Whether the pinned program is of these very sources, whatever its sizes."""
        found = self._identity()
        return found is not None and found.program == self._digest_on(found.layout)

    def _digest_on(self, layout: bytes) -> bytes:
        """Of a program of these sources, on maps of that layout."""
        text = build.source() + repr(self._cflags)
        return bytes(a ^ b for a, b in zip(layout, _digest(text), strict=True))

    def _identity(self) -> _Identity | None:
        """What the pins are of, or None when they are not whole or not there."""
        try:
            rows = kernel.Map.pinned(self.pins / "identity")
        except OSError:
            return None
        identity = _Identity(*(rows.get(abi.key(row)) or _NOTHING for row in (0, 1)))
        return None if identity.layout == _NOTHING else identity

    def _store(self, program: bytes, layout: bytes | None = None) -> None:
        rows = kernel.Map.pinned(self.pins / "identity")
        rows.put(abi.key(0), program)
        if layout is not None:
            rows.put(abi.key(1), layout)
