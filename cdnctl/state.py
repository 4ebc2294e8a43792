"""What operators changed at run time: weights, drains, blocks, limits, whether the edge is armed.

It overlays the configuration and survives a restart of the agent. A small TOML file, replaced as a
whole: after a crash there is the old one or the new one, never half of one.
"""

from __future__ import annotations

import contextlib
import os
import time
import tomllib
from pathlib import Path

import msgspec
import tomli_w
from msgspec import Struct, field

from cdnctl.errors import CdnctlError
from cdnctl.model import Allowed, Block, ShieldWish

VERSION = 1
"""Of the file's format."""

_HEADER = """\
# What operators changed on this edge. cdnctl writes this file; while its agent runs, changes made here
# by hand are lost. Times are in nanoseconds since 1970 (UTC); expires_ns = 0 means never.

"""


class CustomerLimit(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What a customer may take, in place of the configuration's limits; None: as much as it likes."""

    pps: float | None = None
    mbit: float | None = None
    flows_per_s: float | None = None


class State(Struct, kw_only=True):
    """The changes, on top of what the configuration says."""

    weights: dict[str, int] = field(default_factory=dict)
    """By CDN; those not named have the configuration's."""
    drained: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    """`hits` is not kept: it is an estimate of the running agent."""
    limits: dict[str, CustomerLimit] = field(default_factory=dict)
    """By customer; those not named have the configuration's."""
    allowed: list[Allowed] = field(default_factory=list)
    armed: bool = True
    shield: ShieldWish = "auto"
    """The level that operators want; `auto`: what the load asks for."""
    observing: bool = False
    """The edge decides and counts, but lets every packet pass."""
    detached: bool = False
    """An operator took the data path off: only an operator puts it on again, not a restart."""
    version: int = VERSION


class StateError(CdnctlError):
    """The state cannot be read or written, and going on would lose it."""


class StateStore:
    """Keeps the state in `state.toml` in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "state.toml"
        self.warnings: list[str] = []
        """What went wrong at the last `load` but did not stop it."""
        self._damaged = False
        """Whether what stands in the file could not be used, and is to be kept."""

    def load(self) -> State:
        """The state as last saved, or an empty one if there is none.

        With a damaged file the state starts empty, with a warning: an edge without its blocks is better
        than no edge. The file stays where it is, and every start warns of it, until `save` replaces it
        and keeps a copy: a start may yet be refused. Raises StateError if the file cannot be read or is
        a newer version's.
        """
        self.warnings = []
        self._damaged = False
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return State()
        except OSError as error:
            raise StateError(
                f"cannot read {self.path}: {error.strerror}",
                "the agent needs to read and write it; run it as root, or set CDNCTL_STATE_DIR",
            ) from error
        try:
            state = msgspec.convert(tomllib.loads(data.decode()), State)
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            self._damaged = True
            self.warnings.append(
                f"{self.path} is damaged ({error}); the edge starts without its blocks, weights, drains and"
                " limits. To have them: stop the agent, mend the file, start the agent; with the next change"
                f" that is stored, the file becomes {self.path.name}.damaged- and the time"
            )
            return State()
        if state.version > VERSION:
            raise StateError(
                f"{self.path} has version {state.version}; this cdnctl knows up to {VERSION}",
                "run the newer cdnctl, or move the file away to start without blocks and weights",
            )
        return state

    def save(self, state: State) -> None:
        """Replace the file; on return it is on the disk. Raises StateError, the old file then stands."""
        blocks = [
            {key: value for key, value in msgspec.to_builtins(block).items() if key != "hits"}
            for block in state.blocks
        ]
        text = _HEADER + tomli_w.dumps({**msgspec.to_builtins(state), "blocks": blocks})
        try:
            self.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            if self._damaged:
                self._keep_damaged()
            replace(self.path, text.encode())
        except OSError as error:
            raise StateError(
                f"cannot write {self.path}: {error.strerror}",
                "the change is in force but would not survive a restart; make room or mend the directory",
            ) from error

    def _keep_damaged(self) -> None:
        """Give the damaged file a second name, which stays when it is replaced. Raises OSError."""
        time_of_day = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        with contextlib.suppress(FileNotFoundError):  # somebody has moved it away
            os.link(self.path, self.path.with_name(f"{self.path.name}.damaged-{time_of_day}"))
        self._damaged = False


def replace(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a crash leaves the old contents or the new. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)  # the new name, too
    finally:
        os.close(directory)
