"""What operators changed at run time: weights, drains, blocks, limits, whether the edge is armed.

It overlays the configuration and survives a restart of the agent. All is in one directory an edge:

    state.toml      weights, drains, limits, switches: small, replaced as a whole, numbered
    state/N.toml    those that it replaced, the last `KEPT` of them
    blocks.jsonl    the blocks: many, so each edit is appended (blocks.py)
    intent.json     a change that is being made; pending.json, one that waits to be confirmed (intents.py)
    journal.jsonl   who changed what, when and why (cdnctl.engine.journal)

After a crash, at whatever system call, each is the old one or the new one, never half of one.
"""

from __future__ import annotations

import contextlib
import os
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import tomli_w
from msgspec import Struct, field

from cdnctl.errors import CdnctlError
from cdnctl.model import Allowed, BanWish, Block, Fit, ModelWish, Revision, ShieldWish
from cdnctl.state import files
from cdnctl.state.blocks import BlockLog
from cdnctl.state.intents import RecordFile

VERSION = 2
"""Of the file's format. 1 had the blocks in it."""
KEPT = 20
"""Revisions of the state that are kept, the one in force included."""

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
    """As they were loaded; later the engine's list holds. They have a file of their own."""
    limits: dict[str, CustomerLimit] = field(default_factory=dict)
    """By customer; those not named have the configuration's."""
    allowed: list[Allowed] = field(default_factory=list)
    armed: bool = True
    shield: ShieldWish = "auto"
    """The level that operators want; `auto`: what the load asks for."""
    autoban: BanWish = "config"
    """Whether operators want blocks that set themselves; `config`: what the configuration says."""
    model: ModelWish = "config"
    """What the model of sources' manners does, by operators' will; `config`: by the configuration's."""
    fit: Fit = field(default_factory=Fit)
    """That model."""
    observing: bool = False
    """The edge decides and counts, but lets every packet pass."""
    planner: str = ""
    """Its mode; empty: the configuration's."""
    pinned: list[str] = field(default_factory=list)
    """CDNs that keep exactly their weight, whatever the planner measures."""
    detached: bool = False
    """An operator took the data path off: only an operator puts it on again, not a restart."""
    revision: int = 0
    """Counts changes, of blocks too; it only grows."""
    version: int = VERSION


class StateError(CdnctlError):
    """The state cannot be read or written, and going on would lose it."""


class StateStore:
    """Keeps the state in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "state.toml"
        self.kept = directory / "state"
        self.blocks = BlockLog(directory / "blocks.jsonl")
        self.intent = RecordFile(directory / "intent.json")
        self.pending = RecordFile(directory / "pending.json")
        self.warnings: list[str] = []
        """What went wrong at the last `load` but did not stop it."""
        self._damaged = False
        """Whether what stands in the file could not be used, and is to be kept."""
        self._revision = 0
        """Of the file as it stands."""

    def load(self) -> State:
        """The state as last saved, or an empty one if there is none.

        With a damaged file the state starts empty, with a warning: an edge without its blocks is better
        than no edge. The file stays where it is, and every start warns of it, until `save` replaces it
        and keeps a copy: a start may yet be refused. Raises StateError if the file cannot be read or is
        a newer version's.
        """
        self.warnings = []
        self._damaged = False
        state = self._load()
        if self.blocks.exists:
            state.blocks = self.blocks.load()
            self.warnings += self.blocks.warnings
        self._revision = state.revision
        state.revision = max(state.revision, self.blocks.revision)
        return state

    def _load(self) -> State:
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
            state = _decode(data)
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            self._damaged = True
            self.warnings.append(
                f"{self.path} is damaged ({error}); the edge starts without its weights, drains and limits."
                f" To have them: stop the agent, mend the file (`ls {self.kept}` has those before it), start"
                f" the agent; with the next change that is stored, the file becomes"
                f" {self.path.name}.damaged- and the time"
            )
            return State(revision=max(self._numbers(), default=0))
        if state.version > VERSION:
            raise StateError(
                f"{self.path} has version {state.version}; this cdnctl knows up to {VERSION}",
                "run the newer cdnctl, or move the file away to start without weights and limits",
            )
        return state

    def settle(self, state: State, blocks: Sequence[Block]) -> None:
        """After a `load`: put blocks of an earlier version into their own file, clear away what was left.

        `blocks` are those in force: whoever put them there may have emptied the state's. Raises StateError;
        then the earlier file still has them.
        """
        files.clear_drafts(self.directory)
        try:
            if blocks if not self.blocks.exists else self.blocks.wants_rewriting(len(blocks)):
                self.blocks.rewrite(blocks, state.revision)
        except OSError as error:
            raise StateError(
                f"cannot write {self.blocks.path}: {error.strerror}", "make room or mend the directory"
            ) from error

    def save(self, state: State) -> None:
        """Replace the file; on return it is on the disk. Raises StateError, the old file then stands.

        Blocks are not in it: they are edited one by one, in `blocks`.
        """
        said = {name: value for name, value in msgspec.to_builtins(state).items() if name != "blocks"}
        text = _HEADER + tomli_w.dumps({**said, "version": VERSION})
        try:
            self.kept.mkdir(mode=0o750, parents=True, exist_ok=True)
            if (
                state.blocks and not self.blocks.exists
            ):  # the file that goes may be the only one that has them
                self.blocks.rewrite(state.blocks, state.revision)
            if self._damaged:
                self._keep_damaged()
            keep_as = self.kept / f"{self._revision}.toml" if self._revision else None
            files.replace(self.path, text.encode(), keep_as=keep_as)
        except OSError as error:
            raise StateError(
                f"cannot write {self.path}: {error.strerror}", "make room or mend the directory"
            ) from error
        self._revision = state.revision
        self._prune()

    # -- what was before --

    def revisions(self) -> list[Revision]:
        """Those that are kept, the newest first, and the one in force before them."""
        paths = [(self._revision, self.path), *((n, self.kept / f"{n}.toml") for n in self._numbers())]
        found = dict[int, Revision]()
        for number, path in paths:
            with contextlib.suppress(OSError):
                found.setdefault(number, Revision(number=number, at_ns=path.stat().st_mtime_ns))
        return [found[number] for number in sorted(found, reverse=True)]

    def text_of(self, revision: int | None) -> str:
        """The file of a revision, or the one in force. Raises StateError."""
        is_current = revision is None or revision == self._revision
        path = self.path if is_current else self.kept / f"{revision}.toml"
        try:
            return path.read_text(errors="replace")
        except FileNotFoundError:
            if is_current:
                return tomli_w.dumps({"version": VERSION})
            there = ", ".join(str(each.number) for each in self.revisions()) or "none yet"
            raise StateError(f"there is no revision {revision} of the state", f"there are {there}") from None
        except OSError as error:
            raise StateError(f"cannot read {path}: {error.strerror}") from error

    def state_of(self, revision: int) -> State:
        """The state as it was then, without its blocks. Raises StateError."""
        try:
            return _decode(self.text_of(revision).encode())
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise StateError(f"revision {revision} of the state cannot be read: {error}") from error

    def _numbers(self) -> list[int]:
        """Of the kept ones, the newest first."""
        stems = [path.stem for path in self.kept.glob("*.toml")]
        return sorted((int(stem) for stem in stems if stem.isascii() and stem.isdigit()), reverse=True)

    def _prune(self) -> None:
        with contextlib.suppress(OSError):  # one too many does no harm
            for number in self._numbers()[KEPT - 1 :]:
                (self.kept / f"{number}.toml").unlink()

    def _keep_damaged(self) -> None:
        """Give the damaged file a second name, which stays when it is replaced. Raises OSError."""
        time_of_day = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        with contextlib.suppress(FileNotFoundError, FileExistsError):  # somebody moved it, or we were here
            os.link(self.path, self.path.with_name(f"{self.path.name}.damaged-{time_of_day}"))
        self._damaged = False


def _decode(data: bytes) -> State:
    return msgspec.convert(tomllib.loads(data.decode()), State)
