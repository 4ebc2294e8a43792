"""A configuration that was not confirmed does not come back by the next start.

The operator's file is never rewritten. When its contents were taken back, the ones before are kept here, and
hold for as long as the file says the same; `cdnctl reload` puts the file into force again. Whoever looks at
the edge meanwhile is told so: an operator who reads the file would else take it for what is in force.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from cdnctl.config import Config, ConfigError, parse
from cdnctl.engine.objects import CONFIG
from cdnctl.model import HeldBack
from cdnctl.paths import state_dir
from cdnctl.state import files
from cdnctl.state.intents import Record, RecordFile


class Held(Struct, frozen=True):
    """Texts of configurations."""

    refused: str
    """What the file says, and was taken back."""
    text: str
    """What is in force instead."""


class _Instead(NamedTuple):
    """What holds in place of the file."""

    text: str
    waiting: Record | None
    """The reload that waits; None: what the file says was not confirmed."""


def _path(edge: str) -> Path:
    return state_dir(edge) / "held.json"


def hold(edge: str, refused: str, text: str) -> None:
    """From now on `text` holds while the file says `refused`. Raises OSError."""
    files.replace(_path(edge), msgspec.json.encode(Held(refused, text)) + b"\n")


def forget(edge: str) -> None:
    """The file holds. Raises OSError."""
    files.remove(_path(edge))


def in_force(config: Config, waiting: Record | None) -> tuple[Config, str, list[str]]:
    """The configuration to start with, its text, and warnings where that is not what the file says.

    `waiting` is the change that waits to be confirmed. If that is a reload, what it put into force holds,
    also when the file was edited since: nobody has planned that, and a revert could not tell what to take
    back.
    """
    text = _said(config.path)
    instead = _instead(config.edge.name, text, waiting)
    if instead is None:
        return config, text, []
    shown = _shown(config.path, instead)
    try:
        found = parse(instead.text, config.path)
    except ConfigError as error:
        holds = "what that change put into force" if instead.waiting else "what it said before"
        warning = (
            f"{_why(config.path, instead)}, and yet is in force, for {holds} cannot be read any more:"
            f" {str(error).splitlines()[0]}"
        )
        return config, text, [warning]
    return found, instead.text, [f"{shown.text}; {shown.remedy}"]


def look(edge: str, file: Path) -> HeldBack | None:
    """Whether a start would leave it out, by what is on the disk and this user may read: for the shell."""
    waiting = RecordFile(state_dir(edge) / "pending.json").peek()
    instead = _instead(edge, _said(file), waiting)
    return _shown(file, instead) if instead else None


class Watch:
    """The same for an engine's frames: two looks at the disk, and read only when something is another."""

    def __init__(self) -> None:
        self._looked_at: tuple[object, ...] = ()
        self._found: HeldBack | None = None

    def picture(self, file: Path, edge: str, in_force: str, waiting: Record | None) -> HeldBack | None:
        """Why the file's words are not in force, if that is what keeps them from it."""
        looked_at = (_stamp(file), _stamp(_path(edge)), hash(in_force), waiting and waiting.revision)
        if looked_at != self._looked_at:
            self._looked_at, text = looked_at, _said(file)
            instead = _instead(edge, text, waiting) if text and text != in_force else None
            self._found = _shown(file, instead) if instead else None
        return self._found


def _instead(edge: str, text: str, waiting: Record | None) -> _Instead | None:
    """What holds in place of a file that says `text`; None: it does itself."""
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        held = msgspec.json.decode(_path(edge).read_bytes(), type=Held)
        if held.refused == text:
            return _Instead(held.text, None)
    if waiting is not None and waiting.after.get(CONFIG, text) != text:
        return _Instead(waiting.after[CONFIG], waiting)
    return None


def _shown(file: Path, instead: _Instead) -> HeldBack:
    if instead.waiting:
        holds, first = "what that change put into force", "`cdnctl confirm` or `cdnctl revert`, then "
    else:
        holds, first = "what it said before", ""
    return HeldBack(
        file=str(file),
        why="edited" if instead.waiting else "unconfirmed",
        text=f"{_why(file, instead)} and is not in force, but {holds}",
        remedy=f"{first}`cdnctl reload` puts it into force",
    )


def _why(file: Path, instead: _Instead) -> str:
    if instead.waiting is None:
        return f"what {file} says was not confirmed"
    return f"what {file} says was edited while another change of it waits ({instead.waiting.cli})"


def _said(file: Path) -> str:
    """Nothing when it cannot be read."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return file.read_bytes().decode()
    return ""


def _stamp(file: Path) -> tuple[int, ...]:
    with contextlib.suppress(OSError):
        found = os.stat(file)
        return found.st_ino, found.st_mtime_ns, found.st_size
    return ()
