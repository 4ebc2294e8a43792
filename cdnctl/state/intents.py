"""What is about to be changed, and what waits to be confirmed: on the disk before it is in the kernel.

An intent is written before a change and removed when everything has it: kernel, state and journal. One
that is found at a start was interrupted; by its revision the start sees whether the state has it already,
and finishes it, or has it not, and rolls it back. A pending record stands until the change is confirmed
or reverted.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from cdnctl.errors import CdnctlError
from cdnctl.model import Actor
from cdnctl.state import files


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change, whole: who, what, and what each thing that it touches was and is to be."""

    revision: int
    """That the state has once it has the change."""
    actor: Actor
    cli: str
    """The same as a command line."""
    text: str
    """What was, or is to be, done."""
    command: dict[str, Any]
    before: dict[str, Any]
    """By object, as `weight aurora`: see cdnctl.engine.objects."""
    after: dict[str, Any]
    at_ns: int = 0
    """Wall time."""
    confirm_s: float = 0.0
    """0: it needs no confirmation."""
    ends_at_ns: int = 0
    """Wall time at which it reverts unless confirmed by then."""
    reverts: int = 0
    """The revision of the pending change that this one takes back."""
    keeps: int = 0
    """The revision of the pending change that this one confirms."""
    undoes: list[int] = field(default_factory=list)
    """Numbers of the journal's lines that this one takes back."""
    bears_on: list[str] = field(default_factory=list)
    """Objects that it does not change, and that mean something else with it: guarded while it waits."""


class RecordError(CdnctlError):
    """A record cannot be kept: then nothing may be changed."""


class RecordFile:
    """Keeps one record, or none, at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warning = ""

    def read(self) -> Record | None:
        """What is there; a damaged file is set aside with a warning."""
        self.warning = ""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RecordError(
                f"cannot read {self.path}: {error.strerror}",
                "the agent needs to read and write it; run it as root, or set CDNCTL_STATE_DIR",
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.warning = (
                f"{self.path} is damaged ({error}) and {self._set_aside()}: what it says is neither finished"
                " nor reverted by itself; `cdnctl journal` shows who changed what, `cdnctl undo` takes it"
                " back"
            )
            return None

    def peek(self) -> Record | None:
        """What is there, if it can be read: for a look, before `read` sees to what cannot."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Record)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _set_aside(self) -> str:
        """Another name for the damaged file, which stays, so that one start warns and no other."""
        aside = self.path.with_name(
            f"{self.path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        )
        try:
            self.path.rename(aside)
        except OSError as error:
            return f"cannot be set aside ({error.strerror})"
        return f"set aside as {aside.name}"

    def write(self, record: Record) -> None:
        """Keep `record` in place of what is there. Raises RecordError; then that stands."""
        try:
            self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            files.replace(self.path, msgspec.json.encode(record) + b"\n")
        except OSError as error:
            raise RecordError(
                f"cannot write {self.path}: {error.strerror}",
                "nothing was changed; make room or mend the directory",
            ) from error

    def clear(self) -> None:
        """Keep none. Raises RecordError."""
        try:
            files.remove(self.path)
        except OSError as error:
            raise RecordError(f"cannot remove {self.path}: {error.strerror}", "mend the directory") from error
