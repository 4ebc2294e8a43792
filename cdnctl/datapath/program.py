"""The pinned programs and maps of an edge: keep them when they are those wanted, else make others.

With the pins of an earlier agent in place flows, counters and blocks go on. Pins of one layout (sizes of
tables, and which flow a slot's number means) are in a directory by its digest, and the link `current`
leads to the one that holds. Tables of another layout are made beside it, and filled (moving.py).

Whoever is killed in between leaves what the next one can start from: tables that are attached nowhere, which
go, or others than the link's that are, which get the rest (resuming.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from cdnctl.config import Config
from cdnctl.config.cost import block_lines, datagrams, slots
from cdnctl.datapath import abi, attach, build, elsewhere, kernel
from cdnctl.errors import CdnctlError
from cdnctl.paths import BPFFS, CURRENT, bpf_dir, pin_dir, tables_dir

BPF_FS_MAGIC = 0xCAFE4A11
_NOTHING = bytes(32)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


class _Identity(NamedTuple):
    """Digests of what the pins are of, in the order of the rows of the map `identity`."""

    program: bytes
    """Nothing while one program makes way for another."""
    layout: bytes
    definitions: bytes = _NOTHING
    """Structs and maps: between versions that differ in them nothing can be taken over."""
    moved: bytes = _NOTHING
    """No digest: when all that tables before these held was in here, in ns; see moving.py."""


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
    """Of the tables that the operator's limits size, by the words in bpf/maps.h."""
    return {
        "FLOWS": config.limits.flows,
        "HALF_OPEN": config.limits.half_open,
        "DATAGRAMS": datagrams(config),
        "SLOTS": slots(config),
        "BLOCK_ENTRIES": config.limits.block_entries,
        "BLOCK_LINES": block_lines(config),
    }


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _definitions() -> bytes:
    """Of structs, enums and maps; comments and line breaks make no difference."""
    text = "".join((bpf_dir() / name).read_text() for name in ("abi.h", "maps.h"))
    return _digest(" ".join(_COMMENT.sub(" ", text).split()))


def _layout(config: Config) -> bytes:
    """Of the tables' sizes, and of which flow a slot's number means."""
    edge = config.edge
    return _digest(repr((sizes(config), config.limits.endpoints, edge.snat, edge.snat_ports)))


class Program:
    """The loaded, pinned programs of one edge: its entry, which is attached, and what belongs to it.

    New programs stay in a directory of their own beside the maps, and the pins count as nobody's, from
    `prepare` until `commit`. Tests have programs built otherwise (`cflags`).
    """

    def __init__(self, edge: str, *, cflags: Sequence[str] = ()) -> None:
        self.edge = edge
        self.root = pin_dir(edge)
        self.pins = self._held()
        """Where the wanted program's maps are."""
        self.before: Path | None = None
        """Tables whose flows belong into these, from `prepare` until `commit`."""
        self.built: build.Built | None = None
        """What building took and gave, when it was done here."""
        self._cflags = tuple(cflags)
        self._wanted: bytes | None = None  # the digest of a program that is prepared, not committed
        self._program_before = _NOTHING

    def exists(self) -> bool:
        """Whether an earlier agent left a data path."""
        return _identity(self._held()) is not None

    def lacks(self, config: Config) -> Literal["nothing", "program", "tables"]:
        """What `prepare` would have to make."""
        held, layout = self._held(), _layout(config)
        found = _identity(held)
        if found is None or (found.layout, found.definitions) != (layout, _definitions()):
            return "tables"
        is_there = found.program == self._digest_on(layout) and (held / build.PROGRAM).exists()
        return "nothing" if is_there else "program"

    def is_foreign(self) -> bool:
        """Whether tables are there that are of other structs, and so of no use to this version."""
        found = _identity(self._held())
        return found is not None and found.definitions != _definitions()

    def ensure(self, config: Config) -> bool:
        """`prepare` and `commit` in one, for those who attach afterwards."""
        made = self.prepare(config)
        self.commit()
        return made

    def prepare(self, config: Config, *, anew: bool = False) -> bool:
        """Have the wanted program loaded; True when it was not, or was wanted `anew`: then `commit` it.

        A changed program on the same maps keeps all flows. For another layout it gets maps of its own,
        which are to be filled from those in `before`. Maps of other structs cannot be: they are refused,
        with what to do.
        """
        mount_bpffs()
        held, layout, definitions = self._held(), _layout(config), _definitions()
        found = _identity(held)
        if found is None:
            self.remove()  # left half-made, if at all: what they are is noted before anything is attached
            return self._make(config, self._home(layout, definitions), None)
        if found.definitions != definitions:
            raise CdnctlError(
                f"{self.root} holds the tables of another version of cdnctl, which this one cannot take over",
                f"cut its flows and start afresh: {elsewhere.detach_line(self.edge, self.maps())}",
            )
        if found.layout != layout:
            return self._make(config, self._home(layout, definitions), held)
        self.pins = held
        if not anew and self.lacks(config) == "nothing":
            return False
        self._program_before = found.program
        return self._make(config, held, None)

    def _make(self, config: Config, home: Path, before: Path | None) -> bool:
        """Load it on the maps of `home`, which are made where there are none."""
        layout = _layout(config)
        fresh = before is not None or _identity(home) is None
        if before is not None and attach.attached_to(maps_of(home)):
            raise CdnctlError(f"{home} is in use: a move to it was not finished", "start the agent anew")
        if fresh:
            shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True, exist_ok=True)
        _set_aside(home)
        try:
            self.built = build.build(home, sizes(config), self._cflags)
            _note(home, _NOTHING, layout, _definitions())
            if before is None:
                self._point_to(home)
        except BaseException:
            if fresh and before:
                shutil.rmtree(home, ignore_errors=True)
            elif fresh:
                self.remove()
            raise
        self.pins, self.before, self._wanted = home, before, self._digest_on(layout)
        return True

    def commit(self) -> None:
        """What was prepared is attached: from now on it is the edge's program, on the edge's tables.

        The pins of the one before go, its program array's among them, which then empties: it must not
        be attached any more.
        """
        if self._wanted is not None:
            for name in build.PINNED:
                (self.current / name).rename(self.pins / name)
            for generation in self.pins.glob(f"{build.NEXT}*"):
                shutil.rmtree(generation)
            _note(self.pins, self._wanted)
            self._wanted = None
        self.before = None
        self.keep_only(self.pins)

    def abandon(self) -> None:
        """What was there before goes on, also where a driver would not have it back the first time.

        Pins of what is attached all the same stay: without them its program array would be empty. The next
        start finds them.
        """
        if self._wanted is None:
            return
        stuck = self._is_stuck()
        self._wanted = None
        if self.before is None:
            if not stuck:
                shutil.rmtree(self.pins / build.NEXT, ignore_errors=True)
                _note(self.pins, self._program_before)
            return
        if not stuck:
            shutil.rmtree(self.pins, ignore_errors=True)
        self.pins, self.before = self.before, None

    def _is_stuck(self) -> bool:
        """Whether what was prepared stays attached somewhere."""
        with contextlib.suppress(OSError, CdnctlError):
            with _opened(self.current / build.PROGRAM) as prepared:
                names = attach.interfaces_with(prepared)
                if not names:
                    return False
                with _opened((self.before or self.pins) / build.PROGRAM) as program:
                    attach.attach_all(names, program, "auto", self.maps())
                return bool(attach.interfaces_with(prepared))
        return (self.current / build.PROGRAM).exists()

    def moving_to(self) -> Path | None:
        """Later tables than the link's that are in use: whoever moved flows there was killed meanwhile."""
        held = self._held()
        for home in [] if self.is_foreign() else self.homes():
            if moved_ns(home) > moved_ns(held) and attach.attached_to(maps_of(home)):
                return home
        return None

    def keep_only(self, home: Path) -> None:
        """These tables hold, and no others stay but those that are still attached somewhere."""
        if self._held() != home:
            self._point_to(home)
        self.pins = home
        for other in self.homes():
            if other not in (home, self.root) and not attach.attached_to(maps_of(other)):
                shutil.rmtree(other, ignore_errors=True)

    @property
    def current(self) -> Path:
        """Where the wanted program and its perf buffers are pinned."""
        return self.pins if self._wanted is None else self.pins / build.NEXT

    def open(self, name: str = build.PROGRAM) -> int:
        """A file descriptor of the wanted program, or of its `build.SWEEP`. Raises OSError."""
        return kernel.obj_get(self.current / name)

    def maps(self) -> frozenset[int]:
        """Ids of maps that only this edge's programs use. Raises OSError when there are none."""
        found = frozenset[int]().union(*map(maps_of, self.homes()))
        if not found:
            raise FileNotFoundError(2, "No tables are pinned", str(self.root))
        return found

    def remove(self) -> None:
        """Unpin everything; maps and program go with their last user."""
        shutil.rmtree(self.root, ignore_errors=True)
        self._wanted = self.before = None

    def is_current(self) -> bool:
        """Whether the pinned program is of these very sources, whatever its sizes."""
        found = _identity(self._held())
        return found is not None and found.program == self._digest_on(found.layout)

    def _digest_on(self, layout: bytes) -> bytes:
        """Of a program of these sources, on maps of that layout."""
        text = build.source() + repr(self._cflags)
        return bytes(a ^ b for a, b in zip(layout, _digest(text), strict=True))

    # -- directories --

    def _held(self) -> Path:
        """Where the link leads to."""
        there = tables_dir(self.edge)
        with contextlib.suppress(OSError):
            return self.root / os.readlink(there)
        return there

    def _home(self, layout: bytes, definitions: bytes) -> Path:
        return self.root / hashlib.sha256(layout + definitions).hexdigest()[:12]

    def homes(self) -> list[Path]:
        """All that have tables: more than one while flows move, or when somebody was killed meanwhile."""
        found = [self.root] if (self.root / "mode").exists() else []
        with contextlib.suppress(FileNotFoundError):
            found += [path for path in self.root.iterdir() if path.is_dir() and not path.is_symlink()]
        return found

    def _point_to(self, home: Path) -> None:
        """In one step, so that there is no moment without."""
        draft = self.root / f"{CURRENT}-next"
        draft.unlink(missing_ok=True)
        draft.symlink_to(home.name)
        draft.rename(self.root / CURRENT)


def _set_aside(home: Path) -> None:
    """A generation of programs that somebody who was killed has left: it may be attached somewhere, and goes
    only when another one is, for its program array empties with its pin."""
    generation = home / build.NEXT
    if generation.exists():
        taken = len(list(home.glob(f"{build.NEXT}-*")))
        generation.rename(home / f"{build.NEXT}-{taken + 1}")


def _identity(pins: Path) -> _Identity | None:
    """What the pins are of, or None when they are not whole or not there."""
    try:
        rows = kernel.Map.pinned(pins / "identity")
    except OSError:
        return None
    identity = _Identity(*(rows.get(abi.key(row)) or _NOTHING for row in range(rows.info.max_entries)))
    return None if identity.layout == _NOTHING else identity


def note_moved(pins: Path, at_ns: int) -> None:
    """From then on these tables have all that was in those before them."""
    place = abi.key(_Identity._fields.index("moved"))
    kernel.Map.pinned(pins / "identity").put(place, at_ns.to_bytes(len(_NOTHING), "little"))


def moved_ns(pins: Path) -> int:
    """When that was; 0: never."""
    identity = _identity(pins)
    return int.from_bytes(identity.moved, "little") if identity else 0


@contextlib.contextmanager
def _opened(pin: Path) -> Iterator[int]:
    fd = kernel.obj_get(pin)
    try:
        yield fd
    finally:
        os.close(fd)


def _note(pins: Path, *identity: bytes) -> None:
    """The first rows."""
    rows = kernel.Map.pinned(pins / "identity")
    for row, digest in enumerate(identity):
        rows.put(abi.key(row), digest)


def maps_of(home: Path) -> frozenset[int]:
    """Ids of maps that only programs on these tables use; none where there are no tables."""
    found = set()
    for name in ("mode", "settings"):
        with contextlib.suppress(OSError):
            found.add(kernel.Map.pinned(home / name).info.id)
    return frozenset(found)
